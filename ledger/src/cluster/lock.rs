//! One econ per data dir: an advisory `flock` on `<data>/econ.lock`. The kernel lets go of it when the holder dies, however
//! it dies, so a lock is never stale; the pid in the file is only there to be told to people.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ClusterError;
use super::user::give_to_owner_of;

/// How often, and how far apart, a busy lock is tried again before it counts as held: `DataDirLock::holder` of another process
/// takes the lock for an instant, and must not make a start fail.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(15);

/// The right to run on a data dir, held until dropped.
#[derive(Debug)]
pub struct DataDirLock {
    data_dir: PathBuf,
    // Held for its lock only. Opened close-on-exec, so no child of ours keeps the lock alive.
    _file: File,
}

impl DataDirLock {
    /// Takes the lock of `data_dir`, creating the directory when it is missing.
    ///
    /// # Errors
    /// [`ClusterError::Locked`] when another process, or another part of this one, holds it; [`ClusterError::Io`].
    pub fn acquire(data_dir: &Path) -> Result<DataDirLock, ClusterError> {
        super::user::create_data_dir(data_dir)?;
        let data_dir =
            data_dir.canonicalize().map_err(ClusterError::io("cannot resolve the data dir", data_dir))?;
        let path = data_dir.join("econ.lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(ClusterError::io("cannot open the lock file", &path))?;
        if !try_lock(&file, &path)? {
            return Err(ClusterError::Locked { pid: read_pid(&mut file), data_dir });
        }
        // Root working on somebody's data dir must not leave a lock that its owner cannot open.
        give_to_owner_of(&data_dir, &path)?;
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(ClusterError::io("cannot write the lock file", &path))?;
        Ok(DataDirLock { data_dir, _file: file })
    }

    /// The pid of the process that holds the lock of `data_dir` now, or `None` when it is free.
    ///
    /// # Errors
    /// [`ClusterError::Io`].
    pub fn holder(data_dir: &Path) -> Result<Option<u32>, ClusterError> {
        let path = data_dir.join("econ.lock");
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ClusterError::io("cannot open the lock file", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_pid(&mut file))),
            Err(TryLockError::Error(error)) => Err(ClusterError::io("cannot lock", &path)(error)),
        }
    }

    /// The data dir, absolute and without links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

fn try_lock(file: &File, path: &Path) -> Result<bool, ClusterError> {
    for attempt in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if attempt + 1 < TRIES => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(ClusterError::io("cannot lock", path)(error)),
        }
    }
    Ok(false)
}

fn read_pid(file: &mut File) -> u32 {
    let mut text = String::new();
    // An unreadable pid only makes the message poorer: 0 says "unknown".
    if file.seek(SeekFrom::Start(0)).is_ok() && file.read_to_string(&mut text).is_ok() {
        return text.trim().parse().unwrap_or(0);
    }
    0
}
