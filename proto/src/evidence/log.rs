//! Receipts, commands, and the log they are in.

use std::collections::{BTreeSet, HashMap, HashSet};

use prost::Message as _;
use serde_json::Value;

use super::{Item, Judgement, Trust};
use crate::command::{check_signed, kind_name, log_hash, registered_key};
use crate::dsse;
use crate::ids::{AgentId, Hash32, KeyId, ReceiptId};
use crate::keys::PublicKey;
use crate::merkle::{TreeHash, leaf_hash, verify_inclusion};
use crate::note::{
    Checkpoint, NoteError, NoteName, VerifierKey, log_of_ledger, parse_and_verify, parse_timed,
    read_unverified, split, verify_cosignatures,
};
use crate::v1::command_body::Kind;
use crate::v1::{CommandBody, Envelope, EvidenceBundle, EvidenceItem, Genesis, Receipt};

/// The tree that the checkpoint states, and when it stated it (Unix seconds; `None`: it does not say).
pub(super) type Tree = (Checkpoint, Option<u64>);

/// Verifies the checkpoint.
pub(super) fn checkpoint(
    bundle: &EvidenceBundle,
    genesis: Option<&Genesis>,
    key: &PublicKey,
    judgement: &mut Judgement,
) -> Option<Tree> {
    judgement.count("bundle.checkpoint");
    if let Some(genesis) = genesis
        && genesis.origin != bundle.origin
    {
        let message = format!("the ledger's genesis names the log {}, not {}", genesis.origin, bundle.origin);
        judgement.note("bundle.checkpoint", "the checkpoint", message);
    }
    let read = || {
        let origin: NoteName = bundle.origin.parse()?;
        let checkpoint = parse_and_verify(&bundle.checkpoint, &origin, key)?;
        match parse_timed(&bundle.checkpoint, &origin, key) {
            Ok(timed) => Ok((checkpoint, Some(timed.time_s))),
            Err(NoteError::NotSigned(_)) => Ok((checkpoint, None)),
            Err(error) => Err(error),
        }
    };
    match read() {
        Ok((checkpoint, _)) if !log_of_ledger(&checkpoint.origin, bundle.ledger_id) => {
            let message = format!("log {} is not that of ledger {}", checkpoint.origin, bundle.ledger_id);
            judgement.note("bundle.checkpoint", "the checkpoint", message);
            None
        }
        Ok(tree) => Some(tree),
        Err(error) => {
            judgement.note("bundle.checkpoint", "the checkpoint", error.to_string());
            None
        }
    }
}

/// Checks that the checkpoint is a leaf of the log over all ledgers' checkpoints.
pub(super) fn forest(
    bundle: &EvidenceBundle,
    key: &PublicKey,
    checkpoint: Option<&Checkpoint>,
    judgement: &mut Judgement,
) {
    let (Some(forest), Some(checkpoint)) = (&bundle.forest, checkpoint) else { return };
    judgement.count("bundle.forest");
    let check = || {
        let origin = read_unverified(&forest.checkpoint).map_err(|error| error.to_string())?.origin;
        // A log of receipts must not pass for it: there, a receipt could be made whose bytes read like a checkpoint.
        if !origin.as_str().ends_with("/forest") {
            return Err(format!("{origin} is not the name of a forest"));
        }
        let tree = parse_and_verify(&forest.checkpoint, &origin, key).map_err(|error| error.to_string())?;
        let inclusion = forest.inclusion.as_ref().ok_or("its inclusion proof is missing")?;
        if inclusion.tree_size != tree.size {
            return Err("its proof is for a tree of another size".to_owned());
        }
        let path: Result<Vec<TreeHash>, _> =
            inclusion.hashes.iter().map(|hash| TreeHash::from_slice(hash)).collect();
        let path = path.map_err(|error| error.to_string())?;
        let leaf = leaf_hash(checkpoint.text().as_bytes());
        verify_inclusion(&leaf, inclusion.leaf_index, tree.size, &path, &tree.root)
            .map_err(|error| error.to_string())
    };
    if let Err(message) = check() {
        judgement.note("bundle.forest", "the forest", message);
    }
}

/// Checks that each trusted witness has cosigned; names others that claim to.
pub(super) fn witnesses(bundle: &EvidenceBundle, trusted: &[VerifierKey], judgement: &mut Judgement) {
    let forest = bundle.forest.as_ref().map_or("", |forest| forest.checkpoint.as_str());
    for witness in trusted {
        judgement.count("bundle.witness");
        let cosigned = |note| verify_cosignatures(note, &witness.name, &witness.key);
        match (cosigned(&bundle.checkpoint), cosigned(forest)) {
            (Ok(_), _) | (_, Ok(_)) => {
                judgement.prove(format!(
                    "witness {} has seen no other log than this one, up to this checkpoint",
                    witness.name
                ));
            }
            (Err(error), _) => judgement.note("bundle.witness", witness.name.to_string(), error.to_string()),
        }
    }
    let names: BTreeSet<&str> = [bundle.checkpoint.as_str(), forest]
        .into_iter()
        .filter_map(|note| split(note).ok())
        .flat_map(|(_, lines)| lines.split('\n'))
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|name| *name != bundle.origin && !name.ends_with("/forest"))
        .filter(|name| !trusted.iter().any(|witness| witness.name.as_str() == *name))
        .collect();
    for name in names {
        judgement.claim(format!(
            "witness {} has cosigned: check it with --witness and its verifier key",
            super::report::printable(name, 80)
        ));
    }
    if trusted.is_empty() {
        judgement.lack("a witness you trust: without one, the market could show others another log");
    }
}

/// Reads one item; `None` when there is no receipt to speak of. Judges the receipt's signature and place.
pub(super) fn item<'a>(
    source: &'a EvidenceItem,
    bundle: &EvidenceBundle,
    key: &PublicKey,
    tree: Option<&Tree>,
    judgement: &mut Judgement,
) -> Option<Item<'a>> {
    let index = source.inclusion.as_ref().map_or(0, |inclusion| inclusion.leaf_index);
    let place = format!("seq {}", index.saturating_add(1));
    let Some(stored) = &source.receipt else {
        judgement.note("bundle.receipts", place, "this item has no receipt");
        return None;
    };
    let envelope = match Envelope::decode(stored.envelope.as_slice()) {
        Ok(envelope) => envelope,
        Err(error) => {
            judgement.note("bundle.receipts", place, format!("the receipt's envelope is damaged: {error}"));
            return None;
        }
    };
    judgement.count("bundle.receipts");
    let known = |id: &KeyId| (*id == key.id()).then_some(*key);
    let mut sealed = true;
    if let Err(error) = dsse::verify(&envelope, &dsse::payload_type::<Receipt>(), known) {
        judgement.note("bundle.receipts", place.clone(), error.to_string());
        sealed = false;
    } else if ReceiptId::of(&envelope.payload).as_ref() != stored.receipt_id.as_slice() {
        judgement.note("bundle.receipts", place.clone(), "its id is not the hash of its bytes");
        sealed = false;
    }
    // Read even when the signature is wrong: the rest of the story may still be told, as a claim.
    let receipt = match Receipt::decode(envelope.payload.as_slice()) {
        Ok(receipt) => receipt,
        Err(error) => {
            judgement.note("bundle.receipts", place, format!("what was signed is no receipt: {error}"));
            return None;
        }
    };
    let body =
        source.command.as_ref().and_then(|command| CommandBody::decode(command.command_body.as_slice()).ok());
    let facts = serde_json::from_str::<Value>(&receipt.facts_json).ok().filter(Value::is_object);
    if facts.is_none() {
        judgement.note("bundle.receipts", place, "its facts are no JSON object, or nested too deeply");
        sealed = false;
    }
    let facts = facts.unwrap_or_default();
    let mut item = Item { source, receipt, body: body.unwrap_or_default(), facts, sealed };
    judgement.count("bundle.ledger");
    if item.receipt.ledger_id != bundle.ledger_id {
        let message = format!("it is a receipt of ledger {}", item.receipt.ledger_id);
        judgement.note("bundle.ledger", item.place(), message);
        item.sealed = false;
    }
    deadline(&item, tree, judgement);
    if let Err(message) = included(&item, &stored.envelope, tree.map(|(checkpoint, _)| checkpoint)) {
        judgement.note("bundle.log", item.place(), message);
        item.sealed = false;
    } else {
        judgement.count("bundle.log");
    }
    Some(item)
}

/// A receipt says by when it is in every checkpoint; one of that time or later without it breaks the promise.
fn deadline(item: &Item<'_>, tree: Option<&Tree>, judgement: &mut Judgement) {
    let (Some((checkpoint, Some(time_s))), by_us) = (tree, item.receipt.include_by_us) else { return };
    if by_us == 0 || !item.sealed {
        return;
    }
    judgement.count("bundle.deadline");
    let is_due = i128::from(*time_s) * 1_000_000 >= i128::from(by_us);
    if is_due && checkpoint.size < item.receipt.seq {
        let stated_us = i64::try_from(*time_s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let message = format!(
            "the market broke its promise: this receipt was to be in every checkpoint from {} on, and the one of {} covers only {} receipts",
            super::report::moment(by_us),
            super::report::moment(stated_us),
            checkpoint.size
        );
        judgement.note("bundle.deadline", item.place(), message);
    }
}

fn included(item: &Item<'_>, envelope: &[u8], tree: Option<&Checkpoint>) -> Result<(), String> {
    let tree = tree.ok_or("there is no valid checkpoint to prove it against")?;
    let inclusion = item.source.inclusion.as_ref().ok_or("its inclusion proof is missing")?;
    let index = item.receipt.seq.checked_sub(1).ok_or("a receipt's seq starts at 1")?;
    if inclusion.leaf_index != index {
        return Err(format!("its proof is for leaf {}, but it is leaf {index}", inclusion.leaf_index));
    }
    if index >= tree.size {
        return Err(format!("the checkpoint is older than this receipt: it covers {} receipts", tree.size));
    }
    if inclusion.tree_size != tree.size {
        return Err(format!(
            "its proof is for a tree of {} receipts, the checkpoint states {}",
            inclusion.tree_size, tree.size
        ));
    }
    let path: Result<Vec<TreeHash>, _> =
        inclusion.hashes.iter().map(|hash| TreeHash::from_slice(hash)).collect();
    let path = path.map_err(|error| error.to_string())?;
    verify_inclusion(&leaf_hash(envelope), index, tree.size, &path, &tree.root)
        .map_err(|error| error.to_string())
}

/// The genesis comes first, and the items stand as in the log, each once, no time before the one before it.
pub(super) fn order_of(items: &[Item<'_>], judgement: &mut Judgement) {
    if let Some(first) = items.first()
        && !(first.receipt.seq == 1 && first.receipt.kind == "genesis" && first.is_ok())
    {
        judgement.note("bundle.ledger", "the bundle", "it does not begin with the ledger's genesis, seq 1");
    }
    for pair in items.windows(2) {
        if pair[0].receipt.seq >= pair[1].receipt.seq {
            let message = format!("it stands behind seq {}, out of the log's order", pair[0].receipt.seq);
            judgement.note("bundle.ledger", pair[1].place(), message);
        }
        if pair[1].receipt.ledger_time_us < pair[0].receipt.ledger_time_us {
            judgement.note("bundle.ledger", pair[1].place(), "the ledger's time went back before it");
        }
    }
}

/// What the commands before one have used up.
#[derive(Default)]
pub(super) struct Before {
    /// Signed bytes: one request is one command.
    signed: HashSet<Vec<u8>>,
    /// Keys that were revoked.
    revoked: HashSet<Vec<u8>>,
}

/// Judges who signed the command, and that the receipt is about this very command.
pub(super) fn command(
    item: &Item<'_>,
    bundle: &EvidenceBundle,
    keys: &HashMap<KeyId, PublicKey>,
    trust: &Trust<'_>,
    judgement: &mut Judgement,
    before: &mut Before,
) {
    let Some(command) = &item.source.command else {
        judgement.note("bundle.commands", item.place(), "its command is missing");
        return;
    };
    judgement.count("bundle.commands");
    let signer = KeyId::from_slice(&command.key_id).map_err(|error| error.to_string()).and_then(|id| {
        let key = keys.get(&id).copied().or_else(|| registered_key(&item.body, &id));
        key.ok_or_else(|| format!("the bundle lacks the public key {id}"))
    });
    let signed =
        signer.clone().and_then(|signer| check_signed(command, bundle.ledger_id, &signer, trust.rederive));
    let signed = match signed {
        Ok(signed) => signed,
        Err(message) => return judgement.note("bundle.commands", item.place(), message),
    };
    // No command gives an agent a second key: its id is its only key's.
    if signer.is_ok_and(|signer| {
        AgentId::of_first_key(&signer).as_uuid().as_bytes() != item.receipt.actor_id.as_slice()
    }) {
        judgement.note(
            "bundle.commands",
            item.place(),
            "its receipt names another agent than the key that signed",
        );
    }
    if !before.signed.insert(command.signature_base.clone()) {
        let message = "the same signed request stands behind an earlier receipt here: it was used twice";
        judgement.note("bundle.commands", item.place(), message);
    }
    if item.is_ok() && before.revoked.contains(&command.key_id) {
        judgement.note("bundle.commands", item.place(), "its key had been revoked before");
    }
    if let (true, Some(Kind::RevokeKey(revoked))) = (item.is_ok(), &item.body.kind) {
        before.revoked.insert(revoked.key_id.clone());
    }
    if signed.actor_id.as_ref().is_some_and(|actor_id| *actor_id != item.receipt.actor_id) {
        judgement.note("bundle.commands", item.place(), "its signed bytes name another actor");
    }
    judgement.count("bundle.content");
    if let Err(message) = content(item, &signed.request_digest) {
        judgement.note("bundle.content", item.place(), message);
    } else if !signed.body_follows {
        judgement.claim(format!(
            "{} executes what its sender's GraphQL request asked for: only a reader of GraphQL can tell",
            item.place()
        ));
    }
}

fn content(item: &Item<'_>, request_digest: &Hash32) -> Result<(), &'static str> {
    let Some(command) = &item.source.command else { return Err("its command is missing") };
    let receipt = &item.receipt;
    let log_hash = log_hash(
        &command.signature_base,
        &command.signature,
        &command.body,
        command.recorded_json.as_bytes(),
    );
    if receipt.command_id != command.command_id {
        Err("the receipt names another command")
    } else if receipt.key_id != command.key_id {
        Err("the receipt names another key")
    } else if receipt.body_hash != Hash32::of(&command.command_body).as_ref() {
        Err("the receipt is about another body")
    } else if receipt.request_digest != request_digest.as_ref() {
        Err("the receipt is about another request")
    } else if receipt.log_hash != log_hash.as_ref() {
        Err("what was recorded with the command is not what the receipt commits to")
    } else if item.body.kind.as_ref().map(kind_name) != Some(receipt.kind.as_str()) {
        Err("the receipt names another kind of command")
    } else {
        Ok(())
    }
}
