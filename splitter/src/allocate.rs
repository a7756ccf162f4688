//! Exact allocation of an amount to shares: what `splits.allocate` does in SQL, for whoever wants to know beforehand or
//! check afterwards.

use proto::money::Amount;

/// Shares are parts of this.
pub const SHARES_TOTAL_PPM: u32 = 1_000_000;

/// Why shares cannot be allocated to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// The shares do not add up to the whole.
    #[error("the shares sum to {found} parts per million instead of exactly 1000000")]
    NotWhole {
        /// Their sum.
        found: u64,
    },
}

/// Allocates `amount` (minor units) to `shares_ppm` (parts per million, in written order): each gets the floor of its
/// part, then what is left goes out one unit each from the top to those with a share above zero. The results sum to
/// exactly `amount`, and none is more than one unit above its floor.
pub fn allocate(amount: Amount, shares_ppm: &[u32]) -> Result<Vec<Amount>, AllocateError> {
    let found = shares_ppm.iter().map(|share| u64::from(*share)).sum();
    if found != u64::from(SHARES_TOTAL_PPM) {
        return Err(AllocateError::NotWhole { found });
    }
    // 28 digits times a million stays below 2^128.
    let whole = u128::from(SHARES_TOTAL_PPM);
    let mut parts: Vec<u128> =
        shares_ppm.iter().map(|share| amount.as_u128() * u128::from(*share) / whole).collect();
    // Each floor loses less than one unit, so what is left is less than the number of shares above zero: one round.
    let mut left = amount.as_u128() - parts.iter().sum::<u128>();
    for (part, share) in parts.iter_mut().zip(shares_ppm) {
        if left > 0 && *share > 0 {
            *part += 1;
            left -= 1;
        }
    }
    // A part is at most `amount`, which is an `Amount`.
    Ok(parts.into_iter().map(|part| Amount::from_u128(part).unwrap_or(amount)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(amount: u64, shares: &[u32], expected: &[u64]) {
        let expected: Vec<_> = expected.iter().map(|units| Amount::from_u64(*units)).collect();
        assert_eq!(allocate(Amount::from_u64(amount), shares), Ok(expected), "{amount} to {shares:?}");
    }

    #[test]
    fn what_is_left_goes_one_unit_each_in_written_order() {
        check(0, &[1_000_000], &[0]);
        check(1, &[100_000, 900_000], &[1, 0]);
        check(1, &[0, 100_000, 900_000], &[0, 1, 0]);
        check(100, &[333_333, 333_333, 333_334], &[34, 33, 33]);
        check(101, &[50_000, 800_000, 100_000, 50_000], &[6, 80, 10, 5]);
        check(7, &[0, 1_000_000, 0], &[0, 7, 0]);
    }

    #[test]
    fn shares_that_are_not_the_whole_are_refused() {
        for shares in [&[][..], &[999_999], &[1_000_001], &[u32::MAX, u32::MAX]] {
            let found = shares.iter().map(|share| u64::from(*share)).sum();
            assert_eq!(allocate(Amount::from_u64(5), shares), Err(AllocateError::NotWhole { found }));
        }
    }

    #[test]
    fn the_largest_amount_does_not_overflow() {
        let parts = allocate(Amount::MAX, &[1, 999_999]).unwrap();
        assert_eq!(parts.iter().map(|part| part.as_u128()).sum::<u128>(), Amount::MAX.as_u128());
    }

    /// Weights become shares that sum to the whole, zeros kept.
    fn shares() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(prop_oneof![Just(0_u32), 1_u32..200_000], 1..6).prop_map(|mut shares| {
            let sum: u32 = shares.iter().sum();
            if let Some(first) = shares.first_mut() {
                *first += SHARES_TOTAL_PPM - sum;
            }
            shares
        })
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nobody_gets_two_units_more(units in 0..=Amount::MAX.as_u128(), shares in shares()) {
            let parts = allocate(Amount::from_u128(units).unwrap(), &shares).unwrap();
            prop_assert_eq!(parts.iter().map(|part| part.as_u128()).sum::<u128>(), units);
            for (part, share) in parts.iter().zip(&shares) {
                let floor = units * u128::from(*share) / u128::from(SHARES_TOTAL_PPM);
                prop_assert!(part.as_u128() == floor || part.as_u128() == floor + 1);
                prop_assert!(*share > 0 || part.is_zero());
            }
            // The units beyond the floors lie at the top: none after a share that got none.
            let extras: Vec<bool> = parts.iter().zip(&shares).filter(|(_, share)| **share > 0)
                .map(|(part, share)| part.as_u128() > units * u128::from(*share) / u128::from(SHARES_TOTAL_PPM)).collect();
            prop_assert!(extras.is_sorted_by(|a, b| a >= b));
        }
    }
}
