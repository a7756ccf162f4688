//! The server's side: from a request's head to a signature that can be checked.

use sfv::{BareItem, Dictionary, Item, ListEntry, Parser};

use super::base::{build, components_of, serialize};
use super::{Component, HttpSigError, SignedRequest, TAG, read_base, scan};
use crate::keys::PublicKey;

/// What a signature must cover, by what the request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coverage {
    /// A request that changes state: all five components.
    Command,
    /// A PUT of content that its own hash names: all but `idempotency-key`.
    Upload,
    /// A request without body: `@method` and `@target-uri`.
    Read,
}

impl Coverage {
    /// The components that must be covered.
    pub const fn required(self) -> &'static [Component] {
        match self {
            Self::Command => &Component::ALL,
            Self::Upload => {
                &[Component::Method, Component::TargetUri, Component::ContentType, Component::ContentDigest]
            }
            Self::Read => &[Component::Method, Component::TargetUri],
        }
    }
}

/// A well-formed signature of this application that nobody has verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "parsing verifies nothing: call check_window, verify and check_body"]
pub struct ParsedSignature {
    /// What was signed.
    pub request: SignedRequest,
    /// The exact bytes that were signed; store them.
    pub base: Vec<u8>,
    /// 64 bytes; store them too.
    pub signature: [u8; 64],
}

impl ParsedSignature {
    /// Verifies the signature. `key` must be the key that `keyid` names, and the caller must have judged that it may
    /// sign this.
    pub fn verify(&self, key: &PublicKey) -> Result<(), HttpSigError> {
        let (named, offered) = (self.request.key_id, key.id());
        if named != offered {
            return Err(HttpSigError::OtherKey { named, offered });
        }
        super::verify_stored(&self.base, &self.signature, key)
    }

    /// Checks the signature's age against the verifier's clock, in Unix seconds. `max_skew_s` forgives a sender whose
    /// clock goes ahead, and is added to both ends; a nonce must be remembered for `max_age_s + 2·max_skew_s`.
    pub fn check_window(&self, now: i64, max_skew_s: i64, max_age_s: i64) -> Result<(), HttpSigError> {
        let SignedRequest { created, expires, .. } = self.request;
        let age_s = now.saturating_sub(created);
        if age_s < max_skew_s.saturating_neg() {
            return Err(HttpSigError::FromTheFuture { ahead_s: age_s.saturating_neg() });
        }
        let ago_s = now.saturating_sub(expires);
        if ago_s > max_skew_s {
            return Err(HttpSigError::Expired { ago_s });
        }
        if age_s > max_age_s.saturating_add(max_skew_s) {
            return Err(HttpSigError::Stale { age_s, max_age_s });
        }
        Ok(())
    }

    /// See [`SignedRequest::check_body`].
    pub fn check_body(&self, body: &[u8]) -> Result<(), HttpSigError> {
        self.request.check_body(body)
    }
}

/// Reads the signature with `tag="econ"` out of a request's head and rebuilds the base it signs.
///
/// `method` in capitals, `target_uri` absolute ([`super::target_uri`] writes it), `headers` as name and value in any
/// case and order, repeated lines kept apart. Verifies nothing yet.
pub fn parse<'h>(
    method: &str,
    target_uri: &str,
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    coverage: Coverage,
) -> Result<ParsedSignature, HttpSigError> {
    let headers = Headers::collect(headers)?;
    let inputs = headers.combined(SIGNATURE_INPUT).ok_or(HttpSigError::MissingHeader(SIGNATURE_INPUT))?;
    let signatures = headers.combined(SIGNATURE).ok_or(HttpSigError::MissingHeader(SIGNATURE))?;
    scan::refuse_duplicates(SIGNATURE_INPUT, &inputs)?;
    scan::refuse_duplicates(SIGNATURE, &signatures)?;
    let inputs = dictionary(SIGNATURE_INPUT, &inputs)?;
    let signatures = dictionary(SIGNATURE, &signatures)?;

    let mut ours = inputs.iter().filter_map(|(label, entry)| match entry {
        ListEntry::InnerList(inner) => {
            let tagged =
                matches!(inner.params.get("tag"), Some(BareItem::String(tag)) if tag.as_str() == TAG);
            tagged.then_some((label, inner))
        }
        ListEntry::Item(_) => None,
    });
    let (label, inner) = ours.next().ok_or(HttpSigError::UnknownTag)?;
    if ours.next().is_some() {
        return Err(HttpSigError::SeveralSignatures);
    }
    let signature = match signatures.get(label.as_str()) {
        None => return Err(HttpSigError::SignatureMissing(label.as_str().to_owned())),
        Some(ListEntry::Item(Item { bare_item: BareItem::ByteSequence(bytes), params }))
            if params.is_empty() =>
        {
            bytes.as_slice().try_into().map_err(|_| HttpSigError::MalformedSignature)?
        }
        Some(_) => return Err(HttpSigError::MalformedSignature),
    };

    let components = components_of(inner)?;
    for component in coverage.required() {
        if !components.contains(component) {
            return Err(HttpSigError::NotCovered(*component));
        }
    }
    // Checked before they enter the base: a newline in a value would forge a line of it.
    for (value, refusal) in [
        (method, HttpSigError::MalformedMethod(method.chars().take(32).collect())),
        (target_uri, HttpSigError::MalformedTargetUri),
    ] {
        if !value.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refusal);
        }
    }
    let value_of = |component| match component {
        Component::Method => Ok(method),
        Component::TargetUri => Ok(target_uri),
        Component::ContentType | Component::ContentDigest | Component::IdempotencyKey => {
            headers.single(component.name())
        }
    };
    let base = build(&components, value_of, &serialize(inner)?)?;
    // One reader for requests and for stored bases: what is accepted today can be read in ten years.
    let request = read_base(&base)?;
    Ok(ParsedSignature { request, base, signature })
}

const SIGNATURE_INPUT: &str = "signature-input";
const SIGNATURE: &str = "signature";
const VALUE_BYTES_MAX: usize = 4096;

fn dictionary(header: &'static str, value: &str) -> Result<Dictionary, HttpSigError> {
    Parser::new(value)
        .parse()
        .map_err(|error| HttpSigError::MalformedHeader { header, why: error.to_string() })
}

/// The headers that matter here: name as in [`NAMES`], value trimmed.
struct Headers<'h>(Vec<(&'static str, &'h str)>);

const NAMES: [&str; 5] = [SIGNATURE_INPUT, SIGNATURE, "content-type", "content-digest", "idempotency-key"];

impl<'h> Headers<'h> {
    fn collect(headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> Result<Self, HttpSigError> {
        let mut kept = Vec::with_capacity(NAMES.len());
        for (name, value) in headers {
            let Some(name) = NAMES.into_iter().find(|kept| name.eq_ignore_ascii_case(kept)) else { continue };
            let text = std::str::from_utf8(value)
                .ok()
                .filter(|text| text.bytes().all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t'))
                .ok_or_else(|| HttpSigError::MalformedHeader {
                    header: name,
                    why: "it holds something other than printable ASCII".into(),
                })?;
            // Bounds the work done for a stranger: far longer than any honest value.
            if text.len() > VALUE_BYTES_MAX {
                let why = format!("it is longer than {VALUE_BYTES_MAX} bytes");
                return Err(HttpSigError::MalformedHeader { header: name, why });
            }
            kept.push((name, text.trim_matches([' ', '\t'])));
        }
        Ok(Self(kept))
    }

    /// All lines of a dictionary header as one, as RFC 9651 says.
    fn combined(&self, name: &'static str) -> Option<String> {
        let lines: Vec<_> = self.0.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// A header that must be there exactly once.
    fn single(&self, name: &'static str) -> Result<&'h str, HttpSigError> {
        let mut lines = self.0.iter().filter(|(n, _)| *n == name);
        match (lines.next(), lines.next()) {
            (None, _) => Err(HttpSigError::MissingHeader(name)),
            (Some((_, value)), None) => Ok(value),
            (Some(_), Some(_)) => Err(HttpSigError::RepeatedHeader(name)),
        }
    }
}
