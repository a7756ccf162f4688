//! Every reason to refuse a signed request.

use super::Component;
use crate::keys::KeyId;

/// Why a request or its stored signature is refused. One variant for one thing to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpSigError {
    /// A needed header is not there.
    #[error("the header {0} is missing")]
    MissingHeader(&'static str),
    /// A covered header is there twice.
    #[error("the header {0} is there more than once; send it once")]
    RepeatedHeader(&'static str),
    /// A header that cannot be read.
    #[error("the header {header} cannot be read: {why}")]
    MalformedHeader {
        /// The header.
        header: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The method is not in capitals, or not a method.
    #[error("{0:?} is not an HTTP method in capital letters")]
    MalformedMethod(String),
    /// The target URI is not absolute, or holds characters that a URI cannot hold.
    #[error("the target URI must be absolute and in visible ASCII, as in https://host/path?query")]
    MalformedTargetUri,
    /// The same label twice in Signature-Input or Signature.
    #[error("the label {0:?} is there more than once in Signature-Input or Signature")]
    DuplicateLabel(String),
    /// The same parameter twice.
    #[error("the signature parameter {0:?} is there more than once")]
    DuplicateParameter(String),
    /// No signature for this application.
    #[error("no signature has the parameter tag=\"econ\"")]
    UnknownTag,
    /// Several signatures for this application.
    #[error("more than one signature has the parameter tag=\"econ\"; sign once")]
    SeveralSignatures,
    /// A label without its counterpart.
    #[error("Signature-Input has the label {0:?}, but Signature has not")]
    SignatureMissing(String),
    /// The signature's shape is wrong.
    #[error("the signature is not a byte sequence of 64 bytes (:base64:)")]
    MalformedSignature,
    /// A needed parameter is not there.
    #[error("the signature parameter {0} is missing")]
    MissingParameter(&'static str),
    /// A parameter this application does not know.
    #[error("the signature parameter {0:?} is not known here; leave it out")]
    UnknownParameter(String),
    /// A parameter that cannot be right.
    #[error("the signature parameter {name} is wrong: {why}")]
    WrongParameter {
        /// The parameter.
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A component that this application does not cover, or one with parameters.
    #[error(
        "the signature covers {0}; cover only @method, @target-uri, content-type, content-digest and idempotency-key, \
         without component parameters"
    )]
    UnsupportedComponent(String),
    /// A component covered twice.
    #[error("the signature covers {0} more than once")]
    RepeatedComponent(Component),
    /// A component that this request must cover.
    #[error("the signature does not cover {0}, which this request must cover")]
    NotCovered(Component),
    /// A body that nobody signed.
    #[error("the request has a body, but its signature does not cover content-digest")]
    BodyNotCovered,
    /// The body is not the signed one.
    #[error("the body does not match the signed Content-Digest; digest the bytes exactly as they are sent")]
    DigestMismatch,
    /// Created too long ago.
    #[error("the signature was created {age_s} s ago, and at most {max_age_s} s are accepted; sign again")]
    Stale {
        /// Seconds since its creation.
        age_s: i64,
        /// Seconds accepted.
        max_age_s: i64,
    },
    /// Past its own end.
    #[error("the signature expired {ago_s} s ago; sign again")]
    Expired {
        /// Seconds since its end.
        ago_s: i64,
    },
    /// Created in the future.
    #[error("the signature was created {ahead_s} s in the future; set the sender's clock")]
    FromTheFuture {
        /// Seconds ahead of the verifier's clock.
        ahead_s: i64,
    },
    /// The caller offers another key than the one named.
    #[error("the signature names key {named}, but is checked with key {offered}")]
    OtherKey {
        /// The key named by `keyid`.
        named: KeyId,
        /// The key offered.
        offered: KeyId,
    },
    /// The signature is wrong.
    #[error(
        "the signature of key {0} does not verify over this request; the signed @target-uri may differ from the one sent"
    )]
    BadSignature(KeyId),
    /// Stored bytes that are not a signature base of this application.
    #[error("these bytes are not a signature base: {0}")]
    NotABase(&'static str),
}

impl HttpSigError {
    /// A short name of the variant, for a metric's label.
    pub fn slug(&self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "missing_header",
            Self::RepeatedHeader(_) => "repeated_header",
            Self::MalformedHeader { .. } => "malformed_header",
            Self::MalformedMethod(_) => "malformed_method",
            Self::MalformedTargetUri => "malformed_target_uri",
            Self::DuplicateLabel(_) => "duplicate_label",
            Self::DuplicateParameter(_) => "duplicate_parameter",
            Self::UnknownTag => "unknown_tag",
            Self::SeveralSignatures => "several_signatures",
            Self::SignatureMissing(_) => "signature_missing",
            Self::MalformedSignature => "malformed_signature",
            Self::MissingParameter(_) => "missing_parameter",
            Self::UnknownParameter(_) => "unknown_parameter",
            Self::WrongParameter { .. } => "wrong_parameter",
            Self::UnsupportedComponent(_) => "unsupported_component",
            Self::RepeatedComponent(_) => "repeated_component",
            Self::NotCovered(_) => "not_covered",
            Self::BodyNotCovered => "body_not_covered",
            Self::DigestMismatch => "digest_mismatch",
            Self::Stale { .. } => "stale",
            Self::Expired { .. } => "expired",
            Self::FromTheFuture { .. } => "from_the_future",
            Self::OtherKey { .. } => "other_key",
            Self::BadSignature(_) => "bad_signature",
            Self::NotABase(_) => "not_a_base",
        }
    }
}
