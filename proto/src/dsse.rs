//! DSSE v1: a message's exact bytes, their type, and Ed25519 signatures over both.
//!
//! What is signed is the pre-authentication encoding ([`pae`]), which begins with `DSSEv1 `: an RFC 9421 signature
//! base begins with a quote and a signed note's first line holds no space, so that a signature made for one kind of
//! bytes is never valid for another.

use crate::keys::{KeyId, KeyPair, PublicKey};
use crate::v1::{Envelope, Signature};
use prost::{Message, Name};

/// Why an envelope is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsseError {
    /// It holds another kind of message.
    #[error("the envelope holds {found:?}, but {expected:?} is expected here")]
    WrongPayloadType {
        /// What the caller asked for.
        expected: String,
        /// What the envelope names.
        found: String,
    },
    /// No signatures at all.
    #[error("the envelope is not signed")]
    NotSigned,
    /// More signatures than anybody needs.
    #[error("the envelope has {0} signatures, more than {SIGNATURES_MAX}")]
    TooManySignatures(usize),
    /// A key id that is not 32 bytes.
    #[error("a signature of the envelope names a key id of {0} bytes instead of 32")]
    KeyIdLength(usize),
    /// The same key id twice.
    #[error("the envelope has two signatures of key {0}")]
    DuplicateSignature(KeyId),
    /// None of the keys is known or allowed; the first one is named.
    #[error("key {0} is not known here, or may not sign this")]
    UnknownKey(KeyId),
    /// Several known keys: which of them acts would be a guess.
    #[error("the envelope is signed by two known keys, {0} and {1}, where exactly one must sign")]
    SeveralSigners(KeyId, KeyId),
    /// The known key's signature is wrong.
    #[error("the signature of key {0} does not verify over this payload and type")]
    BadSignature(KeyId),
    /// Verified bytes that are not a message of the type they claim.
    #[error("the payload is not a valid {message}: {why}")]
    NotTheMessage {
        /// The message's full name.
        message: String,
        /// The decoder's answer.
        why: String,
    },
    /// Stored bytes that are not a pre-authentication encoding.
    #[error("these bytes are not a DSSE pre-authentication encoding")]
    NotPae,
}

/// An envelope may carry countersignatures of strangers, but not without bound.
pub const SIGNATURES_MAX: usize = 16;

/// The payload type of message `M`: `application/vnd.openagents.econ.v1.<Message>+protobuf`.
pub fn payload_type<M: Name>() -> String {
    format!("application/vnd.{}+protobuf", M::full_name())
}

/// The pre-authentication encoding: `DSSEv1 LEN(type) type LEN(payload) payload`, lengths in decimal, one space
/// between. These are the bytes that are signed.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Takes [`pae`] apart again, for an auditor who has only the stored signed bytes: (payload type, payload).
pub fn read_pae(bytes: &[u8]) -> Result<(&str, &[u8]), DsseError> {
    let read = || {
        let rest = bytes.strip_prefix(b"DSSEv1 ")?;
        let (payload_type, rest) = read_field(rest)?;
        let (payload, rest) = read_field(rest.strip_prefix(b" ")?)?;
        let payload_type = std::str::from_utf8(payload_type).ok()?;
        // The encoding has one form: what does not come out the same went in differently.
        (rest.is_empty() && pae(payload_type, payload) == bytes).then_some((payload_type, payload))
    };
    read().ok_or(DsseError::NotPae)
}

fn read_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    bytes[space + 1..].split_at_checked(length)
}

/// Signs `payload` as `payload_type`. The envelope holds these very bytes.
pub fn sign(payload_type: &str, payload: Vec<u8>, key: &KeyPair) -> Envelope {
    let sig = key.sign(&pae(payload_type, &payload)).to_vec();
    let signature = Signature { key_id: key.id().into(), sig };
    Envelope { payload_type: payload_type.to_owned(), payload, signatures: vec![signature] }
}

/// Encodes and signs a message under its own payload type.
pub fn sign_message<M: Message + Name>(message: &M, key: &KeyPair) -> Envelope {
    sign(&payload_type::<M>(), message.encode_to_vec(), key)
}

/// A payload whose signature was verified, and who signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'a> {
    /// The exact signed bytes.
    pub payload: &'a [u8],
    /// The one known key that signed.
    pub key_id: KeyId,
    /// Its 64-byte signature over `pae(payload_type, payload)`.
    pub signature: &'a [u8],
}

/// Verifies that exactly one key known to `key_of` signed this payload as `expected_payload_type`.
///
/// `key_of` answers with the key if it exists and may sign this, judged as the caller judges (purpose, validity).
/// Signatures of unknown keys beside it are ignored: they are countersignatures that mean nothing here.
pub fn verify<'a>(
    envelope: &'a Envelope,
    expected_payload_type: &str,
    key_of: impl Fn(&KeyId) -> Option<PublicKey>,
) -> Result<Verified<'a>, DsseError> {
    if envelope.payload_type != expected_payload_type {
        return Err(DsseError::WrongPayloadType {
            expected: expected_payload_type.to_owned(),
            found: envelope.payload_type.chars().take(120).collect(),
        });
    }
    let signatures = &envelope.signatures;
    if signatures.len() > SIGNATURES_MAX {
        return Err(DsseError::TooManySignatures(signatures.len()));
    }
    let mut seen: Vec<KeyId> = Vec::with_capacity(signatures.len());
    let mut known: Option<(KeyId, PublicKey, &'a [u8])> = None;
    for signature in signatures {
        let key_id = KeyId::from_slice(&signature.key_id)
            .map_err(|_| DsseError::KeyIdLength(signature.key_id.len()))?;
        if seen.contains(&key_id) {
            return Err(DsseError::DuplicateSignature(key_id));
        }
        seen.push(key_id);
        if let Some(key) = key_of(&key_id) {
            if let Some((other, ..)) = known {
                return Err(DsseError::SeveralSigners(other, key_id));
            }
            known = Some((key_id, key, &signature.sig));
        }
    }
    let (key_id, key, signature) = match (known, seen.first()) {
        (Some(known), _) => known,
        (None, Some(first)) => return Err(DsseError::UnknownKey(*first)),
        (None, None) => return Err(DsseError::NotSigned),
    };
    key.verify(&pae(&envelope.payload_type, &envelope.payload), signature)
        .map_err(|_| DsseError::BadSignature(key_id))?;
    Ok(Verified { payload: &envelope.payload, key_id, signature })
}

/// [`verify`] under the payload type of `M`, then decodes: the message and who signed it.
pub fn verify_message<M: Message + Name + Default>(
    envelope: &Envelope,
    key_of: impl Fn(&KeyId) -> Option<PublicKey>,
) -> Result<(M, KeyId), DsseError> {
    let verified = verify(envelope, &payload_type::<M>(), key_of)?;
    let message = M::decode(verified.payload)
        .map_err(|error| DsseError::NotTheMessage { message: M::full_name(), why: error.to_string() })?;
    Ok((message, verified.key_id))
}

/// Verifies stored signed bytes without an envelope at hand. Look inside with [`read_pae`].
pub fn verify_stored(pae: &[u8], signature: &[u8], key: &PublicKey) -> Result<(), DsseError> {
    read_pae(pae)?;
    key.verify(pae, signature).map_err(|_| DsseError::BadSignature(key.id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::Receipt;

    fn key(n: u8) -> KeyPair {
        KeyPair::from_seed(&[n; 32])
    }

    fn knows<'a>(keys: &'a [&'a KeyPair]) -> impl Fn(&KeyId) -> Option<PublicKey> + 'a {
        |id| keys.iter().find(|key| key.id() == *id).map(|key| *key.public())
    }

    fn receipt() -> Receipt {
        Receipt { ledger_id: 1, seq: 7, code: "ok".into(), ..Receipt::default() }
    }

    #[test]
    fn the_encoding_is_the_one_of_the_dsse_specification() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), expected);
        assert_eq!(read_pae(expected).unwrap(), ("http://example.com/HelloWorld", &b"hello world"[..]));
    }

    #[test]
    fn only_the_exact_encoding_is_read_back() {
        for bytes in [
            &b""[..],
            b"DSSEv1 1 a 1 ",
            b"DSSEv1 1 a 1 xy",
            b"DSSEv1 01 a 1 x",
            b"DSSEv1 +1 a 1 x",
            b"DSSEv1 1  a 1 x",
            b"DSSEv2 1 a 1 x",
            b"DSSEv1 99999999999999999999 a 1 x",
            b"DSSEv1 1 \xff 1 x",
            b"\"@method\": POST",
        ] {
            assert_eq!(read_pae(bytes), Err(DsseError::NotPae), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_payload_type_names_its_message() {
        assert_eq!(payload_type::<Receipt>(), "application/vnd.openagents.econ.v1.Receipt+protobuf");
    }

    #[test]
    fn a_signed_message_comes_back_with_its_signer() {
        let envelope = sign_message(&receipt(), &key(1));
        let (message, signer): (Receipt, _) = verify_message(&envelope, knows(&[&key(1), &key(2)])).unwrap();
        assert_eq!((message, signer), (receipt(), key(1).id()));

        let stored = pae(&envelope.payload_type, &envelope.payload);
        let signature = &envelope.signatures[0].sig;
        assert_eq!(verify_stored(&stored, signature, key(1).public()), Ok(()));
        let wrong = verify_stored(&stored, signature, key(2).public());
        assert_eq!(wrong, Err(DsseError::BadSignature(key(2).id())));
    }

    #[test]
    fn each_wrong_envelope_has_its_own_refusal() {
        let (one, two) = (key(1), key(2));
        let (id1, id2) = (one.id(), two.id());
        let expected = payload_type::<Receipt>();
        let check = |change: &dyn Fn(&mut Envelope), refusal: DsseError| {
            let mut envelope = sign_message(&receipt(), &one);
            change(&mut envelope);
            assert_eq!(verify(&envelope, &expected, knows(&[&one, &two])).unwrap_err(), refusal);
        };
        let second = sign_message(&receipt(), &two).signatures.remove(0);
        check(
            &|e| e.payload_type = "application/vnd.openagents.econ.v1.Order+protobuf".into(),
            DsseError::WrongPayloadType {
                expected: expected.clone(),
                found: "application/vnd.openagents.econ.v1.Order+protobuf".into(),
            },
        );
        check(&|e| e.signatures.clear(), DsseError::NotSigned);
        check(&|e| e.signatures = vec![e.signatures[0].clone(); 17], DsseError::TooManySignatures(17));
        check(&|e| e.signatures[0].key_id.truncate(31), DsseError::KeyIdLength(31));
        check(&|e| e.signatures.push(e.signatures[0].clone()), DsseError::DuplicateSignature(id1));
        check(&|e| e.signatures[0].key_id = key(3).id().into(), DsseError::UnknownKey(key(3).id()));
        check(&|e| e.signatures.push(second.clone()), DsseError::SeveralSigners(id1, id2));
        check(&|e| e.signatures[0].key_id = id2.into(), DsseError::BadSignature(id2));
        check(&|e| e.signatures[0].sig.truncate(63), DsseError::BadSignature(id1));
        check(&|e| e.payload.push(0), DsseError::BadSignature(id1));
        check(&|e| e.payload.clear(), DsseError::BadSignature(id1));
    }

    #[test]
    fn every_flipped_bit_of_payload_and_signature_is_noticed() {
        let one = key(1);
        let envelope = sign_message(&receipt(), &one);
        let expected = payload_type::<Receipt>();
        for bit in 0..envelope.payload.len() * 8 {
            let mut tampered = envelope.clone();
            tampered.payload[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&tampered, &expected, knows(&[&one])).is_err(), "payload bit {bit}");
        }
        for bit in 0..512 {
            let mut tampered = envelope.clone();
            tampered.signatures[0].sig[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&tampered, &expected, knows(&[&one])).is_err(), "signature bit {bit}");
        }
    }

    #[test]
    fn a_strangers_countersignature_changes_nothing() {
        let mut envelope = sign_message(&receipt(), &key(1));
        envelope.signatures.insert(0, sign_message(&receipt(), &key(9)).signatures.remove(0));
        let verified = verify(&envelope, &payload_type::<Receipt>(), knows(&[&key(1)])).unwrap();
        assert_eq!(verified.key_id, key(1).id());
    }

    #[test]
    fn signed_bytes_that_are_no_such_message_are_refused_after_verifying() {
        let envelope = sign(&payload_type::<Receipt>(), vec![0xff], &key(1));
        let refusal = verify_message::<Receipt>(&envelope, knows(&[&key(1)])).unwrap_err();
        assert!(matches!(refusal, DsseError::NotTheMessage { .. }), "{refusal}");
    }
}
