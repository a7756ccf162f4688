//! Statements of the house about other things than logs, such as a backup: signed notes whose first line is the signer's name.

use super::{NoteError, NoteName, sign_note, verify_note};
use crate::keys::{KeyPair, PublicKey};

/// Signs lines of which the first is the signer's name: a statement that is no checkpoint, as long as no log has that name.
pub fn sign_statement(lines: &[String], name: &NoteName, key: &KeyPair) -> String {
    let text = lines.iter().fold(format!("{name}\n"), |text, line| text + line + "\n");
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
