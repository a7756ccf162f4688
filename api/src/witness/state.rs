//! What a witness remembers: the newest size and root of each log, a file each, replaced whole and fsynced.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ledger::pipeline::write_durably;
use proto::merkle::TreeHash;
use proto::note::{Checkpoint, NoteName, parse_checkpoint_text};
use sha2::{Digest as _, Sha256};

/// The newest tree of a log that was cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) size: u64,
    pub(super) root: TreeHash,
}

/// The memory of one witness.
pub(super) struct Store {
    dir: PathBuf,
    seen: HashMap<NoteName, Seen>,
    /// Held for its lock only: two processes with one key and one memory would cosign twice.
    _lock: File,
}

impl Store {
    /// Reads what is there. A file that cannot be read is an error: a witness that forgot would cosign a fork.
    pub(super) fn open(dir: &Path) -> Result<Self, String> {
        let folder = dir.join("seen");
        // The folder is made before the key. With its old key and no memory it would cosign a fork of what it cosigned.
        if dir.join(super::KEY_FILE).exists() && !folder.exists() {
            return Err(
                "its key is there and what it has seen is gone: start a new one in another folder".to_owned()
            );
        }
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join("witness.lock"));
        let lock = lock.map_err(|error| error.to_string())?;
        lock.try_lock().map_err(|error| format!("another witness uses it ({error})"))?;
        let mut seen = HashMap::new();
        for entry in fs::read_dir(&folder).map_err(|error| error.to_string())? {
            let path = entry.map_err(|error| error.to_string())?.path();
            // What a crash left half written beside it was never cosigned.
            if path.extension().is_none_or(|ending| ending != "checkpoint") {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let checkpoint =
                parse_checkpoint_text(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            seen.insert(checkpoint.origin, Seen { size: checkpoint.size, root: checkpoint.root });
        }
        Ok(Self { dir: folder, seen, _lock: lock })
    }

    pub(super) fn seen(&self, origin: &NoteName) -> Option<Seen> {
        self.seen.get(origin).copied()
    }

    /// Remembers, on stable storage first.
    pub(super) fn keep(&mut self, origin: &NoteName, seen: Seen) -> std::io::Result<()> {
        let name = hex::encode(Sha256::digest(origin.as_str()));
        let text = Checkpoint { origin: origin.clone(), size: seen.size, root: seen.root }.text();
        write_durably(&self.dir.join(format!("{name}.checkpoint")), text.as_bytes())?;
        self.seen.insert(origin.clone(), seen);
        Ok(())
    }
}
