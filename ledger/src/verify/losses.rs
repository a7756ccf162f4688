//! A log that was restored to an earlier point states it in every checkpoint from then on.

use std::collections::BTreeMap;

use super::report::{First, Problem};

/// What the checkpoints of one log state, by the size of the log.
#[derive(Default)]
pub(super) struct Losses {
    by_size: BTreeMap<u64, Vec<(String, Vec<String>)>>,
}

impl Losses {
    /// One more checkpoint, whose signature has been verified.
    pub(super) fn see(&mut self, place: &str, size: u64, note: &str) {
        self.by_size.entry(size).or_default().push((place.to_owned(), crate::backup::stated([note])));
    }

    /// How many losses are stated, and the first checkpoint that leaves one out.
    pub(super) fn judge(self) -> (u64, Option<Problem>) {
        let mut first = First::default();
        let mut known: Vec<String> = Vec::new();
        for (size, seen) in self.by_size {
            let mut here = Vec::new();
            for (place, lines) in seen {
                if let Some(line) = known.iter().find(|line| !lines.contains(line)) {
                    first.note(
                        place,
                        format!("it leaves out what checkpoints below size {size} state: {line}"),
                    );
                }
                here.extend(lines.into_iter().filter(|line| !known.contains(line)));
            }
            here.sort();
            here.dedup();
            known.extend(here);
        }
        (known.len() as u64, first.0)
    }
}
