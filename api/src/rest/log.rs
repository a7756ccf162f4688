//! The logs for whoever follows them: consistency proofs, tiles (C2SP tlog-tiles), and the forest over all ledgers'
//! checkpoints. Public: they say nothing about the content.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use ledger::receipts::log::{self, FOREST};
use ledger::receipts::{self, StoredCheckpoint};
use proto::tiles::{TILE_WIDTH, TileName, parse_index_path};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::server::ServerState;
use crate::server::problem::{Problem, ProblemJson, json};

/// What never changes may be kept for ever.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// What the next checkpoint replaces.
const FRESH: &str = "no-cache";

/// Which checkpoint.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointQuery {
    /// Only one that a witness has cosigned: perhaps a little older.
    witnessed: Option<bool>,
}

/// The newest checkpoint of a log as a note, with its witnesses' lines.
pub(crate) async fn newest(
    state: &ServerState,
    ledger_id: u32,
    query: &CheckpointQuery,
) -> Result<Response, Problem> {
    let found: Option<StoredCheckpoint> = if query.witnessed == Some(true) {
        log::read_witnessed_checkpoint(&state.reader, ledger_id).await?
    } else {
        receipts::read_checkpoint(&state.reader, ledger_id).await?
    };
    let found = found.ok_or_else(|| {
        Problem::new(
            "UR402",
            match (ledger_id, query.witnessed) {
                (_, Some(true)) => "no witness has cosigned a checkpoint of this log yet",
                (FOREST, _) => "the forest has no signed checkpoint yet",
                _ => "this ledger has no signed checkpoint yet",
            },
        )
    })?;
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, FRESH)];
    Ok((headers, found.note).into_response())
}

/// The newest signed checkpoint of the forest, a C2SP signed note.
#[utoipa::path(
    get, path = "/v1/forest/checkpoint", params(CheckpointQuery),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn forest_checkpoint(
    State(state): State<Arc<ServerState>>,
    Query(query): Query<CheckpointQuery>,
) -> Result<Response, Problem> {
    newest(&state, FOREST, &query).await
}

/// Between which sizes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsistencyQuery {
    /// Leaves of the earlier tree.
    #[param(minimum = 1)]
    old: u64,
    /// Leaves of the later tree; left out: those of the newest checkpoint.
    new: Option<u64>,
}

/// An RFC 9162 consistency proof.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConsistencyJson {
    /// Leaves of the earlier tree.
    old: u64,
    /// Leaves of the later tree.
    new: u64,
    /// The proof, hex SHA-256.
    hashes: Vec<String>,
}

/// The proof that a log only grew between two sizes (RFC 9162, 2.1.4).
#[utoipa::path(
    get, path = "/v1/ledgers/{ledger_id}/consistency",
    params(("ledger_id" = u32, Path, description = "The ledger", minimum = 1, maximum = 2147483647), ConsistencyQuery),
    responses(
        (status = 200, body = ConsistencyJson),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn consistency(
    State(state): State<Arc<ServerState>>,
    Path(ledger_id): Path<u32>,
    Query(query): Query<ConsistencyQuery>,
) -> Result<Response, Problem> {
    prove(&state, a_ledger(ledger_id)?, &query).await
}

/// The same for the forest.
#[utoipa::path(
    get, path = "/v1/forest/consistency", params(ConsistencyQuery),
    responses(
        (status = 200, body = ConsistencyJson),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn forest_consistency(
    State(state): State<Arc<ServerState>>,
    Query(query): Query<ConsistencyQuery>,
) -> Result<Response, Problem> {
    prove(&state, FOREST, &query).await
}

async fn prove(state: &ServerState, ledger_id: u32, query: &ConsistencyQuery) -> Result<Response, Problem> {
    let new = match query.new {
        Some(new) => new,
        None => receipts::read_checkpoint(&state.reader, ledger_id)
            .await?
            .map(|checkpoint| checkpoint.head.size)
            .ok_or_else(|| Problem::new("UR402", "this log has no signed checkpoint yet"))?,
    };
    // Every tree extends the empty one: there is nothing to prove.
    let proof = match query.old {
        0 => None,
        old => log::consistency_proof(&state.reader, ledger_id, old, new).await?,
    };
    let hashes = proof.ok_or_else(|| {
        Problem::new("UR404", format!("this log has no proof from {} to {new} leaves", query.old))
    })?;
    let body = ConsistencyJson { old: query.old, new, hashes: hashes.iter().map(hex::encode).collect() };
    Ok(json(StatusCode::OK, "application/json", &body))
}

/// Log 0 is the forest, and has paths of its own.
pub(crate) fn a_ledger(ledger_id: u32) -> Result<u32, Problem> {
    if ledger_id == FOREST {
        return Err(Problem::new("UB401", "there is no ledger 0; the forest is under /v1/forest"));
    }
    Ok(ledger_id)
}

/// A tile of a ledger's log: up to 256 hashes of 32 bytes (C2SP tlog-tiles).
#[utoipa::path(
    get, path = "/v1/ledgers/{ledger_id}/log/tile/{tile}",
    params(
        ("ledger_id" = u32, Path, description = "The ledger", minimum = 1, maximum = 2147483647),
        ("tile" = String, Path, description = "LEVEL/INDEX as in 0/x001/x234/067, with .p/WIDTH while it is not full"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 403, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn tile(
    State(state): State<Arc<ServerState>>,
    Path((ledger_id, name)): Path<(u32, String)>,
) -> Result<Response, Problem> {
    let ledger_id = a_ledger(ledger_id)?;
    if name.starts_with("entries/") {
        return Err(Problem::new(
            "UR301",
            "a log's entries are receipts, and a receipt is for its parties: GET /v1/receipts/ID, signed",
        ));
    }
    hashes(&state, ledger_id, &name).await
}

/// A tile of the forest, or with `entries/INDEX` a bundle of its entries, each after its length in two bytes.
#[utoipa::path(
    get, path = "/v1/forest/log/tile/{tile}",
    params(("tile" = String, Path, description = "LEVEL/INDEX or entries/INDEX, with .p/WIDTH while it is not full")),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn forest_tile(
    State(state): State<Arc<ServerState>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let Some(bundle) = name.strip_prefix("entries/") else { return hashes(&state, FOREST, &name).await };
    let (index, width) =
        parse_index_path(bundle).map_err(|error| Problem::new("UB402", error.to_string()))?;
    let from = index.checked_mul(TILE_WIDTH.into()).ok_or_else(beyond)?;
    let entries = log::read_forest_entries(&state.reader, from, width).await?;
    if entries.len() != usize::from(width) {
        return Err(beyond());
    }
    let mut bytes = Vec::new();
    for entry in &entries {
        let length =
            u16::try_from(entry.leaf.len()).map_err(|_| Problem::new("UB900", "an entry is too long"))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry.leaf.as_bytes());
    }
    Ok(binary(bytes, width))
}

async fn hashes(state: &ServerState, ledger_id: u32, name: &str) -> Result<Response, Problem> {
    let tile: TileName =
        name.parse().map_err(|error: proto::tiles::NotATile| Problem::new("UB402", error.to_string()))?;
    let found = log::read_tile(&state.reader, ledger_id, tile.level, tile.index, tile.width).await?;
    Ok(binary(found.ok_or_else(beyond)?, tile.width))
}

fn beyond() -> Problem {
    Problem::new("UR404", "the log has not come so far: a checkpoint's size says which tiles there are")
}

/// A prefix of a tile never changes either; only that a partial one is soon of no use.
fn binary(bytes: Vec<u8>, width: u16) -> Response {
    let cache = if width == TILE_WIDTH { IMMUTABLE } else { "public, max-age=3600" };
    ([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, cache)], bytes).into_response()
}

/// Whose checkpoint, in which forest.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForestProofQuery {
    /// The ledger.
    #[param(minimum = 1)]
    ledger: u32,
    /// Leaves of the ledger's checkpoint; left out: its newest one in the forest.
    size: Option<u64>,
    /// Leaves of the forest; left out: those of its newest checkpoint.
    forest_size: Option<u64>,
}

/// That a ledger's checkpoint is in the forest.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ForestProofJson {
    /// The ledger.
    ledger_id: u32,
    /// Leaves of the ledger's checkpoint.
    size: u64,
    /// The leaf's exact data: the checkpoint's three lines.
    leaf: String,
    /// Which leaf of the forest.
    leaf_index: u64,
    /// Leaves of the forest.
    tree_size: u64,
    /// The audit path from the leaf's sibling upwards, hex SHA-256.
    hashes: Vec<String>,
}

/// The proof that a ledger's checkpoint is in the forest. The leaf is SHA-256(0x00 || leaf).
#[utoipa::path(
    get, path = "/v1/forest/proof", params(ForestProofQuery),
    responses(
        (status = 200, body = ForestProofJson),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn forest_proof(
    State(state): State<Arc<ServerState>>,
    Query(query): Query<ForestProofQuery>,
) -> Result<Response, Problem> {
    let tree_size = match query.forest_size {
        Some(size) => size,
        None => receipts::read_checkpoint(&state.reader, FOREST)
            .await?
            .map(|checkpoint| checkpoint.head.size)
            .ok_or_else(|| Problem::new("UR402", "the forest has no signed checkpoint yet"))?,
    };
    let missing = || Problem::new("UR405", "no such checkpoint of this ledger is in a forest of that size");
    let entry = log::read_forest_entry(&state.reader, query.ledger, query.size).await?.ok_or_else(missing)?;
    let proof = receipts::inclusion_proof(&state.reader, FOREST, entry.entry_index, tree_size).await?;
    let body = ForestProofJson {
        ledger_id: entry.ledger_id,
        size: entry.head.size,
        leaf: entry.leaf,
        leaf_index: entry.entry_index,
        tree_size,
        hashes: proof.ok_or_else(missing)?.iter().map(hex::encode).collect(),
    };
    Ok(json(StatusCode::OK, "application/json", &body))
}
