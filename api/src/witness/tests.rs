//! Each answer of the standard, and what must be remembered across requests, restarts and races.

use std::sync::Arc;

use proto::merkle::{Tree, leaf_hash};
use proto::note::{sign_timed_checkpoint, verify_cosignatures};

use super::*;

const TIME_S: u64 = 1_795_000_000;

fn house() -> KeyPair {
    KeyPair::from_seed(&[5; 32])
}

fn log_name(text: &str) -> NoteName {
    text.parse().unwrap()
}

fn open(dir: &std::path::Path) -> Arc<Witness> {
    let log = |name: &str| VerifierKey { name: log_name(name), key: *house().public(), usage: KeyUse::Note };
    let logs = vec![log("econ.example/ledger/1"), log("econ.example/forest")];
    Witness::open(&WitnessOptions { dir: dir.to_owned(), logs, name: None }).unwrap()
}

/// A log whose leaves are `salt` and a number.
fn tree(size: u64, salt: &str) -> Tree {
    let mut tree = Tree::new();
    for n in 0..size {
        tree.append(leaf_hash(format!("{salt}{n}").as_bytes()));
    }
    tree
}

fn note_of(tree: &Tree, size: u64) -> String {
    let root = tree.root_at(size).unwrap();
    sign_timed_checkpoint(
        &Checkpoint { origin: log_name("econ.example/ledger/1"), size, root },
        &house(),
        TIME_S,
    )
}

fn body(tree: &Tree, old: u64, new: u64) -> String {
    let proof = if old == 0 { Vec::new() } else { tree.consistency_proof(old, new).unwrap() };
    Request { old, proof, note: &note_of(tree, new) }.to_body()
}

fn status(verdict: &Verdict) -> u16 {
    match verdict {
        Verdict::Cosigned(_) => 200,
        Verdict::Conflict(_) => 409,
        Verdict::Refused(status, _) => status.as_u16(),
    }
}

#[test]
fn a_log_that_only_grows_is_cosigned_at_each_step_and_again_at_the_same_size() {
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path());
    let tree = tree(300, "");
    for (old, new) in [(0, 1), (1, 7), (7, 7), (7, 256), (256, 300), (300, 300)] {
        let Verdict::Cosigned(line) = witness.judge(body(&tree, old, new).as_bytes(), TIME_S + new) else {
            panic!("{old} to {new}");
        };
        let key = witness.verifier_key();
        let found =
            verify_cosignatures(&format!("{}{line}", note_of(&tree, new)), &key.name, &key.key).unwrap();
        assert_eq!((found.len(), found[0].time_s), (1, TIME_S + new));
    }
}

#[test]
fn each_wrong_request_gets_the_status_of_the_standard_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path());
    let (tree, fork) = (tree(20, ""), tree(20, "fork"));
    let judge = |body: &str| witness.judge(body.as_bytes(), TIME_S);
    assert_eq!(status(&judge(&body(&tree, 0, 10))), 200);
    // Not a request; not a note.
    assert_eq!(status(&judge("nonsense")), 400);
    assert_eq!(status(&judge("old 10\n\nnonsense")), 400);
    // A log that nobody asked to watch; a key that is not its own.
    let other =
        Checkpoint { origin: log_name("other.example/ledger/1"), size: 11, root: tree.root_at(11).unwrap() };
    let unknown =
        Request { old: 10, proof: Vec::new(), note: &sign_timed_checkpoint(&other, &house(), TIME_S) };
    assert_eq!(status(&judge(&unknown.to_body())), 404);
    let forged = Checkpoint { origin: log_name("econ.example/ledger/1"), ..other };
    let stranger = KeyPair::from_seed(&[9; 32]);
    let note = sign_timed_checkpoint(&forged, &stranger, TIME_S);
    let forged = Request { old: 10, proof: tree.consistency_proof(10, 11).unwrap(), note: &note };
    assert_eq!(status(&judge(&forged.to_body())), 403);
    // A size changed after signing.
    assert_eq!(status(&judge(&body(&tree, 10, 11).replace("\n11\n", "\n12\n"))), 403);
    // Old beyond new; old that is not what was cosigned last: the answer names that.
    let shrunk = Request { old: 10, proof: Vec::new(), note: &note_of(&tree, 9) };
    assert_eq!(status(&judge(&shrunk.to_body())), 400);
    for old in [0, 9, 11] {
        assert_eq!(judge(&body(&tree, old, 12)), Verdict::Conflict(10));
    }
    // Another tree of the same size; one that does not extend what was seen; a proof of something else; one too many.
    assert_eq!(judge(&body(&fork, 10, 10)), Verdict::Conflict(10));
    assert_eq!(status(&judge(&body(&fork, 10, 12))), 422);
    let note = note_of(&tree, 12);
    let proof = tree.consistency_proof(9, 12).unwrap();
    assert_eq!(status(&judge(&Request { old: 10, proof, note: &note }.to_body())), 422);
    let mut proof = tree.consistency_proof(10, 12).unwrap();
    proof.push(empty_root());
    assert_eq!(status(&judge(&Request { old: 10, proof, note: &note }.to_body())), 422);
    // After all of that it stands where it stood.
    assert_eq!(status(&judge(&body(&tree, 10, 12))), 200);
    assert_eq!(judge(&body(&tree, 0, 5)), Verdict::Conflict(12));
}

#[test]
fn of_a_fork_only_one_side_is_ever_cosigned_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, fork) = (tree(8, ""), tree(8, "fork"));
    let witness = open(dir.path());
    let key = witness.verifier_key();
    assert_eq!(status(&witness.judge(body(&tree, 0, 8).as_bytes(), TIME_S)), 200);
    assert!(matches!(
        Witness::open(&WitnessOptions { dir: dir.path().to_owned(), logs: Vec::new(), name: None }),
        Err(WitnessError::State { .. })
    ));
    drop(witness);
    let witness = open(dir.path());
    assert_eq!(witness.verifier_key(), key);
    assert_eq!(witness.judge(body(&fork, 0, 8).as_bytes(), TIME_S), Verdict::Conflict(8));
    assert_eq!(witness.judge(body(&fork, 8, 8).as_bytes(), TIME_S), Verdict::Conflict(8));
    // The other log has a memory of its own.
    let forest =
        Checkpoint { origin: log_name("econ.example/forest"), size: 3, root: fork.root_at(3).unwrap() };
    let forest =
        Request { old: 0, proof: Vec::new(), note: &sign_timed_checkpoint(&forest, &house(), TIME_S) };
    assert_eq!(status(&witness.judge(forest.to_body().as_bytes(), TIME_S)), 200);
    drop(witness);
    // What cannot be read is not forgotten.
    let seen = std::fs::read_dir(dir.path().join("seen")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(seen, "econ.example/ledger/1\n").unwrap();
    assert!(matches!(
        Witness::open(&WitnessOptions { dir: dir.path().to_owned(), logs: Vec::new(), name: None }),
        Err(WitnessError::State { .. })
    ));
    std::fs::remove_dir_all(dir.path().join("seen")).unwrap();
    assert!(matches!(
        Witness::open(&WitnessOptions { dir: dir.path().to_owned(), logs: Vec::new(), name: None }),
        Err(WitnessError::State { .. })
    ));
}

#[test]
fn of_many_requests_at_once_from_the_same_size_one_is_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path());
    let trees: Vec<Tree> = (0..8).map(|n| tree(6, &format!("fork{n}"))).collect();
    let cosigned: usize = std::thread::scope(|scope| {
        let asked: Vec<_> = trees
            .iter()
            .map(|tree| scope.spawn(|| witness.judge(body(tree, 0, 6).as_bytes(), TIME_S)))
            .collect();
        asked.into_iter().map(|asked| usize::from(status(&asked.join().unwrap()) == 200)).sum()
    });
    assert_eq!(cosigned, 1);
}

#[test]
fn two_clients_that_were_shown_a_fork_find_no_proof_between_their_checkpoints() {
    let (honest, fork) = (tree(40, ""), {
        // The same until leaf 20, then without that one: a receipt was left out for one of the two.
        let mut fork = tree(20, "");
        (21..45).for_each(|n| fork.append(leaf_hash(format!("{n}").as_bytes())));
        fork
    });
    // Up to there they agree, and each proves it.
    for size in 1..=20 {
        assert_eq!(honest.root_at(size), fork.root_at(size));
    }
    let (one, two) = (honest.root_at(33).unwrap(), fork.root_at(40).unwrap());
    for source in [&honest, &fork] {
        let proof = source.consistency_proof(33, 40).unwrap();
        assert!(verify_consistency(33, 40, &proof, &one, &two).is_err());
    }
    // Leaves that changed places are another tree as well.
    let mut swapped = tree(30, "");
    (31..33)
        .rev()
        .chain([30])
        .chain(33..40)
        .for_each(|n| swapped.append(leaf_hash(format!("{n}").as_bytes())));
    assert_ne!(swapped.root_at(40), honest.root_at(40));
    let proof = swapped.consistency_proof(33, 40).unwrap();
    assert!(verify_consistency(33, 40, &proof, &one, &swapped.root_at(40).unwrap()).is_err());
    // And the witness' word stands on one of them only.
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path());
    assert_eq!(status(&witness.judge(body(&honest, 0, 33).as_bytes(), TIME_S)), 200);
    assert_eq!(status(&witness.judge(body(&fork, 33, 40).as_bytes(), TIME_S)), 422);
    assert_eq!(status(&witness.judge(body(&honest, 33, 40).as_bytes(), TIME_S)), 200);
}
