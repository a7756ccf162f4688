//! Evidence bundles bent by whoever wants to deceive: with the market's own receipt key, or without it.

use std::path::Path;
use std::process::{Command, Output};

use ledger::house::House;
use ledger::pipeline::Submission;
use proto::command::log_hash;
use proto::evidence::{self, Trust};
use proto::ids::{Hash32, ReceiptId};
use proto::keys::{KeyPair, PublicKey};
use proto::merkle::{Tree, leaf_hash};
use proto::note::{Checkpoint, parse_and_verify, sign_checkpoint};
use proto::prost::Message as _;
use proto::v1;
use serde_json::Value;

/// What a reader finds: nothing, the first check that fails with its message, or that it is no bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Holds,
    Broken(String, String),
    NoBundle(String),
}

/// `proto::evidence`, of which `econ verify bundle` is the command line.
pub fn judged(bytes: &[u8], receipt_key: Option<PublicKey>) -> Found {
    let rederive = |body: &[u8]| {
        let (ledger_id, command) = api::graphql::command_of(body).map_err(|error| error.to_string())?;
        Ok((ledger_id, command.encode_to_vec()))
    };
    judged_with(bytes, &Trust { receipt_key, witnesses: &[], rederive: Some(&rederive) })
}

/// The same for a judge that knows no GraphQL, as the one in Python.
pub fn judged_with(bytes: &[u8], trust: &Trust<'_>) -> Found {
    let bundle = match evidence::from_bytes(bytes) {
        Ok(bundle) => bundle,
        Err(error) => return Found::NoBundle(error.to_string()),
    };
    let judgement = evidence::judge(&bundle, trust);
    let broken = judgement.checks.iter().find_map(|check| Some((check.name, check.problem.as_ref()?)));
    assert_eq!(judgement.passed(), broken.is_none(), "{judgement}");
    broken.map_or(Found::Holds, |(name, problem)| {
        Found::Broken(name.to_owned(), format!("{}: {}", problem.place, problem.message))
    })
}

/// The verifier in Python.
pub const VERIFIER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/verifier/verify_bundle.py");

fn python() -> Command {
    let mut python = Command::new("python3");
    if let Some(folder) = std::env::var_os("ECON_TEST_EVIDENCE_PY") {
        python.env("PYTHONPATH", folder);
    }
    python.env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

/// What it finds, written from docs/RECEIPTS.md; `None`, and the test named as skipped, where it cannot run.
/// ECON_TEST_EVIDENCE_PY names a folder with its packages; without it Python looks where it always does.
pub fn read_in_python(file: &Path, receipt_key: Option<PublicKey>) -> Option<Found> {
    let mut python = python();
    python.arg(VERIFIER).arg(file);
    if let Some(key) = receipt_key {
        python.arg("--key").arg(key.to_string());
    }
    let said = run_python(&mut python)?;
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    let broken = out.lines().find_map(|line| line.strip_prefix("BROKEN ")?.split_once(": "));
    Some(match (said.status.code(), broken) {
        (Some(0), None) => Found::Holds,
        (Some(1), Some((name, message))) => Found::Broken(name.to_owned(), message.to_owned()),
        (Some(2), None) => Found::NoBundle(err.into_owned()),
        _ => panic!("{file:?}: {}\n{out}\n{err}", said.status),
    })
}

/// What this says under the Python reader's own parts, in their folder; `None` as in [`read_in_python`].
pub fn asked_in_python(program: &str) -> Option<String> {
    let mut python = python();
    python.current_dir(Path::new(VERIFIER).parent().unwrap()).args(["-c", program]);
    let said = run_python(&mut python)?;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Some(String::from_utf8(said.stdout).unwrap())
}

fn run_python(python: &mut Command) -> Option<Output> {
    let said = python
        .output()
        .ok()
        .filter(|said| !String::from_utf8_lossy(&said.stderr).contains("No module named"));
    if said.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("SKIPPED {test}: python3 with PyNaCl and blake3 is not installed");
    }
    said
}

/// The receipt of an item.
pub fn receipt(item: &v1::EvidenceItem) -> v1::Receipt {
    let envelope = v1::Envelope::decode(item.receipt.as_ref().unwrap().envelope.as_slice()).unwrap();
    v1::Receipt::decode(envelope.payload.as_slice()).unwrap()
}

/// The place of the newest item of a kind.
pub fn at(bundle: &v1::EvidenceBundle, kind: &str) -> usize {
    let found = bundle.items.iter().rposition(|item| receipt(item).kind == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

/// The envelope of an item, changed and put back as it is.
pub fn with_envelope(item: &mut v1::EvidenceItem, change: impl FnOnce(&mut v1::Envelope)) {
    let stored = item.receipt.as_mut().unwrap();
    let mut envelope = v1::Envelope::decode(stored.envelope.as_slice()).unwrap();
    change(&mut envelope);
    stored.envelope = envelope.encode_to_vec();
}

/// A market that lies under its own receipt key: the receipts changed, then linked, signed, put into a tree and under a
/// checkpoint as the real ones were.
pub fn resealed(
    bundle: &v1::EvidenceBundle,
    key: &KeyPair,
    change: impl Fn(&mut v1::Receipt, &v1::SignedCommand),
) -> v1::EvidenceBundle {
    let mut bundle = bundle.clone();
    let mut receipts: Vec<v1::Receipt> = bundle.items.iter().map(receipt).collect();
    let mut prev = Vec::new();
    let mut tree = Tree::new();
    for (item, receipt) in bundle.items.iter_mut().zip(&mut receipts) {
        let command = item.command.as_ref().unwrap();
        receipt.command_id = command.command_id.clone();
        receipt.key_id = command.key_id.clone();
        receipt.body_hash = Hash32::of(&command.command_body).into();
        receipt.log_hash = log_hash(
            &command.signature_base,
            &command.signature,
            &command.body,
            command.recorded_json.as_bytes(),
        )
        .into();
        if receipt.subject_id == bundle.order_id {
            receipt.prev = prev;
        } else {
            receipt.prev.clear();
        }
        change(receipt, command);
        let payload = receipt.encode_to_vec();
        let id = ReceiptId::of(&payload);
        let envelope = proto::dsse::sign(&proto::dsse::payload_type::<v1::Receipt>(), payload, key);
        prev = if receipt.subject_id == bundle.order_id { id.into() } else { Vec::new() };
        item.receipt = Some(v1::StoredReceipt { receipt_id: id.into(), envelope: envelope.encode_to_vec() });
        // Whatever else is in the log is nobody's business here.
        while tree.size() + 1 < receipt.seq {
            tree.append(leaf_hash(&tree.size().to_be_bytes()));
        }
        tree.append(leaf_hash(&item.receipt.as_ref().unwrap().envelope));
    }
    let size = tree.size();
    for (item, receipt) in bundle.items.iter_mut().zip(&receipts) {
        let index = receipt.seq - 1;
        let hashes = tree.inclusion_proof(index, size).unwrap().into_iter().map(Vec::from).collect();
        item.inclusion = Some(v1::InclusionProof { leaf_index: index, tree_size: size, hashes });
    }
    let origin = bundle.origin.parse().unwrap();
    bundle.checkpoint = sign_checkpoint(&Checkpoint { origin, size, root: tree.root() }, key);
    bundle.forest = None;
    bundle
}

/// The bundle with its checkpoint in a log of `key` of this name, behind five others.
pub fn forested(bundle: &v1::EvidenceBundle, key: &KeyPair, name: &str) -> v1::EvidenceBundle {
    let origin = bundle.origin.parse().unwrap();
    let checkpoint = parse_and_verify(&bundle.checkpoint, &origin, key.public()).unwrap();
    let mut tree = Tree::new();
    (0_u64..5).for_each(|other| tree.append(leaf_hash(&other.to_be_bytes())));
    tree.append(leaf_hash(checkpoint.text().as_bytes()));
    let (origin, size) = (name.parse().unwrap(), tree.size());
    let hashes = tree.inclusion_proof(5, size).unwrap().into_iter().map(Vec::from).collect();
    let forest = v1::ForestProof {
        inclusion: Some(v1::InclusionProof { leaf_index: 5, tree_size: size, hashes }),
        checkpoint: sign_checkpoint(&Checkpoint { origin, size, root: tree.root() }, key),
    };
    v1::EvidenceBundle { forest: Some(forest), ..bundle.clone() }
}

/// The facts of one kind of receipt, changed.
pub fn with_facts(
    kind: &'static str,
    change: impl Fn(&mut Value),
) -> impl Fn(&mut v1::Receipt, &v1::SignedCommand) {
    move |receipt, _| {
        if receipt.kind == kind && receipt.code == "ok" {
            let mut facts: Value = serde_json::from_str(&receipt.facts_json).unwrap();
            change(&mut facts);
            receipt.facts_json = facts.to_string();
        }
    }
}

/// A request as the log keeps it.
pub fn as_logged(submission: &Submission, command_id: &[u8]) -> v1::SignedCommand {
    v1::SignedCommand {
        command_id: command_id.to_vec(),
        signature_base: submission.signature_base.clone(),
        signature: submission.signature.to_vec(),
        key_id: submission.key.id().into(),
        body: Vec::new(),
        content_type: submission.content_type.clone(),
        command_body: submission.body_bytes.to_vec(),
        recorded_json: "{}".into(),
    }
}

/// The digest that a receipt states of a request.
pub fn request_digest(submission: &Submission) -> Vec<u8> {
    let (method, target) = &submission.method_target;
    proto::command::request_digest(method, target, &submission.content_type, &submission.content_digest)
        .into()
}

pub fn receipt_key(house: &House) -> PublicKey {
    *house.receipt_key().public()
}
