//! Errors as they leave the server: RFC 9457 problem details, each with a code of docs/ERRORS.md and a hint.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ledger::pipeline::Answer;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Names the problem's code to middleware, which counts it; taken off before the response leaves.
#[derive(Debug, Clone)]
pub(crate) struct CodeOf(pub(crate) Cow<'static, str>);

/// One refusal or failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The code, as listed in docs/ERRORS.md.
    pub code: Cow<'static, str>,
    /// What happened.
    pub detail: String,
    /// Where the command that was judged is kept.
    pub refusal: Option<Box<Refusal>>,
}

/// A command's place in the log: refused, or done with something left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// seq of the command that keeps it.
    pub seq: u64,
    /// Its receipt, hex.
    pub receipt_id: String,
    /// The stored answer of an earlier, identical request.
    pub replayed: bool,
}

/// A problem as it is sent: RFC 9457 with a code and a hint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemJson<'p> {
    /// `urn:openagents:econ:error:` and the code.
    #[serde(rename = "type")]
    type_uri: String,
    /// The HTTP status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened.
    detail: &'p str,
    /// The code, as listed in docs/ERRORS.md.
    code: &'p str,
    /// What to do.
    hint: &'static str,
    /// Refused commands: seq of the command that keeps the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Refused commands: the refusal's receipt, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_id: Option<&'p str>,
    /// Refused commands: true when this is the stored answer of an earlier, identical request.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
}

impl Problem {
    /// A problem of a code; the status follows from the code's kind.
    pub fn new(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let code = code.into();
        Self::with_status(ledger::error::http_status(&code), code, detail)
    }

    /// A problem of the transport, where HTTP has a status of its own (405, 413, 415 …).
    pub fn with_status(status: u16, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { status, code: code.into(), detail: detail.into(), refusal: None }
    }

    /// A command that was judged and refused: it has its receipt.
    pub fn refused(answer: &Answer) -> Self {
        let mut problem = Self::new(answer.code.clone(), answer.message());
        problem.refusal = Some(Box::new(Refusal {
            seq: answer.seq,
            receipt_id: answer.receipt_id.to_string(),
            replayed: answer.replayed,
        }));
        problem
    }

    /// What failed after this command was done: it has its receipt all the same.
    pub(crate) fn after(mut self, answer: &Answer) -> Self {
        self.refusal = Self::refused(answer).refusal;
        self
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        hint(&self.code)
    }

    /// The same request may be sent again as it is.
    pub fn may_retry(&self) -> bool {
        self.status == 503 || self.code == "UB501"
    }

    fn document(&self) -> ProblemJson<'_> {
        let refusal = self.refusal.as_deref();
        ProblemJson {
            type_uri: format!("urn:openagents:econ:error:{}", self.code),
            title: title(self.status),
            status: self.status,
            detail: &self.detail,
            code: &self.code,
            hint: self.hint(),
            seq: refusal.map(|refusal| refusal.seq),
            receipt_id: refusal.map(|refusal| refusal.receipt_id.as_str()),
            replayed: refusal.map(|refusal| refusal.replayed),
        }
    }
}

impl From<ledger::Error> for Problem {
    fn from(error: ledger::Error) -> Self {
        Self::new(error.code, error.message)
    }
}

impl From<tokio::task::JoinError> for Problem {
    fn from(error: tokio::task::JoinError) -> Self {
        internal("a background task", &error)
    }
}

/// Our own fault: logged in full, told in general.
pub(crate) fn internal(what: &str, error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "{what} failed");
    Problem::new("UB900", "an internal error; nothing was changed and the operator has been alarmed")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, MEDIA_TYPE, &self.document());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.may_retry() || self.status == 429 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == 401 {
            // RFC 9110 wants a challenge with every 401; this names the scheme and where its terms are.
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Signature realm=\"econ\", alg=\"ed25519\", tag=\"econ\""),
            );
            headers.insert(
                HeaderName::from_static("accept-signature"),
                HeaderValue::from_static(
                    "econ=(\"@method\" \"@target-uri\" \"content-type\" \"content-digest\" \"idempotency-key\")\
                     ;created;expires;nonce;keyid;tag=\"econ\"",
                ),
            );
        }
        response.extensions_mut().insert(CodeOf(self.code));
        response
    }
}

/// A JSON response of a media type.
pub(crate) fn json<T: Serialize>(status: StatusCode, media_type: &'static str, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, media_type)], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "a response could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// JSON text from the database, passed on as it is where it is JSON.
pub(crate) fn raw_json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn title(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error")
}

/// What to do about a code: its own advice where there is one, else what its kind always means.
pub fn hint(code: &str) -> &'static str {
    match code {
        "UB102" => "Send an Idempotency-Key header, new for each new request and the same for each retry.",
        "UB105" => "Make the id now: a UUIDv7 within 24 hours of ledger time (GET /v1/info tells it).",
        "UB106" => "Send the media type that the message names.",
        "UB107" => "Send less at once.",
        "UB108" => "Correct the GraphQL document; GET /graphql helps to write one.",
        "UB402" | "UB112" => "Look up the path and its methods in /openapi.json.",
        "UB501" => "Send the very same request again: the answer is stored under its Idempotency-Key.",
        "UB601" => "Keep an Idempotency-Key for retries of one request; a new request needs a new key.",
        "UI201" => {
            "Sign the request as RFC 9421 says, with tag=\"econ\"; docs/SECURITY.md shows one from a shell."
        }
        "UI202" => "Register the agent first: the registration is signed by the key it registers.",
        "UI203" => "Sign with another key; a revoked one stays revoked.",
        "UI205" => "Sign again with a fresh nonce; the Idempotency-Key may stay.",
        "UI207" => {
            "Cover every component that the message names, and sign the URL under which this server is reached."
        }
        "UI208" => "Set the clock, sign again and send at once.",
        "UI209" => "Digest the exact bytes that are sent: Content-Digest: sha-256=:base64:.",
        "UB905" => {
            "Look at the disk, then restart econ: it goes on where it stopped. Nobody is served the bytes."
        }
        "UM410" => "Whoever still has the bytes, and needs them here, may upload them again.",
        "UM702" => "Deposit first, or ask for less.",
        _ => match code.as_bytes().get(2) {
            Some(b'1') => "Correct the request and send it as a new one.",
            Some(b'2') => "Sign the request with a registered, valid key.",
            Some(b'3') => "This key may not do that; use one whose purpose permits it.",
            Some(b'4') => "Check the id and the ledger.",
            Some(b'5') => "Something else is there under this name; read it before asking again.",
            Some(b'6') => "Read the present state; this step is not possible from it.",
            Some(b'7') => "Ask for less, or later.",
            Some(b'8') => "Send the very same request again in a moment.",
            _ => "Nothing was changed. The operator has been alarmed; the same request may be sent again.",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_from_the_code_and_every_problem_has_a_hint() {
        for (code, status) in [
            ("UB103", 400),
            ("UI202", 401),
            ("UI301", 403),
            ("UR401", 404),
            ("UB501", 409),
            ("UM602", 422),
            ("UM701", 429),
            ("UB801", 503),
            ("UB900", 500),
        ] {
            let problem = Problem::new(code, "x");
            assert_eq!((problem.status, problem.code.as_ref()), (status, code));
            assert!(!problem.hint().is_empty() && problem.document().type_uri.ends_with(code));
        }
    }

    #[test]
    fn a_401_carries_a_challenge_and_a_503_says_when_to_come_back() {
        let unsigned = Problem::new("UI201", "x").into_response();
        assert!(unsigned.headers().contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(unsigned.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        let away = Problem::new("UB801", "x").into_response();
        assert!(away.headers().contains_key(header::RETRY_AFTER));
        assert!(Problem::new("UB501", "x").may_retry() && !Problem::new("UM501", "x").may_retry());
    }

    #[test]
    fn a_refusal_names_its_receipt() {
        let answer = Answer {
            ledger_id: 1,
            seq: 7,
            command_id: uuid::Uuid::nil(),
            code: "UM602".into(),
            facts: r#"{"error":{"code":"UM602","message":"the offer expired"}}"#.into(),
            subject_kind: "offer".into(),
            subject_id: uuid::Uuid::nil(),
            receipt_id: proto::ids::ReceiptId::from_bytes([1; 32]),
            at_us: 0,
            replayed: true,
        };
        let json = serde_json::to_value(Problem::refused(&answer).document()).unwrap();
        assert_eq!(json["status"], 422);
        assert_eq!(json["detail"], "the offer expired");
        assert_eq!(json["seq"], 7);
        assert_eq!(json["replayed"], true);
        assert_eq!(json["receipt_id"], "01".repeat(32));
    }
}
