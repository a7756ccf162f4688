//! Rebuilds all state from the command log and public keys, into an empty database, and makes every receipt's payload again.
//!
//! Nothing is signed here: stored signatures are put back over payloads that came out byte for byte the same. Batch
//! borders do not matter; whoever calls chooses the batch size.

use std::collections::HashMap;

use futures_util::future::join;
use proto::ids::ReceiptId;
use proto::prost::Message as _;
use proto::v1;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::error::Error;
use crate::pipeline::entry::{Entry, Sealed, Statements, receipt_payload};
use crate::verify::log::difference;
use crate::verify::report::Problem;
use crate::verify::stored::{self, Keys, Rederive, Stored};

/// How far a replay came.
#[derive(Debug)]
pub struct Replayed {
    /// Commands that were decided again.
    pub commands: u64,
    /// Where the log stopped giving what is stored; the replay ends there.
    pub problem: Option<Problem>,
}

/// Replays one ledger from `source` into `target`, which holds the schema and nothing else, `batch` commands to a
/// transaction. The target's connection must be allowed to call `base.decide` and `receipts.seal`.
pub async fn replay_ledger(
    source: &Client,
    target: &Client,
    ledger_id: u32,
    batch: usize,
    rederive: &Rederive,
) -> Result<Replayed, Error> {
    let id = i32::try_from(ledger_id).map_err(|_| Error::new("UB401", "there is no such ledger"))?;
    let keys = stored::read_keys(source).await?;
    let statements = Statements::prepare(target).await?;
    let mut replayed = Replayed { commands: 0, problem: None };
    let mut after = 0;
    loop {
        let limit = i64::try_from(batch.max(1)).unwrap_or(i64::MAX);
        let mut chunk = stored::read(source, id, after, limit).await?;
        // One call of decide runs under one version of the rules.
        let Some(version) = chunk.first().map(|stored| stored.rules_version) else { return Ok(replayed) };
        chunk.truncate(chunk.iter().take_while(|stored| stored.rules_version == version).count());
        if let Some(problem) =
            replay_batch(target, &statements, ledger_id, version, &chunk, &keys, rederive).await?
        {
            replayed.problem = Some(problem);
            return Ok(replayed);
        }
        replayed.commands += chunk.len() as u64;
        after = chunk.last().map_or(after, |stored| stored.seq);
    }
}

async fn replay_batch(
    target: &Client,
    statements: &Statements,
    ledger_id: u32,
    rules_version: i32,
    chunk: &[Stored],
    keys: &Keys,
    rederive: &Rederive,
) -> Result<Option<Problem>, Error> {
    let id = i32::try_from(ledger_id).map_err(|_| Error::new("UB401", "there is no such ledger"))?;
    let mut entries: Vec<Entry> = Vec::with_capacity(chunk.len());
    for stored in chunk {
        let signed = match stored::check_signed(stored, ledger_id, keys, rederive) {
            Ok(signed) => signed,
            Err(message) => {
                return Ok(Some(Problem { place: format!("base.commands seq {}", stored.seq), message }));
            }
        };
        match stored::replayable(stored, &signed) {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                let place = format!("base.commands seq {}", stored.seq);
                return Ok(Some(Problem { place, message: error.to_string() }));
            }
        }
    }
    let (begun, decided) =
        join(target.batch_execute("begin"), statements.decide(target, id, rules_version, &entries)).await;
    begun?;
    let decided = decided.map_err(|error| {
        let said = error.as_db_error().map(|db| db.message().to_owned()).unwrap_or_default();
        let (first, last) = (chunk.first().map_or(0, |s| s.seq), chunk.last().map_or(0, |s| s.seq));
        Error::new("UR905", format!("replay of base.commands seq {first} to {last} raised: {said}"))
    })?;
    let mut heads: HashMap<Uuid, ReceiptId> = HashMap::new();
    let mut sealed = Vec::with_capacity(chunk.len());
    for ((stored, entry), decided) in chunk.iter().zip(&entries).zip(&decided) {
        let place = format!("receipts.receipts seq {}", stored.seq);
        let Some(receipt) = &stored.receipt else {
            return Ok(Some(Problem { place, message: "this receipt is missing".into() }));
        };
        if decided.replayed || decided.seq != stored.seq {
            let message = format!("replay gives it seq {}", decided.seq);
            return Ok(Some(Problem { place: format!("base.commands seq {}", stored.seq), message }));
        }
        let head = heads.get(&decided.subject_id).map(|id| id.as_ref().to_vec());
        let prev = head.or_else(|| decided.prev.clone());
        let payload = receipt_payload(ledger_id, entry, decided, prev.as_deref());
        let envelope = v1::Envelope::decode(receipt.envelope.as_slice()).unwrap_or_default();
        if payload != envelope.payload {
            return Ok(Some(Problem { place, message: difference(&payload, &envelope.payload) }));
        }
        let receipt_id = ReceiptId::of(&payload);
        heads.insert(decided.subject_id, receipt_id);
        sealed.push(Sealed {
            seq: decided.seq,
            receipt_id,
            subject_id: decided.subject_id,
            prev,
            envelope: receipt.envelope.clone(),
        });
    }
    let (stored, committed) =
        join(statements.seal(target, id, &sealed), target.batch_execute("commit")).await;
    stored?;
    committed?;
    Ok(None)
}
