//! Mirror of the SQL domain `artifacts`: who uploaded what, who may read it. The bytes live in a store outside the
//! database, so these are upkeep, not commands.

use proto::ids::{AgentId, ArtifactHash};
use uuid::Uuid;

use crate::error::Error;
use crate::reader::{Reader, bigint, get, int, time};

/// Whether the actor may fetch an artifact: it uploaded it, or is the other party of an order that names it, or judges.
/// Calls `artifacts.may_read`.
pub async fn may_read(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    hash: &ArtifactHash,
) -> Result<bool, Error> {
    let sql = "select artifacts.may_read($1, $2, $3) as allowed";
    let row =
        reader.row(sql, &[&actor.map(Uuid::from), &int(ledger_id)?, &hash.as_bytes().as_slice()]).await?;
    row.map_or(Ok(false), |row| get(&row, "allowed"))
}

/// Records an upload; `true`: new, or back after its erasure. `UM405`: the actor is not registered.
/// Calls `artifacts.record_upload`.
pub async fn record_upload(
    reader: &Reader,
    actor: AgentId,
    ledger_id: u32,
    hash: &ArtifactHash,
    size_bytes: u64,
    at_us: i64,
) -> Result<bool, Error> {
    let sql = "select artifacts.record_upload($1, $2, $3, $4, $5) as new";
    let actor = Uuid::from(actor);
    let at = time(at_us);
    let row = reader
        .row(sql, &[&actor, &int(ledger_id)?, &hash.as_bytes().as_slice(), &bigint(size_bytes), &at])
        .await?;
    row.map_or(Ok(false), |row| get(&row, "new"))
}

/// Records that the actor withdraws its bytes; `true`: nobody else holds them, so the store must delete them now.
/// `UM407`: it has no stored upload of them. Calls `artifacts.record_erasure`.
pub async fn record_erasure(
    reader: &Reader,
    actor: AgentId,
    ledger_id: u32,
    hash: &ArtifactHash,
    at_us: i64,
) -> Result<bool, Error> {
    let sql = "select artifacts.record_erasure($1, $2, $3, $4) as last";
    let actor = Uuid::from(actor);
    let at = time(at_us);
    let row = reader.row(sql, &[&actor, &int(ledger_id)?, &hash.as_bytes().as_slice(), &at]).await?;
    row.map_or(Ok(false), |row| get(&row, "last"))
}
