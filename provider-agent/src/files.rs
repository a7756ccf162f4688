//! Small files that must be whole or absent: private to their owner, replaced atomically, durable on request.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Turns an I/O error into a [`FileError`] that says what was tried on what.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

/// Opens for writing, readable by the owner only: keys and job contents are nobody else's business.
pub(crate) fn private_file(path: &Path, truncate: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(truncate);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a directory, and those above it, for the owner only. One that exists is left as it is.
pub(crate) fn create_private_directory(path: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed("create", path))
}

/// Makes renames and creations in `path` durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|d| d.sync_all()).map_err(failed("fsync", path))
}

/// Writes a file and leaves it on stable storage, its name excepted.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = private_file(path, true).map_err(failed("create", path))?;
    file.write_all(bytes).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("fsync", path))
}

/// How much a replaced file must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survives {
    /// The death of this process: the file is whole, old or new. No fsync.
    Kill,
    /// The death of the machine.
    PowerLoss,
}

/// Replaces a file as one step: whoever reads it sees the old bytes or the new.
pub(crate) fn replace(path: &Path, bytes: &[u8], survives: Survives) -> Result<(), FileError> {
    let temporary = path.with_extension("tmp");
    match survives {
        Survives::PowerLoss => write_synced(&temporary, bytes)?,
        Survives::Kill => {
            let written = private_file(&temporary, true).and_then(|mut file| file.write_all(bytes));
            written.map_err(failed("write", &temporary))?;
        }
    }
    fs::rename(&temporary, path).map_err(failed("rename to", path))?;
    match (survives, path.parent()) {
        (Survives::PowerLoss, Some(directory)) => sync_directory(directory),
        _ => Ok(()),
    }
}

/// Reads a file; None when there is none.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Takes the advisory lock of `path`, creating the file; None when another process has it. The kernel frees
/// it when the returned file is dropped or its process dies.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, FileError> {
    let file = private_file(path, false).map_err(failed("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(e)) => Err(failed("lock", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        assert_eq!(read_if_there(&path).unwrap(), None);
        for (bytes, survives) in [(&b"one"[..], Survives::Kill), (b"two", Survives::PowerLoss)] {
            replace(&path, bytes, survives).unwrap();
            assert_eq!(read_if_there(&path).unwrap().as_deref(), Some(bytes));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        remove_if_there(&path).unwrap();
        remove_if_there(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_is_held_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }
}
