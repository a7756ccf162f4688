//! GET /v1/receipts/{receipt}: a stored receipt, exact bytes or JSON.

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use ledger::receipts::{self, StoredReceipt};
use proto::httpsig::Coverage;
use proto::ids::ReceiptId;
use proto::prost::Message as _;
use proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::commands::accepts;
use crate::server::ServerState;
use crate::server::problem::{Problem, ProblemJson, internal, json};

/// Which ledger.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LedgerQuery {
    /// 1 unless stated.
    #[param(minimum = 1, maximum = 2147483647, default = 1)]
    #[serde(default = "first_ledger")]
    pub(crate) ledger: u32,
}

const fn first_ledger() -> u32 {
    1
}

/// A receipt. `envelope` is what was signed and logged; the rest says what is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptJson {
    /// The ledger.
    ledger_id: u32,
    /// Its command's seq; its leaf in the log is one less.
    seq: u64,
    /// BLAKE3 of the payload, hex.
    receipt_id: String,
    /// The previous receipt of the same subject, hex.
    prev: Option<String>,
    /// Exact bytes of the DSSE envelope, hex: the log's leaf.
    envelope: String,
    /// The command's id.
    command_id: String,
    /// The command's kind.
    kind: String,
    /// "ok" or the refusal's code.
    code: String,
    /// What it was about.
    subject_kind: String,
    /// And its id.
    subject_id: String,
    /// Ledger time, Unix microseconds.
    ledger_time_us: i64,
    /// The accepting clock was a simulated one.
    simulated: bool,
    /// The facts.
    #[schema(value_type = Object)]
    facts: Box<serde_json::value::RawValue>,
}

/// A receipt by its seq or by its id in hex, for the command's sender, whoever was told of it, operator and verifier.
/// The exact DSSE envelope, or JSON with `Accept: application/json`.
#[utoipa::path(
    get, path = "/v1/receipts/{receipt}",
    params(("receipt" = String, Path, description = "seq, or receipt id in hex", pattern = "^([0-9]{1,19}|[0-9a-f]{64})$"), LedgerQuery),
    responses(
        (status = 200, body = ReceiptJson),
        (status = 401, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn receipt(
    State(state): State<Arc<ServerState>>,
    Path(name): Path<String>,
    Query(query): Query<LedgerQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let signer = state.gate.check(&parts, Coverage::Read, None).await?;
    let missing = || Problem::new("UR401", "there is no such receipt, or it is not yours to see");
    let seq = if let Ok(receipt_id) = name.parse::<ReceiptId>() {
        receipts::seq_of_receipt(&state.reader, query.ledger, &receipt_id).await?.ok_or_else(missing)?
    } else {
        name.parse()
            .map_err(|_| Problem::new("UB103", "a receipt is named by its seq or by 64 hex digits"))?
    };
    let found = receipts::read_receipt(&state.reader, Some(signer.agent_id), query.ledger, seq).await?;
    let found = found.ok_or_else(missing)?;
    if accepts(&parts.headers, "application/json") {
        return Ok(json(StatusCode::OK, "application/json", &describe(query.ledger, &found)?));
    }
    let media_type = "application/vnd.openagents.econ.v1.Envelope+protobuf";
    Ok(([(CONTENT_TYPE, media_type)], found.envelope).into_response())
}

fn describe(ledger_id: u32, stored: &StoredReceipt) -> Result<ReceiptJson, Problem> {
    let envelope = v1::Envelope::decode(stored.envelope.as_slice());
    let receipt = envelope.and_then(|envelope| v1::Receipt::decode(envelope.payload.as_slice()));
    let receipt = receipt.map_err(|error| internal("reading a stored receipt", &error))?;
    Ok(ReceiptJson {
        ledger_id,
        seq: stored.seq,
        receipt_id: stored.receipt_id.to_string(),
        prev: stored.prev.map(|prev| prev.to_string()),
        envelope: hex::encode(&stored.envelope),
        command_id: uuid_text(&receipt.command_id),
        kind: receipt.kind,
        code: receipt.code,
        subject_kind: receipt.subject_kind,
        subject_id: uuid_text(&receipt.subject_id),
        ledger_time_us: receipt.ledger_time_us,
        simulated: receipt.simulated,
        facts: crate::server::problem::raw_json(&receipt.facts_json),
    })
}

fn uuid_text(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}
