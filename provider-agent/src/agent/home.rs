//! The agent's folder: its key, and per ledger what it must not forget.
//!
//! ```text
//! key.pem                      the agent's identity
//! lock                         held while the agent runs
//! ledger-<12 hex digits>/      one per ledger ever worked on, named by its origin
//!   service-key                the key that run tickets must be signed by
//!   ad.json                    the last ad
//!   progress.json              cursor and earnings, always together
//!   attempts/<ticket>.json     what is known of each attempt
//!   spool/                     what has yet to reach the house
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::ids::{Hash32, RunTicketId};
use proto::keys::{KeyFileError, KeyPair, PublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::AgentError;
use super::earnings::Stored;
use crate::executor::Progress;
use crate::files::{
    FileError, Survives, create_private_directory, failed, read_if_there, remove_if_there, replace, try_lock,
};
use crate::spool::{Limits, Spool};

/// The folder of one agent, locked.
#[derive(Debug)]
pub(super) struct Home {
    directory: PathBuf,
    pub(super) key: Arc<KeyPair>,
    _lock: File,
}

impl Home {
    /// Opens the folder, creating it and the agent's key when they are missing.
    pub(super) fn open(directory: &Path) -> Result<Self, AgentError> {
        create_private_directory(directory)?;
        let Some(lock) = try_lock(&directory.join("lock"))? else {
            return Err(AgentError::HomeInUse { path: directory.to_owned() });
        };
        Ok(Self {
            key: Arc::new(load_or_make_key(&directory.join("key.pem"))?),
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// The part of the folder for the ledger with this origin.
    pub(super) fn ledger(&self, origin: &str) -> Result<LedgerHome, AgentError> {
        let hash = blake3::hash(origin.as_bytes()).to_hex();
        let directory = self.directory.join(format!("ledger-{}", &hash[..12]));
        create_private_directory(&directory.join("attempts"))?;
        Ok(LedgerHome { directory })
    }
}

fn load_or_make_key(path: &Path) -> Result<KeyPair, KeyFileError> {
    if path.exists() {
        return KeyPair::load(path);
    }
    let key = KeyPair::generate()?;
    key.save(path)?;
    Ok(key)
}

/// What the agent knows about one ledger.
#[derive(Debug, Clone)]
pub(super) struct LedgerHome {
    directory: PathBuf,
}

/// The last ad.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedAd {
    /// How many different ads there have been: an ad that returns to an earlier text is a new command.
    pub(super) number: u64,
    /// BLAKE3 of its bytes, in hex.
    pub(super) hash: String,
    /// Whether the house has taken it.
    pub(super) taken: bool,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Executing, or cut off in the middle of it.
    Running,
    /// The last row is in the chain; the output is to be stored and reported.
    Metered,
    /// Nothing is left to do.
    Done,
}

/// What is known of an attempt: enough for another process to go on with the same chain of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedAttempt {
    pub(super) run_ticket_id: RunTicketId,
    /// Cursor of the frame that brought the ticket.
    pub(super) cursor: u64,
    pub(super) stage: Stage,
    /// Number of the next metering row.
    pub(super) next_seq: u32,
    /// Hash of the last row; zeros before the first.
    pub(super) last_hash: Hash32,
    /// The counters of the last row.
    pub(super) usage: Progress,
    /// The last metering command, as it was or was about to be sent, in hex; its key follows from
    /// `next_seq`. A restarted agent sends it again rather than another under the same key.
    pub(super) last_command: String,
}

impl SavedAttempt {
    pub(super) fn new(run_ticket_id: RunTicketId, cursor: u64) -> Self {
        Self {
            run_ticket_id,
            cursor,
            stage: Stage::Running,
            next_seq: 0,
            last_hash: Hash32::from_bytes([0; 32]),
            usage: Progress::default(),
            last_command: String::new(),
        }
    }
}

impl LedgerHome {
    pub(super) fn spool(&self) -> Result<Spool, AgentError> {
        Ok(Spool::open(self.directory.join("spool"), Limits::default())?)
    }

    /// The key that tickets must be signed by: the one kept here, else `offered`, which is kept from now on.
    /// A house that comes with another key is not the one this agent knows.
    pub(super) fn pin_service_key(&self, offered: PublicKey) -> Result<PublicKey, AgentError> {
        let path = self.directory.join("service-key");
        let Some(kept) = read_if_there(&path)? else {
            replace(&path, offered.to_string().as_bytes(), Survives::PowerLoss)?;
            return Ok(offered);
        };
        let kept = String::from_utf8_lossy(&kept).trim().to_owned();
        if kept == offered.to_string() {
            Ok(offered)
        } else {
            Err(AgentError::OtherServiceKey { kept, offered: offered.to_string(), path })
        }
    }

    /// How far the agent is, and what it earned up to there: one file, so that they cannot disagree.
    pub(super) fn progress(&self) -> Result<Stored, FileError> {
        Ok(self.load("progress.json")?.unwrap_or_default())
    }

    pub(super) fn save_progress(&self, progress: &Stored) -> Result<(), FileError> {
        self.save("progress.json", progress, Survives::PowerLoss)
    }

    pub(super) fn ad(&self) -> Result<SavedAd, FileError> {
        Ok(self.load("ad.json")?.unwrap_or_default())
    }

    pub(super) fn save_ad(&self, ad: &SavedAd) -> Result<(), FileError> {
        self.save("ad.json", ad, Survives::PowerLoss)
    }

    pub(super) fn attempt(&self, ticket: RunTicketId) -> Result<Option<SavedAttempt>, FileError> {
        self.load(&attempt_name(ticket))
    }

    /// Keeps what is known of an attempt.
    ///
    /// Against power loss only while it has rows behind it that a new beginning would contradict. An attempt
    /// whose only row was lost is executed and metered anew, and the house keeps the first row as it came.
    pub(super) fn save_attempt(&self, attempt: &SavedAttempt) -> Result<(), FileError> {
        let survives = if attempt.next_seq > 1 { Survives::PowerLoss } else { Survives::Kill };
        self.save(&attempt_name(attempt.run_ticket_id), attempt, survives)
    }

    /// Forgets the attempts whose tickets will not come again now that `cursor` is stored: a ticket that was
    /// not done with would have held the cursor back.
    pub(super) fn forget_attempts(&self, cursor: u64) -> Result<(), FileError> {
        let directory = self.directory.join("attempts");
        for entry in fs::read_dir(&directory).map_err(failed("list", &directory))? {
            let name = entry.map_err(failed("list", &directory))?.file_name();
            let name = format!("attempts/{}", name.to_string_lossy());
            let attempt: Option<SavedAttempt> = self.load(&name)?;
            if attempt.is_some_and(|attempt| attempt.cursor <= cursor) {
                remove_if_there(&self.directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Forgets one attempt.
    pub(super) fn forget_attempt(&self, ticket: RunTicketId) -> Result<(), FileError> {
        remove_if_there(&self.directory.join(attempt_name(ticket)))
    }

    /// None as well for a file that a power loss has torn: what it said is then learnt again.
    fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FileError> {
        let path = self.directory.join(name);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "passed over a file that cannot be read");
                Ok(None)
            }
        }
    }

    fn save<T: Serialize>(&self, name: &str, value: &T, survives: Survives) -> Result<(), FileError> {
        let path = self.directory.join(name);
        let bytes = serde_json::to_vec(value).map_err(|e| failed("encode", &path)(e.into()))?;
        replace(&path, &bytes, survives)
    }
}

fn attempt_name(ticket: RunTicketId) -> String {
    format!("attempts/{ticket}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(n: u8) -> RunTicketId {
        RunTicketId::from_bytes([n; 16])
    }

    #[test]
    fn an_agent_keeps_its_key_and_its_folder_to_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("home");
        let first = Home::open(&path).unwrap();
        let second = Home::open(&path).unwrap_err();
        assert!(matches!(second, AgentError::HomeInUse { .. }), "{second}");
        let key_id = first.key.id();
        drop(first);
        assert_eq!(Home::open(&path).unwrap().key.id(), key_id);
    }

    #[test]
    fn what_is_saved_is_there_in_the_next_life_and_apart_per_ledger() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let ledger = home.ledger("econ.example/1").unwrap();
        assert_eq!(ledger.progress().unwrap(), Stored::default());
        let mut progress = Stored { cursor: 7, ..Stored::default() };
        progress.earnings.settled = 3;
        progress.earnings.earned.insert(1, proto::money::Amount::MAX);
        ledger.save_progress(&progress).unwrap();
        let ad = SavedAd { number: 2, hash: "ab".to_owned(), taken: true };
        ledger.save_ad(&ad).unwrap();
        assert_eq!(home.ledger("econ.example/1").unwrap().progress().unwrap(), progress);
        assert_eq!(ledger.ad().unwrap(), ad);
        assert_eq!(home.ledger("econ.example/2").unwrap().progress().unwrap().cursor, 0);
    }

    #[test]
    fn attempts_are_forgotten_when_the_cursor_has_passed_them() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Home::open(directory.path()).unwrap().ledger("x").unwrap();
        let attempt = |n, cursor, stage| {
            let mut attempt = SavedAttempt::new(ticket(n), cursor);
            (attempt.stage, attempt.next_seq) = (stage, u32::from(n));
            attempt.last_command = format!("0{n}");
            ledger.save_attempt(&attempt).unwrap();
            attempt
        };
        attempt(1, 5, Stage::Running);
        attempt(2, 8, Stage::Done);
        let later = attempt(3, 9, Stage::Done);
        ledger.forget_attempts(8).unwrap();
        assert_eq!(ledger.attempt(ticket(1)).unwrap(), None);
        assert_eq!(ledger.attempt(ticket(2)).unwrap(), None);
        assert_eq!(ledger.attempt(ticket(3)).unwrap(), Some(later));
        ledger.forget_attempt(ticket(3)).unwrap();
        assert_eq!(ledger.attempt(ticket(3)).unwrap(), None);
    }

    #[test]
    fn a_torn_file_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Home::open(directory.path()).unwrap().ledger("x").unwrap();
        fs::write(ledger.directory.join("progress.json"), b"{\"cur").unwrap();
        assert_eq!(ledger.progress().unwrap(), Stored::default());
    }

    #[test]
    fn a_house_with_another_service_key_is_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Home::open(directory.path()).unwrap().ledger("x").unwrap();
        let (one, two) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
        assert_eq!(ledger.pin_service_key(*one.public()).unwrap(), *one.public());
        assert_eq!(ledger.pin_service_key(*one.public()).unwrap(), *one.public());
        let error = ledger.pin_service_key(*two.public()).unwrap_err();
        assert!(matches!(error, AgentError::OtherServiceKey { .. }), "{error}");
    }
}
