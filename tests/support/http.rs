//! Requests as they should be, and as they should not: every part of a signed request can be set on its own.
//!
//! The signature is made here from RFC 9421's text and not with `proto::httpsig`, which refuses to sign what no server would
//! take. So whatever the server accepts from here, two writings of the standard agree on.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use proto::httpsig::{BodyDigest, fresh_nonce};
use proto::keys::KeyPair;
use proto::prost::Message as _;
use proto::v1::{self, command_body::Kind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Where commands go over REST.
pub const COMMANDS: &str = "/v1/ledgers/1/commands";

/// What a command's signature covers.
pub const COMMAND: [&str; 5] =
    ["@method", "@target-uri", "content-type", "content-digest", "idempotency-key"];

/// The media type of a command over REST.
pub const COMMAND_TYPE: &str = "application/vnd.openagents.econ.v1.CommandBody+protobuf";

/// A command over REST.
pub fn command(signer: &'static str, idempotency_key: impl Into<String>, kind: Kind) -> Craft {
    let body = v1::CommandBody { kind: Some(kind) }.encode_to_vec();
    Craft::new(signer, "POST", COMMANDS).body(COMMAND_TYPE, body).command(idempotency_key)
}

/// A command over GraphQL.
pub fn mutation(
    signer: &'static str,
    idempotency_key: impl Into<String>,
    query: &str,
    variables: Value,
) -> Craft {
    Craft::new(signer, "POST", "/graphql")
        .body("application/json", graphql(query, variables))
        .command(idempotency_key)
}

/// A request to be signed and sent. Everything is as it should be until a test says otherwise.
#[derive(Clone)]
pub struct Craft {
    /// Whose key signs.
    pub signer: &'static str,
    /// Whose key the signature says it is of.
    pub key_id: String,
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// What is signed as the method; `None`: the method.
    pub signed_method: Option<&'static str>,
    /// What is signed as the target; `None`: the URL that is asked for.
    pub signed_target: Option<String>,
    pub content_type: Option<String>,
    /// What is sent instead of the signed Content-Type.
    pub sent_content_type: Option<String>,
    pub body: Option<Vec<u8>>,
    /// What is sent instead of the signed body.
    pub sent_body: Option<Vec<u8>>,
    pub idempotency_key: Option<String>,
    pub components: Vec<&'static str>,
    pub created: i64,
    pub expires: i64,
    pub nonce: String,
    pub tag: &'static str,
    /// More signature parameters, as in `;alg="rsa"`.
    pub more_params: &'static str,
    /// Headers that are left out after signing.
    pub left_out: Vec<&'static str>,
    /// Headers that nobody signed.
    pub more_headers: Vec<(&'static str, String)>,
    /// One bit of the signature is turned.
    pub spoiled: bool,
}

impl Craft {
    /// A request by the party of this name ([`super::party::Party::new`]) that covers what a read must.
    pub fn new(signer: &'static str, method: &'static str, path: impl Into<String>) -> Self {
        let now = now_s();
        Self {
            signer,
            key_id: key_of(signer).id().to_string(),
            method,
            path: path.into(),
            signed_method: None,
            signed_target: None,
            content_type: None,
            sent_content_type: None,
            body: None,
            sent_body: None,
            idempotency_key: None,
            components: COMMAND[..2].to_vec(),
            created: now,
            expires: now + 60,
            nonce: fresh_nonce().unwrap(),
            tag: "econ",
            more_params: "",
            left_out: Vec::new(),
            more_headers: Vec::new(),
            spoiled: false,
        }
    }

    /// With a signed body.
    pub fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.content_type = Some(content_type.to_owned());
        self.body = Some(body);
        self.components = COMMAND[..4].to_vec();
        self
    }

    /// As a command.
    pub fn command(mut self, idempotency_key: impl Into<String>) -> Self {
        self.idempotency_key = Some(idempotency_key.into());
        self.components = COMMAND.to_vec();
        self
    }

    /// The same request signed once more: another nonce, nothing else.
    pub fn anew(&self) -> Self {
        Self { nonce: fresh_nonce().unwrap(), ..self.clone() }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.more_headers.push((name, value.into()));
        self
    }

    /// Unsigned, whatever else it has.
    pub fn unsigned(mut self) -> Self {
        self.left_out.extend(["signature", "signature-input"]);
        self
    }

    /// All headers, signed for `base_url`.
    pub fn headers(&self, base_url: &str) -> Vec<(&'static str, String)> {
        let target = self.signed_target.clone().unwrap_or_else(|| format!("{base_url}{}", self.path));
        let digest = self.body.as_deref().map(|body| BodyDigest::of(body).header_value());
        let quoted = self.idempotency_key.as_ref().map(|key| format!("\"{key}\""));
        let names: Vec<String> = self.components.iter().map(|name| format!("\"{name}\"")).collect();
        let params = format!(
            "({});created={};expires={};nonce=\"{}\";keyid=\"{}\";tag=\"{}\"{}",
            names.join(" "),
            self.created,
            self.expires,
            self.nonce,
            self.key_id,
            self.tag,
            self.more_params
        );
        let mut base = String::new();
        for component in &self.components {
            let value = match *component {
                "@method" => self.signed_method.unwrap_or(self.method),
                "@target-uri" => &target,
                "content-type" => self.content_type.as_deref().unwrap_or_default(),
                "content-digest" => digest.as_deref().unwrap_or_default(),
                "idempotency-key" => quoted.as_deref().unwrap_or_default(),
                _ => "x",
            };
            base.push_str(&format!("\"{component}\": {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {params}"));
        let mut signature = SigningKey::from_bytes(&seed_of(self.signer)).sign(base.as_bytes()).to_bytes();
        if self.spoiled {
            signature[7] ^= 1;
        }
        let content_type = self.sent_content_type.clone().or_else(|| self.content_type.clone());
        let mut headers: Vec<(&'static str, String)> = [
            ("content-type", content_type),
            ("content-digest", digest),
            ("idempotency-key", quoted),
            ("signature-input", Some(format!("econ={params}"))),
            ("signature", Some(format!("econ=:{}:", BASE64.encode(signature)))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .filter(|(name, _)| !self.left_out.contains(name))
        .collect();
        headers.extend(self.more_headers.iter().cloned());
        headers
    }

    pub async fn send(&self, base_url: &str) -> Reply {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{base_url}{}", self.path);
        let mut request = http.request(self.method.parse().unwrap(), url);
        for (name, value) in self.headers(base_url) {
            request = request.header(name, value);
        }
        if let Some(body) = self.sent_body.clone().or_else(|| self.body.clone()) {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Reply { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    /// The head as it travels, `more` lines included, for requests that no HTTP client would send.
    pub fn head(&self, address: SocketAddr, more: &str) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {address}\r\n{more}", self.method, self.path);
        for (name, value) in self.headers(&format!("http://{address}")) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.status, self.text()))
    }

    pub fn content_type(&self) -> &str {
        self.headers.get("content-type").map_or("", |value| value.to_str().unwrap())
    }

    /// The problem in one form, whether REST or GraphQL said it. Insists on a code and a hint.
    pub fn problem(&self) -> Problem {
        let whole = self.json();
        let graphql = &whole["errors"][0];
        let (fields, detail) = match graphql {
            Value::Null => (&whole, &whole["detail"]),
            error => (&error["extensions"], &error["message"]),
        };
        if graphql.is_null() {
            assert_eq!(self.content_type(), "application/problem+json", "{whole}");
            assert_eq!(whole["status"], self.status, "{whole}");
        } else {
            assert!(whole["data"].is_null(), "an error beside data: {whole}");
        }
        for (name, value) in [("hint", &fields["hint"]), ("detail", detail)] {
            assert!(value.as_str().is_some_and(|text| !text.is_empty()), "no {name}: {whole}");
        }
        let of = |rest: &str, graphql: &str| match &fields[rest] {
            Value::Null => fields[graphql].clone(),
            found => found.clone(),
        };
        Problem {
            code: fields["code"].as_str().unwrap_or_else(|| panic!("no code: {whole}")).to_owned(),
            status: u16::try_from(fields["status"].as_u64().unwrap()).unwrap(),
            detail: detail.as_str().unwrap().to_owned(),
            seq: fields["seq"].as_u64(),
            receipt_id: of("receipt_id", "receiptId").as_str().map(str::to_owned),
            replayed: fields["replayed"].as_bool(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: String,
    pub status: u16,
    pub detail: String,
    pub seq: Option<u64>,
    pub receipt_id: Option<String>,
    pub replayed: Option<bool>,
}

/// A GraphQL request's body.
pub fn graphql(query: &str, variables: Value) -> Vec<u8> {
    json!({ "query": query, "variables": variables }).to_string().into_bytes()
}

pub fn now_s() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn seed_of(party: &str) -> [u8; 32] {
    *blake3::hash(party.as_bytes()).as_bytes()
}

pub fn key_of(party: &str) -> KeyPair {
    KeyPair::from_seed(&seed_of(party))
}

/// Sends bytes, says that no more will come, and returns whatever is answered until the other end closes.
pub async fn exchange(address: SocketAddr, parts: &[&[u8]]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    for part in parts {
        stream.write_all(part).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    read_reply(stream).await
}

/// Sends the head only, and returns the head of the answer: an upgraded connection would never end.
pub async fn head_of_answer(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        let read = stream.read(&mut chunk).await.unwrap();
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..read]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split("\r\n\r\n").next().unwrap().to_owned()
}

/// A whole answer of a connection that is closed behind it.
pub async fn read_reply(mut stream: TcpStream) -> Reply {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&answer)));
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = reqwest::header::HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name: reqwest::header::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    Reply { status, headers, body: answer[end + 4..].to_vec() }
}
