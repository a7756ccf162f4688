//! Where the hashes of a log are found: tiles and their names, as in C2SP tlog-tiles.
//!
//! A tile holds up to 256 hashes. Level 0 are leaf hashes, level L the roots of full tiles of level L - 1. A full tile never
//! changes; a partial one is named by how many hashes it has.

use std::fmt;
use std::str::FromStr;

/// Hashes in a full tile.
pub const TILE_WIDTH: u16 = 256;

/// The name of one tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileName {
    /// From the leaves upwards; at most 63.
    pub level: u8,
    /// Which tile of its level.
    pub index: u64,
    /// Hashes in it, 1 to 256.
    pub width: u16,
}

/// Not the name of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tile is named LEVEL/INDEX, the index in groups of three digits as in x001/x234/067, with .p/WIDTH at its end while it is not full"
)]
pub struct NotATile;

/// The index in groups of three digits, all but the last with an x before them.
pub fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1_000);
        rest /= 1_000;
    }
    path
}

/// Reads [`index_path`] and a width at its end; 256 where there is none.
pub fn parse_index_path(text: &str) -> Result<(u64, u16), NotATile> {
    let (path, width) = match text.split_once(".p/") {
        None => (text, TILE_WIDTH),
        Some((path, width)) => {
            let parsed = width.parse::<u16>().map_err(|_| NotATile)?;
            if !(1..TILE_WIDTH).contains(&parsed) || parsed.to_string() != width {
                return Err(NotATile);
            }
            (path, parsed)
        }
    };
    let mut index: u64 = 0;
    for group in path.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        let number = digits.parse::<u16>().map_err(|_| NotATile)?;
        index = index
            .checked_mul(1_000)
            .and_then(|index| index.checked_add(u64::from(number)))
            .ok_or(NotATile)?;
    }
    // One index has one spelling.
    if index_path(index) == path { Ok((index, width)) } else { Err(NotATile) }
}

impl fmt::Display for TileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, index_path(self.index))?;
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl FromStr for TileName {
    type Err = NotATile;
    fn from_str(text: &str) -> Result<Self, NotATile> {
        let (level, path) = text.split_once('/').ok_or(NotATile)?;
        let parsed = level.parse::<u8>().map_err(|_| NotATile)?;
        if parsed > 63 || parsed.to_string() != level {
            return Err(NotATile);
        }
        let (index, width) = parse_index_path(path)?;
        Ok(Self { level: parsed, index, width })
    }
}

/// Every tile of a log of `size` leaves, the last of each level perhaps partial.
pub fn tiles_of(size: u64) -> impl Iterator<Item = TileName> {
    let width = u64::from(TILE_WIDTH);
    (0_u8..8).flat_map(move |level| {
        let hashes = size >> (8 * u32::from(level));
        let part = u16::try_from(hashes % width).unwrap_or_default();
        let full = (0..hashes / width).map(move |index| TileName { level, index, width: TILE_WIDTH });
        let partial = (part > 0).then_some(TileName { level, index: hashes / width, width: part });
        full.chain(partial)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_standard_and_have_one_spelling() {
        for (name, tile) in [
            ("0/x001/x234/067", TileName { level: 0, index: 1_234_067, width: 256 }),
            ("1/000", TileName { level: 1, index: 0, width: 256 }),
            ("0/x001/000.p/8", TileName { level: 0, index: 1_000, width: 8 }),
            ("63/999.p/255", TileName { level: 63, index: 999, width: 255 }),
        ] {
            assert_eq!(name.parse(), Ok(tile), "{name}");
            assert_eq!(tile.to_string(), name);
        }
        for bad in [
            "",
            "0",
            "0/",
            "0/0",
            "0/00",
            "0/0000",
            "0/x000/000",
            "0/001/000",
            "0/x001",
            "0/x001/x000",
            "00/000",
            "64/000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/08",
            "0/000.p",
            "0/+01",
            "0/-01",
            "x0/000",
            "0/000/",
            "0/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(bad.parse::<TileName>(), Err(NotATile), "{bad}");
        }
    }

    #[test]
    fn a_log_of_70000_leaves_has_these_tiles() {
        let tiles: Vec<TileName> = tiles_of(70_000).collect();
        assert_eq!(tiles.iter().filter(|tile| tile.level == 0).count(), 274);
        let rest: Vec<String> = tiles.iter().filter(|t| t.level > 0).map(ToString::to_string).collect();
        assert_eq!(rest, ["1/000", "1/001.p/17", "2/000.p/1"]);
        assert_eq!(tiles[273].to_string(), "0/273.p/112");
        assert_eq!(tiles_of(0).count(), 0);
    }
}
