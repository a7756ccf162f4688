//! Against the published example, and against every way in which a note can be wrong.

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
fn each_wrong_note_has_its_own_refusal() {
    let origin = checkpoint().origin;
    let ours = origin.to_string();
    let note = sign_checkpoint(&checkpoint(), &key());
    let check = |note: &str, refusal: NoteError| {
        assert_eq!(parse_and_verify(note, &origin, key().public()), Err(refusal), "{note}");
    };
    check(&note.replacen("42", "43", 1), NoteError::BadSignature(ours.clone()));
    check(&note.replace("\u{2014} econ", "\u{2014} evil"), NoteError::NotSigned(ours.clone()));
    check(&note.replace('\u{2014}', "-"), NoteError::Malformed("a signature line is not '— name base64'"));
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
            assert!(parse_and_verify(&changed, &checkpoint().origin, key().public()).is_err(), "byte {n}");
        }
    }
}

#[test]
fn names_cannot_break_the_format() {
    for bad in ["", "a b", "a+b", "a\nb", "a\u{a0}b", "\"a", "DSSEv1 1", "cosignature/v1"] {
        assert_eq!(bad.parse::<NoteName>(), Err(NoteError::Name(bad.into())));
    }
}

#[test]
fn extension_lines_are_signed_and_come_back() {
    let said = ["restored 40 42 root".to_owned(), "and more".to_owned()];
    let origin = checkpoint().origin;
    let plain = sign_checkpoint_with(&checkpoint(), &said, &key());
    let timed = sign_timed_checkpoint_with(&checkpoint(), &said, &key(), 42);
    assert_eq!(parse_timed(&timed, &origin, key().public()).map(|timed| timed.time_s), Ok(42));
    for note in [plain, timed] {
        assert_eq!(parse_and_verify(&note, &origin, key().public()), Ok(checkpoint()));
        assert_eq!(extensions(&note).collect::<Vec<_>>(), said);
        let dropped = note.replace("and more\n", "");
        assert!(parse_and_verify(&dropped, &origin, key().public()).is_err());
    }
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
