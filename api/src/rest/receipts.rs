//! GET /v1/receipts/{receipt}: a stored receipt, exact bytes or JSON; GET /v1/ledgers/{ledger_id}/receipts: many, by what they
//! are about.

use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use ledger::receipts::{self, ReceiptFilter, ReceiptOrder, StoredReceipt};
use proto::httpsig::Coverage;
use proto::ids::{AgentId, CommandId, JournalId, ReceiptId};
use proto::prost::Message as _;
use proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::commands::accepts;
use crate::graphql::{PAGE_DEFAULT, PAGE_MAX};
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

pub(super) const fn first_ledger() -> u32 {
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

/// Which receipts, and which page of them; what is left out does not matter.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReceiptsQuery {
    /// About this: an agent, RFQ, order, payout …
    #[param(value_type = Option<String>, format = "uuid")]
    subject: Option<uuid::Uuid>,
    /// Of this agent's commands.
    #[param(value_type = Option<String>, format = "uuid")]
    actor: Option<uuid::Uuid>,
    /// Of commands of this kind, such as accept_offer.
    kind: Option<String>,
    /// "ok", or the code of a refusal.
    code: Option<String>,
    /// Not earlier than this: ledger time, Unix microseconds.
    since: Option<i64>,
    /// Earlier than this.
    until: Option<i64>,
    /// Of commands that posted transfers of this business event.
    #[param(value_type = Option<String>, format = "uuid")]
    journal: Option<uuid::Uuid>,
    /// Of this command.
    #[param(value_type = Option<String>, format = "uuid")]
    command: Option<uuid::Uuid>,
    /// newest (first, the default) or oldest.
    #[param(inline)]
    #[serde(default)]
    order: Order,
    /// `next` of the page before.
    after: Option<u64>,
    /// 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 20)]
    first: Option<u32>,
}

/// In which order of the log.
#[derive(Debug, Default, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// By falling seq.
    #[default]
    Newest,
    /// By rising seq.
    Oldest,
}

/// A page of receipts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptsJson {
    /// In the order that was asked for. May be fewer than asked for, even none, although there is a next page: a page looks
    /// at a bounded part of the log.
    receipts: Vec<ReceiptJson>,
    /// Goes into `after`; null: that was all.
    next: Option<u64>,
}

/// The receipts that the signed agent may see: of its own commands, and those it was told of; operators and verifiers see all.
#[utoipa::path(
    get, path = "/v1/ledgers/{ledger_id}/receipts",
    params(("ledger_id" = u32, Path, description = "The ledger", minimum = 1, maximum = 2147483647), ReceiptsQuery),
    responses(
        (status = 200, body = ReceiptsJson),
        (status = 401, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn receipts(
    State(state): State<Arc<ServerState>>,
    Path(ledger_id): Path<u32>,
    Query(query): Query<ReceiptsQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let signer = state.gate.check(&parts, Coverage::Read, None).await?;
    let first = match query.first.unwrap_or(PAGE_DEFAULT) {
        rows @ 1..=PAGE_MAX => rows,
        _ => return Err(Problem::new("UB103", format!("a page has 1 to {PAGE_MAX} rows"))),
    };
    let filter = ReceiptFilter {
        subject_id: query.subject,
        sender_id: query.actor.map(AgentId::from_uuid),
        kind: query.kind,
        code: query.code,
        since_us: query.since,
        until_us: query.until,
        journal_id: query.journal.map(JournalId::from_uuid),
        command_id: query.command.map(CommandId::from_uuid),
    };
    let order = match query.order {
        Order::Newest => ReceiptOrder::NewestFirst,
        Order::Oldest => ReceiptOrder::OldestFirst,
    };
    let actor = Some(signer.agent_id);
    let page =
        receipts::read_receipts(&state.reader, actor, ledger_id, &filter, order, query.after, first).await?;
    let described = page.receipts.iter().map(|stored| describe(ledger_id, stored));
    let body = ReceiptsJson { receipts: described.collect::<Result<_, _>>()?, next: page.next };
    Ok(json(StatusCode::OK, "application/json", &body))
}
