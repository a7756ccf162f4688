//! Signatures with a time: C2SP tlog-cosignature, version 1.
//!
//! A witness says by it: at this time, this was the largest tree of this log that I had seen, and it extends every one
//! that I cosigned before. The log itself says by it: at this time, this tree held everything that I had promised to
//! include by then.

use super::{
    Checkpoint, NoteError, NoteName, parse_and_verify, read_line, sign_note, signature_line, split,
    typed_key_hash,
};
use crate::keys::{KeyPair, PublicKey};

/// The type byte of an Ed25519 cosignature, in key hashes and verifier keys.
pub(super) const ED25519_COSIGNATURE: u8 = 0x04;
/// First line of what is signed: no note can begin so ([`NoteName`]).
pub(super) const HEADER: &str = "cosignature/v1";

/// A cosignature that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// When it was made, Unix seconds, as its maker says.
    pub time_s: u64,
    /// Its line, newline included, for a note's end.
    pub line: String,
}

/// A checkpoint and when the log stated it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedCheckpoint {
    /// What it states.
    pub checkpoint: Checkpoint,
    /// When, Unix seconds.
    pub time_s: u64,
}

/// The signed bytes: header, time, and the whole text of the checkpoint.
fn message(text: &str, time_s: u64) -> Vec<u8> {
    format!("{HEADER}\ntime {time_s}\n{text}").into_bytes()
}

/// Cosigns a checkpoint's text in the name `name`: the line to append to the note, newline included. Whoever calls has
/// checked that the text is a checkpoint, and keeps the promise that a cosignature is.
pub fn cosign(text: &str, name: &NoteName, key: &KeyPair, time_s: u64) -> String {
    let hash = typed_key_hash(ED25519_COSIGNATURE, name, key.public());
    let signature = key.sign(&message(text, time_s));
    signature_line(name, &hash, &[&time_s.to_be_bytes()[..], &signature].concat())
}

/// Signs a checkpoint in the name of its origin, once as it is and once with its time. The answer is the whole note.
pub fn sign_timed_checkpoint(checkpoint: &Checkpoint, key: &KeyPair, time_s: u64) -> String {
    sign_timed_checkpoint_with(checkpoint, &[], key, time_s)
}

/// The same with extension lines, which both signatures cover.
pub fn sign_timed_checkpoint_with(
    checkpoint: &Checkpoint,
    extensions: &[String],
    key: &KeyPair,
    time_s: u64,
) -> String {
    let text = checkpoint.text_with(extensions);
    let note = sign_note(&text, &checkpoint.origin, key);
    format!("{note}{}", cosign(&text, &checkpoint.origin, key, time_s))
}

/// Every cosignature that `key` made in the name `name` among the signature lines of `note`, all verified; others are
/// passed over. One that does not verify, or none at all, is an error.
pub fn verify_cosignatures(
    note: &str,
    name: &NoteName,
    key: &PublicKey,
) -> Result<Vec<Cosignature>, NoteError> {
    let (text, lines) = split(note)?;
    let expected = typed_key_hash(ED25519_COSIGNATURE, name, key);
    let mut found = Vec::new();
    for line in lines.split('\n') {
        let (line_name, hash, bytes) = read_line(line)?;
        if line_name != name.as_str() || hash != expected {
            continue;
        }
        let bad = || NoteError::BadSignature(name.to_string());
        let (time, signature) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
        let time_s = u64::from_be_bytes(*time);
        if i64::try_from(time_s).is_err() {
            return Err(NoteError::Malformed("a cosignature's time is beyond 2^63 - 1"));
        }
        key.verify(&message(text, time_s), signature).map_err(|_| bad())?;
        found.push(Cosignature { time_s, line: format!("{line}\n") });
    }
    if found.is_empty() {
        return Err(NoteError::NotSigned(name.to_string()));
    }
    Ok(found)
}

/// Reads a checkpoint of `origin` that `key` signed in that name, with its time. `NotSigned`: it carries no time, as
/// those did that were made before checkpoints had one.
pub fn parse_timed(note: &str, origin: &NoteName, key: &PublicKey) -> Result<TimedCheckpoint, NoteError> {
    let checkpoint = parse_and_verify(note, origin, key)?;
    let times = verify_cosignatures(note, origin, key)?;
    // A log may say the same again later; the latest time promises most.
    let time_s = times.iter().map(|found| found.time_s).max().unwrap_or_default();
    Ok(TimedCheckpoint { checkpoint, time_s })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::*;
    use crate::merkle::leaf_hash;

    fn name(text: &str) -> NoteName {
        text.parse().unwrap()
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint { origin: name("econ.example/ledger/1"), size, root: leaf_hash(&size.to_be_bytes()) }
    }

    fn house() -> KeyPair {
        KeyPair::from_seed(&[5; 32])
    }

    fn witness() -> KeyPair {
        KeyPair::from_seed(&[6; 32])
    }

    #[test]
    fn the_example_of_the_standard_has_a_witness_line_of_this_shape() {
        // From tlog-cosignature: the witness' key is not printed there, the layout and the time are.
        let line = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";
        let (found, hash, bytes) = read_line(line).unwrap();
        assert_eq!((found, hash, bytes.len()), ("witness.example.com/w1", [0x8d, 0x66, 0xcf, 0x3f], 72));
        assert_eq!(u64::from_be_bytes(*bytes.first_chunk().unwrap()), 1_679_315_147);
    }

    #[test]
    fn the_signed_bytes_are_those_of_the_standard() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let expected = "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n\
                        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        assert_eq!(message(text, 1_679_315_147), expected.as_bytes());
        let line = cosign(text, &name("witness.example.com/w1"), &witness(), 1_679_315_147);
        let (_, hash, bytes) = read_line(line.strip_suffix('\n').unwrap()).unwrap();
        let digest = <sha2::Sha256 as sha2::Digest>::digest(
            [b"witness.example.com/w1\n\x04", &witness().public().as_bytes()[..]].concat(),
        );
        assert_eq!(hash[..], digest[..4]);
        assert_eq!(witness().public().verify(expected.as_bytes(), &bytes[8..]), Ok(()));
    }

    #[test]
    fn a_timed_checkpoint_is_read_with_and_without_its_time() {
        let note = sign_timed_checkpoint(&checkpoint(7), &house(), 1_795_000_000);
        let origin = checkpoint(7).origin;
        let timed = TimedCheckpoint { checkpoint: checkpoint(7), time_s: 1_795_000_000 };
        assert_eq!(parse_timed(&note, &origin, house().public()), Ok(timed));
        // Who knows plain signatures only passes the line over: same name, other key hash.
        assert_eq!(parse_and_verify(&note, &origin, house().public()), Ok(checkpoint(7)));
        let old = super::super::sign_checkpoint(&checkpoint(7), &house());
        assert_eq!(parse_and_verify(&old, &origin, house().public()), Ok(checkpoint(7)));
        assert_eq!(
            parse_timed(&old, &origin, house().public()),
            Err(NoteError::NotSigned(origin.to_string()))
        );
    }

    #[test]
    fn a_cosignature_verifies_on_its_own_checkpoint_and_key_and_time_only() {
        let w = name("witness.example/w1");
        let note = sign_timed_checkpoint(&checkpoint(7), &house(), 10);
        let line = cosign(&checkpoint(7).text(), &w, &witness(), 11);
        let found = verify_cosignatures(&format!("{note}{line}"), &w, witness().public()).unwrap();
        assert_eq!(found, [Cosignature { time_s: 11, line: line.clone() }]);
        let bad = Err(NoteError::BadSignature(w.to_string()));
        // Replayed onto another checkpoint.
        let other = sign_timed_checkpoint(&checkpoint(8), &house(), 10);
        assert_eq!(verify_cosignatures(&format!("{other}{line}"), &w, witness().public()), bad);
        // Its time changed.
        let (_, hash, mut bytes) = read_line(line.trim_end()).unwrap();
        bytes[7] ^= 1;
        let later = format!("{note}\u{2014} {w} {}\n", BASE64.encode([&hash[..], &bytes].concat()));
        assert_eq!(verify_cosignatures(&later, &w, witness().public()), bad);
        // Under another name or key it is somebody else's line.
        let unsigned = |name: &NoteName| Err(NoteError::NotSigned(name.to_string()));
        assert_eq!(
            verify_cosignatures(&format!("{note}{line}"), &name("w2"), witness().public()),
            unsigned(&name("w2"))
        );
        assert_eq!(verify_cosignatures(&format!("{note}{line}"), &w, house().public()), unsigned(&w));
        // A plain signature of the witness' key is no cosignature.
        let plain = signature_line(&w, &super::super::key_hash(&w, witness().public()), &[0; 64]);
        assert_eq!(verify_cosignatures(&format!("{note}{plain}"), &w, witness().public()), unsigned(&w));
    }
}
