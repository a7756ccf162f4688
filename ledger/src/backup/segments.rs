//! Names of WAL segments.

/// A segment's place: timeline and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) timeline: u32,
    pub(super) number: u64,
}

/// Number of segments that share the name's middle part.
const fn per_id(segment_bytes: u64) -> u64 {
    0x1_0000_0000 / segment_bytes
}

impl Segment {
    /// Reads 24 hexadecimal digits, without knowing how large segments are: enough to tell a segment and to compare.
    pub(super) fn parse(name: &str) -> Option<(u32, u32, u32)> {
        let plain =
            name.len() == 24 && name.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
        let part = |from: usize| u32::from_str_radix(name.get(from..from + 8)?, 16).ok();
        if plain { Some((part(0)?, part(8)?, part(16)?)) } else { None }
    }

    /// The segment of that name.
    pub(super) fn of_name(name: &str, segment_bytes: u64) -> Option<Segment> {
        let (timeline, id, rest) = Segment::parse(name)?;
        Some(Segment { timeline, number: u64::from(id) * per_id(segment_bytes) + u64::from(rest) })
    }

    /// The segment that holds a position such as `0/3000148`, and the offset in it.
    pub(super) fn of_lsn(timeline: u32, lsn: &str, segment_bytes: u64) -> Option<(Segment, u64)> {
        let (high, low) = lsn.split_once('/')?;
        let at = u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?;
        Some((Segment { timeline, number: at / segment_bytes }, at % segment_bytes))
    }

    pub(super) fn name(self, segment_bytes: u64) -> String {
        let per_id = per_id(segment_bytes);
        format!("{:08X}{:08X}{:08X}", self.timeline, self.number / per_id, self.number % per_id)
    }

    pub(super) fn next(self) -> Segment {
        Segment { number: self.number + 1, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 16 << 20;

    #[test]
    fn segments_are_named_as_postgres_names_them() {
        let last = Segment::of_name("0000000200000001000000FF", BYTES).unwrap();
        assert_eq!(last.next().name(BYTES), "000000020000000200000000");
        let (segment, offset) = Segment::of_lsn(1, "2/3000148", BYTES).unwrap();
        assert_eq!((segment.name(BYTES).as_str(), offset), ("000000010000000200000003", 0x148));
        for name in ["00000002.history", "00000001000000000000000g", "000000010000000000000001.partial", ""] {
            assert_eq!(Segment::parse(name), None, "{name}");
        }
    }
}
