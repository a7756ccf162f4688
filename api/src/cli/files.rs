//! Files that must be whole or absent, and durable.

use std::io::Write as _;
use std::path::Path;

use super::failure::{Failure, Outcome};

/// Reads a file; `None` when there is none.
pub(crate) fn read_if_there(path: &Path) -> Outcome<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("cannot read", path)(error)),
    }
}

/// Replaces a file as one step and leaves it on stable storage; its folder is made when missing.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Outcome {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(Failure::io("cannot create", folder))?;
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(Failure::io("cannot write", path))?;
    sync_parent(path)
}

/// Where a file is; a bare name has an empty parent, which cannot be opened.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes creations and renames beside `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Outcome {
    let folder = folder_of(path);
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Failure::io("cannot sync", folder))
}
