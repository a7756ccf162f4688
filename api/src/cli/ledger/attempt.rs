//! The record beside a journal that makes posting it a second time safe.
//!
//! A transfer's id must be a UUIDv7 of the last day, so ids cannot follow from a file's content alone: they need a moment, and
//! a program that was killed before it heard the answer must ask again with the same one. So `FILE.ids` holds that moment and
//! is on stable storage before anything is sent. It is not what keeps a file from being booked twice: the Idempotency-Key
//! follows from the content, so the house itself answers a file that it knows from this operator with the stored answer, or,
//! where the record was lost and the moment with it, refuses it (UB601).

use std::path::{Path, PathBuf};

use proto::ids::TransferId;
use serde::{Deserialize, Serialize};

use crate::cli::failure::{Failure, Outcome};
use crate::cli::files;

/// How far a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// The attempt before was refused and booked nothing; the next one has new ids.
    Ready,
    /// It was sent, or was about to be. Whether it is booked, only the house knows.
    Sent,
    /// It is booked.
    Booked,
}

/// What `FILE.ids` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Origin of the ledger that it was posted to.
    ledger: String,
    /// BLAKE3 of the file.
    content: String,
    /// Counts the attempts that were refused.
    attempt: u32,
    /// The moment in the ids, Unix milliseconds.
    at_ms: u64,
    state: State,
}

/// One attempt to post one file.
#[derive(Debug)]
pub(super) struct Attempt {
    path: PathBuf,
    record: Record,
}

impl Attempt {
    /// Takes up where the file at `path` with this `content` was left; a first attempt is made at `now_ms`. Writes nothing.
    pub(super) fn resume(path: &Path, content: &[u8], ledger: &str, now_ms: u64) -> Outcome<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".ids");
        let record_path = PathBuf::from(name);
        let hash = blake3::hash(content).to_hex().to_string();
        let first = Record {
            ledger: ledger.to_owned(),
            content: hash,
            attempt: 0,
            at_ms: now_ms,
            state: State::Ready,
        };
        let Some(bytes) = files::read_if_there(&record_path)? else {
            return Ok(Self { path: record_path, record: first });
        };
        let old: Record = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(
                "UL681",
                format!(
                    "{} is not a record of an earlier posting ({error}): move it away",
                    record_path.display()
                ),
            )
        })?;
        let is_same = old.content == first.content && old.ledger == first.ledger;
        let record = match old.state {
            State::Ready if is_same => Record { at_ms: now_ms, ..old },
            State::Sent | State::Booked if is_same => old,
            State::Booked if old.ledger != first.ledger => first,
            State::Ready => first,
            // Lines that stand in both versions would be booked twice, and nobody could tell them apart.
            State::Sent | State::Booked => {
                let what =
                    if old.state == State::Sent { "was sent, and no answer came" } else { "is booked" };
                return Err(Failure::new(
                    "UL681",
                    format!(
                        "another version of this file {what} ({}): put it back, or put what is new into a file of its own",
                        record_path.display()
                    ),
                ));
            }
        };
        Ok(Self { path: record_path, record })
    }

    /// The same for every attempt's retries, another after a refusal.
    pub(super) fn idempotency_key(&self) -> String {
        format!("ledger-post:{}:{}", self.record.content, self.record.attempt)
    }

    /// The id of the transfer on this line: the attempt's moment, and a hash of what is posted where.
    pub(super) fn transfer_id(&self, line: u64) -> TransferId {
        let Record { ledger, content, attempt, at_ms, .. } = &self.record;
        let seed = blake3::hash(format!("{ledger}\n{content}\n{attempt}\n{line}").as_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&seed.as_bytes()[..10]);
        TransferId::v7_at(*at_ms, random)
    }

    /// From here on the file may be booked. On stable storage when this returns.
    pub(super) fn sent(&mut self) -> Outcome {
        if self.record.state == State::Ready {
            self.record.state = State::Sent;
            self.write()?;
        }
        Ok(())
    }

    /// It is booked.
    pub(super) fn booked(&mut self) -> Outcome {
        self.record.state = State::Booked;
        self.write()
    }

    /// It was refused as a whole: the next attempt is another request with other ids, because some failures spend an id.
    pub(super) fn refused(&mut self) -> Outcome {
        self.record.attempt += 1;
        self.record.state = State::Ready;
        self.write()
    }

    fn write(&self) -> Outcome {
        let text = serde_json::to_string_pretty(&self.record).map_err(Failure::outside)?;
        files::write_durably(&self.path, format!("{text}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    fn resume(path: &Path, content: &str, ledger: &str, now_ms: u64) -> Outcome<Attempt> {
        Attempt::resume(path, content.as_bytes(), ledger, now_ms)
    }

    #[test]
    fn whoever_was_cut_off_asks_again_with_the_same_ids_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.csv");
        let mut first = resume(&file, "x", "here", NOW).unwrap();
        first.sent().unwrap();
        let mut again = resume(&file, "x", "here", NOW + 1_000).unwrap();
        assert_eq!(again.transfer_id(2), first.transfer_id(2));
        assert_eq!(again.idempotency_key(), first.idempotency_key());
        assert_eq!(again.transfer_id(2).unix_ms(), Some(NOW));
        assert_ne!(again.transfer_id(2), again.transfer_id(3));
        again.booked().unwrap();
        assert_eq!(resume(&file, "x", "here", NOW + 2_000).unwrap().transfer_id(2), first.transfer_id(2));
    }

    #[test]
    fn a_refused_file_is_tried_again_as_another_request() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.csv");
        let mut first = resume(&file, "x", "here", NOW).unwrap();
        first.sent().unwrap();
        let (id, key) = (first.transfer_id(2), first.idempotency_key());
        first.refused().unwrap();
        let second = resume(&file, "x", "here", NOW + 1_000).unwrap();
        assert!(second.transfer_id(2) != id && second.idempotency_key() != key);
        // Corrected: a new file.
        assert_eq!(resume(&file, "y", "here", NOW).unwrap().record.attempt, 0);
    }

    #[test]
    fn another_version_of_a_file_that_may_be_booked_is_not_sent() {
        for booked in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("a.csv");
            let mut first = resume(&file, "x", "here", NOW).unwrap();
            first.sent().unwrap();
            if booked {
                first.booked().unwrap();
            }
            assert_eq!(resume(&file, "y", "here", NOW).unwrap_err().code(), Some("UL681"), "{booked}");
            assert_eq!(resume(&file, "x", "there", NOW).is_ok(), booked, "another market: {booked}");
        }
    }
}
