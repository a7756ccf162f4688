//! The folder that backups are kept in.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::fcntl::OFlag;
use proto::keys::PublicKey;

use super::archive::ArchiveState;
use super::manifest::{Kind, MANIFEST, Set};
use super::segments::Segment;
use super::{BackupError, files};
use crate::cluster::ClusterError;

/// Beginning of a set's name while it is made.
const UNFINISHED: &str = ".new-";

/// A folder for backups.
#[derive(Debug, Clone)]
pub struct Repository {
    dir: PathBuf,
}

/// WAL that no set in the folder needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removable {
    /// The folder of the stretch.
    pub folder: PathBuf,
    /// The first segment that is still needed; `None`: no set begins in this stretch.
    pub needed_from: Option<String>,
    /// How many segments could go.
    pub segments: u64,
}

impl Repository {
    /// The folder at `path`, made when missing, unless the data dir's WAL is archived to it: then its disk is not there, `UB421`.
    /// `UB125` when it and the data dir lie in each other: then one `rm` takes both. `UB303` when others can write to it.
    ///
    /// # Errors
    /// Besides that, what the file system says.
    pub fn open(path: &Path, data_dir: &Path) -> Result<Repository, BackupError> {
        if let Some(state) = ArchiveState::read(data_dir)?
            && state.repository == files::resolve(path)
        {
            let repository = Repository { dir: state.repository };
            repository.is_there(None)?;
            return Ok(repository);
        }
        let dir = files::resolve_folder(path)?;
        let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_path_buf());
        if dir.starts_with(&data_dir) || data_dir.starts_with(&dir) {
            return Err(BackupError::new(
                "UB125",
                format!(
                    "the folder for backups {} and the data dir {} lie in each other: whatever destroys one would take the \
                     other along. Name a folder elsewhere, best on another disk",
                    dir.display(),
                    data_dir.display()
                ),
            ));
        }
        let repository = Repository { dir };
        files::make_folder(&repository.sets())?;
        files::make_folder(&repository.wal())?;
        repository.is_there(None)?;
        Ok(repository)
    }

    /// Insists that the folder is there as it was made, and this folder of a stretch in it: `UB421`. Nothing is made anew.
    /// And that nobody else can write to them: `UB303`.
    pub(super) fn is_there(&self, stretch: Option<&Path>) -> Result<(), BackupError> {
        let (sets, wal) = (self.sets(), self.wal());
        for folder in [self.dir.as_path(), &sets, &wal].into_iter().chain(stretch) {
            let Ok(meta) = fs::symlink_metadata(folder) else {
                return Err(BackupError::new(
                    "UB421",
                    format!(
                        "{} is not there: mount the disk of the backups, or put the folder back. Nothing is made in its place. \
                         Only to give that archive up, start once with --no-wal-archive, then with --wal-archive",
                        folder.display()
                    ),
                ));
            };
            refuse_others(folder, &meta)?;
        }
        Ok(())
    }

    /// The folder at `path` as it is, for reading.
    pub(super) fn at(path: &Path) -> Repository {
        Repository { dir: path.to_owned() }
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn sets(&self) -> PathBuf {
        self.dir.join("sets")
    }

    pub(super) fn wal(&self) -> PathBuf {
        self.dir.join("wal")
    }

    /// One maker of sets at a time. What killed ones have left is removed. `UB505` while another works, `UB421` as there.
    pub(super) fn lock(&self) -> Result<RepositoryLock, BackupError> {
        self.is_there(None)?;
        let path = self.dir.join("lock");
        let mut open = OpenOptions::new();
        open.create(true).truncate(false).write(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = open.open(&path);
        let file = file.map_err(ClusterError::io("cannot open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BackupError::new(
                    "UB505",
                    format!("another backup is being made into {}: wait for it", self.dir.display()),
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Err(ClusterError::io("cannot lock", path)(error).into());
            }
        }
        for name in names(&self.sets())?.iter().filter(|name| name.starts_with(UNFINISHED)) {
            remove_left_over(&self.sets().join(name));
        }
        Ok(RepositoryLock { _file: file })
    }

    pub(super) fn unfinished(&self, name: &str) -> PathBuf {
        self.sets().join(format!("{UNFINISHED}{name}"))
    }

    /// Whole sets, oldest first. With a key those that it vouches for; others are passed over with a warning.
    pub(super) fn read_sets(&self, key: Option<&PublicKey>) -> Result<Vec<Set>, BackupError> {
        let mut sets = Vec::new();
        for name in names(&self.sets())? {
            let dir = self.sets().join(&name);
            if name.starts_with('.') || !dir.join(MANIFEST).exists() {
                continue;
            }
            match Set::read(&dir, key) {
                Ok(set) if set.manifest.name == name => sets.push(set),
                Ok(_) => {
                    tracing::warn!(set = %dir.display(), "passed over: it has another name than its manifest")
                }
                Err(error) => tracing::warn!(set = %dir.display(), %error, "passed over"),
            }
        }
        sets.sort_by_key(|set| set.manifest.finished_at_us);
        Ok(sets)
    }

    /// Whether some base begins in a stretch, so that its WAL can be of use.
    pub(super) fn has_base_of(&self, stretch: &str, key: &PublicKey) -> Result<bool, BackupError> {
        let of_it =
            |set: &Set| set.manifest.wal.as_ref().and_then(|wal| wal.stretch.as_deref()) == Some(stretch);
        Ok(self.read_sets(Some(key))?.iter().any(of_it))
    }

    /// WAL that no base in this folder needs, by stretch. `live` is the one that grows now. Nothing is removed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn removable(&self, live: Option<&str>) -> Result<Vec<Removable>, BackupError> {
        let sets = self.read_sets(None)?;
        let mut found = Vec::new();
        for stretch in names(&self.wal())? {
            let folder = self.wal().join(&stretch);
            let begins = sets
                .iter()
                .filter(|set| set.manifest.kind == Kind::Base)
                .filter_map(|set| set.manifest.wal.as_ref())
                .filter(|wal| wal.stretch.as_deref() == Some(stretch.as_str()));
            let needed_from = begins.map(|wal| wal.first_segment.clone()).min();
            if needed_from.is_none() && live == Some(stretch.as_str()) {
                continue;
            }
            let spare = names(&folder)?.into_iter().filter(|name| Segment::parse(name).is_some());
            let spare = spare.filter(|name| needed_from.as_ref().is_none_or(|needed| name < needed));
            let segments = spare.count() as u64;
            if segments > 0 {
                found.push(Removable { folder, needed_from, segments });
            }
        }
        Ok(found)
    }
}

/// Whoever else writes to a folder could lead our files elsewhere, and have changed ones signed while they are made.
fn refuse_others(folder: &Path, meta: &Metadata) -> Result<(), BackupError> {
    const OTHERS_WRITE: u32 = 0o022;
    let us = nix::unistd::geteuid().as_raw();
    let why = if !meta.is_dir() {
        "is no folder".to_owned()
    } else if meta.uid() != us && meta.uid() != 0 {
        format!("belongs to the user {}, and econ runs as {us}", meta.uid())
    } else if meta.mode() & OTHERS_WRITE != 0 {
        "can be written to by others".to_owned()
    } else {
        return Ok(());
    };
    let message = format!(
        "{} {why}: whoever writes there could have changed copies signed. `chown` it to the user that runs econ, `chmod go-w` it, \
         and let others fetch from it only",
        folder.display()
    );
    Err(BackupError::new("UB303", message))
}

/// Removes what a killed maker left. Its pg_basebackup may live on and write for a moment, until it misses its folder.
fn remove_left_over(dir: &Path) {
    const TRIES: u32 = 40;
    for attempt in 1..=TRIES {
        match fs::remove_dir_all(dir) {
            Ok(()) => return,
            Err(error) if attempt == TRIES && dir.exists() => {
                tracing::warn!(folder = %dir.display(), %error, "left for the next backup to remove");
            }
            Err(_) => std::thread::sleep(Duration::from_millis(25)),
        }
    }
}

/// Held while a set is made.
#[derive(Debug)]
pub(super) struct RepositoryLock {
    // Close-on-exec: a program of Postgres that outlives us does not keep it.
    _file: File,
}

/// Names in a folder, sorted; none when it is missing.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, BackupError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(ClusterError::io("cannot read", dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ClusterError::io("cannot read", dir))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// A name that sorts by time and is nobody else's: `20261126T101112Z-base-1a2b3c4d`.
pub(super) fn fresh_name(what: &str) -> String {
    let at = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    format!("{at}-{what}-{:08x}", rand::random::<u32>())
}
