//! The client's side.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use rand::TryRng as _;
use sfv::{InnerList, Integer, Item, Key, Parameters, String as SfString};

use super::base::{build, serialize};
use super::{BodyDigest, Component, HttpSigError, LABEL, TAG, read_base};
use crate::keys::KeyPair;

/// A request to be signed. Whatever is `Some` is covered by the signature.
#[derive(Clone, Copy, Debug)]
pub struct RequestToSign<'a> {
    /// In capitals.
    pub method: &'a str,
    /// Absolute, as the server will write it: see [`super::target_uri`].
    pub target_uri: &'a str,
    /// The value of Content-Type, exactly as it will be sent.
    pub content_type: Option<&'a str>,
    /// The digest of the body, if there is one.
    pub body: Option<BodyDigest>,
    /// The key itself, without quotes.
    pub idempotency_key: Option<&'a str>,
}

/// From when to when a signature is good, and what makes it unlike any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds.
    pub expires: i64,
    /// 16 to 128 visible ASCII characters, never used before with this key.
    pub nonce: String,
}

impl Validity {
    /// Good from `now` (Unix seconds) for `lifetime_s`, with a fresh random nonce. `None` if the system gives no
    /// randomness.
    pub fn from_now(now: i64, lifetime_s: i64) -> Option<Self> {
        Some(Self { created: now, expires: now.saturating_add(lifetime_s), nonce: fresh_nonce()? })
    }
}

/// 128 random bits as 22 characters; `None` if the system gives no randomness.
pub fn fresh_nonce() -> Option<String> {
    let mut bytes = [0; 16];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// What to send with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaders {
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
    /// `Content-Digest`, if there is a body.
    pub content_digest: Option<String>,
    /// `Idempotency-Key` in its structured-field form, if there is one.
    pub idempotency_key: Option<String>,
    /// `Content-Type` as it was signed, if there is one.
    pub content_type: Option<String>,
    /// The bytes that were signed; for a client that keeps a record.
    pub signature_base: Vec<u8>,
}

impl SignedHeaders {
    /// Name (in lower case) and value of every header to set.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("content-type", self.content_type.as_deref()),
            ("content-digest", self.content_digest.as_deref()),
            ("idempotency-key", self.idempotency_key.as_deref()),
            ("signature-input", Some(self.signature_input.as_str())),
            ("signature", Some(self.signature.as_str())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Signs a request. Refuses what no server would accept (a relative target, a short nonce …) with the error that the
/// server would give.
pub fn sign_request(
    key: &KeyPair,
    request: &RequestToSign<'_>,
    validity: &Validity,
) -> Result<SignedHeaders, HttpSigError> {
    let content_digest = request.body.map(|body| body.header_value());
    let idempotency_key = request.idempotency_key.map(|key| format!("\"{key}\""));
    let value_of = |component| match component {
        Component::Method => Some(request.method),
        Component::TargetUri => Some(request.target_uri),
        Component::ContentType => request.content_type,
        Component::ContentDigest => content_digest.as_deref(),
        Component::IdempotencyKey => idempotency_key.as_deref(),
    };
    let components: Vec<_> =
        Component::ALL.into_iter().filter(|component| value_of(*component).is_some()).collect();
    let params = serialize(&signature_params(&components, key, validity)?)?;
    let base = build(
        &components,
        |component| value_of(component).ok_or(HttpSigError::NotCovered(component)),
        &params,
    )?;
    let read = read_base(&base)?;
    // A value with a newline in it could read back as another request.
    if read.components != components || read.method != request.method || read.target_uri != request.target_uri
    {
        return Err(HttpSigError::NotABase("a value of the request holds a newline"));
    }
    let signature = BASE64.encode(key.sign(&base));
    Ok(SignedHeaders {
        signature_input: format!("{LABEL}={params}"),
        signature: format!("{LABEL}=:{signature}:"),
        content_digest,
        idempotency_key,
        content_type: request.content_type.map(str::to_owned),
        signature_base: base,
    })
}

fn signature_params(
    components: &[Component],
    key: &KeyPair,
    validity: &Validity,
) -> Result<InnerList, HttpSigError> {
    let string = |name, value: String| {
        SfString::from_string(value)
            .map_err(|_| HttpSigError::WrongParameter { name, why: "it must be printable ASCII" })
    };
    let integer = |name, value: i64| {
        Integer::try_from(value)
            .map_err(|_| HttpSigError::WrongParameter { name, why: "it must have at most 15 digits" })
    };
    let mut items = Vec::with_capacity(components.len());
    for component in components {
        items.push(Item::new(string("component", component.name().to_owned())?));
    }
    let mut params = Parameters::new();
    let key_of = |name: &'static str| {
        Key::from_string(name.to_owned())
            .map_err(|_| HttpSigError::WrongParameter { name, why: "it is no parameter name" })
    };
    params.insert(key_of("created")?, integer("created", validity.created)?.into());
    params.insert(key_of("expires")?, integer("expires", validity.expires)?.into());
    params.insert(key_of("nonce")?, string("nonce", validity.nonce.clone())?.into());
    params.insert(key_of("keyid")?, string("keyid", key.id().to_string())?.into());
    params.insert(key_of("tag")?, string("tag", TAG.to_owned())?.into());
    Ok(InnerList::with_params(items, params))
}
