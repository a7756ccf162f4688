//! What the agent knows of ledger time.

use std::time::Instant;

use parking_lot::Mutex;

/// An estimate that never runs ahead of the house's own clock, so that nothing good is thrown away as
/// expired: whether it really is, the house decides.
#[derive(Debug)]
pub(super) struct LedgerTime {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    known_us: i64,
    at: Instant,
    simulated: bool,
}

impl LedgerTime {
    pub(super) fn new(known_us: i64, simulated: bool) -> Self {
        Self { inner: Mutex::new(Inner { known_us, at: Instant::now(), simulated }) }
    }

    /// The house has said that its clock stands at or after `us`.
    pub(super) fn observe(&self, us: i64, simulated: bool) {
        let now = self.at_least_us();
        let mut inner = self.inner.lock();
        *inner = Inner { known_us: now.max(us), at: Instant::now(), simulated };
    }

    /// Learns from the time a frame carries.
    pub(super) fn observe_frame(&self, us: i64) {
        let simulated = self.inner.lock().simulated;
        if us > self.at_least_us() {
            self.observe(us, simulated);
        }
    }

    /// Ledger time is at least this, in Unix microseconds.
    pub(super) fn at_least_us(&self) -> i64 {
        let inner = self.inner.lock();
        // A simulated clock may stand still or jump: then only what was said counts.
        let passed = if inner.simulated { 0 } else { inner.at.elapsed().as_micros() };
        inner.known_us.saturating_add(i64::try_from(passed).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_stands_where_the_house_last_said_and_never_falls() {
        let time = LedgerTime::new(1_000, true);
        assert_eq!(time.at_least_us(), 1_000);
        time.observe_frame(5_000);
        time.observe_frame(2_000);
        time.observe(3_000, true);
        assert_eq!(time.at_least_us(), 5_000);
    }

    #[test]
    fn a_real_clock_goes_on_by_itself() {
        let time = LedgerTime::new(1_000, false);
        let first = time.at_least_us();
        assert!(first >= 1_000);
        assert!(time.at_least_us() >= first);
    }
}
