//! What a forger would try: signatures and keys that lenient verifiers take, envelopes of another kind, and structures that a
//! careless concatenation would hash alike. Each must be refused, or come out different.

use ed25519_dalek::VerifyingKey;
use prost::Message as _;

use crate::dsse::{self, DsseError};
use crate::keys::{BadSignature, KeyPair, PublicKey, PublicKeyError};
use crate::receipt::{self, ReceiptError};
use crate::v1;

/// The order of the base point, little-endian.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn key() -> KeyPair {
    KeyPair::from_seed(&[5; 32])
}

/// A key that `PublicKey` would refuse, to see that the check of the signature would have, too.
fn unchecked(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes).ok()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

/// Chalkias, Garillot, Nikolaenko: "Taming the many EdDSAs" (2020), the vectors published with it: message, key, signature.
/// Small-order keys and R, mixed-order ones, S of L and more, R that is not canonical. Only the mixed-order ones that meet the
/// equation without cofactor pass a strict check of the signature: what refuses those is the key.
const TAMING: [(&str, &str, &str); 10] = [
    (
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    (
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
    ),
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
    ),
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ),
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
    ),
    (
        "fdaebc429f4a735932a160da1301080c13280eea8bc280d1b392c6b9e6ba3a5a",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f454d370c8d9fc323a41450f8d513eafeb5b0697390c1e505a0d4ddc71f566607",
    ),
    (
        "84b698d39be126ff55fe45079e6c8bf64a0d7db6994560b4e96b7021eb39c1a1",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f084d5b99c2a9463d9c8bd5026916996984eeec87ddf1d3be329006ace1b37b09",
    ),
];

#[test]
fn none_of_the_published_edge_cases_verifies() {
    let mut fit = 0;
    for (n, (message, public, signature)) in TAMING.into_iter().enumerate() {
        let (message, signature) = (hex::decode(message).unwrap(), hex::decode(signature).unwrap());
        match PublicKey::from_bytes(&array(public)) {
            Ok(key) => {
                fit += 1;
                assert_eq!(key.verify(&message, &signature), Err(BadSignature), "case {n}");
            }
            Err(refusal) => {
                assert!(
                    matches!(refusal, PublicKeyError::Weak | PublicKeyError::MixedOrder),
                    "case {n}: {refusal}"
                );
            }
        }
    }
    assert_eq!(fit, 2, "the two with a good key and S beyond L");
}

/// The eight points of small order, and every second spelling of one that a decoder might take.
#[test]
fn no_point_of_small_order_is_a_key_in_any_spelling() {
    for (text, refusal) in [
        ("0100000000000000000000000000000000000000000000000000000000000000", PublicKeyError::Weak),
        ("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", PublicKeyError::Weak),
        ("0000000000000000000000000000000000000000000000000000000000000000", PublicKeyError::Weak),
        ("0000000000000000000000000000000000000000000000000000000000000080", PublicKeyError::Weak),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", PublicKeyError::Weak),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", PublicKeyError::Weak),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", PublicKeyError::Weak),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa", PublicKeyError::Weak),
    ] {
        assert_eq!(PublicKey::from_bytes(&array(text)), Err(refusal), "{text}");
    }
    // y of p or p + 1 instead of 0 or 1, x of 0 with a sign: some decoders refuse them as no point, ours as another spelling;
    // neither is a key.
    for text in [
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        let refusal = PublicKey::from_bytes(&array(text)).unwrap_err();
        assert!(
            matches!(refusal, PublicKeyError::NotCanonical | PublicKeyError::NotAPoint),
            "{text}: {refusal}"
        );
    }
}

/// A good signature's R moved by a point of small order meets the equation with cofactor, which others check (ZIP 215).
#[test]
fn a_signature_has_one_form() {
    let key = key();
    let message = b"message";
    let good = key.sign(message);
    let public = *key.public();
    assert_eq!(public.verify(message, &good), Ok(()));

    // S + L: the same number to whoever does not look.
    let mut carry = 0_u16;
    let mut more = good;
    for (byte, l) in more[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(l) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!((carry, more == good), (0, false));
    assert_eq!(public.verify(message, &more), Err(BadSignature), "S + L");

    for small in [
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ] {
        let torsion = unchecked(&array(small)).unwrap().to_edwards();
        let r = unchecked(&good[..32].try_into().unwrap()).unwrap().to_edwards();
        let mut moved = good;
        moved[..32].copy_from_slice((r + torsion).compress().as_bytes());
        assert_eq!(public.verify(message, &moved), Err(BadSignature), "R + {small}");
        // And R of small order altogether, in both its spellings where it has two.
        moved[..32].copy_from_slice(&array::<32>(small));
        assert_eq!(public.verify(message, &moved), Err(BadSignature), "R = {small}");
    }
    for spelled in ["ee", "ed"] {
        let mut moved = good;
        moved[..32].copy_from_slice(&array::<32>(&format!("{spelled}{}7f", "ff".repeat(30))));
        assert_eq!(public.verify(message, &moved), Err(BadSignature), "R beyond p");
    }
    for length in [0, 32, 63] {
        assert_eq!(public.verify(message, &good[..length]), Err(BadSignature));
    }
    assert_eq!(public.verify(message, &[&good[..], &[0]].concat()), Err(BadSignature));
}

fn receipt() -> v1::Receipt {
    v1::Receipt { ledger_id: 1, seq: 7, code: "ok".into(), ..v1::Receipt::default() }
}

#[test]
fn an_envelope_of_another_kind_is_no_receipt() {
    let key = key();
    let bytes = receipt().encode_to_vec();
    let good = dsse::sign_message(&receipt(), &key);
    assert_eq!(receipt::check(&good.encode_to_vec(), key.public()).unwrap().receipt, receipt());
    let name = dsse::payload_type::<v1::Receipt>();
    // Signed by the very key, over the very payload, and yet as something else: older, foreign, spelled otherwise.
    for payload_type in [
        String::new(),
        "application/octet-stream".into(),
        "application/json".into(),
        dsse::payload_type::<v1::ServiceCommand>(),
        name.replace(".v1.", ".v0."),
        name.replace("+protobuf", ""),
        name.to_uppercase(),
        format!("{name} "),
        format!("{name};v=1"),
        format!("{name}\0"),
    ] {
        let envelope = dsse::sign(&payload_type, bytes.clone(), &key);
        let refusal = receipt::check(&envelope.encode_to_vec(), key.public()).unwrap_err();
        assert!(
            matches!(refusal, ReceiptError::Dsse(DsseError::WrongPayloadType { .. })),
            "{payload_type}: {refusal}"
        );
        // Nor does it help to write the right type over the signature of another.
        let renamed = v1::Envelope { payload_type: name.clone(), ..envelope };
        let refusal = receipt::check(&renamed.encode_to_vec(), key.public()).unwrap_err();
        assert_eq!(refusal, ReceiptError::Dsse(DsseError::BadSignature(key.id())), "{payload_type}");
    }
    let stranger = KeyPair::from_seed(&[6; 32]);
    let refusal = receipt::check(&good.encode_to_vec(), stranger.public()).unwrap_err();
    assert_eq!(refusal, ReceiptError::Dsse(DsseError::UnknownKey(key.id())));
    for bytes in [&b"\xff"[..], b"{\"payloadType\": \"x\"}", &[0x0a; 40]] {
        assert!(receipt::check(bytes, key.public()).is_err(), "{}", bytes.escape_ascii());
    }
}

/// Protobuf lets a message nest in itself by unknown groups; the decoder has a limit and does not fall over.
#[test]
fn a_deeply_nested_message_is_refused_and_nothing_falls_over() {
    let key = key();
    for opening in [&[0x0b_u8][..], &[0x7b][..]] {
        let bytes = opening.repeat(5_000_000);
        let refusal = receipt::check(&bytes, key.public()).unwrap_err();
        assert!(matches!(refusal, ReceiptError::NotAnEnvelope(_)), "{refusal}");
        let inner = dsse::sign(&dsse::payload_type::<v1::Receipt>(), bytes, &key);
        let refusal = receipt::check(&inner.encode_to_vec(), key.public()).unwrap_err();
        assert!(matches!(refusal, ReceiptError::Dsse(DsseError::NotTheMessage { .. })), "{refusal}");
    }
    // A length that no memory holds is not taken at its word.
    let giant = [&[0x12_u8][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat();
    assert!(matches!(receipt::check(&giant, key.public()), Err(ReceiptError::NotAnEnvelope(_))));
}

#[test]
fn a_receipt_is_included_at_the_place_of_its_seq_and_nowhere_else() {
    let key = key();
    let mut tree = crate::merkle::Tree::new();
    let mut all = Vec::new();
    for seq in 1..=5 {
        let one = dsse::sign_message(&v1::Receipt { seq, ..receipt() }, &key).encode_to_vec();
        tree.append(crate::merkle::leaf_hash(&one));
        all.push(receipt::check(&one, key.public()).unwrap());
    }
    for (index, one) in (0..).zip(&all) {
        for place in 0..5 {
            let proof = tree.inclusion_proof(place, 5).unwrap();
            assert_eq!(
                one.check_inclusion(5, &proof, &tree.root()).is_ok(),
                place == index,
                "{index} at {place}"
            );
        }
    }
    let none = dsse::sign_message(&v1::Receipt { seq: 0, ..receipt() }, &key).encode_to_vec();
    let none = receipt::check(&none, key.public()).unwrap();
    assert_eq!(none.check_inclusion(5, &[], &tree.root()), Err(ReceiptError::NoSeq));
}
