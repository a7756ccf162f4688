//! How far the agent is with what the house told it.

use std::collections::BTreeMap;

/// Keeps apart what was received and what was handled.
///
/// Frames carry the number of the command that caused them, and one command can cause several frames: a
/// number is complete only when a frame with a higher one, or `CaughtUp`, has come. Handling takes time and
/// overlaps; a frame that is still being handled holds back everything after it, so that after a crash it is
/// asked for again.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Everything up to here was received.
    received: u64,
    /// The highest number seen.
    highest: u64,
    /// Frames being handled, by number.
    open: BTreeMap<u64, u32>,
}

impl Cursor {
    /// Goes on after what an earlier life has safely handled.
    pub(super) fn after(handled: u64) -> Self {
        Self { received: handled, highest: handled, open: BTreeMap::new() }
    }

    /// A frame came and its handling begins.
    pub(super) fn begin(&mut self, cursor: u64) {
        if cursor > self.highest {
            self.received = self.highest;
            self.highest = cursor;
        }
        *self.open.entry(cursor).or_default() += 1;
    }

    /// The handling of one frame is over.
    pub(super) fn finish(&mut self, cursor: u64) {
        if let Some(count) = self.open.get_mut(&cursor) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&cursor);
            }
        }
    }

    /// The house has sent everything up to here.
    pub(super) fn caught_up(&mut self, cursor: u64) {
        self.highest = self.highest.max(cursor);
        self.received = self.received.max(cursor);
    }

    /// Where this process goes on after a broken connection: what it is handling it still knows.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Where another process goes on: everything up to here is done with.
    pub(super) fn handled(&self) -> u64 {
        match self.open.first_key_value() {
            Some((first, _)) => self.received.min(first.saturating_sub(1)),
            None => self.received,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_being_handled_holds_back_what_comes_after_it() {
        let mut cursor = Cursor::after(10);
        cursor.begin(11);
        cursor.begin(12);
        cursor.begin(13);
        cursor.finish(12);
        cursor.finish(13);
        cursor.caught_up(13);
        assert_eq!((cursor.received(), cursor.handled()), (13, 10));
        cursor.finish(11);
        assert_eq!((cursor.received(), cursor.handled()), (13, 13));
    }

    #[test]
    fn a_number_is_complete_only_when_a_higher_one_or_the_end_has_come() {
        let mut cursor = Cursor::after(0);
        cursor.begin(5);
        cursor.finish(5);
        assert_eq!((cursor.received(), cursor.handled()), (0, 0), "5 may have a second frame");
        cursor.begin(5);
        cursor.finish(5);
        cursor.begin(7);
        assert_eq!((cursor.received(), cursor.handled()), (5, 5));
        cursor.caught_up(9);
        assert_eq!((cursor.received(), cursor.handled()), (9, 6));
    }

    #[test]
    fn frames_that_come_again_after_a_broken_connection_do_no_harm() {
        let mut cursor = Cursor::after(0);
        cursor.begin(3);
        cursor.begin(4);
        assert_eq!(cursor.received(), 3);
        cursor.begin(4);
        cursor.finish(4);
        cursor.finish(3);
        cursor.caught_up(4);
        assert_eq!(cursor.handled(), 3, "one handling of 4 is still going on");
        cursor.finish(4);
        cursor.finish(4);
        assert_eq!(cursor.handled(), 4);
    }
}
