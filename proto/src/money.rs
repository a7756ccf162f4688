//! Amounts: whole minor units of one asset, exact, never negative.
//!
//! An asset's *scale* is its number of decimal places (USD 6, BTC 11). Decimals exist only at the edge, where a person
//! types or reads them; everywhere else an amount is an integer, as `numeric(28,0)` in SQL and as a string of digits
//! in JSON and protobuf.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::serde_as_text;

/// Digits of the largest amount, as in `numeric(28,0)`.
pub const MAX_DIGITS: usize = 28;

/// Whole minor units, 0 to 10^28 − 1. Written and parsed as digits only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(u128);

/// Why a text or number is not an amount. Each kind of wrong input has its own answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Nothing was written.
    #[error("the amount is empty: write digits, as in 250")]
    Empty,
    /// A leading minus.
    #[error("the amount is negative: amounts are zero or more, and direction is told by debit and credit")]
    Negative,
    /// A leading plus.
    #[error("the amount has a plus sign: write digits only")]
    PlusSign,
    /// NaN, infinity, letters, blanks, separators …
    #[error("{0:?} is not a number: write digits, without blanks, separators or currency signs")]
    NotANumber(String),
    /// Scientific notation.
    #[error("the amount has an exponent: write all its digits")]
    Exponent,
    /// A decimal point where whole minor units are expected.
    #[error("the amount has a fraction: whole minor units are expected here")]
    Fraction,
    /// A decimal point without digits on both sides.
    #[error("the amount has a decimal point without digits on both sides of it")]
    BarePoint,
    /// More decimal places than the asset has.
    #[error("the amount has {found} decimal places, but this asset has {scale}")]
    BeyondScale {
        /// Decimal places of the asset.
        scale: u8,
        /// Decimal places written, trailing zeros included.
        found: usize,
    },
    /// More than 28 digits of minor units.
    #[error("the amount is too large: at most {MAX_DIGITS} digits of minor units")]
    TooLarge,
    /// An asset cannot have that scale.
    #[error("scale {0} is out of range: an asset has 0 to {MAX_DIGITS} decimal places")]
    Scale(u8),
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// 10^28 − 1.
    pub const MAX: Self = Self(10_u128.pow(28) - 1);

    /// From an integer of minor units; `TooLarge` above [`Amount::MAX`].
    pub const fn from_u128(units: u128) -> Result<Self, MoneyError> {
        if units > Self::MAX.0 { Err(MoneyError::TooLarge) } else { Ok(Self(units)) }
    }

    /// From minor units that always fit.
    pub const fn from_u64(units: u64) -> Self {
        Self(units as u128)
    }

    /// Minor units. Fits a 96-bit decimal mantissa and an `i128`.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// Whether nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` above [`Amount::MAX`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::from_u128(self.0 + other.0).ok()
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product, or `None` above [`Amount::MAX`].
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        self.0.checked_mul(u128::from(factor)).and_then(|units| Self::from_u128(units).ok())
    }

    /// Parses whole minor units: one to 28 ASCII digits and nothing else.
    pub fn parse_minor(text: &str) -> Result<Self, MoneyError> {
        let digits = unsigned(text)?;
        if digits.contains('.') {
            return Err(MoneyError::Fraction);
        }
        minor_units(digits, "")
    }

    /// Parses what a person writes for an asset with `scale` decimal places: `12`, `12.5`, `0.000001`.
    /// Refuses more decimal places than the asset has, even if they are zeros: who writes them means another asset.
    pub fn from_decimal_str(text: &str, scale: u8) -> Result<Self, MoneyError> {
        if usize::from(scale) > MAX_DIGITS {
            return Err(MoneyError::Scale(scale));
        }
        let digits = unsigned(text)?;
        let (whole, fraction) = match digits.split_once('.') {
            None => (digits, ""),
            Some((whole, fraction)) if whole.is_empty() || fraction.is_empty() => {
                return Err(if whole.is_empty() && fraction.is_empty() {
                    MoneyError::NotANumber(shortened(text))
                } else {
                    MoneyError::BarePoint
                });
            }
            Some((_, fraction)) if fraction.contains('.') => {
                return Err(MoneyError::NotANumber(shortened(text)));
            }
            Some(parts) => parts,
        };
        if fraction.len() > usize::from(scale) {
            return Err(MoneyError::BeyondScale { scale, found: fraction.len() });
        }
        minor_units(whole, &format!("{fraction:0<width$}", width = usize::from(scale)))
    }

    /// Writes all `scale` decimal places (`12.500000` at scale 6), so that nothing is lost and
    /// [`Amount::from_decimal_str`] reads it back. At scale 0 there is no point.
    pub fn to_decimal_string(self, scale: u8) -> String {
        let scale = usize::from(scale);
        if scale == 0 {
            return self.to_string();
        }
        let digits = format!("{:0>width$}", self.0, width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        format!("{whole}.{fraction}")
    }
}

/// Checks that `text` holds ASCII digits and points only, and says what else it holds.
fn unsigned(text: &str) -> Result<&str, MoneyError> {
    match text.as_bytes() {
        [] => return Err(MoneyError::Empty),
        [b'-', ..] => return Err(MoneyError::Negative),
        [b'+', ..] => return Err(MoneyError::PlusSign),
        _ => {}
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok(text);
    }
    let exponent = text.split_once(['e', 'E']).is_some_and(|(mantissa, power)| {
        let power = power.strip_prefix(['+', '-']).unwrap_or(power);
        mantissa.starts_with(|c: char| c.is_ascii_digit())
            && mantissa.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && !power.is_empty()
            && power.bytes().all(|b| b.is_ascii_digit())
    });
    Err(if exponent { MoneyError::Exponent } else { MoneyError::NotANumber(shortened(text)) })
}

/// Reads `whole` then `fraction`, both digits; at most 28 significant ones, and 28 written ones in front of the point.
fn minor_units(whole: &str, fraction: &str) -> Result<Amount, MoneyError> {
    if whole.len() > MAX_DIGITS {
        return Err(MoneyError::TooLarge);
    }
    let units = whole.bytes().chain(fraction.bytes()).try_fold(0_u128, |units, digit| {
        Amount::from_u128(units * 10 + u128::from(digit - b'0')).map(Amount::as_u128)
    })?;
    Ok(Amount(units))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amount({})", self.0)
    }
}

impl FromStr for Amount {
    type Err = MoneyError;
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        Self::parse_minor(text)
    }
}

impl From<u64> for Amount {
    fn from(units: u64) -> Self {
        Self::from_u64(units)
    }
}

serde_as_text!(Amount);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn minor_units_are_digits_and_nothing_else() {
        let max = "9".repeat(28);
        assert_eq!(Amount::parse_minor("0"), Ok(Amount::ZERO));
        assert_eq!(Amount::parse_minor("0042"), Ok(Amount(42)));
        assert_eq!(Amount::parse_minor(&max), Ok(Amount::MAX));
        let not = |text: &str| MoneyError::NotANumber(text.into());
        for (text, refusal) in [
            ("", MoneyError::Empty),
            ("-1", MoneyError::Negative),
            ("-NaN", MoneyError::Negative),
            ("+1", MoneyError::PlusSign),
            ("NaN", not("NaN")),
            ("Infinity", not("Infinity")),
            ("1e3", MoneyError::Exponent),
            ("1E-3", MoneyError::Exponent),
            ("e", not("e")),
            ("1.0", MoneyError::Fraction),
            ("1.", MoneyError::Fraction),
            (" 1", not(" 1")),
            ("1_000", not("1_000")),
            ("1,000", not("1,000")),
            ("0x10", not("0x10")),
            ("١", not("١")),
            (&"0".repeat(29), MoneyError::TooLarge),
            ("10000000000000000000000000000", MoneyError::TooLarge),
        ] {
            assert_eq!(Amount::parse_minor(text), Err(refusal), "{text}");
        }
    }

    #[test]
    fn decimals_are_read_at_the_scale_of_the_asset() {
        for (text, scale, units) in [
            ("12", 6, 12_000_000),
            ("12.5", 6, 12_500_000),
            ("0.000001", 6, 1),
            ("7", 0, 7),
            ("0.00", 2, 0),
            ("1.00000000001", 11, 100_000_000_001),
        ] {
            assert_eq!(Amount::from_decimal_str(text, scale), Ok(Amount(units)), "{text}");
        }
        let not = |text: &str| MoneyError::NotANumber(text.into());
        for (text, scale, refusal) in [
            ("0.0000001", 6, MoneyError::BeyondScale { scale: 6, found: 7 }),
            ("1.0", 0, MoneyError::BeyondScale { scale: 0, found: 1 }),
            ("1.500", 2, MoneyError::BeyondScale { scale: 2, found: 3 }),
            (".5", 6, MoneyError::BarePoint),
            ("5.", 6, MoneyError::BarePoint),
            (".", 6, not(".")),
            ("1.2.3", 6, not("1.2.3")),
            ("-0.5", 6, MoneyError::Negative),
            ("1.5e3", 6, MoneyError::Exponent),
            ("nan", 6, not("nan")),
            ("$5", 6, not("$5")),
            ("10000000000000000000000", 6, MoneyError::TooLarge),
            ("1", 29, MoneyError::Scale(29)),
        ] {
            assert_eq!(Amount::from_decimal_str(text, scale), Err(refusal), "{text}");
        }
    }

    #[test]
    fn sums_never_leave_the_range() {
        assert_eq!(Amount::MAX.checked_add(Amount(1)), None);
        assert_eq!(Amount::MAX.checked_add(Amount::ZERO), Some(Amount::MAX));
        assert_eq!(Amount(1).checked_sub(Amount(2)), None);
        assert_eq!(Amount(3).checked_mul(7), Some(Amount(21)));
        assert_eq!(Amount::MAX.checked_mul(2), None);
        assert_eq!(Amount::MAX.checked_mul(u64::MAX), None);
        assert!(Amount::from_u128(Amount::MAX.0 + 1).is_err());
    }

    #[test]
    fn json_amounts_are_strings() {
        assert_eq!(serde_json::to_string(&Amount(5)).unwrap(), "\"5\"");
        assert_eq!(serde_json::from_str::<Amount>("\"5\"").unwrap(), Amount(5));
        assert!(serde_json::from_str::<Amount>("5").is_err());
        assert!(serde_json::from_str::<Amount>("\"-5\"").is_err());
    }

    proptest! {
        #[test]
        fn every_amount_survives_writing_and_reading(units in 0..=Amount::MAX.0, scale in 0_u8..=28) {
            let amount = Amount(units);
            prop_assert_eq!(Amount::parse_minor(&amount.to_string()), Ok(amount));
            prop_assert_eq!(Amount::from_decimal_str(&amount.to_decimal_string(scale), scale), Ok(amount));
        }

        #[test]
        fn whatever_is_accepted_is_plain_digits(text in "[-+ 0-9.eENa]{0,32}") {
            let plain = (1..=28).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            prop_assert_eq!(Amount::parse_minor(&text).is_ok(), plain);
        }

        #[test]
        fn sums_agree_with_subtraction(a in 0..=Amount::MAX.0, b in 0..=Amount::MAX.0) {
            if let Some(sum) = Amount(a).checked_add(Amount(b)) {
                prop_assert_eq!(sum.checked_sub(Amount(b)), Some(Amount(a)));
            } else {
                prop_assert!(a + b > Amount::MAX.0);
            }
        }
    }
}
