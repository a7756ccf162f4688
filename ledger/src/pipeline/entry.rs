//! What one command is on its way into `base.decide`, and the receipt that comes of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use proto::command::request_digest;
use proto::ids::{Hash32, ReceiptId};
use proto::keys::KeyPair;
use proto::note::include_by_us;
use proto::prost::Message as _;
use proto::{command, dsse, v1};
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

/// The rules that new commands run under. Raised with a row in `base.rules_versions` when behaviour changes.
pub const RULES_VERSION: i32 = 3;
/// From this version on a receipt says by when it is in a checkpoint.
const PROMISES_FROM: i32 = 3;

/// One command, decoded and authenticated, as the log will keep it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) command_id: Uuid,
    pub(crate) actor_id: Uuid,
    pub(crate) key_id: Vec<u8>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) kind: String,
    pub(crate) args: String,
    pub(crate) request_digest: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) signature_base: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) content_type: String,
    pub(crate) signed_body: Option<Vec<u8>>,
    pub(crate) accepted_at_us: i64,
    pub(crate) simulated: bool,
    pub(crate) recorded: String,
    pub(crate) forced_code: Option<String>,
}

/// A row of `base.decide`.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    pub(crate) replayed: bool,
    pub(crate) seq: i64,
    pub(crate) command_id: Uuid,
    pub(crate) code: String,
    pub(crate) subject_kind: String,
    pub(crate) subject_id: Uuid,
    pub(crate) facts: String,
    pub(crate) prev: Option<Vec<u8>>,
    pub(crate) receipt_id: Option<Vec<u8>>,
    pub(crate) at_us: i64,
    pub(crate) rules_version: i32,
    pub(crate) wake: Option<Vec<Uuid>>,
}

/// The two statements of the pipeline, prepared on one connection.
pub(crate) struct Statements {
    decide: Statement,
    seal: Statement,
}

impl Statements {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let decide = client
            .prepare(
                "select replayed, seq, command_id, code, subject_kind, subject_id, facts, prev, receipt_id, at, \
                 rules_version, wake from base.decide($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
                 $15, $16, $17, $18, $19) order by i",
            )
            .await?;
        let seal = client.prepare("select size, root from receipts.seal($1, $2, $3, $4, $5, $6)").await?;
        Ok(Self { decide, seal })
    }

    /// Calls `base.decide`; row `i` belongs to entry `i`.
    pub(crate) async fn decide(
        &self,
        client: &Client,
        ledger_id: i32,
        rules_version: i32,
        entries: &[Entry],
    ) -> Result<Vec<Decided>, tokio_postgres::Error> {
        let accepted: Vec<SystemTime> = entries.iter().map(|e| time_of_us(e.accepted_at_us)).collect();
        macro_rules! column {
            ($field:ident) => {
                entries.iter().map(|e| &e.$field).collect::<Vec<_>>()
            };
        }
        let rows = client
            .query(
                &self.decide,
                &[
                    &ledger_id,
                    &rules_version,
                    &column!(command_id),
                    &column!(actor_id),
                    &column!(key_id),
                    &column!(idempotency_key),
                    &column!(nonce),
                    &column!(kind),
                    &column!(args),
                    &column!(request_digest),
                    &column!(body),
                    &column!(signature_base),
                    &column!(signature),
                    &column!(content_type),
                    &column!(signed_body),
                    &accepted,
                    &column!(simulated),
                    &column!(recorded),
                    &column!(forced_code),
                ],
            )
            .await?;
        rows.iter().map(Decided::of_row).collect()
    }

    /// Calls `receipts.seal` for the receipts of a batch.
    pub(crate) async fn seal(
        &self,
        client: &Client,
        ledger_id: i32,
        sealed: &[Sealed],
    ) -> Result<(), tokio_postgres::Error> {
        macro_rules! column {
            ($field:ident) => {
                sealed.iter().map(|s| &s.$field).collect::<Vec<_>>()
            };
        }
        let ids: Vec<&[u8]> = sealed.iter().map(|s| s.receipt_id.as_ref()).collect();
        client
            .query_one(
                &self.seal,
                &[&ledger_id, &column!(seq), &ids, &column!(subject_id), &column!(prev), &column!(envelope)],
            )
            .await?;
        Ok(())
    }
}

impl Decided {
    fn of_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            replayed: row.try_get(0)?,
            seq: row.try_get(1)?,
            command_id: row.try_get(2)?,
            code: row.try_get(3)?,
            subject_kind: row.try_get(4)?,
            subject_id: row.try_get(5)?,
            facts: row.try_get(6)?,
            prev: row.try_get(7)?,
            receipt_id: row.try_get(8)?,
            at_us: us_of_time(row.try_get(9)?),
            rules_version: row.try_get(10)?,
            wake: row.try_get(11)?,
        })
    }
}

/// A receipt on its way into `receipts.seal`.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) seq: i64,
    pub(crate) receipt_id: ReceiptId,
    pub(crate) subject_id: Uuid,
    pub(crate) prev: Option<Vec<u8>>,
    pub(crate) envelope: Vec<u8>,
}

/// The receipt's payload: the exact bytes that are signed, and that replay must make again.
pub(crate) fn receipt_payload(
    ledger_id: u32,
    entry: &Entry,
    decided: &Decided,
    prev: Option<&[u8]>,
) -> Vec<u8> {
    v1::Receipt {
        ledger_id,
        seq: u64::try_from(decided.seq).unwrap_or_default(),
        command_id: entry.command_id.as_bytes().to_vec(),
        actor_id: entry.actor_id.as_bytes().to_vec(),
        key_id: entry.key_id.clone(),
        kind: entry.kind.clone(),
        request_digest: entry.request_digest.clone(),
        body_hash: Hash32::of(&entry.body).into(),
        code: decided.code.clone(),
        subject_kind: decided.subject_kind.clone(),
        subject_id: decided.subject_id.as_bytes().to_vec(),
        prev: prev.map(<[u8]>::to_vec).unwrap_or_default(),
        ledger_time_us: decided.at_us,
        simulated: entry.simulated,
        rules_version: u32::try_from(decided.rules_version).unwrap_or_default(),
        facts_json: decided.facts.clone(),
        accepted_at_us: entry.accepted_at_us,
        log_hash: log_hash(entry).into(),
        // 0 is not encoded: receipts of earlier rules come out byte for byte as they were.
        include_by_us: if decided.rules_version >= PROMISES_FROM {
            include_by_us(entry.accepted_at_us)
        } else {
            0
        },
    }
    .encode_to_vec()
}

fn log_hash(entry: &Entry) -> Hash32 {
    let signed_body = entry.signed_body.as_deref().unwrap_or_default();
    let recorded = recorded_json(&entry.recorded);
    command::log_hash(&entry.signature_base, &entry.signature, signed_body, recorded.as_bytes())
}

/// What was recorded, in the one form that receipts commit to: jsonb keeps neither the order of keys nor blanks. What is
/// not an object is nothing that the pipeline ever recorded.
pub(crate) fn recorded_json(recorded: &str) -> String {
    command::canonical_object(recorded).unwrap_or_default()
}

/// Signs a payload; the envelope's exact bytes are the log's leaf.
pub(crate) fn sign_receipt(payload: Vec<u8>, key: &KeyPair) -> (ReceiptId, Vec<u8>) {
    let receipt_id = ReceiptId::of(&payload);
    let envelope = dsse::sign(&dsse::payload_type::<v1::Receipt>(), payload, key);
    (receipt_id, envelope.encode_to_vec())
}

/// Unix microseconds to what the driver sends as timestamptz.
pub(crate) fn time_of_us(us: i64) -> SystemTime {
    let magnitude = Duration::from_micros(us.unsigned_abs());
    if us >= 0 { UNIX_EPOCH + magnitude } else { UNIX_EPOCH - magnitude }
}

/// And back.
pub(crate) fn us_of_time(time: SystemTime) -> i64 {
    let us = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => us(after),
        Err(before) => -us(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_to_the_database_and_back() {
        for us in [0, 1, -1, 1_795_000_000_123_456, -62_000_000_000_000_000] {
            assert_eq!(us_of_time(time_of_us(us)), us);
        }
    }
}
