//! The log's own hash of a command: what reads alike when glued comes out different.

use proto::prost::Message as _;
use proto::v1;
use uuid::Uuid;

use super::entry::{Decided, Entry, RULES_VERSION, receipt_payload};

/// Signed bytes, signature, request body, what was recorded.
type Parts = (&'static [u8], &'static [u8], Option<&'static [u8]>, &'static str);

fn log_hash(signature_base: &[u8], signature: &[u8], signed_body: Option<&[u8]>, recorded: &str) -> Vec<u8> {
    let entry = Entry {
        command_id: Uuid::nil(),
        actor_id: Uuid::nil(),
        key_id: Vec::new(),
        idempotency_key: None,
        nonce: None,
        kind: String::new(),
        args: String::new(),
        request_digest: Vec::new(),
        body: Vec::new(),
        signature_base: signature_base.to_vec(),
        signature: signature.to_vec(),
        content_type: String::new(),
        signed_body: signed_body.map(<[u8]>::to_vec),
        accepted_at_us: 0,
        simulated: false,
        recorded: recorded.to_owned(),
        forced_code: None,
    };
    let decided = Decided {
        replayed: false,
        seq: 1,
        command_id: Uuid::nil(),
        code: String::new(),
        subject_kind: String::new(),
        subject_id: Uuid::nil(),
        facts: String::new(),
        prev: None,
        receipt_id: None,
        at_us: 0,
        rules_version: RULES_VERSION,
        wake: None,
    };
    v1::Receipt::decode(receipt_payload(1, &entry, &decided, None).as_slice()).unwrap().log_hash
}

#[test]
fn the_logs_hash_keeps_its_parts_apart() {
    let parts: [Parts; 6] = [
        (b"base", b"signature", Some(b"body"), "{}"),
        (b"bases", b"ignature", Some(b"body"), "{}"),
        (b"base", b"signaturebody", None, "{}"),
        (b"base", b"signaturebo", Some(b"dy"), "{}"),
        (b"base", b"signature", Some(b"body{}"), ""),
        (b"basesignaturebody{}", b"", None, ""),
    ];
    let glued = |(base, signature, body, recorded): Parts| {
        [base, signature, body.unwrap_or_default(), recorded.as_bytes()].concat()
    };
    assert!(parts.iter().all(|part| glued(*part) == glued(parts[0])), "these must read alike when glued");
    let mut found: Vec<Vec<u8>> = parts.into_iter().map(|(b, s, m, r)| log_hash(b, s, m, r)).collect();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), parts.len());
    // What jsonb does to blanks and order is no difference.
    let of = |recorded| log_hash(b"b", b"s", None, recorded);
    assert_eq!(of("{\"a\": 1, \"b\": 2}"), of("{\"b\":2,\"a\":1}"));
    assert_ne!(of("{\"a\": 1, \"b\": 2}"), of("{\"a\": 2, \"b\": 1}"));
    assert_ne!(of("{\"a\": \"1,b\"}"), of("{\"a\": \"1\", \"b\": \"\"}"));
}
