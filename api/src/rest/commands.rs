//! POST /v1/ledgers/{ledger_id}/commands: one signed CommandBody in, its answer out.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use ledger::pipeline::{Answer, Submission};
use proto::httpsig::Coverage;
use proto::keys::PublicKey;
use proto::prost::Message as _;
use proto::v1::command_body::Kind;
use proto::v1::{CommandAnswer, CommandBody};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::auth::Signer;
use crate::erasure;
use crate::server::ServerState;
use crate::server::body::read_body;
use crate::server::metrics::record_answer;
use crate::server::problem::{Problem, ProblemJson, json, raw_json};

/// The media type of a command.
pub const COMMAND_TYPE: &str = "application/vnd.openagents.econ.v1.CommandBody+protobuf";
/// The media type of its answer.
pub const ANSWER_TYPE: &str = "application/vnd.openagents.econ.v1.CommandAnswer+protobuf";
/// Largest command, bytes: 8,190 transfers and a thousand metering rows fit.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The answer as JSON; message CommandAnswer otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnswerJson {
    /// The ledger that decided.
    ledger_id: u32,
    /// Gapless per ledger.
    seq: u64,
    /// The command's id.
    command_id: String,
    /// "ok".
    code: String,
    /// The facts, as the receipt states them.
    #[schema(value_type = Object)]
    facts: Box<RawValue>,
    /// The receipt's id, hex.
    receipt_id: String,
    /// The stored answer of an earlier, identical request.
    replayed: bool,
}

/// Decides one command. The body is the exact CommandBody; the request is signed and carries an Idempotency-Key.
#[utoipa::path(
    post, path = "/v1/ledgers/{ledger_id}/commands",
    params(
        ("ledger_id" = u32, Path, description = "The ledger that decides", minimum = 1, maximum = 2147483647),
        ("Idempotency-Key" = String, Header, description = "New for each request, the same for each retry"),
        ("Content-Digest" = String, Header, description = "sha-256=:base64:"),
        ("Signature-Input" = String, Header, description = "RFC 9421, tag \"econ\""),
        ("Signature" = String, Header, description = "RFC 9421"),
    ),
    request_body(content = Vec<u8>, content_type = "application/vnd.openagents.econ.v1.CommandBody+protobuf"),
    responses(
        (status = 200, description = "Done. CommandAnswer, or JSON with Accept: application/json", body = AnswerJson),
        (status = 400, body = ProblemJson, content_type = "application/problem+json"),
        (status = 401, body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
        (status = 409, body = ProblemJson, content_type = "application/problem+json"),
        (status = 413, body = ProblemJson, content_type = "application/problem+json"),
        (status = 415, body = ProblemJson, content_type = "application/problem+json"),
        (status = 422, body = ProblemJson, content_type = "application/problem+json"),
        (status = 429, body = ProblemJson, content_type = "application/problem+json"),
        (status = 500, description = "UB905: done and in the log, but not all files of what is erased could be removed", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn command(
    State(state): State<Arc<ServerState>>,
    Path(ledger_id): Path<u32>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let content_type = content_type(&parts.headers);
    if content_type != COMMAND_TYPE {
        let detail = format!("a command's Content-Type is {COMMAND_TYPE}");
        return Err(Problem::with_status(415, "UB106", detail));
    }
    let bytes = read_body(&parts, body, BODY_BYTES_MAX).await?;
    let decoded = CommandBody::decode(bytes.clone());
    let own_key = decoded.as_ref().ok().and_then(own_key);
    let signer = state.gate.check(&parts, Coverage::Command, own_key).await?;
    signer.check_body(&bytes)?;
    // Judged after the signature: a stranger's garbage is unauthenticated first of all.
    let command =
        decoded.map_err(|error| Problem::new("UB103", format!("the body is not a CommandBody: {error}")))?;
    let erased = match &command.kind {
        Some(Kind::EraseSubject(erase)) => erasure::hashes_of(erase),
        _ => Vec::new(),
    };
    let submission = submission(&parts, signer, ledger_id, command, bytes, None)?;
    let answer = submit(&state, submission).await?;
    if answer.is_ok() && !erased.is_empty() {
        // Not left half done when the asker goes away.
        let carried_out = tokio::spawn(async move {
            let now_us = state.pipeline.now_us();
            erasure::carry_out(&state.store, &state.reader, ledger_id, &erased, now_us).await
        });
        let carried_out = carried_out.await.unwrap_or_else(|panicked| Err(panicked.into()));
        carried_out.map_err(|problem| erasure::unfinished(problem).after(&answer))?;
    }
    Ok(respond(&parts.headers, &answer))
}

/// The key that a registration brings along.
pub(crate) fn own_key(body: &CommandBody) -> Option<PublicKey> {
    match body.kind.as_ref()? {
        Kind::RegisterAgent(register) => PublicKey::from_slice(&register.key.as_ref()?.public_key).ok(),
        _ => None,
    }
}

/// The pipeline's form of an authenticated request. `signed_body`: where it is not the CommandBody itself.
pub(crate) fn submission(
    parts: &Parts,
    signer: Signer,
    ledger_id: u32,
    body: CommandBody,
    body_bytes: Bytes,
    signed_body: Option<Bytes>,
) -> Result<Submission, Problem> {
    let content_digest = signer.content_digest()?;
    let request = signer.signature.request;
    let missing =
        || Problem::new("UB102", "every request that changes state needs the header Idempotency-Key");
    Ok(Submission {
        ledger_id,
        actor: signer.agent_id,
        key: signer.key,
        idempotency_key: request.idempotency_key.ok_or_else(missing)?,
        nonce: Some(request.nonce),
        method_target: (
            parts.method.as_str().to_owned(),
            parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        ),
        content_type: request.content_type.unwrap_or_default(),
        content_digest,
        body,
        body_bytes,
        signed_body,
        signature_base: signer.signature.base,
        signature: signer.signature.signature,
    })
}

/// Decides it, and takes the time.
pub(crate) async fn submit(state: &ServerState, submission: Submission) -> Result<Answer, Problem> {
    let kind = kind_name(&submission.body);
    let started = std::time::Instant::now();
    let answered = state.pipeline.submit(submission).await;
    record_answer(kind, started.elapsed());
    Ok(answered?)
}

fn respond(headers: &HeaderMap, answer: &Answer) -> Response {
    if !answer.is_ok() {
        return Problem::refused(answer).into_response();
    }
    if accepts(headers, "application/json") {
        let body = AnswerJson {
            ledger_id: answer.ledger_id,
            seq: answer.seq,
            command_id: answer.command_id.to_string(),
            code: answer.code.clone(),
            facts: raw_json(&answer.facts),
            receipt_id: answer.receipt_id.to_string(),
            replayed: answer.replayed,
        };
        return json(StatusCode::OK, "application/json", &body);
    }
    let body = CommandAnswer {
        ledger_id: answer.ledger_id,
        seq: answer.seq,
        command_id: answer.command_id.as_bytes().to_vec(),
        code: answer.code.clone(),
        facts_json: answer.facts.clone(),
        receipt_id: answer.receipt_id.into(),
        replayed: answer.replayed,
    };
    ([(CONTENT_TYPE, ANSWER_TYPE)], body.encode_to_vec()).into_response()
}

pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map_or("", str::trim)
}

/// Whether the client names this media type itself; `*/*` does not.
pub(crate) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case(media_type))
}

/// A command's kind, for metrics.
pub(crate) fn kind_name(body: &CommandBody) -> &'static str {
    match &body.kind {
        None => "none",
        Some(Kind::Genesis(_)) => "genesis",
        Some(Kind::RegisterAgent(_)) => "register_agent",
        Some(Kind::RevokeKey(_)) => "revoke_key",
        Some(Kind::Deposit(_)) => "deposit",
        Some(Kind::PublishCapability(_)) => "publish_capability",
        Some(Kind::RecordPresence(_)) => "record_presence",
        Some(Kind::OpenRfq(_)) => "open_rfq",
        Some(Kind::CancelRfq(_)) => "cancel_rfq",
        Some(Kind::SubmitOffer(_)) => "submit_offer",
        Some(Kind::AcceptOffer(_)) => "accept_offer",
        Some(Kind::StartAttempt(_)) => "start_attempt",
        Some(Kind::RecordMetering(_)) => "record_metering",
        Some(Kind::ReportOutput(_)) => "report_output",
        Some(Kind::FailAttempt(_)) => "fail_attempt",
        Some(Kind::AcceptOutput(_)) => "accept_output",
        Some(Kind::RejectOutput(_)) => "reject_output",
        Some(Kind::ResolveDispute(_)) => "resolve_dispute",
        Some(Kind::SettleOrder(_)) => "settle_order",
        Some(Kind::ExpireRfq(_)) => "expire_rfq",
        Some(Kind::ExpireOrder(_)) => "expire_order",
        Some(Kind::ReservePayout(_)) => "reserve_payout",
        Some(Kind::ConfirmPayout(_)) => "confirm_payout",
        Some(Kind::FailPayout(_)) => "fail_payout",
        Some(Kind::PostTransfers(_)) => "post_transfers",
        Some(Kind::Exchange(_)) => "exchange",
        Some(Kind::ClosePeriod(_)) => "close_period",
        Some(Kind::SendAcross(_)) => "send_across",
        Some(Kind::ReceiveAcross(_)) => "receive_across",
        Some(Kind::EraseSubject(_)) => "erase_subject",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_media_type_counts_as_accepted() {
        let mut headers = HeaderMap::new();
        assert!(!accepts(&headers, "application/json"));
        headers.append(ACCEPT, "*/*".parse().unwrap());
        assert!(!accepts(&headers, "application/json"));
        headers.append(ACCEPT, "text/html, Application/JSON;q=0.5".parse().unwrap());
        assert!(accepts(&headers, "application/json"));
    }
}
