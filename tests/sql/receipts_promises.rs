//! What evidence says of the log beyond one checkpoint: the forest, the promise of a time, witnesses. And what all readers
//! of evidence must know alike: an order's moves, and which keys are none.

use std::collections::BTreeSet;

use proto::evidence::{self, Trust, to_bytes};
use proto::keys::{KeyPair, PublicKey, PublicKeyError};
use proto::note::{
    KeyUse, NoteName, VerifierKey, cosign, parse_and_verify, sign_checkpoint, sign_timed_checkpoint,
};
use proto::v1;

use crate::support::evidence::{
    Found, VERIFIER, asked_in_python, at, forested, judged_with, receipt, resealed,
};
use crate::support::evidence_cases::{bundle_of, cases, eventful};
use crate::support::market::Market;

const FOREST: &str = "econ.test/forest";

#[tokio::test]
async fn a_checkpoint_is_in_the_forest_that_it_says_or_the_evidence_breaks() {
    let market = Market::start().await;
    let mut cases = cases(&market);
    let key = KeyPair::from_pem(&cases.key.to_pem()).unwrap();
    let forger = KeyPair::from_seed(&[66; 32]);
    let bundle = bundle_of(&market, &eventful(&market).await).await;
    let origin: NoteName = bundle.origin.parse().unwrap();
    let tree = parse_and_verify(&bundle.checkpoint, &origin, key.public()).unwrap();
    let bent = v1::EvidenceBundle { forest: Some(v1::ForestProof::default()), ..bundle.clone() };
    cases.bad("an empty forest", &bent, "bundle.forest", "no blank line");
    let proven = forested(&bundle, &key, FOREST);
    cases.good("in a forest", &proven);
    let with_forest = |change: &dyn Fn(&mut v1::ForestProof)| {
        let mut bent = proven.clone();
        change(bent.forest.as_mut().unwrap());
        assert_ne!(bent, proven);
        bent
    };
    let bent = with_forest(&|f| f.inclusion.as_mut().unwrap().hashes[0][0] ^= 1);
    cases.bad("a changed path to the forest", &bent, "bundle.forest", "does not lead to the tree root");
    let bent = with_forest(&|f| f.inclusion.as_mut().unwrap().leaf_index = 4);
    cases.bad("another leaf of the forest", &bent, "bundle.forest", "does not lead to the tree root");
    let bent = with_forest(&|f| f.inclusion.as_mut().unwrap().tree_size = 7);
    cases.bad("a forest of another size", &bent, "bundle.forest", "a tree of another size");
    let bent = with_forest(&|f| f.inclusion = None);
    cases.bad("no path to the forest", &bent, "bundle.forest", "inclusion proof is missing");
    let of_forger = v1::EvidenceBundle { checkpoint: sign_checkpoint(&tree, &forger), ..bundle.clone() };
    let bent = v1::EvidenceBundle { forest: forested(&of_forger, &forger, FOREST).forest, ..bundle.clone() };
    cases.bad("a forest of another key", &bent, "bundle.forest", "no signature of econ.test/forest");
    // All of it right, but for the name: in a ledger's log a receipt could be made that reads like a checkpoint.
    let bent = forested(&bundle, &key, "econ.test/ledger/2");
    cases.bad("a ledger's log as forest", &bent, "bundle.forest", "is not the name of a forest");
    let bent = with_forest(&|f| f.checkpoint = bundle.checkpoint.clone());
    cases.bad("the log's own checkpoint as forest", &bent, "bundle.forest", "is not the name of a forest");
    cases.check();
    market.pipeline.shutdown().await;
}

#[tokio::test]
async fn a_checkpoint_that_lacks_a_receipt_when_it_was_promised_breaks_the_evidence() {
    let market = Market::start().await;
    let mut cases = cases(&market);
    let key = KeyPair::from_pem(&cases.key.to_pem()).unwrap();
    let forger = KeyPair::from_seed(&[66; 32]);
    let bundle = bundle_of(&market, &eventful(&market).await).await;
    let origin: NoteName = bundle.origin.parse().unwrap();
    let settle = at(&bundle, "settle_order");
    // The promise: in every checkpoint from this second on.
    let (due_s, seq) = (1_800_000_000, receipt(&bundle.items[settle]).seq);
    let promised = resealed(&bundle, &key, |receipt, _| {
        if receipt.kind == "settle_order" {
            receipt.include_by_us = 1_800_000_000_000_000;
        }
    });
    let tree_of =
        |bundle: &v1::EvidenceBundle| parse_and_verify(&bundle.checkpoint, &origin, key.public()).unwrap();
    let stated = |bundle: &v1::EvidenceBundle, signer: &KeyPair, time_s| {
        let checkpoint = sign_timed_checkpoint(&tree_of(bundle), signer, time_s);
        v1::EvidenceBundle { checkpoint, ..bundle.clone() }
    };
    // Before the settlement, with a good proof for everything else.
    let before = {
        let mut rest = promised.clone();
        let last = rest.items.remove(settle);
        assert_eq!(rest.items.len(), settle);
        let mut stale = resealed(&rest, &key, |_, _| {});
        stale.items.push(last);
        stale
    };
    assert!(tree_of(&before).size < seq);
    cases.good("the promise kept at its last second", &stated(&promised, &key, due_s));
    let broke = "the market broke its promise";
    cases.bad("a promise broken", &stated(&before, &key, due_s), "bundle.deadline", broke);
    cases.bad("broken later", &stated(&before, &key, due_s + 99), "bundle.deadline", broke);
    cases.bad("not yet due", &stated(&before, &key, due_s - 1), "bundle.log", "older than this receipt");
    let mut bent = stated(&before, &key, due_s - 1);
    let later = stated(&before, &forger, due_s).checkpoint;
    bent.checkpoint.push_str(later.lines().next_back().unwrap());
    bent.checkpoint.push('\n');
    cases.bad("a time that another stated", &bent, "bundle.log", "older than this receipt");
    let mut bent = stated(&promised, &key, due_s);
    let other_tree = stated(&before, &key, due_s).checkpoint;
    let (plain, _) = bent.checkpoint.trim_end().rsplit_once('\n').unwrap();
    bent.checkpoint = format!("{plain}\n{}\n", other_tree.lines().next_back().unwrap());
    cases.bad("another checkpoint's time", &bent, "bundle.checkpoint", "does not verify");
    cases.check();
    market.pipeline.shutdown().await;
}

#[tokio::test]
async fn a_witness_that_is_trusted_must_have_cosigned_this_checkpoint_or_its_forest() {
    let market = Market::start().await;
    let mut cases = cases(&market);
    let key = KeyPair::from_pem(&cases.key.to_pem()).unwrap();
    let bundle = bundle_of(&market, &eventful(&market).await).await;
    let bundle = resealed(&bundle, &key, |_, _| {});
    let witness = KeyPair::from_seed(&[77; 32]);
    let name: NoteName = "witness.example/w1".parse().unwrap();
    let trusted = VerifierKey { name: name.clone(), key: *witness.public(), usage: KeyUse::Cosignature };
    let judge = |bundle: &v1::EvidenceBundle| {
        let witnesses = std::slice::from_ref(&trusted);
        let receipt_key = Some(*key.public());
        judged_with(&to_bytes(bundle), &Trust { receipt_key, witnesses, rederive: None })
    };
    let refused = |bundle: &v1::EvidenceBundle, part: &str| match judge(bundle) {
        Found::Broken(check, message) => {
            assert!(check == "bundle.witness" && message.contains(part), "{check}: {message}");
        }
        found => panic!("{found:?}"),
    };
    let line = |note: &str, key: &KeyPair| {
        let text = note.split_once("\n\n").unwrap().0;
        cosign(&format!("{text}\n"), &name, key, 1_800_000_000)
    };
    refused(&bundle, "no signature of witness.example/w1");
    let mut cosigned = bundle.clone();
    cosigned.checkpoint.push_str(&line(&bundle.checkpoint, &witness));
    assert_eq!(judge(&cosigned), Found::Holds);
    let mut by_forest = forested(&bundle, &key, FOREST);
    let forest = by_forest.forest.as_mut().unwrap();
    forest.checkpoint.push_str(&line(&forest.checkpoint, &witness));
    assert_eq!(judge(&by_forest), Found::Holds);
    let mut bent = bundle.clone();
    bent.checkpoint.push_str(&line("other.example/ledger/1\n1\nroot\n\n", &witness));
    refused(&bent, "does not verify");
    let mut bent = bundle.clone();
    bent.checkpoint.push_str(&line(&bundle.checkpoint, &KeyPair::from_seed(&[78; 32])));
    refused(&bent, "no signature of witness.example/w1");
    // Who trusts no witness passes its line over, also the reader in Python, which knows none.
    cases.good("cosigned", &cosigned);
    cases.good("cosigned forest", &by_forest);
    cases.check();
    market.pipeline.shutdown().await;
}

#[tokio::test]
async fn database_judge_python_and_document_know_the_same_moves_of_an_order() {
    let db = ledger::testing::TestDb::new().await;
    let sql = "select machine, from_state, event, to_state from base.state_moves order by 1, 2, 3, 4";
    let rows = db.admin().await.query(sql, &[]).await.unwrap();
    let mut machines = BTreeSet::new();
    let mut moves = BTreeSet::new();
    for row in &rows {
        let of = |n: usize| row.get::<_, String>(n);
        machines.insert(of(0));
        if of(0) == "order" {
            moves.insert((of(1), of(2), of(3)));
        }
    }
    // Of the others a judge checks that they go on from where they were.
    assert_eq!(Vec::from_iter(machines), ["offer", "order", "payout", "rfq"]);
    let owned = |(from, event, to): (&str, &str, &str)| (from.to_owned(), event.to_owned(), to.to_owned());
    assert_eq!(evidence::MOVES.into_iter().map(owned).collect::<BTreeSet<_>>(), moves);
    let read = |file: &str, from: &str, until: &str, pattern: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        let (_, rest) = text.split_once(from).unwrap();
        let (table, _) = rest.split_once(until).unwrap();
        let found = regex::Regex::new(pattern).unwrap();
        let found = found.captures_iter(table).map(|found| owned(found.extract::<3>().1.into()));
        found.collect::<BTreeSet<_>>()
    };
    assert_eq!(read(VERIFIER, "MOVES = \"\"\"", "\"\"\"", r"(\w*)/(\w+)/(\w+)"), moves);
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/RECEIPTS.md");
    let row = r"(?m)^\| (\w*) ?\| (\w+) \| (\w+) \|$";
    assert_eq!(read(document, "| from | event | to |", "\n\n", row), moves);
}

/// A key of mixed order (a good one plus the point of order 2), and a signature that libsodium takes under it: every other
/// signature of its owner holds without the cofactor, so that one reader believes what another refuses.
#[test]
fn a_key_of_mixed_order_is_refused_by_both_readers() {
    let key = "e5723f9d42da3347c1d8f73d2f8f16039397143ef8bd16ba676aaaacba49ec68";
    let signature = "5c0c9c44a868c1fd977193e6668801245d542b1f38f4cad5473392afa0f7832c\
                     a10cc33175b3e3aa75a20ef52c00d63a26e9638d69fbfe3b790550b0de23d900";
    assert_eq!(PublicKey::from_slice(&hex::decode(key).unwrap()), Err(PublicKeyError::MixedOrder));
    let program = format!(
        "from verify_bundle import *\n\
         key, signature = bytes.fromhex('{key}'), bytes.fromhex('{signature}')\n\
         print(VerifyKey(key).verify(b'econ mixed order', signature), usable(key), by_id([Message(public_key=key)]))"
    );
    let Some(said) = asked_in_python(&program) else { return };
    assert_eq!(said, "b'econ mixed order' False {}\n");
}
