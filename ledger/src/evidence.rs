//! Mirror of `receipts.read_evidence` and `receipts.read_evidence_rows`: everything needed to judge one order offline, in
//! one bundle. Who may have it is decided in SQL; how it is judged, in `proto::evidence`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::ids::{AgentId, KeyId, OrderId};
use proto::prost::Message as _;
use proto::v1;
use uuid::Uuid;

use crate::error::Error;
use crate::reader::{Reader, count, get, int};
use crate::receipts::log::{self, FOREST};
use crate::{base, identity, receipts};

/// How often, and how long between, a checkpoint is awaited that covers the newest receipt: one is made each second.
const TRIES_MAX: u32 = 30;
const TRY_WAIT: Duration = Duration::from_millis(100);

/// The evidence of an order, as far as `actor` may have it; `None`: there is no such order, or it is not `actor`'s.
///
/// Waits up to three seconds for a checkpoint that covers the newest receipt: `UR801` when none comes. Calls
/// `receipts.read_evidence`, `receipts.read_evidence_rows`, `receipts.read_checkpoint`, `receipts.inclusion_proof`.
pub async fn read_bundle(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    order_id: OrderId,
) -> Result<Option<v1::EvidenceBundle>, Error> {
    let mut items = read_items(reader, actor, ledger_id, order_id).await?;
    let Some(newest) = items.last().map(|(seq, _)| *seq) else { return Ok(None) };
    let origin = base::read_ledgers(reader)
        .await?
        .into_iter()
        .find(|ledger| ledger.ledger_id == ledger_id)
        .map(|ledger| ledger.origin)
        .ok_or_else(|| Error::new("UB401", format!("there is no ledger {ledger_id}")))?;
    let checkpoint = covering(reader, ledger_id, newest).await?;
    for (seq, item) in &mut items {
        let size = checkpoint.head.size;
        let hashes = receipts::inclusion_proof(reader, ledger_id, *seq - 1, size).await?.unwrap_or_default();
        item.inclusion = Some(v1::InclusionProof {
            leaf_index: *seq - 1,
            tree_size: size,
            hashes: hashes.into_iter().map(Vec::from).collect(),
        });
    }
    let items: Vec<v1::EvidenceItem> = items.into_iter().map(|(_, item)| item).collect();
    let metering = read_runs(reader, actor, ledger_id, order_id).await?;
    let keys = read_keys(reader, &items, &metering).await?;
    Ok(Some(v1::EvidenceBundle {
        order_id: order_id.into(),
        ledger_id,
        items,
        checkpoint: checkpoint.note,
        keys,
        origin,
        metering,
        forest: read_forest_proof(reader, ledger_id, checkpoint.head.size).await?,
    }))
}

/// A checkpoint that covers a receipt: the newest one that a witness cosigned, else the newest, once it does.
async fn covering(reader: &Reader, ledger_id: u32, seq: u64) -> Result<receipts::StoredCheckpoint, Error> {
    if let Some(witnessed) = log::read_witnessed_checkpoint(reader, ledger_id).await?
        && witnessed.head.size >= seq
    {
        return Ok(witnessed);
    }
    for _ in 0..TRIES_MAX {
        match receipts::read_checkpoint(reader, ledger_id).await? {
            Some(checkpoint) if checkpoint.head.size >= seq => return Ok(checkpoint),
            _ => tokio::time::sleep(TRY_WAIT).await,
        }
    }
    Err(Error::new(
        "UR801",
        "no checkpoint covers the order's newest receipt yet: ask again in a second; if no server runs, start it once",
    ))
}

/// That the checkpoint of this size is in the forest; `None`: it was not entered there (only every newest one is).
async fn read_forest_proof(
    reader: &Reader,
    ledger_id: u32,
    size: u64,
) -> Result<Option<v1::ForestProof>, Error> {
    let Some(entry) = log::read_forest_entry(reader, ledger_id, Some(size)).await? else { return Ok(None) };
    let covers = |forest: &receipts::StoredCheckpoint| forest.head.size > entry.entry_index;
    let witnessed = log::read_witnessed_checkpoint(reader, FOREST).await?.filter(covers);
    let forest = match witnessed {
        Some(witnessed) => Some(witnessed),
        None => receipts::read_checkpoint(reader, FOREST).await?.filter(covers),
    };
    let Some(forest) = forest else { return Ok(None) };
    let tree_size = forest.head.size;
    let hashes = receipts::inclusion_proof(reader, FOREST, entry.entry_index, tree_size).await?;
    let inclusion = v1::InclusionProof {
        leaf_index: entry.entry_index,
        tree_size,
        hashes: hashes.unwrap_or_default().into_iter().map(Vec::from).collect(),
    };
    Ok(Some(v1::ForestProof { inclusion: Some(inclusion), checkpoint: forest.note }))
}

async fn read_items(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    order_id: OrderId,
) -> Result<Vec<(u64, v1::EvidenceItem)>, Error> {
    let sql = "select seq, command_id, signature_base, signature, key_id, signed_body, content_type, body, recorded, receipt_id, \
               envelope from receipts.read_evidence($1, $2, $3)";
    let rows = reader.rows(sql, &[&actor.map(Uuid::from), &int(ledger_id)?, &Uuid::from(order_id)]).await?;
    rows.iter()
        .map(|row| {
            let command_id: Uuid = get(row, "command_id")?;
            let recorded: String = get(row, "recorded")?;
            let command = v1::SignedCommand {
                command_id: command_id.as_bytes().to_vec(),
                signature_base: get(row, "signature_base")?,
                signature: get(row, "signature")?,
                key_id: get(row, "key_id")?,
                body: get::<Option<Vec<u8>>>(row, "signed_body")?.unwrap_or_default(),
                content_type: get(row, "content_type")?,
                command_body: get(row, "body")?,
                recorded_json: crate::pipeline::entry::recorded_json(&recorded),
            };
            let receipt =
                v1::StoredReceipt { receipt_id: get(row, "receipt_id")?, envelope: get(row, "envelope")? };
            let item = v1::EvidenceItem { command: Some(command), receipt: Some(receipt), inclusion: None };
            Ok((count(row, "seq")?, item))
        })
        .collect()
}

/// The attempt's rows as runs: a signature ends a run.
async fn read_runs(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    order_id: OrderId,
) -> Result<Vec<v1::MeteringRun>, Error> {
    let sql = "select payload, head_envelope from receipts.read_evidence_rows($1, $2, $3)";
    let rows = reader.rows(sql, &[&actor.map(Uuid::from), &int(ledger_id)?, &Uuid::from(order_id)]).await?;
    let mut runs = Vec::new();
    let mut open = v1::MeteringRun::default();
    for row in &rows {
        open.rows.push(get(row, "payload")?);
        if let Some(head) = get::<Option<Vec<u8>>>(row, "head_envelope")? {
            open.head_envelope = head;
            runs.push(std::mem::take(&mut open));
        }
    }
    if !open.rows.is_empty() {
        runs.push(open);
    }
    Ok(runs)
}

/// The public keys of everybody who signed something in the bundle.
async fn read_keys(
    reader: &Reader,
    items: &[v1::EvidenceItem],
    metering: &[v1::MeteringRun],
) -> Result<Vec<v1::Key>, Error> {
    let of_commands =
        items.iter().filter_map(|item| item.command.as_ref()).map(|command| command.key_id.clone());
    let envelopes = metering.iter().map(|run| run.head_envelope.as_slice()).chain(
        items.iter().filter_map(|item| item.receipt.as_ref()).map(|receipt| receipt.envelope.as_slice()),
    );
    let of_envelopes = envelopes
        .filter_map(|bytes| v1::Envelope::decode(bytes).ok())
        .flat_map(|envelope| envelope.signatures)
        .map(|signature| signature.key_id);
    let ids: BTreeSet<Vec<u8>> = of_commands.chain(of_envelopes).collect();
    let mut keys = BTreeMap::new();
    for id in ids {
        let Ok(key_id) = KeyId::from_slice(&id) else { continue };
        if let Some(key) = identity::read_key(reader, &key_id).await? {
            let purpose =
                v1::KeyPurpose::from_str_name(&format!("KEY_PURPOSE_{}", key.purpose.to_uppercase()));
            let purpose = purpose.unwrap_or_default().into();
            keys.insert(id, v1::Key { public_key: key.public_key.to_vec(), purpose });
        }
    }
    Ok(keys.into_values().collect())
}
