//! Scalars. Each has one spelling, and what is not it is refused with code UB103 before anything is signed off.

use async_graphql::{InputType, InputValueError, InputValueResult, Number, Scalar, ScalarType, Value};
use proto::ids::{Hash32, OrderId};
use proto::money::Amount;
use uuid::Uuid;

fn refused<T: InputType>(why: impl std::fmt::Display) -> InputValueError<T> {
    InputValueError::custom(why).with_extension("code", "UB103")
}

/// Money: whole minor units of an asset as a string of 1 to 28 decimal digits. Not a number: JSON's would lose digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmountText(pub Amount);

#[Scalar(name = "Amount")]
impl ScalarType for AmountText {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Amount::parse_minor(&text).map(Self).map_err(refused),
            _ => Err(refused("an amount is a string of decimal digits in minor units, as in \"1500000\"")),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// An id: a UUID in its 36-character form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(pub Uuid);

#[Scalar(name = "UUID")]
impl ScalarType for Id {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            // Any 16-byte id parses alike; the strict reader is the contracts'.
            Value::String(text) => {
                text.parse::<OrderId>().map(|id| Self(id.as_uuid())).map_err(|_| refused(ID_FORM))
            }
            _ => Err(refused(ID_FORM)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.as_hyphenated().to_string())
    }
}

const ID_FORM: &str = "an id is a UUID with hyphens, as in \"0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f\"";

impl Id {
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }
}

impl<T: Into<Uuid>> From<T> for Id {
    fn from(id: T) -> Self {
        Self(id.into())
    }
}

/// 32 bytes (a BLAKE3 hash, a key id, a public key) as 64 lowercase hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex32(pub [u8; 32]);

#[Scalar(name = "Hash")]
impl ScalarType for Hex32 {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => {
                text.parse::<Hash32>().map(|hash| Self(*hash.as_bytes())).map_err(|_| refused(HASH_FORM))
            }
            _ => Err(refused(HASH_FORM)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(hex::encode(self.0))
    }
}

const HASH_FORM: &str = "a hash is a string of 64 lowercase hex digits";

impl Hex32 {
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

/// A whole number from 0 that may be larger than an Int: a JSON number, or (input only) its decimal digits as a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u64);

#[Scalar(name = "Count")]
impl ScalarType for Count {
    fn parse(value: Value) -> InputValueResult<Self> {
        const FORM: &str = "a count is a whole number from 0";
        match value {
            Value::Number(number) => number.as_u64().map(Self).ok_or_else(|| refused(FORM)),
            Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().map(Self).map_err(|_| refused(FORM))
            }
            _ => Err(refused(FORM)),
        }
    }

    fn to_value(&self) -> Value {
        Value::Number(Number::from(self.0))
    }
}

/// A moment: Unix microseconds, as a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Micros(pub i64);

#[Scalar(name = "Micros")]
impl ScalarType for Micros {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::Number(number) => {
                number.as_i64().map(Self).ok_or_else(|| refused("a moment is a whole number of microseconds"))
            }
            _ => Err(refused("a moment is a whole number of microseconds")),
        }
    }

    fn to_value(&self) -> Value {
        Value::Number(Number::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: ScalarType>(value: Value) -> InputValueResult<T> {
        <T as ScalarType>::parse(value)
    }

    fn code<T: ScalarType + InputType>(value: Value) -> Option<Value> {
        // The error's extensions are private: what it becomes in a response is what counts.
        let error = read::<T>(value).err()?.into_server_error(Default::default());
        error.extensions.and_then(|extensions| extensions.get("code").cloned())
    }

    #[test]
    fn anything_but_whole_minor_units_is_no_amount() {
        for text in
            ["", "-1", "+1", "1.5", "1e3", "NaN", "Infinity", " 1", "١", "99999999999999999999999999999"]
        {
            assert_eq!(code::<AmountText>(Value::from(text)), Some(Value::from("UB103")), "{text:?}");
        }
        assert_eq!(code::<AmountText>(Value::from(5)), Some(Value::from("UB103")));
        assert_eq!(
            ScalarType::to_value(&read::<AmountText>(Value::from("0042")).unwrap()),
            Value::from("42")
        );
    }

    #[test]
    fn ids_hashes_and_counts_have_one_spelling() {
        assert!(read::<Id>(Value::from("0190a6c51f2e7c3d8e4f5a6b7c8d9e0f")).is_err());
        assert!(read::<Id>(Value::from("0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f")).is_ok());
        assert!(read::<Hex32>(Value::from("AB".repeat(32))).is_err());
        assert!(read::<Hex32>(Value::from("ab".repeat(32))).is_ok());
        assert_eq!(read::<Count>(Value::from("18446744073709551615")).unwrap(), Count(u64::MAX));
        for bad in [Value::from(-1), Value::from(1.5), Value::from("-1"), Value::from(""), Value::Null] {
            assert!(read::<Count>(bad).is_err());
        }
    }
}
