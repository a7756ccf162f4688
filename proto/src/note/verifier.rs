//! Verifier keys in the text form of C2SP signed-note: `name+key hash+base64(type byte ‖ public key)`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::cosignature::ED25519_COSIGNATURE;
use super::{ED25519, NoteError, NoteName, typed_key_hash};
use crate::keys::PublicKey;

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// A note's text as it is: logs.
    Note,
    /// A checkpoint's text with a time: witnesses.
    Cosignature,
}

/// A name, the key that signs in it, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    /// Who.
    pub name: NoteName,
    /// With which key.
    pub key: PublicKey,
    /// What it signs.
    pub usage: KeyUse,
}

impl KeyUse {
    const fn type_byte(self) -> u8 {
        match self {
            Self::Note => ED25519,
            Self::Cosignature => ED25519_COSIGNATURE,
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.usage.type_byte();
        let hash = hex::encode(typed_key_hash(kind, &self.name, &self.key));
        write!(f, "{}+{hash}+{}", self.name, BASE64.encode([&[kind], &self.key.as_bytes()[..]].concat()))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = NoteError::Malformed("a verifier key is name+hash+base64");
        // The name has no '+', base64 may.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad);
        };
        let name: NoteName = name.parse()?;
        let bytes = BASE64.decode(encoded).map_err(|_| bad.clone())?;
        let usage = match bytes.first() {
            Some(&ED25519) => KeyUse::Note,
            Some(&ED25519_COSIGNATURE) => KeyUse::Cosignature,
            _ => return Err(NoteError::Malformed("a verifier key of a kind that is not known here")),
        };
        let key = PublicKey::from_slice(&bytes[1..])
            .map_err(|_| NoteError::Malformed("a verifier key holds no usable Ed25519 key"))?;
        if hash != hex::encode(typed_key_hash(usage.type_byte(), &name, &key)) {
            return Err(NoteError::Malformed("a verifier key's hash is not that of its name and key"));
        }
        Ok(Self { name, key, usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_verifier_key_comes_back_and_a_changed_one_does_not() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key: VerifierKey = text.parse().unwrap();
        assert_eq!(
            (key.name.as_str(), key.usage, key.to_string().as_str()),
            ("PeterNeumann", KeyUse::Note, text)
        );
        let witness = VerifierKey { usage: KeyUse::Cosignature, ..key.clone() };
        assert_eq!(witness.to_string().parse(), Ok(witness.clone()));
        assert_ne!(witness.to_string(), text);
        for bad in [
            text.replace("Peter", "Poter"),
            text.replace("c74f", "c74e"),
            text.replace("ARpc", "BRpc"),
            text.replace("ARpc2QcU", "ARpc2QcV"),
            text.replace("+ARpc", " ARpc"),
            String::new(),
        ] {
            assert!(
                matches!(bad.parse::<VerifierKey>(), Err(NoteError::Malformed(_) | NoteError::Name(_))),
                "{bad}"
            );
        }
    }
}
