//! Mirror of the SQL domain `artifacts`: who uploaded what, who may read it. The bytes live in a store outside the
//! database, so these are upkeep, not commands.

use proto::ids::{AgentId, ArtifactHash, OrderId};
use uuid::Uuid;

use crate::error::Error;
use crate::reader::{Reader, bigint, bytes32, count, get, int, time};

/// Bytes before the first chunk of a sealed artifact.
pub const SEALED_HEAD_BYTES: usize = 24;

/// What a sealed artifact begins with: the format's name, and one of its key, so that a key and a file that do not belong
/// together are told from each other without opening them.
pub fn sealed_head(key: &[u8; 32]) -> [u8; SEALED_HEAD_BYTES] {
    const MAGIC: [u8; 8] = *b"ECSEAL01";
    let mut head = [0; SEALED_HEAD_BYTES];
    let name = blake3::derive_key("econ 2026-11 name of an artifact's key", key);
    let (magic, rest) = head.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    rest.copy_from_slice(&name[..SEALED_HEAD_BYTES - MAGIC.len()]);
    head
}

/// For whose sake something is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// What an agent uploaded, and the outputs that it bought.
    Agent(AgentId),
    /// An order's input and output.
    Order(OrderId),
    /// One artifact, whoever uploaded it.
    Artifact(ArtifactHash),
}

impl Subject {
    /// Its kind's name in SQL.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Order(_) => "order",
            Self::Artifact(_) => "artifact",
        }
    }
}

/// What becomes of an artifact of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub hash: ArtifactHash,
    /// How large.
    pub size_bytes: u64,
    /// What would be done.
    pub action: Action,
}

/// What erasing does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Every upload of it, and the bytes.
    Erase,
    /// This agent's upload only.
    Unlink {
        /// Whose.
        agent_id: AgentId,
        /// Why the bytes stay; empty where that is not told: whoever asks for itself learns nothing of others.
        reason: String,
    },
    /// Nothing, for this reason: `needed`, `uploaded_by_another`, `bought_by_another`.
    Keep {
        /// Why.
        reason: String,
    },
}

/// What erasing a subject would do to each of its stored artifacts; empty: nothing of it is stored. Calls
/// `artifacts.plan_erasure`. An agent that is not the operator may ask for itself, and is shown
/// at most 1,000 of its own uploads, those behind `after`. `UB302`: it asked for another; `UM403`, `UM405`: no such subject; `UM608`: its
/// contents are still needed.
pub async fn plan_erasure(
    reader: &Reader,
    actor: AgentId,
    ledger_id: u32,
    subject: Subject,
    after: Option<&ArtifactHash>,
) -> Result<Vec<Planned>, Error> {
    let sql = "select artifact_hash, size_bytes, action, agent_id, reason from artifacts.plan_erasure($1, $2, $3, $4, $5, $6)";
    let (id, hash) = match subject {
        Subject::Agent(id) => (Some(Uuid::from(id)), None),
        Subject::Order(id) => (Some(Uuid::from(id)), None),
        Subject::Artifact(hash) => (None, Some(hash.as_bytes().to_vec())),
    };
    let after = after.map(|after| after.as_bytes().to_vec());
    let actor = Uuid::from(actor);
    let rows = reader.rows(sql, &[&actor, &int(ledger_id)?, &subject.kind(), &id, &hash, &after]).await?;
    let planned = |row: &tokio_postgres::Row| {
        let reason: Option<String> = get(row, "reason")?;
        let reason = reason.unwrap_or_default();
        let agent_id: Option<Uuid> = get(row, "agent_id")?;
        let action = match (get::<&str>(row, "action")?, agent_id) {
            ("erase", None) => Action::Erase,
            ("unlink", Some(id)) => Action::Unlink { agent_id: AgentId::from_uuid(id), reason },
            _ => Action::Keep { reason },
        };
        Ok(Planned {
            hash: ArtifactHash::from_bytes(bytes32(row, "artifact_hash")?),
            size_bytes: count(row, "size_bytes")?,
            action,
        })
    };
    rows.iter().map(planned).collect()
}

/// Whether the artifact was erased, as far as the actor may know. Calls `artifacts.was_erased`.
pub async fn was_erased(
    reader: &Reader,
    actor: AgentId,
    ledger_id: u32,
    hash: &ArtifactHash,
) -> Result<bool, Error> {
    let sql = "select artifacts.was_erased($1, $2, $3) as erased";
    let row = reader.row(sql, &[&Uuid::from(actor), &int(ledger_id)?, &hash.as_bytes().as_slice()]).await?;
    row.map_or(Ok(false), |row| get(&row, "erased"))
}

/// Artifacts that the log says are erased and the store still has. Calls `artifacts.pending_erasures`.
pub async fn pending_erasures(
    reader: &Reader,
    ledger_id: u32,
    limit: u32,
) -> Result<Vec<ArtifactHash>, Error> {
    let sql = "select h as hash from artifacts.pending_erasures($1, $2) as h";
    let rows = reader.rows(sql, &[&int(ledger_id)?, &int(limit)?]).await?;
    rows.iter().map(|row| Ok(ArtifactHash::from_bytes(bytes32(row, "hash")?))).collect()
}

/// Whether by the log nobody holds the artifact any more, so that the store must lose it before [`apply_erasure`]. Calls
/// `artifacts.erases_bytes`.
pub async fn erases_bytes(reader: &Reader, ledger_id: u32, hash: &ArtifactHash) -> Result<bool, Error> {
    let sql = "select artifacts.erases_bytes($1, $2) as last";
    let row = reader.row(sql, &[&int(ledger_id)?, &hash.as_bytes().as_slice()]).await?;
    row.map_or(Ok(false), |row| get(&row, "last"))
}

/// Marks the uploads that an erasure in the log concerns: it is carried out. Calls `artifacts.apply_erasure`.
pub async fn apply_erasure(
    reader: &Reader,
    ledger_id: u32,
    hash: &ArtifactHash,
    at_us: i64,
) -> Result<(), Error> {
    let sql = "select artifacts.apply_erasure($1, $2, $3)";
    reader.rows(sql, &[&int(ledger_id)?, &hash.as_bytes().as_slice(), &time(at_us)]).await.map(drop)
}

/// Those that the store must not have: nobody holds them any more, they were erased without a row, or the ledger is none.
/// Calls `artifacts.unheld`.
pub async fn unheld(
    reader: &Reader,
    ledger_id: u32,
    hashes: &[ArtifactHash],
) -> Result<Vec<ArtifactHash>, Error> {
    some_of(reader, "select h as hash from artifacts.unheld($1, $2) as h", ledger_id, hashes).await
}

/// Those that nobody has ever been recorded to have uploaded. Calls `artifacts.unknown`.
pub async fn unknown(
    reader: &Reader,
    ledger_id: u32,
    hashes: &[ArtifactHash],
) -> Result<Vec<ArtifactHash>, Error> {
    some_of(reader, "select h as hash from artifacts.unknown($1, $2) as h", ledger_id, hashes).await
}

async fn some_of(
    reader: &Reader,
    sql: &str,
    ledger_id: u32,
    hashes: &[ArtifactHash],
) -> Result<Vec<ArtifactHash>, Error> {
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| hash.as_bytes().as_slice()).collect();
    let rows = reader.rows(sql, &[&int(ledger_id)?, &hashes]).await?;
    rows.iter().map(|row| Ok(ArtifactHash::from_bytes(bytes32(row, "hash")?))).collect()
}

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
