//! Receipts, commands, and the log they are in.

use std::collections::{HashMap, HashSet};

use prost::Message as _;
use serde_json::Value;

use super::{Item, Judgement, Trust};
use crate::command::{check_signed, kind_name, log_hash, registered_key};
use crate::dsse;
use crate::ids::{AgentId, Hash32, KeyId, ReceiptId};
use crate::keys::PublicKey;
use crate::merkle::{TreeHash, leaf_hash, verify_inclusion};
use crate::note::{Checkpoint, NoteName, parse_and_verify};
use crate::v1::command_body::Kind;
use crate::v1::{CommandBody, Envelope, EvidenceBundle, EvidenceItem, Genesis, Receipt};

/// The tree that the checkpoint states.
pub(super) fn checkpoint(
    bundle: &EvidenceBundle,
    genesis: Option<&Genesis>,
    key: &PublicKey,
    judgement: &mut Judgement,
) -> Option<Checkpoint> {
    judgement.count("bundle.checkpoint");
    if let Some(genesis) = genesis
        && genesis.origin != bundle.origin
    {
        let message = format!("the ledger's genesis names the log {}, not {}", genesis.origin, bundle.origin);
        judgement.note("bundle.checkpoint", "the checkpoint", message);
    }
    let found = bundle.origin.parse::<NoteName>().map_err(|error| error.to_string()).and_then(|origin| {
        parse_and_verify(&bundle.checkpoint, &origin, key).map_err(|error| error.to_string())
    });
    match found {
        Ok(checkpoint) => Some(checkpoint),
        Err(message) => {
            judgement.note("bundle.checkpoint", "the checkpoint", message);
            None
        }
    }
}

/// Reads one item; `None` when there is no receipt to speak of. Judges the receipt's signature and place.
pub(super) fn item<'a>(
    source: &'a EvidenceItem,
    bundle: &EvidenceBundle,
    key: &PublicKey,
    tree: Option<&Checkpoint>,
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
    if let Err(message) = included(&item, &stored.envelope, tree) {
        judgement.note("bundle.log", item.place(), message);
        item.sealed = false;
    } else {
        judgement.count("bundle.log");
    }
    Some(item)
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
