//! Percentiles of measured durations.

use std::time::Duration;

/// p50, p95 and p99 of a sample; observed values, by the nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p95: Duration,
    pub(crate) p99: Duration,
}

/// `None` for an empty sample: nothing was measured, which is not zero.
pub(crate) fn percentiles(sample: &mut [Duration]) -> Option<Percentiles> {
    sample.sort_unstable();
    let rank = |percent: usize| sample.get((sample.len() * percent).div_ceil(100).max(1) - 1).copied();
    Some(Percentiles { p50: rank(50)?, p95: rank(95)?, p99: rank(99)? })
}

/// Milliseconds with three decimal places, for tables and JSON.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_observed_values_of_the_nearest_rank() {
        let ms = Duration::from_millis;
        let mut hundred: Vec<Duration> = (1..=100).rev().map(ms).collect();
        let found = percentiles(&mut hundred).unwrap();
        assert_eq!((found.p50, found.p95, found.p99), (ms(50), ms(95), ms(99)));
        let mut one = [ms(7)];
        assert_eq!(percentiles(&mut one).unwrap(), Percentiles { p50: ms(7), p95: ms(7), p99: ms(7) });
        assert_eq!(percentiles(&mut []), None);
    }

    #[test]
    fn milliseconds_keep_microseconds() {
        assert!((milliseconds(Duration::from_micros(1_234)) - 1.234).abs() < 1e-9);
    }
}
