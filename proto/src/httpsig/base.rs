//! The signature base: the text that is signed, and what it says when read back.

use std::fmt;
use std::str::FromStr;

use sfv::{BareItem, Dictionary, InnerList, Item, List, ListEntry, ListSerializer, Parser};

use super::{BodyDigest, HttpSigError, TAG};
use crate::keys::KeyId;

/// What a signature may cover.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Component {
    /// `@method`
    Method,
    /// `@target-uri`
    TargetUri,
    /// `content-type`
    ContentType,
    /// `content-digest`
    ContentDigest,
    /// `idempotency-key`
    IdempotencyKey,
}

impl Component {
    /// All of them, in the order in which [`super::sign_request`] covers them.
    pub const ALL: [Self; 5] =
        [Self::Method, Self::TargetUri, Self::ContentType, Self::ContentDigest, Self::IdempotencyKey];

    /// The component's name in Signature-Input; of a header, the header's name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Method => "@method",
            Self::TargetUri => "@target-uri",
            Self::ContentType => "content-type",
            Self::ContentDigest => "content-digest",
            Self::IdempotencyKey => "idempotency-key",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Component {
    type Err = HttpSigError;
    fn from_str(name: &str) -> Result<Self, HttpSigError> {
        Self::ALL
            .into_iter()
            .find(|component| component.name() == name)
            .ok_or_else(|| HttpSigError::UnsupportedComponent(name.chars().take(80).collect()))
    }
}

/// What a signature base says: the request, as far as it is covered, and the signature's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// Covered components in the order of the base.
    pub components: Vec<Component>,
    /// In capitals.
    pub method: String,
    /// Absolute, as the sender wrote it.
    pub target_uri: String,
    /// If covered.
    pub content_type: Option<String>,
    /// If covered.
    pub content_digest: Option<BodyDigest>,
    /// If covered: the key itself, without the quotes of its structured-field form.
    pub idempotency_key: Option<String>,
    /// The key that signed.
    pub key_id: KeyId,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds.
    pub expires: i64,
    /// 16 to 128 visible ASCII characters.
    pub nonce: String,
}

impl SignedRequest {
    /// Whether `body` is the body that was signed: `DigestMismatch` if it is another, `BodyNotCovered` if there is
    /// one that nobody signed.
    pub fn check_body(&self, body: &[u8]) -> Result<(), HttpSigError> {
        self.check_body_digest((!body.is_empty()).then(|| BodyDigest::of(body)))
    }

    /// [`SignedRequest::check_body`] for a body that streamed by; `None` says that it was empty.
    pub fn check_body_digest(&self, digest: Option<BodyDigest>) -> Result<(), HttpSigError> {
        match (self.content_digest, digest) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(HttpSigError::BodyNotCovered),
            (Some(signed), found) if signed == found.unwrap_or_else(|| BodyDigest::of(b"")) => Ok(()),
            (Some(_), _) => Err(HttpSigError::DigestMismatch),
        }
    }
}

/// Builds the base of RFC 9421, section 2.5. Values must hold no newline; [`read_base`] checks all the rest.
pub(super) fn build<'a>(
    components: &[Component],
    value_of: impl Fn(Component) -> Result<&'a str, HttpSigError>,
    signature_params: &str,
) -> Result<Vec<u8>, HttpSigError> {
    let mut base = String::new();
    for component in components {
        let value = value_of(*component)?;
        base.push_str(&format!("\"{component}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {signature_params}"));
    Ok(base.into_bytes())
}

/// Writes an inner list with its parameters, as in Signature-Input and in the base's last line.
pub(super) fn serialize(inner: &InnerList) -> Result<String, HttpSigError> {
    let mut serializer = ListSerializer::new();
    serializer.members([&ListEntry::InnerList(inner.clone())]);
    serializer.finish().ok_or(HttpSigError::NotABase("its parameters are empty"))
}

/// The components that an inner list names: known ones, without parameters, each once.
pub(super) fn components_of(inner: &InnerList) -> Result<Vec<Component>, HttpSigError> {
    let mut components = Vec::with_capacity(inner.items.len());
    for item in &inner.items {
        let Item { bare_item: BareItem::String(name), params } = item else {
            return Err(HttpSigError::UnsupportedComponent("something that is not a string".into()));
        };
        if !params.is_empty() {
            return Err(HttpSigError::UnsupportedComponent(format!("{} with parameters", name.as_str())));
        }
        let component = name.as_str().parse()?;
        if components.contains(&component) {
            return Err(HttpSigError::RepeatedComponent(component));
        }
        components.push(component);
    }
    Ok(components)
}

/// Reads a signature base of this application: what was signed. Strict, so that a base has one reading: every
/// component is known and there once, in the order of the last line, which is in canonical form.
pub fn read_base(base: &[u8]) -> Result<SignedRequest, HttpSigError> {
    let text = std::str::from_utf8(base).map_err(|_| HttpSigError::NotABase("it is not ASCII"))?;
    let (lines, params) =
        text.rsplit_once('\n').ok_or(HttpSigError::NotABase("it has fewer than two lines"))?;
    let params = params
        .strip_prefix("\"@signature-params\": ")
        .ok_or(HttpSigError::NotABase("its last line is not \"@signature-params\""))?;
    let inner = read_params(params)?;
    let components = components_of(&inner)?;

    let mut values: [Option<&str>; 5] = [None; 5];
    let mut named = Vec::with_capacity(components.len());
    for line in lines.split('\n') {
        let (name, value) = line
            .strip_prefix('"')
            .and_then(|line| line.split_once("\": "))
            .ok_or(HttpSigError::NotABase("a line is not \"component\": value"))?;
        let component: Component = name.parse()?;
        values[component as usize] = Some(value);
        named.push(component);
    }
    if named != components {
        return Err(HttpSigError::NotABase("its lines are not the components that its last line names"));
    }
    let value = |component: Component| values[component as usize];
    let required = |component| value(component).ok_or(HttpSigError::NotCovered(component));

    let parameters = &inner.params;
    let integer = |name: &'static str| match parameters.get(name) {
        None => Err(HttpSigError::MissingParameter(name)),
        Some(BareItem::Integer(value)) if i64::from(*value) >= 0 => Ok(i64::from(*value)),
        Some(_) => {
            Err(HttpSigError::WrongParameter { name, why: "it must be a whole number of Unix seconds" })
        }
    };
    let string = |name: &'static str| match parameters.get(name) {
        None => Err(HttpSigError::MissingParameter(name)),
        Some(BareItem::String(value)) => Ok(value.as_str()),
        Some(_) => Err(HttpSigError::WrongParameter { name, why: "it must be a string in double quotes" }),
    };
    for name in parameters.keys() {
        if !["created", "expires", "nonce", "keyid", "alg", "tag"].contains(&name.as_str()) {
            return Err(HttpSigError::UnknownParameter(name.as_str().to_owned()));
        }
    }
    if string("tag")? != TAG {
        return Err(HttpSigError::UnknownTag);
    }
    if parameters.contains_key("alg") && string("alg")? != "ed25519" {
        return Err(HttpSigError::WrongParameter { name: "alg", why: "only \"ed25519\" is accepted" });
    }
    let (created, expires) = (integer("created")?, integer("expires")?);
    if expires < created {
        return Err(HttpSigError::WrongParameter { name: "expires", why: "it lies before created" });
    }
    let nonce = string("nonce")?;
    if !(16..=128).contains(&nonce.len()) || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(HttpSigError::WrongParameter {
            name: "nonce",
            why: "it must have 16 to 128 visible characters, new for each request",
        });
    }
    let key_id = string("keyid")?.parse().map_err(|_| HttpSigError::WrongParameter {
        name: "keyid",
        why: "it must be BLAKE3 of the public key as 64 lowercase hex digits",
    })?;

    Ok(SignedRequest {
        method: read_method(required(Component::Method)?)?,
        target_uri: read_target_uri(required(Component::TargetUri)?)?,
        content_type: value(Component::ContentType).map(read_content_type).transpose()?,
        content_digest: value(Component::ContentDigest).map(read_content_digest).transpose()?,
        idempotency_key: value(Component::IdempotencyKey).map(read_idempotency_key).transpose()?,
        components,
        key_id,
        created,
        expires,
        nonce: nonce.to_owned(),
    })
}

/// Parses the value of the base's last line and insists on its canonical form.
fn read_params(params: &str) -> Result<InnerList, HttpSigError> {
    let malformed = HttpSigError::NotABase("its last line is not a list of components with parameters");
    let mut members = Parser::new(params).parse::<List>().map_err(|_| malformed.clone())?;
    let (Some(ListEntry::InnerList(inner)), true) = (members.pop(), members.is_empty()) else {
        return Err(malformed);
    };
    if serialize(&inner)? != params {
        return Err(HttpSigError::NotABase("its last line is not in canonical form"));
    }
    Ok(inner)
}

fn read_method(value: &str) -> Result<String, HttpSigError> {
    if value.is_empty() || value.len() > 32 || !value.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(HttpSigError::MalformedMethod(value.chars().take(32).collect()));
    }
    Ok(value.to_owned())
}

fn read_target_uri(value: &str) -> Result<String, HttpSigError> {
    let visible = value.bytes().all(|b| b.is_ascii_graphic());
    let absolute = ["http://", "https://", "ws://", "wss://"].iter().any(|scheme| {
        value.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
    });
    // A fragment is never sent, so a signed one could not be the target of any request.
    if !visible || !absolute || value.contains('#') {
        return Err(HttpSigError::MalformedTargetUri);
    }
    Ok(value.to_owned())
}

fn malformed(header: &'static str, why: impl Into<String>) -> HttpSigError {
    HttpSigError::MalformedHeader { header, why: why.into() }
}

fn read_content_type(value: &str) -> Result<String, HttpSigError> {
    let printable = value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if value.is_empty() || !printable || value.trim() != value {
        return Err(malformed("content-type", "it must be printable ASCII, and not empty"));
    }
    Ok(value.to_owned())
}

/// Exactly one digest, `sha-256`: with several, two readers could check different ones.
fn read_content_digest(value: &str) -> Result<BodyDigest, HttpSigError> {
    const HEADER: &str = "content-digest";
    super::scan::refuse_duplicates(HEADER, value)?;
    let digests: Dictionary = Parser::new(value).parse().map_err(|e| malformed(HEADER, e.to_string()))?;
    if let (Some(ListEntry::Item(item)), 1) = (digests.get("sha-256"), digests.len())
        && let Item { bare_item: BareItem::ByteSequence(bytes), params } = item
        && params.is_empty()
        && let Ok(sha256) = bytes.as_slice().try_into()
    {
        return Ok(BodyDigest::from_sha256(sha256));
    }
    Err(malformed(HEADER, "it must be exactly one digest, as in sha-256=:base64 of 32 bytes:"))
}

/// A structured-field string (`"abc"`, as the draft says) or the same without quotes (`abc`, as most clients send).
fn read_idempotency_key(value: &str) -> Result<String, HttpSigError> {
    const HEADER: &str = "idempotency-key";
    let key = if value.starts_with('"') {
        let item: Item = Parser::new(value).parse().map_err(|e| malformed(HEADER, e.to_string()))?;
        match item {
            Item { bare_item: BareItem::String(key), params } if params.is_empty() => key.as_str().to_owned(),
            _ => return Err(malformed(HEADER, "it must be one string without parameters")),
        }
    } else {
        value.to_owned()
    };
    let unquoted = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    if !(1..=255).contains(&key.len()) || !key.bytes().all(unquoted) {
        return Err(malformed(
            HEADER,
            "it must have 1 to 255 visible characters, without quotes and backslashes",
        ));
    }
    Ok(key)
}
