//! Who is asking: RFC 9421 signatures on requests, checked in one place for REST, GraphQL and WebSocket upgrades.
//!
//! What is unauthenticated writes no row: it is answered 401 and counted. What is authenticated here is judged once more
//! by `base.decide` when it changes state, so the short memory of keys below can only delay a refusal of reads.

mod authority;
mod keys;

use std::net::SocketAddr;

use axum::http::request::Parts;
use ledger::Reader;
use proto::httpsig::{self, Coverage, HttpSigError, ParsedSignature};
use proto::ids::{AgentId, KeyId};
use proto::keys::PublicKey;

pub use authority::Authority;
use keys::KeyCache;

use crate::server::problem::Problem;

/// Seconds that a sender's clock may differ from ours.
pub const SKEW_S_MAX: i64 = 60;
/// Seconds after its creation that a signature is accepted.
pub const AGE_S_MAX: i64 = 300;

/// The connection's own end, put into each request by the listener.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddr(pub SocketAddr);

/// An authenticated sender.
#[derive(Debug, Clone)]
pub struct Signer {
    /// Whose key it is.
    pub agent_id: AgentId,
    /// The key that signed.
    pub key: PublicKey,
    /// What the key is for; `None` while it registers itself.
    pub purpose: Option<String>,
    /// What was signed, with the exact bytes.
    pub signature: ParsedSignature,
}

/// Checks signatures against the registered keys.
#[derive(Debug)]
pub struct Gate {
    keys: KeyCache,
    authority: Authority,
}

impl Gate {
    /// Keys are looked up through `reader`; `authority` says under which names this server is reached.
    pub fn new(reader: Reader, authority: Authority) -> Self {
        Self { keys: KeyCache::new(reader), authority }
    }

    /// Authenticates a request's head. The body is checked by whoever reads it ([`Signer::check_body`]).
    ///
    /// `own_key`: the key that the request itself brings along, when it is a registration. Refuses UB102, UI201 to UI203
    /// and UI206 to UI210.
    pub async fn check(
        &self,
        parts: &Parts,
        coverage: Coverage,
        own_key: Option<PublicKey>,
    ) -> Result<Signer, Problem> {
        let checked = self.judge(parts, coverage, own_key).await;
        if let Err(Refusal { slug, problem }) = &checked
            && problem.status == 401
        {
            metrics::counter!("econ_unauthenticated_total", "reason" => *slug).increment(1);
        }
        checked.map_err(|refusal| refusal.problem)
    }

    /// [`Gate::check`] if the request carries a signature at all; without one the sender is nobody in particular.
    pub async fn check_if_signed(
        &self,
        parts: &Parts,
        coverage: Coverage,
    ) -> Result<Option<Signer>, Problem> {
        if !parts.headers.contains_key("signature-input") && !parts.headers.contains_key("signature") {
            return Ok(None);
        }
        self.check(parts, coverage, None).await.map(Some)
    }

    /// Whether a key that was valid still is. For connections that outlive a request.
    pub async fn still_valid(&self, key_id: KeyId) -> Result<bool, Problem> {
        Ok(self.keys.find(key_id).await?.is_some_and(|key| !key.revoked))
    }

    async fn judge(
        &self,
        parts: &Parts,
        coverage: Coverage,
        own_key: Option<PublicKey>,
    ) -> Result<Signer, Refusal> {
        if coverage == Coverage::Command && !parts.headers.contains_key("idempotency-key") {
            let detail = "every request that changes state needs the header Idempotency-Key";
            return Err(Refusal { slug: "idempotency_key", problem: Problem::new("UB102", detail) });
        }
        let target = self.authority.target_uri(parts, "http").map_err(Refusal::of_target)?;
        let mut parsed = parse(parts, &target, coverage)?;
        let now = ledger::clock::system_now_us() / 1_000_000;
        parsed.check_window(now, SKEW_S_MAX, AGE_S_MAX)?;

        let key_id = parsed.request.key_id;
        let registered = self.keys.find(key_id).await?;
        let key = match (&registered, own_key) {
            (Some(registered), _) => registered.public_key,
            (None, Some(own)) if own.id() == key_id => own,
            (None, _) => {
                return Err(Refusal::new("unknown_key", "UI202", "unknown key: register the agent first"));
            }
        };
        let mut verified = parsed.verify(&key);
        if verified == Err(HttpSigError::BadSignature(key_id)) && is_upgrade(parts) {
            // A client may have signed the ws:// form of the same URL.
            let target = self.authority.target_uri(parts, "ws").map_err(Refusal::of_target)?;
            parsed = parse(parts, &target, coverage)?;
            verified = parsed.verify(&key);
        }
        verified?;
        // After the signature: only the key's holder learns that it was revoked.
        if registered.as_ref().is_some_and(|key| key.revoked) {
            return Err(Refusal::new("revoked_key", "UI203", "the signing key was revoked"));
        }
        let agent_id = registered.as_ref().map_or_else(|| AgentId::of_first_key(&key), |key| key.agent_id);
        Ok(Signer { agent_id, key, purpose: registered.map(|key| key.purpose.clone()), signature: parsed })
    }
}

impl Signer {
    /// Whether `body` is the body that was signed. UI207, UI209.
    pub fn check_body(&self, body: &[u8]) -> Result<(), Problem> {
        self.signature.check_body(body).map_err(unauthenticated)
    }

    /// Whether a body that streamed by was the one that was signed. UI207, UI209.
    pub fn check_body_digest(&self, digest: Option<httpsig::BodyDigest>) -> Result<(), Problem> {
        self.signature.request.check_body_digest(digest).map_err(unauthenticated)
    }

    /// SHA-256 of the signed body; UI207 when none was signed.
    pub fn content_digest(&self) -> Result<[u8; 32], Problem> {
        let digest = self.signature.request.content_digest;
        let missing = || unauthenticated(HttpSigError::NotCovered(httpsig::Component::ContentDigest));
        digest.map(|digest| *digest.as_bytes()).ok_or_else(missing)
    }
}

fn parse(parts: &Parts, target: &str, coverage: Coverage) -> Result<ParsedSignature, HttpSigError> {
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    httpsig::parse(parts.method.as_str(), target, headers, coverage)
}

fn is_upgrade(parts: &Parts) -> bool {
    parts.headers.contains_key(axum::http::header::UPGRADE)
}

/// A refused signature and the name of its reason in metrics.
struct Refusal {
    slug: &'static str,
    problem: Problem,
}

impl Refusal {
    fn new(slug: &'static str, code: &'static str, detail: impl Into<String>) -> Self {
        Self { slug, problem: Problem::new(code, detail) }
    }

    fn of_target(detail: String) -> Self {
        Self::new("authority", "UI207", detail)
    }
}

impl From<HttpSigError> for Refusal {
    fn from(error: HttpSigError) -> Self {
        Self { slug: error.slug(), problem: problem(&error) }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { slug: "internal", problem }
    }
}

/// Counts and answers a refusal that was found after the head.
fn unauthenticated(error: HttpSigError) -> Problem {
    metrics::counter!("econ_unauthenticated_total", "reason" => error.slug()).increment(1);
    problem(&error)
}

fn problem(error: &HttpSigError) -> Problem {
    let code = match error {
        HttpSigError::MissingHeader("signature" | "signature-input")
        | HttpSigError::UnknownTag
        | HttpSigError::SignatureMissing(_) => "UI201",
        HttpSigError::MalformedHeader { header: "idempotency-key", .. } => "UB104",
        HttpSigError::NotCovered(_)
        | HttpSigError::BodyNotCovered
        | HttpSigError::UnsupportedComponent(_) => "UI207",
        HttpSigError::Stale { .. } | HttpSigError::Expired { .. } | HttpSigError::FromTheFuture { .. } => {
            "UI208"
        }
        HttpSigError::DigestMismatch => "UI209",
        HttpSigError::BadSignature(_) | HttpSigError::OtherKey { .. } => "UI210",
        _ => "UI206",
    };
    Problem::new(code, error.to_string())
}
