//! The accepting clock: the only place where commands get a time. Real, or simulated by an offset that a demo moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Shared, cheap to clone. Simulated time runs at the pace of real time, shifted, or stands still.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_us: Arc<AtomicI64>,
    /// Where it stands still; 0: it runs.
    standing_us: Arc<AtomicI64>,
    simulated: Arc<AtomicBool>,
}

impl Clock {
    /// The system's clock.
    pub fn real() -> Self {
        Self::default()
    }

    /// Unix microseconds as this clock tells them.
    pub fn now_us(&self) -> i64 {
        match self.standing_us.load(Ordering::Acquire) {
            0 => system_now_us() + self.offset_us.load(Ordering::Acquire),
            standing_us => standing_us,
        }
    }

    /// Whether receipts must say that the time is simulated.
    pub fn is_simulated(&self) -> bool {
        self.simulated.load(Ordering::Acquire)
    }

    /// From now on a simulated clock that stands still at this moment, Unix microseconds, until it is told otherwise.
    pub fn stand(&self, at_us: i64) {
        self.standing_us.store(at_us, Ordering::Release);
        self.simulated.store(true, Ordering::Release);
    }

    /// From now on a simulated clock, shifted by `offset_us` microseconds against the system's.
    pub fn simulate(&self, offset_us: i64) {
        self.offset_us.store(offset_us, Ordering::Release);
        self.standing_us.store(0, Ordering::Release);
        self.simulated.store(true, Ordering::Release);
    }
}

/// Unix microseconds of the system's clock; 0 before 1970.
pub fn system_now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or_default()
}
