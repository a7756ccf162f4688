use super::*;

#[test]
fn a_bundle_has_one_form() {
    let bundle = EvidenceBundle { ledger_id: 1, origin: "o".into(), ..EvidenceBundle::default() };
    let bytes = to_bytes(&bundle);
    assert_eq!(from_bytes(&bytes).unwrap(), bundle);
    assert_eq!(from_bytes(b""), Err(BundleError::NoBundle));
    assert_eq!(from_bytes(&bytes[1..]), Err(BundleError::NoBundle));
    // An unknown field, a field twice, a field told to be absent, a number with a zero to spare, fields out of order.
    for message in
        [&b"\x10\x01\x78\x01"[..], b"\x10\x01\x10\x01", b"\x10\x00", b"\x10\x81\x00", b"\x32\x01o\x10\x01"]
    {
        let found = from_bytes(&[MAGIC, message].concat());
        assert!(matches!(found, Err(BundleError::Damaged(_))), "{}", message.escape_ascii());
    }
}

#[test]
fn of_nothing_nothing_is_proven() {
    let judgement = judge(&EvidenceBundle::default(), &Trust::default());
    assert!(!judgement.passed() && judgement.proven.is_empty(), "{judgement}");
    let key = crate::keys::KeyPair::from_seed(&[1; 32]);
    let judgement = judge(
        &EvidenceBundle::default(),
        &Trust { receipt_key: Some(*key.public()), rederive: None, witnesses: &[] },
    );
    assert!(!judgement.passed() && judgement.proven.is_empty(), "{judgement}");
}

#[test]
fn whole_numbers_are_digits_and_fit() {
    let facts = serde_json::json!({"a": "0012", "b": "1".repeat(29), "c": 1, "d": "-1", "e": "", "f": "1.0", "g": "9".repeat(28)});
    assert_eq!(number(&facts, "a"), Some(12));
    assert!(["b", "c", "d", "e", "f", "h"].iter().all(|name| number(&facts, name).is_none()));
    assert!(number(&facts, "g").is_some());
}
