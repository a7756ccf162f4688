//! Signed HTTP requests: RFC 9421 message signatures with Ed25519, RFC 9530 Content-Digest. No framework, no I/O.
//!
//! # What a signature covers
//!
//! | [`Coverage`] | for | must cover |
//! |---|---|---|
//! | `Command` | POST of a command or a GraphQL mutation | `@method` `@target-uri` `content-type` `content-digest` `idempotency-key` |
//! | `Upload` | PUT of an artifact, which is idempotent by its hash | `@method` `@target-uri` `content-type` `content-digest` |
//! | `Read` | GET, HEAD, and DELETE without a body | `@method` `@target-uri` |
//!
//! A request may cover others of these five, in any order, and nothing else: every covered component is one that this
//! module checks and that an auditor can read back. Parameters: `created`, `expires`, `nonce`, `keyid` (hex of the
//! [`KeyId`](crate::keys::KeyId)) and `tag="econ"` are needed, `alg="ed25519"` may be there, others may not.
//!
//! # How a server checks a request
//!
//! [`parse`], then [`ParsedSignature::check_window`], then look up the key named by the signature and
//! [`ParsedSignature::verify`], then, when the body has come, [`ParsedSignature::check_body`]: all four, each can
//! refuse. A command's idempotency key is taken from the parsed signature, never from the header again.
//!
//! # How an auditor checks it years later
//!
//! [`verify_stored`] over the stored base and signature, then [`read_base`] says which request was signed, and
//! [`SignedRequest::check_body`] that the stored body is the one.

mod base;
mod error;
mod parse;
mod scan;
mod sign;
#[cfg(test)]
mod tests;

pub use base::{Component, SignedRequest, read_base};
pub use error::HttpSigError;
pub use parse::{Coverage, ParsedSignature, parse};
pub use sign::{RequestToSign, SignedHeaders, Validity, fresh_nonce, sign_request};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::keys::PublicKey;

/// The `tag` parameter: signatures of other applications in the same request are passed over.
pub const TAG: &str = "econ";
/// The label under which [`sign_request`] puts its signature. A verifier goes by the tag, not by the label.
pub const LABEL: &str = "econ";

/// SHA-256 of a body, as in `Content-Digest: sha-256=:…:`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// The digest of a body at hand.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// A digest that was computed while the body streamed by.
    pub const fn from_sha256(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// The 32 bytes of SHA-256.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The value of the `Content-Digest` header.
    pub fn header_value(&self) -> String {
        format!("sha-256=:{}:", BASE64.encode(self.0))
    }
}

/// Verifies a stored signature base with a stored signature.
pub fn verify_stored(base: &[u8], signature: &[u8], key: &PublicKey) -> Result<(), HttpSigError> {
    key.verify(base, signature).map_err(|_| HttpSigError::BadSignature(key.id()))
}

/// The absolute target URI as both sides must write it for `@target-uri`: scheme and authority in lower case, the
/// scheme's default port left out, path and query as sent, `/` for an empty path.
pub fn target_uri(scheme: &str, authority: &str, path_and_query: &str) -> String {
    let scheme = scheme.to_ascii_lowercase();
    let authority = authority.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
    let slash = if path_and_query.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{authority}{slash}{path_and_query}")
}
