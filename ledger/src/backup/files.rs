//! Trees of plain files: listed, hashed, and copied only as they were listed.
//!
//! Links are never followed: a backup folder that somebody else may write to must not lead a root process elsewhere.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;

use super::BackupError;
use crate::cluster::ClusterError;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;

/// What is below a folder, by path from it, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) files: Vec<String>,
    pub(super) folders: Vec<String>,
}

impl Tree {
    /// Everything below `root`; anything that is neither file nor folder is refused.
    pub(super) fn of(root: &Path) -> Result<Tree, BackupError> {
        let mut tree = Tree::default();
        tree.walk(root, "")?;
        tree.files.sort();
        tree.folders.sort();
        Ok(tree)
    }

    fn walk(&mut self, dir: &Path, prefix: &str) -> Result<(), BackupError> {
        for entry in fs::read_dir(dir).map_err(ClusterError::io("cannot read", dir))? {
            let entry = entry.map_err(ClusterError::io("cannot read", dir))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(ClusterError::io("cannot look at", &path))?;
            let name = entry.file_name().into_string().ok().filter(|name| !name.contains(['\n', '\\']));
            let Some(name) = name.filter(|_| kind.is_file() || kind.is_dir()) else {
                return Err(BackupError::new(
                    "UB605",
                    format!(
                        "{} is neither a file nor a folder with a plain name: links, and tablespaces elsewhere, are not copied",
                        path.display()
                    ),
                ));
            };
            let relative = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if kind.is_dir() {
                self.walk(&path, &relative)?;
                self.folders.push(relative);
            } else {
                self.files.push(relative);
            }
        }
        Ok(())
    }
}

/// Hashes of files by path, written and read as `b3sum` does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hashes(pub(super) BTreeMap<String, blake3::Hash>);

impl Hashes {
    /// Hashes each of these files below `root`; also the sum of their bytes.
    pub(super) fn of(root: &Path, files: &[String]) -> Result<(Hashes, u64), BackupError> {
        let mut hashes = BTreeMap::new();
        let mut bytes = 0;
        for name in files {
            let (hash, length) = read_through(&root.join(name), |_| Ok(()))?;
            bytes += length;
            hashes.insert(name.clone(), hash);
        }
        Ok((Hashes(hashes), bytes))
    }

    pub(super) fn to_text(&self) -> String {
        self.0.iter().map(|(name, hash)| format!("{}  {name}\n", hash.to_hex())).collect()
    }

    /// `None` when it is not such a list, or names something outside its folder.
    pub(super) fn parse(text: &str) -> Option<Hashes> {
        let mut hashes = BTreeMap::new();
        for line in text.lines() {
            let (hex, name) = line.split_once("  ")?;
            let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            if !plain || name.is_empty() {
                return None;
            }
            hashes.insert(name.to_owned(), blake3::Hash::from_hex(hex).ok()?);
        }
        Some(Hashes(hashes))
    }
}

/// Reads a plain file from its beginning to its end; its hash and its length.
pub(super) fn read_through(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<(blake3::Hash, u64), BackupError> {
    let mut file = open_plain(path)?;
    let mut block = vec![0; BLOCK];
    let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
    loop {
        let n = file.read(&mut block).map_err(ClusterError::io("cannot read", path))?;
        let Some(read) = block.get(..n).filter(|read| !read.is_empty()) else { break };
        hasher.update(read);
        each(read).map_err(ClusterError::io("cannot copy", path))?;
        length += n as u64;
    }
    Ok((hasher.finalize(), length))
}

/// Opens a file for reading, unless it is a link or a pipe.
pub(super) fn open_plain(path: &Path) -> Result<File, BackupError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let open = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = open.map_err(ClusterError::io("cannot open", path))?;
    let meta = file.metadata().map_err(ClusterError::io("cannot look at", path))?;
    if !meta.is_file() {
        return Err(BackupError::new("UB605", format!("{} is not a plain file", path.display())));
    }
    Ok(file)
}

/// Reads a small file whole.
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>, BackupError> {
    const LIMIT: u64 = 64 << 20;
    let mut bytes = Vec::new();
    open_plain(path)?.take(LIMIT).read_to_end(&mut bytes).map_err(ClusterError::io("cannot read", path))?;
    Ok(bytes)
}

/// Copies a file that must have this hash; what is written is what was compared. `None`: whatever it has. The hash found.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    expected: Option<&blake3::Hash>,
) -> Result<blake3::Hash, BackupError> {
    let mut target = create(to)?;
    let (hash, _) = read_through(from, |block| target.write_all(block))?;
    if expected.is_some_and(|expected| *expected != hash) {
        return Err(BackupError::new(
            "UB605",
            format!(
                "{} is not what was backed up: it was damaged or changed. Take another set",
                from.display()
            ),
        ));
    }
    Ok(hash)
}

/// A new file, for its owner only.
pub(super) fn create(path: &Path) -> Result<File, BackupError> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    Ok(open.map_err(ClusterError::io("cannot create", path))?)
}

/// A folder for its owner only, with those above it; one that is there stays as it is.
pub(super) fn make_folder(path: &Path) -> Result<(), BackupError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    Ok(made.map_err(ClusterError::io("cannot create", path))?)
}

/// A folder for its owner only, in one that is there.
pub(super) fn make_one_folder(path: &Path) -> Result<(), BackupError> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    Ok(made.map_err(ClusterError::io("cannot create", path))?)
}

/// Replaces a file as one step and leaves it on stable storage, in a folder that is there: a disk that is gone is not written
/// to on its mount point.
pub(super) fn write_into(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(dir)?.sync_all()
    };
    Ok(write().map_err(ClusterError::io("cannot write", path))?)
}

/// Replaces a file as one step and leaves it on stable storage.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    Ok(crate::pipeline::write_durably(path, bytes).map_err(ClusterError::io("cannot write", path))?)
}

/// Puts a tree of files and its folders on stable storage.
pub(super) fn sync_tree(root: &Path, tree: &Tree) -> Result<(), BackupError> {
    for name in tree.files.iter().chain(&tree.folders) {
        sync(&root.join(name))?;
    }
    sync(root)
}

/// Puts one file's contents, or one folder's entries, on stable storage.
pub(super) fn sync(path: &Path) -> Result<(), BackupError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    Ok(synced.map_err(ClusterError::io("cannot sync", path))?)
}

/// Where a path leads, without links as far as there is anything, and whether or not there is.
pub(super) fn resolve(path: &Path) -> PathBuf {
    /// As the kernel: links that go on for longer lead nowhere.
    const LINKS: u32 = 40;
    fn follow(path: &Path, links: u32) -> PathBuf {
        if let Ok(found) = path.canonicalize() {
            return found;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
        let parent = follow(parent, links);
        match fs::read_link(parent.join(name)) {
            Ok(target) if links > 0 => follow(&parent.join(target), links - 1),
            _ => parent.join(name),
        }
    }
    follow(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()), LINKS)
}

/// An absolute path without links, made as a folder when missing.
pub(super) fn resolve_folder(path: &Path) -> Result<PathBuf, BackupError> {
    make_folder(path)?;
    Ok(path.canonicalize().map_err(ClusterError::io("cannot resolve", path))?)
}
