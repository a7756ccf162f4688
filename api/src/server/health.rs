//! `/healthz`: the process answers. `/readyz`: it can do its work.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use ledger::base;
use serde_json::json as object;

use super::ServerState;
use super::problem::json;

/// Longest that the database may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// GET /healthz.
pub(crate) async fn healthz() -> Response {
    json(StatusCode::OK, "application/json", &object!({ "status": "ok" }))
}

/// GET /readyz: the database answers, the schema is loaded, a ledger has its genesis, and commands are taken.
pub(crate) async fn readyz(State(state): State<Arc<ServerState>>) -> Response {
    let ledgers = tokio::time::timeout(PATIENCE, base::read_ledgers(&state.reader)).await;
    let (database, ledger) = match &ledgers {
        Ok(Ok(ledgers)) => {
            ("ok", if ledgers.iter().any(|ledger| ledger.last_seq > 0) { "ok" } else { "no genesis yet" })
        }
        Ok(Err(error)) if error.code == "UB801" => ("away", "unknown"),
        Ok(Err(_)) => ("schema not loaded", "unknown"),
        Err(_) => ("too slow", "unknown"),
    };
    let pipeline = if state.stopping.is_cancelled() { "stopping" } else { "ok" };
    let checks = object!({ "database": database, "ledger": ledger, "pipeline": pipeline });
    let ready = [database, ledger, pipeline] == ["ok"; 3];
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = object!({ "status": if ready { "ready" } else { "not ready" }, "checks": checks });
    json(status, "application/json", &body)
}
