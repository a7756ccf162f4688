//! Mirror of the SQL domain `receipts`: stored receipts, the Merkle log's head, proofs.

pub mod log;

use proto::ids::{AgentId, CommandId, JournalId, ReceiptId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::Error;
use crate::reader::{Reader, bigint, bytes32, bytes32_or_none, count, get, int, moment};

/// A receipt as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReceipt {
    /// Its command's seq; its leaf in the log is one less.
    pub seq: u64,
    /// BLAKE3 of the payload's bytes.
    pub receipt_id: ReceiptId,
    /// What it is about.
    pub subject_id: Uuid,
    /// The previous receipt of the same subject.
    pub prev: Option<ReceiptId>,
    /// Exact bytes of the DSSE envelope.
    pub envelope: Vec<u8>,
}

/// The receipt of a seq, as far as `actor` may see it: its own, or one it was told of. Calls `receipts.read_receipt`.
pub async fn read_receipt(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    seq: u64,
) -> Result<Option<StoredReceipt>, Error> {
    let sql = "select seq, receipt_id, subject_id, prev, envelope from receipts.read_receipt($1, $2, $3)";
    let row = reader.row(sql, &[&actor.map(Uuid::from), &int(ledger_id)?, &bigint(seq)]).await?;
    row.as_ref().map(stored).transpose()
}

fn stored(row: &Row) -> Result<StoredReceipt, Error> {
    Ok(StoredReceipt {
        seq: count(row, "seq")?,
        receipt_id: ReceiptId::from_bytes(bytes32(row, "receipt_id")?),
        subject_id: get(row, "subject_id")?,
        prev: bytes32_or_none(row, "prev")?.map(ReceiptId::from_bytes),
        envelope: get(row, "envelope")?,
    })
}

/// Which receipts; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiptFilter {
    /// About this.
    pub subject_id: Option<Uuid>,
    /// Of this agent's commands.
    pub sender_id: Option<AgentId>,
    /// Of commands of this kind.
    pub kind: Option<String>,
    /// "ok" or a refusal's code.
    pub code: Option<String>,
    /// Not earlier than this, Unix microseconds of ledger time.
    pub since_us: Option<i64>,
    /// Earlier than this.
    pub until_us: Option<i64>,
    /// Of commands that posted transfers of this business event.
    pub journal_id: Option<JournalId>,
    /// Of this command.
    pub command_id: Option<CommandId>,
}

/// In which order of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReceiptOrder {
    /// By falling seq.
    #[default]
    NewestFirst,
    /// By rising seq.
    OldestFirst,
}

/// A page of receipts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiptPage {
    /// In the order that was asked for.
    pub receipts: Vec<StoredReceipt>,
    /// Where to go on; `None`: that was all. A short page, even an empty one, may have a next.
    pub next: Option<u64>,
}

/// A page of the receipts that `actor` may see, `limit` (1 to 1,000) at most, after the place that an earlier page named.
/// `UB103`: a moment or a text that
/// there cannot be. `UR701`: a subject's chain is too long to be asked for from its old end. Calls `receipts.read_receipts`.
pub async fn read_receipts(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    filter: &ReceiptFilter,
    order: ReceiptOrder,
    after: Option<u64>,
    limit: u32,
) -> Result<ReceiptPage, Error> {
    // Postgres has no text with a zero in it.
    if [&filter.kind, &filter.code].into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(Error::new("UB103", "no kind and no code holds a NUL character"));
    }
    let sql = "select seq, receipt_id, subject_id, prev, envelope from \
               receipts.read_receipts($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    let rows = reader
        .rows(
            sql,
            &[
                &actor.map(Uuid::from),
                &int(ledger_id)?,
                &filter.subject_id,
                &filter.sender_id.map(Uuid::from),
                &filter.kind,
                &filter.code,
                &filter.since_us.map(moment).transpose()?,
                &filter.until_us.map(moment).transpose()?,
                &filter.journal_id.map(Uuid::from),
                &filter.command_id.map(Uuid::from),
                &(order == ReceiptOrder::NewestFirst),
                &after.map(bigint),
                &int(limit)?,
            ],
        )
        .await?;
    let mut page = ReceiptPage::default();
    for row in &rows {
        if get::<Option<&[u8]>>(row, "envelope")?.is_some() {
            page.receipts.push(stored(row)?);
        } else {
            page.next = Some(count(row, "seq")?);
        }
    }
    Ok(page)
}

/// Where a receipt stands in the log; `None`: it has no such receipt. Calls `receipts.seq_of_receipt`.
pub async fn seq_of_receipt(
    reader: &Reader,
    ledger_id: u32,
    receipt_id: &ReceiptId,
) -> Result<Option<u64>, Error> {
    let sql = "select seq from receipts.seq_of_receipt($1, $2) as seq where seq is not null";
    let row = reader.row(sql, &[&int(ledger_id)?, &receipt_id.as_bytes().as_slice()]).await?;
    row.map(|row| count(&row, "seq")).transpose()
}

/// Size and root of a ledger's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// Leaves.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: [u8; 32],
}

/// The log as it is now; `None`: no such ledger. Calls `receipts.read_log`.
pub async fn read_log(reader: &Reader, ledger_id: u32) -> Result<Option<LogHead>, Error> {
    let row = reader.row("select size, root from receipts.read_log($1)", &[&int(ledger_id)?]).await?;
    row.map(|row| Ok(LogHead { size: count(&row, "size")?, root: bytes32(&row, "root")? })).transpose()
}

/// A signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Size and root that it states.
    pub head: LogHead,
    /// The C2SP signed note.
    pub note: String,
}

/// The newest signed checkpoint, with its witnesses' lines; `None`: none yet. Calls `receipts.read_checkpoint`.
pub async fn read_checkpoint(reader: &Reader, ledger_id: u32) -> Result<Option<StoredCheckpoint>, Error> {
    let sql = "select size, root, note from receipts.read_checkpoint($1)";
    checkpoint(reader.row(sql, &[&int(ledger_id)?]).await?.as_ref())
}

fn checkpoint(row: Option<&Row>) -> Result<Option<StoredCheckpoint>, Error> {
    row.map(|row| {
        Ok(StoredCheckpoint {
            head: LogHead { size: count(row, "size")?, root: bytes32(row, "root")? },
            note: get(row, "note")?,
        })
    })
    .transpose()
}

/// RFC 6962 audit path of leaf `index` in the tree of the first `size` leaves, from the leaf's sibling upwards; `None`
/// when that tree has no such leaf. Calls `receipts.inclusion_proof`.
pub async fn inclusion_proof(
    reader: &Reader,
    ledger_id: u32,
    index: u64,
    size: u64,
) -> Result<Option<Vec<[u8; 32]>>, Error> {
    let sql = "select receipts.inclusion_proof($1, $2, $3) as hashes";
    hashes(reader.row(sql, &[&int(ledger_id)?, &bigint(index), &bigint(size)]).await?.as_ref())
}

/// The column `hashes` of a proof, which may be null.
fn hashes(row: Option<&Row>) -> Result<Option<Vec<[u8; 32]>>, Error> {
    let hashes: Option<Vec<Vec<u8>>> = match row {
        Some(row) => get(row, "hashes")?,
        None => None,
    };
    let to_array = |hash: Vec<u8>| {
        hash.try_into().map_err(|_| Error::new("UB900", "a node of the log has another length than 32 bytes"))
    };
    hashes.map(|hashes| hashes.into_iter().map(to_array).collect()).transpose()
}
