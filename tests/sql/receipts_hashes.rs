//! Whatever is hashed or signed is framed: two structures that would read alike when simply written one after the other come
//! out different, and what one kind of bytes says no other kind can be made to say.

use std::collections::BTreeSet;

use ledger::pipeline::request_digest;
use ledger::testing::TestDb;
use proto::dsse;
use proto::ids::{AgentId, Hash32, ReceiptId};
use proto::keys::KeyPair;
use proto::merkle::{TreeHash, leaf_hash, node_hash};
use proto::prost::Message as _;
use proto::v1;

/// The careless way: `parts` one after the other.
fn glued(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn a_request_digest_keeps_its_parts_apart() {
    let digest = [7_u8; 32];
    let sloppy = |(method, target, content_type): (&str, &str, &str)| {
        glued(&[method.as_bytes(), target.as_bytes(), content_type.as_bytes(), &digest])
    };
    let requests = [
        ("POST", "/v1/ledgers/1/commands", "a/b"),
        ("POST", "/v1/ledgers/1/commandsa", "/b"),
        ("POST", "/v1/ledgers/1/command", "sa/b"),
        ("POS", "T/v1/ledgers/1/commands", "a/b"),
        ("POST/v1", "/ledgers/1/commands", "a/b"),
        ("", "POST/v1/ledgers/1/commands", "a/b"),
        ("POST/v1/ledgers/1/commandsa/b", "", ""),
    ];
    let alike: BTreeSet<Vec<u8>> = requests.map(sloppy).into();
    assert_eq!(alike.len(), 1, "these must read alike when glued");
    let apart: BTreeSet<Vec<u8>> = requests.map(|(m, t, c)| request_digest(m, t, c, &digest).into()).into();
    assert_eq!(apart.len(), requests.len());
}

#[test]
fn the_bytes_under_a_signature_keep_type_and_payload_apart() {
    let pairs: [(&str, &[u8]); 5] = [("a", b"bc"), ("ab", b"c"), ("abc", b""), ("", b"abc"), ("a 1 b", b"c")];
    let alike: BTreeSet<Vec<u8>> = pairs[..4].iter().map(|(t, p)| glued(&[t.as_bytes(), p])).collect();
    assert_eq!(alike.len(), 1, "these must read alike when glued");
    let apart: BTreeSet<Vec<u8>> = pairs.iter().map(|(t, p)| dsse::pae(t, p)).collect();
    assert_eq!(apart.len(), pairs.len());
    // A payload that itself looks like the rest of an encoding.
    assert_ne!(dsse::pae("a", b"x 1 y"), dsse::pae("a 5 x", b"y"));
    for (payload_type, payload) in pairs {
        assert_eq!(dsse::read_pae(&dsse::pae(payload_type, payload)).unwrap(), (payload_type, payload));
    }
    // Neither of the other two kinds of signed bytes begins like this (RFC 9421 base: a quote; signed note: no space).
    assert!(dsse::pae("", b"").starts_with(b"DSSEv1 "));
}

#[test]
fn a_leaf_is_never_a_node() {
    let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
    // A second pre-image where leaves are hashed bare: the leaf that holds two hashes would be the node over them.
    let as_leaf = leaf_hash(&glued(&[&left.0, &right.0]));
    assert_ne!(as_leaf, node_hash(&left, &right));
    // Nor with the node's own prefix in the leaf, or a leaf's prefix in what is hashed as a node.
    assert_ne!(leaf_hash(&glued(&[&[1], &left.0, &right.0])), node_hash(&left, &right));
    assert_ne!(node_hash(&left, &right), node_hash(&right, &left));
    assert_ne!(leaf_hash(b""), TreeHash(*Hash32::of(b"").as_bytes()));
    // A tree of one leaf is that leaf, so the number of leaves is part of what a checkpoint states.
    assert_ne!(leaf_hash(&[0]), leaf_hash(&[0, 0]));
}

#[test]
fn an_agents_id_and_its_keys_id_are_different_hashes() {
    let key = KeyPair::from_seed(&[3; 32]);
    let bare = uuid::Uuid::new_v8(key.id().as_bytes()[..16].try_into().unwrap());
    assert_ne!(AgentId::of_first_key(key.public()), AgentId::from_uuid(bare));
}

#[test]
fn rows_and_receipts_are_hashed_as_messages_and_not_as_their_fields() {
    let row = |device_kind: &str, gpu_uuid: &str| v1::MeteringRow {
        device_kind: device_kind.into(),
        gpu_uuid: gpu_uuid.into(),
        ..v1::MeteringRow::default()
    };
    let hash = |row: &v1::MeteringRow| Hash32::of(&row.encode_to_vec());
    assert_ne!(hash(&row("ab", "c")), hash(&row("a", "bc")));
    assert_ne!(hash(&row("abc", "")), hash(&row("", "abc")));
    let number = |bytes_in, bytes_out| v1::MeteringRow { bytes_in, bytes_out, ..v1::MeteringRow::default() };
    assert_ne!(hash(&number(1, 23)), hash(&number(12, 3)));
    let receipt = |kind: &str, code: &str, facts: &str| {
        let receipt = v1::Receipt {
            kind: kind.into(),
            code: code.into(),
            facts_json: facts.into(),
            ..v1::Receipt::default()
        };
        ReceiptId::of(&receipt.encode_to_vec())
    };
    assert_ne!(receipt("a", "bc", ""), receipt("ab", "c", ""));
    assert_ne!(receipt("a", "", "bc"), receipt("a", "bc", ""));
    // A field of another number with the same bytes.
    let about = |subject: &[u8], prev: &[u8]| {
        let receipt = v1::Receipt { subject_id: subject.into(), prev: prev.into(), ..v1::Receipt::default() };
        ReceiptId::of(&receipt.encode_to_vec())
    };
    assert_ne!(about(b"x", b""), about(b"", b"x"));
    // Two encodings of one message are two receipts: the id is of the bytes, and no decoder comes between.
    let one = v1::Receipt { seq: 1, ..v1::Receipt::default() };
    let longer = glued(&[&one.encode_to_vec(), &one.encode_to_vec()]);
    assert_eq!(v1::Receipt::decode(longer.as_slice()).unwrap(), one);
    assert_ne!(ReceiptId::of(&longer), ReceiptId::of(&one.encode_to_vec()));
}

#[tokio::test]
async fn a_derived_id_keeps_label_and_number_apart() {
    let db = TestDb::new().await;
    let admin = db.admin().await;
    let id = async |command: &str, label: &str, n: i32| -> String {
        let sql = format!("select base.derive_id('{command}'::uuid, $1, $2)::text");
        admin.query_one(&sql, &[&label, &n]).await.unwrap().get(0)
    };
    let command = "0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f";
    let mut found = BTreeSet::new();
    // Written in digits and glued, "leg1" and 1 would read like "leg" and 11.
    let made = [
        ("leg", 11),
        ("leg1", 1),
        ("leg11", 0),
        ("le", 11),
        ("", 11),
        ("leg", 1),
        ("leg", 0),
        ("leg", -1),
        ("leg", 256),
    ];
    for (label, n) in made {
        assert!(found.insert(id(command, label, n).await), "{label} {n}");
    }
    // The same end of another command's id, and the label that would make up for it.
    assert!(found.insert(id("0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e10", "leg", 11).await));
    assert_eq!(found.len(), made.len() + 1);
    // Always a UUIDv7 of the command's own time.
    assert!(found.iter().all(|id| id.starts_with("0190a6c5-1f2e-7")), "{found:?}");
}
