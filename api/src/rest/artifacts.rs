//! `/v1/artifacts/{blake3}`: job inputs and outputs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use ledger::{artifacts, base};
use proto::httpsig::Coverage;
use proto::ids::ArtifactHash;
use serde::Serialize;
use utoipa::ToSchema;

use super::commands::content_type;
use super::receipts::LedgerQuery;
use crate::artifacts::StoreError;
use crate::erasure;
use crate::server::ServerState;
use crate::server::problem::{Problem, ProblemJson, internal, json};

const CONTENT: &str = "application/octet-stream";

/// What was stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stored {
    /// BLAKE3, hex.
    artifact_hash: String,
    /// How many bytes.
    size_bytes: u64,
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge(_) => Problem::with_status(413, "UB107", error.to_string()),
            StoreError::OtherHash(_) => Problem::new("UB111", error.to_string()),
            StoreError::BrokenOff(_) => Problem::new("UB103", error.to_string()),
            StoreError::Io(_) => internal("the artifact store", &error),
        }
    }
}

pub(super) fn parse(hash: &str) -> Result<ArtifactHash, Problem> {
    hash.parse().map_err(|error: proto::ids::IdError| Problem::new("UB103", error.to_string()))
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Bytes under a number that is no ledger's would be found by no erasure.
pub(super) async fn must_be_ledger(state: &ServerState, ledger_id: u32) -> Result<(), Problem> {
    if base::read_ledgers(&state.reader).await?.iter().any(|ledger| ledger.ledger_id == ledger_id) {
        return Ok(());
    }
    Err(Problem::new("UB401", format!("there is no ledger {ledger_id} here")))
}

/// Stores an artifact under its BLAKE3 hash. Sending what is stored already succeeds, and proves to hold it.
#[utoipa::path(
    put, path = "/v1/artifacts/{hash}",
    params(("hash" = String, Path, description = "BLAKE3 of the bytes, hex", pattern = "^[0-9a-f]{64}$"), LedgerQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "Known already", body = Stored),
        (status = 201, description = "Stored", body = Stored),
        (status = 400, body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
        (status = 413, body = ProblemJson, content_type = "application/problem+json"),
        (status = 415, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn upload(
    State(state): State<Arc<ServerState>>,
    Path(hash): Path<String>,
    Query(query): Query<LedgerQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let hash = parse(&hash)?;
    let (parts, body) = request.into_parts();
    if content_type(&parts.headers) != CONTENT {
        return Err(Problem::with_status(415, "UB106", format!("an artifact's Content-Type is {CONTENT}")));
    }
    let signer = state.gate.check(&parts, Coverage::Upload, None).await?;
    must_be_ledger(&state, query.ledger).await?;
    if announced(&parts.headers).is_some_and(|bytes| bytes > state.store.bytes_max()) {
        return Err(StoreError::TooLarge(state.store.bytes_max()).into());
    }
    let _slot =
        state.uploads.acquire().await.map_err(|error| internal("waiting for an upload slot", &error))?;
    let received = state.store.receive(&hash, body.into_data_stream()).await?;
    let size_bytes = received.size_bytes;
    signer.check_body_digest(received.digest)?;
    let new = {
        // Keeping and recording must not be parted by an erasure of the same bytes.
        let _guard = state.store.lock(&hash).await;
        let was_here = state.store.has_any(query.ledger, &hash);
        state.store.keep(query.ledger, &hash, received).await.map_err(StoreError::Io)?;
        let now_us = state.pipeline.now_us();
        let recorded =
            artifacts::record_upload(&state.reader, signer.agent_id, query.ledger, &hash, size_bytes, now_us)
                .await;
        // A file that no row knows is nobody's, and no erasure of an agent or order finds it.
        if recorded.is_err()
            && !was_here
            && let Err(error) = state.store.erase(query.ledger, &hash).await
        {
            tracing::error!(%hash, %error, "an upload that was not recorded could not be removed");
        }
        recorded?
    };
    metrics::counter!("econ_artifact_bytes_total", "direction" => "in").increment(size_bytes);
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    let body = Stored { artifact_hash: hash.to_string(), size_bytes };
    Ok(json(status, "application/json", &body))
}

/// The bytes of an artifact, for its uploader, the other party of an order that names it, and the verifier. The client
/// checks the hash again.
#[utoipa::path(
    get, path = "/v1/artifacts/{hash}",
    params(("hash" = String, Path, description = "BLAKE3 of the bytes, hex", pattern = "^[0-9a-f]{64}$"), LedgerQuery),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 401, body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
        (status = 410, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn download(
    State(state): State<Arc<ServerState>>,
    Path(hash): Path<String>,
    Query(query): Query<LedgerQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let hash = parse(&hash)?;
    let (parts, _) = request.into_parts();
    let signer = state.gate.check(&parts, Coverage::Read, None).await?;
    must_be_ledger(&state, query.ledger).await?;
    let gone = async || -> Result<Option<Problem>, Problem> {
        let erased = artifacts::was_erased(&state.reader, signer.agent_id, query.ledger, &hash).await?;
        Ok(erased.then(|| Problem::with_status(410, "UM410", "this artifact was erased")))
    };
    // The same refusal whether it exists or not: existence is not told to strangers.
    if !artifacts::may_read(&state.reader, Some(signer.agent_id), query.ledger, &hash).await? {
        if let Some(gone) = gone().await? {
            return Err(gone);
        }
        let detail = "only its uploader and the parties of an order that names it may read an artifact";
        return Err(Problem::new("UB302", detail));
    }
    let opened = state.store.open_artifact(query.ledger, &hash).await.map_err(StoreError::Io)?;
    let Some(opened) = opened else {
        let missing = || Problem::new("UB403", "the bytes of this artifact are not stored (any more)");
        return Err(gone().await?.unwrap_or_else(missing));
    };
    metrics::counter!("econ_artifact_bytes_total", "direction" => "out").increment(opened.size_bytes);
    let headers = [
        (CONTENT_TYPE, CONTENT.to_owned()),
        (CONTENT_LENGTH, opened.size_bytes.to_string()),
        (CACHE_CONTROL, "private".to_owned()),
    ];
    Ok((headers, Body::from_stream(opened.into_stream())).into_response())
}

/// The uploader withdraws its bytes; they are deleted once nobody else has uploaded the same.
#[utoipa::path(
    delete, path = "/v1/artifacts/{hash}",
    params(("hash" = String, Path, description = "BLAKE3 of the bytes, hex", pattern = "^[0-9a-f]{64}$"), LedgerQuery),
    responses(
        (status = 204),
        (status = 401, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
        (status = 500, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn erase(
    State(state): State<Arc<ServerState>>,
    Path(hash): Path<String>,
    Query(query): Query<LedgerQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let hash = parse(&hash)?;
    let (parts, _) = request.into_parts();
    let signer = state.gate.check(&parts, Coverage::Read, None).await?;
    must_be_ledger(&state, query.ledger).await?;
    let _guard = state.store.lock(&hash).await;
    let now_us = state.pipeline.now_us();
    if artifacts::record_erasure(&state.reader, signer.agent_id, query.ledger, &hash, now_us).await? {
        state.store.erase(query.ledger, &hash).await.map_err(|error| {
            tracing::error!(%hash, %error, "a withdrawn artifact could not be removed");
            erasure::not_all_removed(1)
        })?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
