//! Identifiers: 16-byte ids (UUID), 32-byte hashes, each its own type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Why bytes or text are not an id or a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Wrong number of bytes.
    #[error("{what}: {found} bytes, but it has exactly {expected}")]
    Length {
        /// The type's name.
        what: &'static str,
        /// Bytes it needs.
        expected: usize,
        /// Bytes it got.
        found: usize,
    },
    /// Not the one accepted text form.
    #[error("{what}: {text:?} is not {form}")]
    Text {
        /// The type's name.
        what: &'static str,
        /// The accepted form.
        form: &'static str,
        /// What came, cut to 80 characters.
        text: String,
    },
}

fn text_error(what: &'static str, form: &'static str, text: &str) -> IdError {
    IdError::Text { what, form, text: text.chars().take(80).collect() }
}

/// Parses only the 36-character form: one id has one spelling (letter case aside) wherever it is logged or compared.
fn parse_uuid(what: &'static str, text: &str) -> Result<Uuid, IdError> {
    const FORM: &str = "a UUID with hyphens, as in 0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f";
    if text.len() != 36 {
        return Err(text_error(what, FORM, text));
    }
    Uuid::try_parse(text).map_err(|_| text_error(what, FORM, text))
}

fn parse_hex32(what: &'static str, text: &str) -> Result<[u8; 32], IdError> {
    const FORM: &str = "64 lowercase hex digits";
    let mut bytes = [0; 32];
    if text.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(text, &mut bytes).is_err() {
        return Err(text_error(what, FORM, text));
    }
    Ok(bytes)
}

/// Serde as text, for types with `Display` and `FromStr`: the same spelling in JSON, logs and URLs.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID as it is.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID, for a database driver.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// The 16 bytes, big-endian as in RFC 9562.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// Wraps 16 bytes as they are.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// From a message's `bytes` field; anything but 16 bytes is refused, a missing field too.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                let length = IdError::Length { what: stringify!($name), expected: 16, found: bytes.len() };
                Ok(Self::from_bytes(bytes.try_into().map_err(|_| length)?))
            }

            /// A fresh UUIDv7 of the system's clock and randomness, rising within this process.
            /// For requests of clients; the server derives ids from the command instead.
            pub fn now_v7() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUIDv7 of `unix_ms` (milliseconds since 1970; the low 48 bits count) and `random`
            /// (80 bits, of which version and variant overwrite 6).
            pub fn v7_at(unix_ms: u64, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
            }

            /// The milliseconds since 1970 inside a UUIDv7; `None` for another version.
            pub fn unix_ms(self) -> Option<u64> {
                let bytes = self.0.as_bytes();
                (self.0.get_version_num() == 7)
                    .then(|| bytes[..6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0.as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(stringify!($name), text).map(Self)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }

        impl From<$name> for Vec<u8> {
            fn from(id: $name) -> Vec<u8> {
                id.to_bytes().to_vec()
            }
        }

        serde_as_text!($name);
    )*};
}

uuid_id! {
    /// An agent. UUIDv8 derived from its first key: see [`AgentId::of_first_key`].
    AgentId,
    /// One command.
    CommandId,
    /// A request for quotes.
    RfqId,
    /// An offer made for an RFQ.
    OfferId,
    /// An order: an accepted offer.
    OrderId,
    /// A run ticket.
    RunTicketId,
    /// One execution under a ticket.
    AttemptId,
    /// The transfers of one business event.
    JournalId,
    /// One transfer.
    TransferId,
    /// One account.
    AccountId,
    /// A payment to a payee.
    PayoutId,
    /// What is owed to one payee out of one settlement.
    PayableId,
    /// One live connection of a provider's agent.
    ConnectionId,
}

macro_rules! hash_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// BLAKE3 of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// Wraps 32 bytes as they are.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// From a message's `bytes` field; anything but 32 bytes is refused, a missing field too.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                let length = IdError::Length { what: stringify!($name), expected: 32, found: bytes.len() };
                bytes.try_into().map(Self).map_err(|_| length)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex32(stringify!($name), text).map(Self)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<$name> for Vec<u8> {
            fn from(hash: $name) -> Vec<u8> {
                hash.0.to_vec()
            }
        }

        serde_as_text!($name);
    )*};
}

hash_id! {
    /// A BLAKE3 hash (32 bytes, written as lowercase hex) of something that has no type of its own.
    Hash32,
    /// A receipt's id: BLAKE3 of its payload, the exact bytes inside the envelope.
    ReceiptId,
    /// An artifact's name: BLAKE3 of its bytes.
    ArtifactHash,
    /// A key's id: BLAKE3 of the 32 bytes of its public key.
    KeyId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_bytes_and_json() {
        let id = OrderId::v7_at(1_732_000_000_123, [0xff; 10]);
        assert_eq!(id.to_string(), "0193433e-a87b-7fff-bfff-ffffffffffff");
        assert_eq!(id.unix_ms(), Some(1_732_000_000_123));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(OrderId::from_slice(&id.to_bytes()), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<OrderId>(&json).unwrap(), id);

        let hash = Hash32::of(b"");
        assert_eq!(hash.to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(serde_json::from_str::<Hash32>(&serde_json::to_string(&hash).unwrap()).unwrap(), hash);
    }

    #[test]
    fn fresh_ids_rise() {
        let ids: Vec<_> = (0..1000).map(|_| CommandId::now_v7()).collect();
        assert!(ids.is_sorted());
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn an_id_has_one_spelling_and_one_length() {
        let id = OrderId::now_v7();
        for text in [
            id.as_uuid().as_simple().to_string(),
            id.as_uuid().as_braced().to_string(),
            id.as_uuid().as_urn().to_string(),
            format!("{id} "),
            String::new(),
        ] {
            assert!(text.parse::<OrderId>().is_err(), "{text}");
        }
        for length in [0, 15, 17, 32] {
            let found = OrderId::from_slice(&vec![0; length]);
            assert_eq!(found, Err(IdError::Length { what: "OrderId", expected: 16, found: length }));
        }
        for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64), &"g".repeat(64)] {
            assert!(text.parse::<Hash32>().is_err(), "{text}");
        }
        assert!(Hash32::from_slice(&[0; 31]).is_err());
    }

    #[test]
    fn other_uuid_versions_have_no_time() {
        assert_eq!(AgentId::from_uuid(Uuid::new_v8([7; 16])).unix_ms(), None);
    }
}
