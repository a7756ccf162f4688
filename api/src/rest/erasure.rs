//! GET /v1/erasure: what erasing itself would remove of the signer. Erasing is a command, `erase_subject`.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use ledger::artifacts::{self, Action, Subject};
use proto::httpsig::Coverage;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::artifacts::{must_be_ledger, parse};
use super::receipts::first_ledger;
use crate::server::ServerState;
use crate::server::problem::{Problem, ProblemJson, json};

/// Whose, and from where on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErasureQuery {
    /// 1 unless stated.
    #[param(minimum = 1, maximum = 2147483647, default = 1)]
    #[serde(default = "first_ledger")]
    ledger: u32,
    /// Only hashes behind this one: the last of the page before.
    #[param(pattern = "^[0-9a-f]{64}$")]
    after: Option<String>,
}

/// What would go.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErasureJson {
    /// By hash; at most 1,000, which is what one command erases. Empty: nothing is left behind `after`.
    artifacts: Vec<UploadJson>,
}

/// An upload of the signer's that is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadJson {
    /// BLAKE3, hex.
    artifact_hash: String,
    /// How many bytes.
    size_bytes: u64,
}

/// What the signer has uploaded and may erase, with a command `erase_subject` of kind agent in which each item names the
/// signer. 422 while an order of its own is live or an RFQ of its own open.
#[utoipa::path(
    get, path = "/v1/erasure",
    params(ErasureQuery),
    responses(
        (status = 200, body = ErasureJson),
        (status = 400, body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
        (status = 422, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn erasure(
    State(state): State<Arc<ServerState>>,
    Query(query): Query<ErasureQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let me = state.gate.check(&parts, Coverage::Read, None).await?.agent_id;
    must_be_ledger(&state, query.ledger).await?;
    let after = query.after.as_deref().map(parse).transpose()?;
    let plan =
        artifacts::plan_erasure(&state.reader, me, query.ledger, Subject::Agent(me), after.as_ref()).await?;
    let goes = plan.into_iter().filter(|planned| !matches!(planned.action, Action::Keep { .. }));
    let upload = |planned: artifacts::Planned| UploadJson {
        artifact_hash: planned.hash.to_string(),
        size_bytes: planned.size_bytes,
    };
    let body = ErasureJson { artifacts: goes.map(upload).collect() };
    Ok(json(StatusCode::OK, "application/json", &body))
}
