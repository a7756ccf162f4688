//! What can go wrong between a client and the house, and how the house's own words for it are read.

use std::time::Duration;

use proto::ids::{ArtifactHash, ReceiptId};
use serde::Deserialize;

/// The code for "an earlier copy of this request is still being worked on".
const STILL_IN_FLIGHT: &str = "UB501";

/// An answer that is not yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A code of docs/ERRORS.md.
    pub code: String,
    /// HTTP status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
    /// The number of the refused command, if it was logged.
    pub seq: Option<u64>,
    /// Its receipt, if it was logged.
    pub receipt_id: Option<ReceiptId>,
    /// Whether this is the stored answer of an earlier, identical request.
    pub replayed: bool,
    /// When the house asks to be tried again.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Whether the same request may succeed later: the house was busy, not unwilling.
    ///
    /// A refusal with a number was logged, and is the stored answer under its key from then on: asking again
    /// can only repeat it, whatever its status suggests.
    pub fn is_passing(&self) -> bool {
        let busy = self.status == 503 || self.code == STILL_IN_FLIGHT || self.retry_after.is_some();
        busy && self.seq.is_none()
    }
}

/// Why there is no good answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The house said no.
    #[error("{}: {}", .0.code, .0.detail)]
    Refused(Refusal),
    /// No answer came, not after the last try either. The request may have been carried out: send it again
    /// under the same idempotency key to find out.
    #[error("the house cannot be reached: {0}")]
    Unreachable(String),
    /// Something answered, but not as the house does.
    #[error("unintelligible answer: {0}")]
    Unintelligible(String),
    /// Other bytes came than were asked for.
    #[error("asked for artifact {asked}, but bytes with the hash {received} came")]
    WrongArtifact {
        /// Its hash.
        asked: ArtifactHash,
        /// The hash of what came.
        received: ArtifactHash,
    },
    /// Not an address this client can use.
    #[error("{url:?} is no usable address: {why}")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The request could not be made here; nothing was sent.
    #[error("{0}")]
    Local(String),
}

impl ClientError {
    /// Whether the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_passing(),
            Self::Unreachable(_) => true,
            _ => false,
        }
    }

    /// The house's code, if it said no.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }

    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

/// RFC 9457 problem details, with the house's extensions.
#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    seq: Option<u64>,
    receipt_id: Option<ReceiptId>,
    #[serde(default)]
    replayed: bool,
}

/// Reads an answer whose status is not one of success.
pub(super) fn refusal_of(status: u16, retry_after: Option<Duration>, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => ClientError::Refused(Refusal {
            code: problem.code,
            status,
            detail: if problem.detail.is_empty() { problem.title } else { problem.detail },
            seq: problem.seq,
            receipt_id: problem.receipt_id,
            replayed: problem.replayed,
            retry_after,
        }),
        // Said by whatever stands before the house while the house is away.
        Err(_) if matches!(status, 502..=504) => ClientError::Unreachable(format!("status {status}")),
        // A GraphQL request that was turned away before it was read: its errors are all there is.
        Err(_) if let Err(refused @ ClientError::Refused(_)) = graphql_data(body) => refused,
        Err(_) => {
            let said: String = String::from_utf8_lossy(body).chars().take(200).collect();
            ClientError::Unintelligible(format!("status {status} without a problem report: {said:?}"))
        }
    }
}

#[derive(Deserialize)]
struct GraphqlAnswer {
    #[serde(default)]
    data: serde_json::Value,
    #[serde(default)]
    errors: Vec<GraphqlError>,
}

#[derive(Deserialize)]
struct GraphqlError {
    message: String,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Extensions {
    code: Option<String>,
    status: Option<u16>,
    seq: Option<u64>,
    receipt_id: Option<ReceiptId>,
    replayed: bool,
    hint: Option<String>,
}

/// The `data` of a GraphQL answer, or its first error.
pub(super) fn graphql_data(body: &[u8]) -> Result<serde_json::Value, ClientError> {
    let answer: GraphqlAnswer = serde_json::from_slice(body)
        .map_err(|e| ClientError::Unintelligible(format!("not a GraphQL answer: {e}")))?;
    match answer.errors.into_iter().next() {
        Some(error) => Err(graphql_refusal(error)),
        None => Ok(answer.data),
    }
}

/// The first of a GraphQL socket's `error` payload.
pub(super) fn graphql_errors(payload: serde_json::Value) -> ClientError {
    match serde_json::from_value::<Vec<GraphqlError>>(payload) {
        Ok(errors) if !errors.is_empty() => {
            errors.into_iter().next().map_or_else(|| no_reason("error"), graphql_refusal)
        }
        _ => no_reason("error"),
    }
}

fn no_reason(what: &str) -> ClientError {
    ClientError::Unintelligible(format!("a GraphQL {what} without a reason"))
}

fn graphql_refusal(error: GraphqlError) -> ClientError {
    let Extensions { code, status, seq, receipt_id, replayed, hint } = error.extensions;
    let Some(code) = code else {
        // A request that GraphQL itself rejects: our own mistake, not a decision of the house.
        return ClientError::Unintelligible(format!("GraphQL: {}", error.message));
    };
    let detail = match hint {
        Some(hint) if !error.message.contains(&hint) => format!("{} ({hint})", error.message),
        _ => error.message,
    };
    let status = status.unwrap_or(500);
    ClientError::Refused(Refusal { code, status, detail, seq, receipt_id, replayed, retry_after: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graphql_request_that_was_turned_away_names_its_code() {
        let body = br#"{"data":null,"errors":[{"message":"unknown key","extensions":{"code":"UI202","status":401}}]}"#;
        let refused = refusal_of(401, None, body);
        assert_eq!(refused.code(), Some("UI202"));
        assert!(!refused.is_passing());
        assert!(matches!(refusal_of(401, None, b"<html>"), ClientError::Unintelligible(_)));
        assert!(refusal_of(503, None, b"<html>").is_passing());
    }
}
