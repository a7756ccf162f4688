//! GET /v1/orders/{order_id}/evidence: everything needed to judge one order offline.

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use ledger::evidence;
use proto::httpsig::Coverage;
use proto::ids::{IdError, OrderId};

use super::receipts::LedgerQuery;
use crate::server::ServerState;
use crate::server::problem::{Problem, ProblemJson};

/// An order's evidence bundle, for its buyer, its provider, the operator and verifiers. `econ verify bundle FILE` judges it
/// with neither network nor database; docs/RECEIPTS.md says how to do it in another language.
#[utoipa::path(
    get, path = "/v1/orders/{order_id}/evidence",
    params(("order_id" = String, Path, description = "UUID", pattern = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"), LedgerQuery),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 400, body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn evidence(
    State(state): State<Arc<ServerState>>,
    Path(order_id): Path<String>,
    Query(query): Query<LedgerQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let order_id: OrderId =
        order_id.parse().map_err(|error: IdError| Problem::new("UB103", error.to_string()))?;
    let (parts, _) = request.into_parts();
    let signer = state.gate.check(&parts, Coverage::Read, None).await?;
    let found = evidence::read_bundle(&state.reader, Some(signer.agent_id), query.ledger, order_id).await?;
    let bundle =
        found.ok_or_else(|| Problem::new("UM403", "there is no such order, or it is not yours to see"))?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{order_id}.econ\"")),
    ];
    Ok((headers, proto::evidence::to_bytes(&bundle)).into_response())
}
