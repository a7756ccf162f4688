//! Signed notes and log checkpoints, as in C2SP signed-note and tlog-checkpoint.
//!
//! A checkpoint is three lines (origin, size, root in base64) and perhaps extension lines; a signature line follows
//! after a blank one. Any conforming witness or auditor can read it. A *statement* is any other signed note of the house:
//! its first line is its signer's name, which no log has.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::keys::{KeyPair, PublicKey};
use crate::merkle::TreeHash;

/// The type byte of Ed25519 in key hashes and verifier keys.
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
        "{0:?} is no note name: it is not empty and has no blank, no control character, no '+' and no quote"
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
        // signature base.
        if name.is_empty() || name.len() > 255 || name.contains(bad) {
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
}

/// The first four bytes of SHA-256(name ‖ newline ‖ 0x01 ‖ public key): which key a line is of.
pub fn key_hash(name: &NoteName, key: &PublicKey) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(name.as_str())
        .chain_update([b'\n', ED25519])
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
    sign_note(&checkpoint.text(), &checkpoint.origin, key)
}

/// The same with extension lines: what else the log states, covered by the signature. None may be empty.
pub fn sign_checkpoint_with(checkpoint: &Checkpoint, extensions: &[String], key: &KeyPair) -> String {
    let mut text = checkpoint.text();
    for line in extensions {
        text.push_str(line);
        text.push('\n');
    }
    sign_note(&text, &checkpoint.origin, key)
}

/// The extension lines of a checkpoint that has been verified.
pub fn extensions(note: &str) -> impl Iterator<Item = &str> {
    let text = note.rfind("\n\n").map_or("", |split| &note[..split]);
    text.lines().skip(3)
}

/// Signs lines of which the first is the signer's name: a statement that is no checkpoint, as long as no log has that name.
pub fn sign_statement(lines: &[String], name: &NoteName, key: &KeyPair) -> String {
    let mut text = format!("{name}\n");
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    sign_note(&text, name, key)
}

/// The lines of a statement that `key` signed in that name, without the first.
pub fn parse_statement<'a>(
    note: &'a str,
    name: &NoteName,
    key: &PublicKey,
) -> Result<Vec<&'a str>, NoteError> {
    let mut lines = verify_note(note, name, key)?.lines();
    let found = lines.next().unwrap_or_default();
    if found != name.as_str() {
        let found = found.chars().take(255).collect();
        return Err(NoteError::OtherOrigin { expected: name.to_string(), found });
    }
    Ok(lines.collect())
}

/// Signs a text that ends with a newline. The answer is the whole note.
fn sign_note(text: &str, name: &NoteName, key: &KeyPair) -> String {
    let signature = key.sign(text.as_bytes());
    let line = BASE64.encode([&key_hash(name, key.public())[..], &signature].concat());
    format!("{text}\n{LINE_START}{name} {line}\n")
}

/// Reads a checkpoint of `origin` that `key` signed in that name. Signature lines of others (witnesses) are passed
/// over, extension lines are covered by the signature and otherwise ignored.
pub fn parse_and_verify(note: &str, origin: &NoteName, key: &PublicKey) -> Result<Checkpoint, NoteError> {
    let text = verify_note(note, origin, key)?;
    let mut lines = text.lines();
    let found = lines.next().unwrap_or_default();
    if found != origin.as_str() {
        let found = found.chars().take(255).collect();
        return Err(NoteError::OtherOrigin { expected: origin.to_string(), found });
    }
    let size = lines.next().and_then(parse_size).ok_or(NoteError::Malformed("line 2 is no tree size"))?;
    let root = lines
        .next()
        .and_then(|line| BASE64.decode(line).ok())
        .and_then(|bytes| TreeHash::from_slice(&bytes).ok())
        .ok_or(NoteError::Malformed("line 3 is no base64 of 32 bytes"))?;
    if lines.any(str::is_empty) {
        return Err(NoteError::Malformed("an extension line is empty"));
    }
    Ok(Checkpoint { origin: origin.clone(), size, root })
}

/// Verifies any signed note: its text, final newline included, if `key` signed it in this name.
fn verify_note<'a>(note: &'a str, name: &NoteName, key: &PublicKey) -> Result<&'a str, NoteError> {
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
    let expected_hash = key_hash(name, key);
    let mut verified = false;
    for line in lines.split('\n') {
        let (line_name, encoded) = line
            .strip_prefix(LINE_START)
            .and_then(|rest| rest.split_once(' '))
            .ok_or(NoteError::Malformed("a signature line is not '— name base64'"))?;
        let bytes =
            BASE64.decode(encoded).map_err(|_| NoteError::Malformed("a signature's base64 is broken"))?;
        let (hash, signature) =
            bytes.split_at_checked(4).ok_or(NoteError::Malformed("a signature is too short"))?;
        if line_name != name.as_str() || hash != expected_hash {
            continue;
        }
        if verified {
            return Err(NoteError::DuplicateSignature(name.to_string()));
        }
        key.verify(text.as_bytes(), signature).map_err(|_| NoteError::BadSignature(name.to_string()))?;
        verified = true;
    }
    if !verified {
        return Err(NoteError::NotSigned(name.to_string()));
    }
    Ok(text)
}

/// Decimal without leading zeros: one size has one spelling.
fn parse_size(line: &str) -> Option<u64> {
    let canonical = line == "0" || !line.starts_with('0');
    (canonical && line.bytes().all(|b| b.is_ascii_digit())).then(|| line.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    fn name(text: &str) -> NoteName {
        text.parse().unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: name("econ.example/ledger/1"), size: 42, root: leaf_hash(b"x") }
    }

    fn key() -> KeyPair {
        KeyPair::from_seed(&[5; 32])
    }

    /// `PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW`, from the documentation of Go's package
    /// golang.org/x/mod/sumdb/note.
    #[test]
    fn the_published_example_note_verifies() {
        let bytes = BASE64.decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let key = PublicKey::from_slice(&bytes[1..]).unwrap();
        let peter = name("PeterNeumann");
        assert_eq!(key_hash(&peter, &key), [0xc7, 0x4f, 0x20, 0xa3]);
        assert_eq!(
            verifier_key(&peter, &key),
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        );
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let note = format!(
            "{text}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6\
             KE6RyyBwJnAM=\n"
        );
        assert_eq!(verify_note(&note, &peter, &key), Ok(text));
    }

    #[test]
    fn a_signed_checkpoint_comes_back() {
        let note = sign_checkpoint(&checkpoint(), &key());
        assert!(note.starts_with("econ.example/ledger/1\n42\n"));
        assert_eq!(parse_and_verify(&note, &checkpoint().origin, key().public()), Ok(checkpoint()));
    }

    #[test]
    fn lines_of_witnesses_and_extensions_are_passed_over() {
        let witness = KeyPair::from_seed(&[6; 32]);
        let text = format!("{}simulated\n", checkpoint().text());
        let line = |name: &NoteName, key: &KeyPair| {
            let bytes = [&key_hash(name, key.public())[..], &key.sign(text.as_bytes())].concat();
            format!("\u{2014} {name} {}\n", BASE64.encode(bytes))
        };
        let ours = line(&checkpoint().origin, &key());
        let note = format!("{text}\n{}{ours}", line(&name("witness.example"), &witness));
        assert_eq!(parse_and_verify(&note, &checkpoint().origin, key().public()), Ok(checkpoint()));

        let twice = format!("{text}\n{ours}{ours}");
        assert_eq!(
            parse_and_verify(&twice, &checkpoint().origin, key().public()),
            Err(NoteError::DuplicateSignature("econ.example/ledger/1".into()))
        );
    }

    #[test]
    fn extension_lines_are_signed_and_come_back() {
        let said = ["restored 40 42 root".to_owned(), "and more".to_owned()];
        let note = sign_checkpoint_with(&checkpoint(), &said, &key());
        assert_eq!(parse_and_verify(&note, &checkpoint().origin, key().public()), Ok(checkpoint()));
        assert_eq!(extensions(&note).collect::<Vec<_>>(), said);
        let dropped = note.replace("and more\n", "");
        assert!(parse_and_verify(&dropped, &checkpoint().origin, key().public()).is_err());
        assert_eq!(extensions(&sign_checkpoint(&checkpoint(), &key())).count(), 0);
    }

    #[test]
    fn a_statement_is_no_checkpoint_and_a_checkpoint_no_statement_of_another() {
        let (log, copies) = (checkpoint().origin, name("econ.example/backup"));
        let lines = ["42".to_owned(), BASE64.encode([0; 32])];
        let note = sign_statement(&lines, &copies, &key());
        assert_eq!(parse_statement(&note, &copies, key().public()).unwrap(), lines);
        assert_eq!(parse_and_verify(&note, &log, key().public()), Err(NoteError::NotSigned(log.to_string())));
        let checkpoint = sign_checkpoint(&checkpoint(), &key());
        assert!(parse_statement(&checkpoint, &copies, key().public()).is_err());
    }

    #[test]
    fn each_wrong_note_has_its_own_refusal() {
        let origin = checkpoint().origin;
        let ours = origin.to_string();
        let note = sign_checkpoint(&checkpoint(), &key());
        let check = |note: &str, refusal: NoteError| {
            assert_eq!(parse_and_verify(note, &origin, key().public()), Err(refusal), "{note}");
        };
        check(&note.replacen("42", "43", 1), NoteError::BadSignature(ours.clone()));
        check(&note.replace("\u{2014} econ", "\u{2014} evil"), NoteError::NotSigned(ours.clone()));
        check(
            &note.replace('\u{2014}', "-"),
            NoteError::Malformed("a signature line is not '— name base64'"),
        );
        check(note.trim_end(), NoteError::Malformed("the last line has no end"));
        check(&note.replace('\n', "\r\n"), NoteError::Malformed("it has control characters"));
        check(&checkpoint().text(), NoteError::Malformed("no blank line separates text and signatures"));
        check(&"x".repeat(NOTE_BYTES_MAX + 1), NoteError::Malformed("it is too long"));
        let stranger = KeyPair::from_seed(&[7; 32]);
        check(&sign_checkpoint(&checkpoint(), &stranger), NoteError::NotSigned(ours.clone()));

        let signed = |text: &str| {
            let bytes = [&key_hash(&origin, key().public())[..], &key().sign(text.as_bytes())].concat();
            format!("{text}\n\u{2014} {origin} {}\n", BASE64.encode(bytes))
        };
        let root = BASE64.encode([0; 32]);
        check(
            &signed(&format!("other.example\n1\n{root}\n")),
            NoteError::OtherOrigin { expected: ours.clone(), found: "other.example".into() },
        );
        for size in ["", "01", "-1", "+1", "1 ", "18446744073709551616"] {
            check(
                &signed(&format!("{origin}\n{size}\n{root}\n")),
                NoteError::Malformed("line 2 is no tree size"),
            );
        }
        for root in ["", "AAAA", &root[..43]] {
            check(
                &signed(&format!("{origin}\n1\n{root}\n")),
                NoteError::Malformed("line 3 is no base64 of 32 bytes"),
            );
        }
        check(
            &signed(&format!("{origin}\n1\n{root}\n\next\n")),
            NoteError::Malformed("an extension line is empty"),
        );
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let note = sign_checkpoint(&checkpoint(), &key());
        for n in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[n] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(
                    parse_and_verify(&changed, &checkpoint().origin, key().public()).is_err(),
                    "byte {n}"
                );
            }
        }
    }

    #[test]
    fn names_cannot_break_the_format() {
        for bad in ["", "a b", "a+b", "a\nb", "a\u{a0}b", "\"a", "DSSEv1 1"] {
            assert_eq!(bad.parse::<NoteName>(), Err(NoteError::Name(bad.into())));
        }
    }
}
