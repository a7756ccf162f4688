//! The client of the house's API: signs, sends, retries, and says what the answer was.
//!
//! Used by the agent, by `econ` as a buyer's tool, by the demo and by the benchmarks: whoever speaks to the
//! house speaks through here, over the same public API that a stranger has.
//!
//! **Retries.** A request is sent again, signed anew but with the same idempotency key and the same bytes,
//! while the house cannot be reached, is busy (503, or `Retry-After`), or still works on an earlier copy. The
//! stored answer of an earlier try then comes back with `replayed`. Everything else is an answer and is
//! returned, every logged refusal included.

mod error;
mod info;
mod socket;
mod url;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use proto::httpsig::{BodyDigest, RequestToSign, SignedHeaders, Validity, sign_request};
use proto::ids::{AgentId, ArtifactHash, CommandId, ReceiptId};
use proto::keys::KeyPair;
use proto::prost::Message;
use proto::v1::{CommandAnswer, CommandBody};
use reqwest::Method;

pub use error::{ClientError, Refusal};
pub use info::{AssetInfo, Info, LedgerInfo, Limits};
pub use socket::{AgentSocket, GraphqlEvent, GraphqlSocket};
use url::BaseUrl;

/// Content type of a command's body.
pub const COMMAND_CONTENT_TYPE: &str = "application/vnd.openagents.econ.v1.CommandBody+protobuf";
/// Content type of a command's answer.
pub const ANSWER_CONTENT_TYPE: &str = "application/vnd.openagents.econ.v1.CommandAnswer+protobuf";
/// Largest artifact, in bytes.
pub const ARTIFACT_BYTES_MAX: usize = 64 << 20;

/// How long one signature is good for, in seconds.
const SIGNATURE_LIFETIME_S: i64 = 60;
/// Largest answer that is not an artifact, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence while an answer is awaited or read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How often, and how patiently, a request is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries altogether; at least one is made.
    pub tries_max: u32,
    /// Pause before the second try; it doubles from try to try.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
}

impl Default for Retry {
    /// Seven tries over some three seconds: a restarting server is waited for, a dead one is reported soon.
    fn default() -> Self {
        Self { tries_max: 7, first_pause: Duration::from_millis(50), longest_pause: Duration::from_secs(1) }
    }
}

impl Retry {
    /// One try and no more.
    pub const fn never() -> Self {
        Self { tries_max: 1, first_pause: Duration::ZERO, longest_pause: Duration::ZERO }
    }

    /// The pause after try number `tried` (from 1): doubling, capped, and shortened by up to a half at random
    /// so that those who were cut off together do not come back together.
    pub(crate) fn pause_after(&self, tried: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << tried.saturating_sub(1).min(20));
        let pause = doubled.min(self.longest_pause);
        let noise = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos() % 1024;
        pause - pause * noise / 2048
    }
}

/// What the house answered to a command that it accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The ledger it ran on.
    pub ledger_id: u32,
    /// Its number there.
    pub seq: u64,
    /// Its id.
    pub command_id: CommandId,
    /// What happened, as the receipt states it.
    pub facts: serde_json::Value,
    /// Its receipt.
    pub receipt_id: ReceiptId,
    /// Whether this is the stored answer of an earlier, identical request.
    pub replayed: bool,
}

/// A connection pool to one house, speaking for one key or for nobody. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    base: Arc<BaseUrl>,
    key: Option<Arc<KeyPair>>,
    http: reqwest::Client,
    retry: Retry,
}

/// One request, ready to be signed as often as it takes.
struct Request<'a> {
    method: Method,
    /// Begins with a slash.
    path: &'a str,
    content_type: Option<&'a str>,
    accept: &'a str,
    body: Option<Bytes>,
    idempotency_key: Option<&'a str>,
    answer_bytes_max: usize,
}

impl Client {
    /// A client that signs as `key`. `base_url` is `http://host[:port]`; no proxy is used, whatever the
    /// environment says.
    ///
    /// # Errors
    /// [`ClientError::BadUrl`].
    pub fn new(base_url: &str, key: Arc<KeyPair>) -> Result<Self, ClientError> {
        Self::build(base_url, Some(key))
    }

    /// A client that signs nothing: it sees what anybody may see.
    ///
    /// # Errors
    /// [`ClientError::BadUrl`].
    pub fn anonymous(base_url: &str) -> Result<Self, ClientError> {
        Self::build(base_url, None)
    }

    fn build(base_url: &str, key: Option<Arc<KeyPair>>) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("econ/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|e| ClientError::Local(format!("cannot set up an HTTP client: {e}")))?;
        Ok(Self { base: Arc::new(BaseUrl::parse(base_url)?), key, http, retry: Retry::default() })
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The agent this client speaks for, if its key is that agent's first; None when anonymous.
    pub fn agent_id(&self) -> Option<AgentId> {
        self.key.as_ref().map(|key| AgentId::of_first_key(key.public()))
    }

    /// The key it signs with.
    pub fn key(&self) -> Option<&KeyPair> {
        self.key.as_deref()
    }

    /// `http://host:port`, as it is signed.
    pub fn base_url(&self) -> &str {
        self.base.as_str()
    }

    /// What the house says about itself: `GET /v1/info`.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Unintelligible`] when it is another kind of server.
    pub async fn info(&self) -> Result<Info, ClientError> {
        let request = Request { accept: "application/json", ..Request::get("/v1/info") };
        let answer = self.send(&request, None).await?;
        serde_json::from_slice(&answer)
            .map_err(|e| ClientError::Unintelligible(format!("/v1/info is not what it should be: {e}")))
    }

    /// Sends a command: `POST /v1/ledgers/{ledger_id}/commands`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the house's code, [`ClientError::Unreachable`] after the last try.
    pub async fn command(
        &self,
        ledger_id: u32,
        idempotency_key: &str,
        body: &CommandBody,
    ) -> Result<Answer, ClientError> {
        self.command_bytes(ledger_id, idempotency_key, body.encode_to_vec().into()).await
    }

    /// [`Client::command`] with the exact bytes of a `CommandBody`, as they wait in a spool.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub async fn command_bytes(
        &self,
        ledger_id: u32,
        idempotency_key: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let path = format!("/v1/ledgers/{ledger_id}/commands");
        let request = Request {
            content_type: Some(COMMAND_CONTENT_TYPE),
            accept: ANSWER_CONTENT_TYPE,
            idempotency_key: Some(idempotency_key),
            ..Request::with_body(Method::POST, &path, body)
        };
        let answer = self.send(&request, Some(self.signing_key()?)).await?;
        answer_of(&answer)
    }

    /// Sends a GraphQL request and returns its `data`; signed when there is a key. A mutation needs an
    /// idempotency key.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the first error's `extensions.code`; otherwise as [`Client::command`].
    pub async fn graphql(
        &self,
        query: &str,
        variables: serde_json::Value,
        idempotency_key: Option<&str>,
    ) -> Result<serde_json::Value, ClientError> {
        let body = serde_json::json!({ "query": query, "variables": variables }).to_string();
        let request = Request {
            content_type: Some("application/json"),
            accept: "application/json",
            idempotency_key,
            ..Request::with_body(Method::POST, "/graphql", body.into())
        };
        let mut tried = 0;
        loop {
            let answer = self.send(&request, self.key.as_deref()).await?;
            match error::graphql_data(&answer) {
                // The HTTP layer said 200, so `send` did not retry what GraphQL says inside.
                Err(ClientError::Refused(refusal)) if refusal.is_passing() => {
                    tried += 1;
                    if tried >= self.retry.tries_max {
                        return Err(ClientError::Refused(refusal));
                    }
                    tokio::time::sleep(self.retry.pause_after(tried)).await;
                }
                other => return other,
            }
        }
    }

    /// Stores an artifact: `PUT /v1/artifacts/{hash}`. Storing what is there already succeeds.
    ///
    /// # Errors
    /// [`ClientError::Local`] above [`ARTIFACT_BYTES_MAX`]; otherwise as [`Client::command`].
    pub async fn put_artifact(&self, bytes: impl Into<Bytes>) -> Result<ArtifactHash, ClientError> {
        let bytes = bytes.into();
        if bytes.len() > ARTIFACT_BYTES_MAX {
            let length = bytes.len();
            return Err(ClientError::Local(format!(
                "an artifact has at most {ARTIFACT_BYTES_MAX} bytes, this one has {length}"
            )));
        }
        let hash = ArtifactHash::of(&bytes);
        let path = format!("/v1/artifacts/{hash}");
        let request = Request {
            content_type: Some("application/octet-stream"),
            ..Request::with_body(Method::PUT, &path, bytes)
        };
        self.send(&request, Some(self.signing_key()?)).await?;
        Ok(hash)
    }

    /// Fetches an artifact and checks that it is the one: `GET /v1/artifacts/{hash}`.
    ///
    /// # Errors
    /// [`ClientError::WrongArtifact`] when other bytes came; otherwise as [`Client::command`].
    pub async fn get_artifact(&self, hash: ArtifactHash) -> Result<Bytes, ClientError> {
        let path = format!("/v1/artifacts/{hash}");
        let request = Request { answer_bytes_max: ARTIFACT_BYTES_MAX, ..Request::get(&path) };
        let answer = self.send(&request, Some(self.signing_key()?)).await?;
        let received = ArtifactHash::of(&answer);
        if received != hash {
            return Err(ClientError::WrongArtifact { asked: hash, received });
        }
        Ok(answer)
    }

    /// Erases an artifact that this agent stored: `DELETE /v1/artifacts/{hash}`.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub async fn delete_artifact(&self, hash: ArtifactHash) -> Result<(), ClientError> {
        let path = format!("/v1/artifacts/{hash}");
        let request = Request { method: Method::DELETE, ..Request::get(&path) };
        self.send(&request, Some(self.signing_key()?)).await.map(drop)
    }

    /// Fetches any other page as text, signed when there is a key: receipts, checkpoints, proofs.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub async fn get(&self, path_and_query: &str, accept: &str) -> Result<Bytes, ClientError> {
        let request = Request { accept, ..Request::get(path_and_query) };
        self.send(&request, self.key.as_deref()).await
    }

    fn signing_key(&self) -> Result<&KeyPair, ClientError> {
        self.key.as_deref().ok_or_else(|| ClientError::Local("this needs a key to sign with".to_owned()))
    }

    /// Sends until there is an answer or patience ends.
    async fn send(&self, request: &Request<'_>, key: Option<&KeyPair>) -> Result<Bytes, ClientError> {
        let mut tried = 0;
        loop {
            let error = match self.send_once(request, key).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            tried += 1;
            if !error.is_passing() || tried >= self.retry.tries_max {
                return Err(error);
            }
            let pause = error.retry_after().unwrap_or_else(|| self.retry.pause_after(tried));
            tracing::debug!(path = request.path, tried, ?pause, %error, "will try again");
            tokio::time::sleep(pause.min(self.retry.longest_pause)).await;
        }
    }

    async fn send_once(&self, request: &Request<'_>, key: Option<&KeyPair>) -> Result<Bytes, ClientError> {
        let target = self.base.join(request.path);
        let mut builder = self.http.request(request.method.clone(), &target).header("accept", request.accept);
        match key {
            Some(key) => {
                for (name, value) in signed(key, &target, request)?.headers() {
                    builder = builder.header(name, value);
                }
            }
            None => {
                if let Some(content_type) = request.content_type {
                    builder = builder.header("content-type", content_type);
                }
            }
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let mut response = builder.send().await.map_err(unreachable)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > request.answer_bytes_max {
                return Err(ClientError::Unintelligible(format!(
                    "{} answered with more than {} bytes",
                    request.path, request.answer_bytes_max
                )));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(body.freeze());
        }
        Err(error::refusal_of(status.as_u16(), retry_after, &body))
    }
}

impl<'a> Request<'a> {
    const fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            content_type: None,
            accept: "*/*",
            body: None,
            idempotency_key: None,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    fn with_body(method: Method, path: &'a str, body: Bytes) -> Self {
        Self { method, body: Some(body), ..Self::get(path) }
    }
}

/// The headers of `request`, signed now with a nonce of its own.
fn signed(key: &KeyPair, target: &str, request: &Request<'_>) -> Result<SignedHeaders, ClientError> {
    let to_sign = RequestToSign {
        method: request.method.as_str(),
        target_uri: target,
        content_type: request.content_type,
        body: request.body.as_deref().map(BodyDigest::of),
        idempotency_key: request.idempotency_key,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let validity = Validity::from_now(i64::try_from(now).unwrap_or(i64::MAX), SIGNATURE_LIFETIME_S)
        .ok_or_else(|| ClientError::Local("the system gives no randomness for a nonce".to_owned()))?;
    sign_request(key, &to_sign, &validity).map_err(|e| ClientError::Local(format!("cannot sign: {e}")))
}

fn unreachable(error: reqwest::Error) -> ClientError {
    // The error's own text stops at "error sending request"; the reason is further down.
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    ClientError::Unreachable(text)
}

fn answer_of(body: &[u8]) -> Result<Answer, ClientError> {
    let broken = |why: String| ClientError::Unintelligible(format!("not a command's answer: {why}"));
    let answer = CommandAnswer::decode(body).map_err(|e| broken(e.to_string()))?;
    let facts = if answer.facts_json.is_empty() {
        serde_json::Value::Null
    } else {
        serde_json::from_str(&answer.facts_json).map_err(|e| broken(e.to_string()))?
    };
    if answer.code != "ok" {
        return Err(broken(format!("status 200 with code {:?}", answer.code)));
    }
    Ok(Answer {
        ledger_id: answer.ledger_id,
        seq: answer.seq,
        command_id: CommandId::from_slice(&answer.command_id).map_err(|e| broken(e.to_string()))?,
        facts,
        receipt_id: ReceiptId::from_slice(&answer.receipt_id).map_err(|e| broken(e.to_string()))?,
        replayed: answer.replayed,
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
