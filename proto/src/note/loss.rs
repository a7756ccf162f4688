//! The extension line by which a log states for ever that it was restored to an earlier point.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{extensions, parse_size};
use crate::merkle::TreeHash;

const RESTORED: &str = "restored";

/// What a log gave up when it was restored: its line is `restored KEPT PROMISED ROOT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatedLoss {
    /// Leaves that the log went on from.
    pub kept: u64,
    /// Leaves that a signed checkpoint had promised.
    pub promised: u64,
    /// The root at that size, in base64 in the line.
    pub root: TreeHash,
}

impl fmt::Display for StatedLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{RESTORED} {} {} {}", self.kept, self.promised, BASE64.encode(self.root.as_bytes()))
    }
}

impl FromStr for StatedLoss {
    type Err = ();
    fn from_str(line: &str) -> Result<Self, ()> {
        let mut words = line.split(' ');
        let mut next = || words.next().ok_or(());
        if next()? != RESTORED {
            return Err(());
        }
        let kept = parse_size(next()?).ok_or(())?;
        let promised = parse_size(next()?).ok_or(())?;
        let root =
            BASE64.decode(next()?).ok().and_then(|bytes| TreeHash::from_slice(&bytes).ok()).ok_or(())?;
        if words.next().is_some() || kept >= promised {
            return Err(());
        }
        Ok(Self { kept, promised, root })
    }
}

/// The losses that checkpoints state, each once, in order. The notes must have been verified.
pub fn stated_losses<'a>(notes: impl IntoIterator<Item = &'a str>) -> Vec<StatedLoss> {
    let mut losses: Vec<StatedLoss> = Vec::new();
    for loss in notes.into_iter().flat_map(extensions).filter_map(|line| line.parse().ok()) {
        if !losses.contains(&loss) {
            losses.push(loss);
        }
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    #[test]
    fn a_line_says_what_was_lost_and_has_one_spelling() {
        let loss = StatedLoss { kept: 40, promised: 42, root: leaf_hash(b"x") };
        let line = loss.to_string();
        assert_eq!(line.parse(), Ok(loss));
        for wrong in [
            "",
            "restored",
            &line[1..],
            &format!("{line} "),
            &line.replace("40", "040"),
            &line.replace("40", "42"),
        ] {
            assert_eq!(wrong.parse::<StatedLoss>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn losses_are_carried_on_once_each_in_order() {
        let note = |lines: &str| format!("origin\n7\nroot\n{lines}\n\u{2014} origin signature\n");
        let loss = |kept| StatedLoss { kept, promised: 9, root: leaf_hash(b"x") };
        let (one, two) =
            (note(&format!("{}\nother\n", loss(1))), note(&format!("{}\n{}\n", loss(1), loss(3))));
        assert_eq!(stated_losses([one.as_str(), two.as_str()]), [loss(1), loss(3)]);
        assert!(stated_losses([note("").as_str()]).is_empty());
    }
}
