//! A ledger's log: its signed checkpoint and inclusion proofs. Public: they say nothing about the content.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use ledger::receipts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::log::{self, CheckpointQuery};
use crate::server::ServerState;
use crate::server::problem::{Problem, ProblemJson, json};

/// The newest signed checkpoint, a C2SP signed note. The same note is under `/v1/ledgers/{ledger_id}/log/checkpoint`, where
/// clients of tiles look for it.
#[utoipa::path(
    get, path = "/v1/ledgers/{ledger_id}/checkpoint",
    params(
        ("ledger_id" = u32, Path, description = "The ledger", minimum = 1, maximum = 2147483647), CheckpointQuery
    ),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn checkpoint(
    State(state): State<Arc<ServerState>>,
    Path(ledger_id): Path<u32>,
    Query(query): Query<CheckpointQuery>,
) -> Result<Response, Problem> {
    log::newest(&state, log::a_ledger(ledger_id)?, &query).await
}

/// Which leaf, in which tree.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProofQuery {
    /// seq of the receipt's command; its leaf is one less.
    #[param(minimum = 1)]
    seq: u64,
    /// Leaves of the tree; left out: those of the newest checkpoint.
    size: Option<u64>,
}

/// An RFC 6962 inclusion proof.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProofJson {
    /// The ledger.
    ledger_id: u32,
    /// seq of the receipt's command.
    seq: u64,
    /// seq - 1.
    leaf_index: u64,
    /// Leaves of the tree.
    tree_size: u64,
    /// The audit path from the leaf's sibling upwards, hex SHA-256.
    hashes: Vec<String>,
}

/// The proof that a receipt is in the log. The leaf is SHA-256(0x00 || the receipt's exact envelope).
#[utoipa::path(
    get, path = "/v1/ledgers/{ledger_id}/proof",
    params(("ledger_id" = u32, Path, description = "The ledger", minimum = 1, maximum = 2147483647), ProofQuery),
    responses(
        (status = 200, body = ProofJson),
        (status = 400, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn proof(
    State(state): State<Arc<ServerState>>,
    Path(ledger_id): Path<u32>,
    Query(query): Query<ProofQuery>,
) -> Result<Response, Problem> {
    let size = match query.size {
        Some(size) => size,
        None => receipts::read_checkpoint(&state.reader, ledger_id)
            .await?
            .map(|checkpoint| checkpoint.head.size)
            .ok_or_else(|| Problem::new("UR402", "this ledger has no signed checkpoint yet"))?,
    };
    let index = query.seq.checked_sub(1).ok_or_else(|| Problem::new("UB103", "seq starts at 1"))?;
    let found = receipts::inclusion_proof(&state.reader, ledger_id, index, size).await?;
    let hashes = found.ok_or_else(|| {
        Problem::new("UR403", format!("there is no receipt {} in a tree of {size} leaves", query.seq))
    })?;
    let body = ProofJson {
        ledger_id,
        seq: query.seq,
        leaf_index: index,
        tree_size: size,
        hashes: hashes.iter().map(hex::encode).collect(),
    };
    Ok(json(StatusCode::OK, "application/json", &body))
}
