//! The logs as the public may read them: consistency, tiles, the forest, and what witnesses said. Log 0 is the forest.

use proto::note::Cosignature;
use tokio_postgres::Row;

use super::{LogHead, StoredCheckpoint};
use crate::error::Error;
use crate::reader::{Reader, bigint, bytes32, count, get, int, small};

/// The log over all ledgers' checkpoints, where a ledger's id is asked for.
pub const FOREST: u32 = 0;

/// RFC 9162 proof that the log of `new` leaves extends that of `old`; `None`: it never had those sizes, in that order. Calls
/// `receipts.consistency_proof`.
pub async fn consistency_proof(
    reader: &Reader,
    ledger_id: u32,
    old: u64,
    new: u64,
) -> Result<Option<Vec<[u8; 32]>>, Error> {
    let sql = "select receipts.consistency_proof($1, $2, $3) as hashes";
    super::hashes(reader.row(sql, &[&int(ledger_id)?, &bigint(old), &bigint(new)]).await?.as_ref())
}

/// The root of the first `size` leaves; `None` beyond the log. Calls `receipts.root_at`.
pub async fn root_at(reader: &Reader, ledger_id: u32, size: u64) -> Result<Option<[u8; 32]>, Error> {
    let sql = "select root from receipts.root_at($1, $2) as root where root is not null";
    let row = reader.row(sql, &[&int(ledger_id)?, &bigint(size)]).await?;
    row.map(|row| bytes32(&row, "root")).transpose()
}

/// The first `width` hashes of a tile, 32 bytes each; `None` when it has fewer. Calls `receipts.read_tile`.
pub async fn read_tile(
    reader: &Reader,
    ledger_id: u32,
    level: u8,
    index: u64,
    width: u16,
) -> Result<Option<Vec<u8>>, Error> {
    let sql = "select hashes from receipts.read_tile($1, $2, $3, $4) as hashes where hashes is not null";
    let params = (int(ledger_id)?, i32::from(level), bigint(index), i32::from(width));
    let row = reader.row(sql, &[&params.0, &params.1, &params.2, &params.3]).await?;
    row.map(|row| get(&row, "hashes")).transpose()
}

/// The newest checkpoint that a witness cosigned, with every witness' line. Calls `receipts.read_witnessed_checkpoint`.
pub async fn read_witnessed_checkpoint(
    reader: &Reader,
    ledger_id: u32,
) -> Result<Option<StoredCheckpoint>, Error> {
    let sql = "select size, root, note from receipts.read_witnessed_checkpoint($1)";
    super::checkpoint(reader.row(sql, &[&int(ledger_id)?]).await?.as_ref())
}

/// Keeps a cosignature that has been verified; false: that witness' word on this size is there already. Calls
/// `receipts.store_cosignature`.
pub async fn store_cosignature(
    reader: &Reader,
    ledger_id: u32,
    size: u64,
    witness: &str,
    cosignature: &Cosignature,
) -> Result<bool, Error> {
    let sql = "select receipts.store_cosignature($1, $2, $3, $4, $5) as stored";
    let (id, size, time_s) = (int(ledger_id)?, bigint(size), bigint(cosignature.time_s));
    let row = reader.row(sql, &[&id, &size, &witness, &time_s, &cosignature.line]).await?;
    row.map_or(Ok(false), |row| get(&row, "stored"))
}

/// The forest's name and head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forest {
    /// Names it in its checkpoints.
    pub origin: String,
    /// Leaves and root.
    pub head: LogHead,
}

/// The forest as it is now; `None`: no checkpoint was entered yet. Calls `receipts.read_forest`.
pub async fn read_forest(reader: &Reader) -> Result<Option<Forest>, Error> {
    let row = reader.row("select origin, size, root from receipts.read_forest()", &[]).await?;
    row.map(|row| {
        let head = LogHead { size: count(&row, "size")?, root: bytes32(&row, "root")? };
        Ok(Forest { origin: get(&row, "origin")?, head })
    })
    .transpose()
}

/// One leaf of the forest: a ledger's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForestEntry {
    /// Which leaf.
    pub entry_index: u64,
    /// Whose checkpoint.
    pub ledger_id: u32,
    /// What it states.
    pub head: LogHead,
    /// The leaf's exact data: the checkpoint's three lines.
    pub leaf: String,
}

fn entry(row: &Row) -> Result<ForestEntry, Error> {
    Ok(ForestEntry {
        entry_index: count(row, "entry_index")?,
        ledger_id: small(row, "ledger_id")?,
        head: LogHead { size: count(row, "size")?, root: bytes32(row, "root")? },
        leaf: get(row, "leaf")?,
    })
}

/// Leaves of the forest from `from` on, at most `limit`. Calls `receipts.read_forest_entries`.
pub async fn read_forest_entries(reader: &Reader, from: u64, limit: u16) -> Result<Vec<ForestEntry>, Error> {
    let sql = "select entry_index, ledger_id, size, root, leaf from receipts.read_forest_entries($1, $2)";
    reader.rows(sql, &[&bigint(from), &i32::from(limit)]).await?.iter().map(entry).collect()
}

/// The leaf of a ledger's checkpoint of this size, or of its newest one. Calls `receipts.read_forest_entry`.
pub async fn read_forest_entry(
    reader: &Reader,
    ledger_id: u32,
    size: Option<u64>,
) -> Result<Option<ForestEntry>, Error> {
    let sql = "select entry_index, ledger_id, size, root, leaf from receipts.read_forest_entry($1, $2)";
    reader.row(sql, &[&int(ledger_id)?, &size.map(bigint)]).await?.as_ref().map(entry).transpose()
}
