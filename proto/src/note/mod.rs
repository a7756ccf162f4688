//! Signed notes and log checkpoints, as in C2SP signed-note, tlog-checkpoint and tlog-cosignature.
//!
//! A checkpoint is three lines (origin, size, root in base64) and perhaps extension lines; signature lines follow after a
//! blank one. A log signs the text as it is; a *cosignature* (of a witness, and of the log itself) signs it with a time.
//! Any conforming witness or auditor can read it. A *statement* is any other signed note of the house: its first line is its
//! signer's name, which no log has.

mod breach;
mod cosignature;
mod statement;
#[cfg(test)]
mod tests;
mod verifier;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::keys::{KeyPair, PublicKey};
use crate::merkle::TreeHash;

pub use breach::{Breach, BreachError, INCLUDE_WITHIN_US, breach, include_by_us, log_of_ledger};
pub use cosignature::{
    Cosignature, TimedCheckpoint, cosign, parse_timed, sign_timed_checkpoint, sign_timed_checkpoint_with,
    verify_cosignatures,
};
pub use statement::{parse_statement, sign_statement};
pub use verifier::{KeyUse, VerifierKey};

/// The type byte of an Ed25519 signature over a note's text, in key hashes and verifier keys.
const ED25519: u8 = 0x01;
/// Every signature line begins with an em dash and a space.
const LINE_START: &str = "\u{2014} ";
/// A checkpoint has some 200 bytes; cosignatures of witnesses add 100 or so each.
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// Why a note is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A name that cannot stand in a signature line, or whose note might be taken for other signed bytes.
    #[error(
        "{0:?} is no note name: it is not empty, has no blank, no control character, no '+' and no quote, and is not \
         cosignature/v1"
    )]
    Name(String),
    /// Not the format.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// A well-formed note without a line of this key.
    #[error("the checkpoint has no signature of {0}")]
    NotSigned(String),
    /// Two lines of this key.
    #[error("the checkpoint has two signatures of {0}")]
    DuplicateSignature(String),
    /// The line of this key is wrong.
    #[error("the checkpoint's signature of {0} does not verify")]
    BadSignature(String),
    /// Another log's checkpoint.
    #[error("the checkpoint is of {found:?}, but {expected:?} is expected here")]
    OtherOrigin {
        /// The log expected.
        expected: String,
        /// The log named.
        found: String,
    },
}

/// The name of a log and of the key that signs for it, as in `econ.example/ledger/1`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NoteName(String);

impl NoteName {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NoteName {
    type Err = NoteError;
    fn from_str(name: &str) -> Result<Self, NoteError> {
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+' || c == '"';
        // Without a blank in it the first line cannot begin like a DSSE encoding, without a quote not like a
        // signature base. A note under the name of a cosignature's first line would begin like one.
        if name.is_empty() || name.len() > 255 || name.contains(bad) || name == cosignature::HEADER {
            return Err(NoteError::Name(name.chars().take(80).collect()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for NoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a log states at one moment: so many leaves, this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: NoteName,
    /// Leaves in the tree.
    pub size: u64,
    /// The tree's root.
    pub root: TreeHash,
}

impl Checkpoint {
    /// The text that is signed: three lines, each ended by a newline.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.as_bytes()))
    }

    /// The same with extension lines: what else the log states. None may be empty.
    fn text_with(&self, extensions: &[String]) -> String {
        extensions.iter().fold(self.text(), |text, line| text + line + "\n")
    }
}

/// The first four bytes of SHA-256(name ‖ newline ‖ 0x01 ‖ public key): which key a line is of.
pub fn key_hash(name: &NoteName, key: &PublicKey) -> [u8; 4] {
    typed_key_hash(ED25519, name, key)
}

/// The same for a signature of another type.
fn typed_key_hash(kind: u8, name: &NoteName, key: &PublicKey) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(name.as_str())
        .chain_update([b'\n', kind])
        .chain_update(key.as_bytes())
        .finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// The verifier key in the text form that other tools take: `name+hash+base64(0x01 ‖ public key)`.
pub fn verifier_key(name: &NoteName, key: &PublicKey) -> String {
    let encoded = BASE64.encode([&[ED25519], &key.as_bytes()[..]].concat());
    format!("{name}+{}+{encoded}", hex::encode(key_hash(name, key)))
}

/// Signs a checkpoint in the name of its origin. The answer is the whole note.
pub fn sign_checkpoint(checkpoint: &Checkpoint, key: &KeyPair) -> String {
    sign_checkpoint_with(checkpoint, &[], key)
}

/// The same with extension lines: what else the log states, covered by the signature. None may be empty.
pub fn sign_checkpoint_with(checkpoint: &Checkpoint, extensions: &[String], key: &KeyPair) -> String {
    sign_note(&checkpoint.text_with(extensions), &checkpoint.origin, key)
}

/// The extension lines of a checkpoint that has been verified.
pub fn extensions(note: &str) -> impl Iterator<Item = &str> {
    let text = note.rfind("\n\n").map_or("", |split| &note[..split]);
    text.lines().skip(3)
}

/// Signs a text that ends with a newline. The answer is the whole note.
fn sign_note(text: &str, name: &NoteName, key: &KeyPair) -> String {
    let line = signature_line(name, &key_hash(name, key.public()), &key.sign(text.as_bytes()));
    format!("{text}\n{line}")
}

/// `— name base64(key hash ‖ signature)` and a newline.
fn signature_line(name: &NoteName, hash: &[u8; 4], signature: &[u8]) -> String {
    format!("{LINE_START}{name} {}\n", BASE64.encode([&hash[..], signature].concat()))
}

/// Reads a checkpoint of `origin` that `key` signed in that name. Signature lines of others (witnesses) are passed
/// over, extension lines are covered by the signature and otherwise ignored.
pub fn parse_and_verify(note: &str, origin: &NoteName, key: &PublicKey) -> Result<Checkpoint, NoteError> {
    let text = verify_note(note, origin, key)?;
    let checkpoint = parse_checkpoint_text(text)?;
    if checkpoint.origin != *origin {
        let found = checkpoint.origin.to_string();
        return Err(NoteError::OtherOrigin { expected: origin.to_string(), found });
    }
    Ok(checkpoint)
}

/// What a note says before any signature is checked: only good for finding the key to check it with.
pub fn read_unverified(note: &str) -> Result<Checkpoint, NoteError> {
    parse_checkpoint_text(split(note)?.0)
}

/// Reads the text of a checkpoint, without any signature.
pub fn parse_checkpoint_text(text: &str) -> Result<Checkpoint, NoteError> {
    let mut lines = text.lines();
    let origin: NoteName = lines.next().unwrap_or_default().parse()?;
    let size = lines.next().and_then(parse_size).ok_or(NoteError::Malformed("line 2 is no tree size"))?;
    let root = lines
        .next()
        .and_then(|line| BASE64.decode(line).ok())
        .and_then(|bytes| TreeHash::from_slice(&bytes).ok())
        .ok_or(NoteError::Malformed("line 3 is no base64 of 32 bytes"))?;
    if lines.any(str::is_empty) {
        return Err(NoteError::Malformed("an extension line is empty"));
    }
    Ok(Checkpoint { origin, size, root })
}

/// A note's text, final newline included, and its signature lines without the last newline.
pub fn split(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Malformed("it is too long"));
    }
    if note.chars().any(|c| c.is_control() && c != '\n') {
        return Err(NoteError::Malformed("it has control characters"));
    }
    // The last blank line ends the text: earlier ones are part of it.
    let split =
        note.rfind("\n\n").ok_or(NoteError::Malformed("no blank line separates text and signatures"))?;
    let (text, lines) = (&note[..=split], &note[split + 2..]);
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed("the last line has no end"))?;
    Ok((text, lines))
}

/// A signature line taken apart: name, key hash, the rest.
fn read_line(line: &str) -> Result<(&str, [u8; 4], Vec<u8>), NoteError> {
    let (name, encoded) = line
        .strip_prefix(LINE_START)
        .and_then(|rest| rest.split_once(' '))
        .ok_or(NoteError::Malformed("a signature line is not '— name base64'"))?;
    let mut bytes =
        BASE64.decode(encoded).map_err(|_| NoteError::Malformed("a signature's base64 is broken"))?;
    let hash = *bytes.first_chunk::<4>().ok_or(NoteError::Malformed("a signature is too short"))?;
    bytes.drain(..4);
    Ok((name, hash, bytes))
}

/// Verifies any signed note: its text, final newline included, if `key` signed it in this name.
fn verify_note<'a>(note: &'a str, name: &NoteName, key: &PublicKey) -> Result<&'a str, NoteError> {
    let (text, lines) = split(note)?;
    let expected_hash = key_hash(name, key);
    let mut verified = false;
    for line in lines.split('\n') {
        let (line_name, hash, signature) = read_line(line)?;
        // Other names are witnesses; another hash under this name is another key or another kind of signature.
        if line_name != name.as_str() || hash != expected_hash {
            continue;
        }
        if verified {
            return Err(NoteError::DuplicateSignature(name.to_string()));
        }
        key.verify(text.as_bytes(), &signature).map_err(|_| NoteError::BadSignature(name.to_string()))?;
        verified = true;
    }
    if !verified {
        return Err(NoteError::NotSigned(name.to_string()));
    }
    Ok(text)
}

/// Decimal without leading zeros: one size has one spelling.
pub fn parse_size(line: &str) -> Option<u64> {
    let canonical = line == "0" || !line.starts_with('0');
    (canonical && line.bytes().all(|b| b.is_ascii_digit())).then(|| line.parse().ok())?
}
