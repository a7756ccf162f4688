//! A promise that was not kept, proven offline by two things that the house signed: a receipt that says by when it is in
//! the log, and a checkpoint of that time or later that does not cover it.

use super::{NoteError, NoteName, TimedCheckpoint, parse_timed};
use crate::dsse;
use crate::ids::KeyId;
use crate::keys::PublicKey;
use crate::v1;
use prost::Message as _;

/// How long after its acceptance a command's receipt may stay out of the checkpoints, microseconds.
pub const INCLUDE_WITHIN_US: i64 = 60_000_000;

/// By when the receipt of a command that was accepted then is in every checkpoint, Unix microseconds.
pub const fn include_by_us(accepted_at_us: i64) -> i64 {
    accepted_at_us.saturating_add(INCLUDE_WITHIN_US)
}

/// The receipt that should have been in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The receipt's seq: it would be leaf `seq - 1`.
    pub seq: u64,
    /// By when it was promised, Unix microseconds.
    pub include_by_us: i64,
    /// The checkpoint that lacks it.
    pub checkpoint: TimedCheckpoint,
}

/// Why two documents prove nothing against the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BreachError {
    /// The checkpoint is not what it should be.
    #[error(transparent)]
    Checkpoint(#[from] NoteError),
    /// The receipt is not signed by this key, or not a receipt.
    #[error("the receipt: {0}")]
    Receipt(String),
    /// The receipt belongs to another log.
    #[error("the receipt is of ledger {ledger_id}, and {origin} is another ledger's log")]
    OtherLog {
        /// The receipt's ledger.
        ledger_id: u32,
        /// The checkpoint's log.
        origin: String,
    },
    /// The receipt is of before receipts promised anything.
    #[error("the receipt does not say by when it is in the log")]
    NothingPromised,
    /// The checkpoint covers the receipt.
    #[error("the checkpoint covers it: {size} leaves, and the receipt is number {seq}")]
    Covered {
        /// Leaves of the checkpoint.
        size: u64,
        /// The receipt.
        seq: u64,
    },
    /// The checkpoint is of an earlier time.
    #[error("the checkpoint is of before the time that was promised")]
    NotYetDue,
}

/// Whether the log of this name is that of this ledger: its last two parts are `ledger` and the id, as the house names
/// its logs. One key signs for all of a house's ledgers, so that a receipt could be held against another ledger's log.
pub fn log_of_ledger(origin: &NoteName, ledger_id: u32) -> bool {
    origin.as_str().ends_with(&format!("/ledger/{ledger_id}"))
}

/// Proves that the log `origin` broke its promise: `envelope` holds a receipt that `key` signed and that was to be in
/// every checkpoint from some moment on, `note` a checkpoint that `key` signed at that moment or later, without it.
/// Reads nothing but its arguments.
pub fn breach(
    envelope: &v1::Envelope,
    note: &str,
    origin: &NoteName,
    key: &PublicKey,
) -> Result<Breach, BreachError> {
    let trusted = |id: &KeyId| (*id == key.id()).then_some(*key);
    dsse::verify(envelope, &dsse::payload_type::<v1::Receipt>(), trusted)
        .map_err(|error| BreachError::Receipt(error.to_string()))?;
    let receipt = v1::Receipt::decode(envelope.payload.as_slice())
        .map_err(|error| BreachError::Receipt(error.to_string()))?;
    breach_by(&receipt, parse_timed(note, origin, key)?)
}

/// The judgement itself, over what has been verified.
fn breach_by(receipt: &v1::Receipt, timed: TimedCheckpoint) -> Result<Breach, BreachError> {
    let checkpoint = &timed.checkpoint;
    if !log_of_ledger(&checkpoint.origin, receipt.ledger_id) {
        let origin = checkpoint.origin.to_string();
        return Err(BreachError::OtherLog { ledger_id: receipt.ledger_id, origin });
    }
    if receipt.include_by_us == 0 {
        return Err(BreachError::NothingPromised);
    }
    if checkpoint.size >= receipt.seq {
        return Err(BreachError::Covered { size: checkpoint.size, seq: receipt.seq });
    }
    if i128::from(timed.time_s) * 1_000_000 < i128::from(receipt.include_by_us) {
        return Err(BreachError::NotYetDue);
    }
    Ok(Breach { seq: receipt.seq, include_by_us: receipt.include_by_us, checkpoint: timed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyPair;
    use crate::merkle::leaf_hash;
    use crate::note::{Checkpoint, sign_checkpoint, sign_timed_checkpoint};

    const DUE_S: u64 = 1_795_000_060;

    fn house() -> KeyPair {
        KeyPair::from_seed(&[5; 32])
    }

    fn origin() -> NoteName {
        "econ.example/ledger/1".parse().unwrap()
    }

    fn receipt(seq: u64) -> v1::Receipt {
        v1::Receipt {
            ledger_id: 1,
            seq,
            rules_version: 3,
            accepted_at_us: 1_795_000_000_000_000,
            include_by_us: include_by_us(1_795_000_000_000_000),
            ..Default::default()
        }
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint { origin: origin(), size, root: leaf_hash(b"x") }
    }

    fn judge(receipt: &v1::Receipt, size: u64, time_s: u64) -> Result<Breach, BreachError> {
        let note = sign_timed_checkpoint(&checkpoint(size), &house(), time_s);
        breach(&dsse::sign_message(receipt, &house()), &note, &origin(), house().public())
    }

    #[test]
    fn a_checkpoint_of_the_promised_time_that_lacks_the_receipt_is_a_breach() {
        for time_s in [DUE_S, DUE_S + 1, DUE_S + 86_400] {
            let found = judge(&receipt(7), 6, time_s).unwrap();
            assert_eq!((found.seq, found.include_by_us), (7, 1_795_000_060_000_000));
            assert_eq!((found.checkpoint.time_s, found.checkpoint.checkpoint.size), (time_s, 6));
        }
    }

    #[test]
    fn a_kept_promise_an_early_checkpoint_or_an_old_receipt_is_none() {
        assert_eq!(judge(&receipt(7), 7, DUE_S), Err(BreachError::Covered { size: 7, seq: 7 }));
        assert_eq!(judge(&receipt(7), 6, DUE_S - 1), Err(BreachError::NotYetDue));
        // A checkpoint's second may have begun just before the promised microsecond.
        let late = v1::Receipt { include_by_us: 1_795_000_060_000_001, ..receipt(7) };
        assert_eq!(judge(&late, 6, DUE_S), Err(BreachError::NotYetDue));
        assert!(judge(&late, 6, DUE_S + 1).is_ok());
        let old = v1::Receipt { include_by_us: 0, rules_version: 2, ..receipt(7) };
        assert_eq!(judge(&old, 6, DUE_S), Err(BreachError::NothingPromised));
        let other = v1::Receipt { ledger_id: 11, ..receipt(7) };
        assert!(matches!(judge(&other, 6, DUE_S), Err(BreachError::OtherLog { ledger_id: 11, .. })));
    }

    #[test]
    fn only_what_the_house_signed_counts() {
        let envelope = dsse::sign_message(&receipt(7), &house());
        let note = sign_timed_checkpoint(&checkpoint(6), &house(), DUE_S);
        let key = *house().public();
        let stranger = KeyPair::from_seed(&[9; 32]);
        let forged = dsse::sign_message(&receipt(7), &stranger);
        assert!(matches!(breach(&forged, &note, &origin(), &key), Err(BreachError::Receipt(_))));
        let mut bent = envelope.clone();
        bent.payload[3] ^= 1;
        assert!(matches!(breach(&bent, &note, &origin(), &key), Err(BreachError::Receipt(_))));
        let forged = sign_timed_checkpoint(&checkpoint(6), &stranger, DUE_S);
        assert!(matches!(breach(&envelope, &forged, &origin(), &key), Err(BreachError::Checkpoint(_))));
        let untimed = sign_checkpoint(&checkpoint(6), &house());
        let refused = Err(BreachError::Checkpoint(NoteError::NotSigned(origin().to_string())));
        assert_eq!(breach(&envelope, &untimed, &origin(), &key), refused);
        // Another kind of message under the same key is no receipt.
        let command =
            dsse::sign_message(&v1::ServiceCommand { ledger_id: 1, ..Default::default() }, &house());
        assert!(matches!(breach(&command, &note, &origin(), &key), Err(BreachError::Receipt(_))));
    }
}
