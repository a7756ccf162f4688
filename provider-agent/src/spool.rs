//! A durable outbox: what the agent has to tell the API while the API is away.
//!
//! One item is one file, named by an increasing number, so the directory listing is the queue. An item is
//! written to a temporary file, fsynced, renamed and the directory fsynced before [`Spool::append`] returns:
//! what was appended survives SIGKILL and power loss, and a half-written item is never under its final name.
//! [`Spool::ack`] removes an item after the API answered for it; a removal that a power loss undoes is
//! harmless, because the item goes out again under the same idempotency key and gets the stored answer.
//!
//! The spool keeps a request's kind, idempotency key and body, not its signature: the request is signed when
//! it is sent, with a fresh nonce and time, and is still the same request to the API, which judges sameness
//! by key and content.
//!
//! Files that are not whole items (a torn temporary file, a flipped bit, something foreign) are moved to
//! `aside/` with a warning. Nothing is deleted but what was acknowledged.
//!
//! One process at a time: an advisory lock on `lock` is held while a [`Spool`] lives and is freed by the
//! kernel when its process dies.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{
    FileError, create_private_directory, failed, remove_if_there, sync_directory, try_lock, write_synced,
};

/// First eight bytes of every item file.
const MAGIC: [u8; 8] = *b"ECSPOOL1";
/// Magic, BLAKE3 of what follows it, and three little-endian `u32` lengths.
const HEADER_BYTES: usize = 8 + 32 + 12;
const SUFFIX: &str = ".item";
const TEMPORARY_EXTENSION: &str = "tmp";

/// One request that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What kind of request it is, in the words of the sender (say, `metering`).
    pub kind: String,
    /// The idempotency key it is sent under, every time.
    pub idempotency_key: String,
    /// The exact body.
    pub body: Vec<u8>,
}

/// How much a spool may hold. Files set aside do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Waiting items at most.
    pub items_max: usize,
    /// Bytes of waiting items at most, headers included.
    pub bytes_max: u64,
}

impl Default for Limits {
    /// 100,000 items or 1 GiB, whichever comes first: hours of metering.
    fn default() -> Self {
        Self { items_max: 100_000, bytes_max: 1 << 30 }
    }
}

/// Why the spool could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process has the spool open.
    #[error("the spool {} is in use by another process; one agent has one spool", path.display())]
    InUse {
        /// The spool's directory.
        path: PathBuf,
    },
    /// No room for the item: nothing was written.
    #[error(
        "the spool is full ({items} items, {bytes} bytes waiting): the API has been away too long; \
         stop taking work until it answers, or raise the limits"
    )]
    Full {
        /// Items waiting.
        items: usize,
        /// Bytes waiting.
        bytes: u64,
    },
    /// The work on the spool was cut short (a panic, or the process is ending).
    #[error("the work on the spool was interrupted: {0}")]
    Interrupted(String),
    /// Part of the item is too long for the file format, whose lengths are 32 bits.
    #[error("the item's {part} is longer than 4 GiB")]
    TooLong {
        /// Which part.
        part: &'static str,
    },
}

/// The outbox in one directory.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    limits: Limits,
    /// Size in bytes of each waiting item, by number.
    waiting: BTreeMap<u64, u64>,
    bytes: u64,
    next_seq: u64,
    set_aside: usize,
    /// Held, not used: dropping it frees the lock.
    _lock: File,
}

impl Spool {
    /// Opens the spool in `directory`, which is created when missing, and takes stock of what waits there.
    ///
    /// # Errors
    /// [`SpoolError::InUse`] when another process has it open, [`SpoolError::File`].
    pub fn open(directory: impl Into<PathBuf>, limits: Limits) -> Result<Self, SpoolError> {
        let directory = directory.into();
        create_private_directory(&directory)?;
        let Some(lock) = try_lock(&directory.join("lock"))? else {
            return Err(SpoolError::InUse { path: directory });
        };
        let mut spool = Self {
            directory,
            limits,
            waiting: BTreeMap::new(),
            bytes: 0,
            next_seq: 1,
            set_aside: 0,
            _lock: lock,
        };
        spool.take_stock()?;
        Ok(spool)
    }

    /// Adds `item` at the end and returns its number, once it is on stable storage.
    ///
    /// # Errors
    /// [`SpoolError::Full`] (nothing was written), [`SpoolError::TooLong`], [`SpoolError::File`] (the item may
    /// or may not be there after a restart; sending it twice is harmless).
    pub fn append(&mut self, item: &Item) -> Result<u64, SpoolError> {
        let encoded = encode(item)?;
        let size = encoded.len() as u64;
        if self.waiting.len() >= self.limits.items_max || self.bytes + size > self.limits.bytes_max {
            return Err(SpoolError::Full { items: self.waiting.len(), bytes: self.bytes });
        }
        let seq = self.next_seq;
        let path = self.path_of(seq);
        let temporary = path.with_extension(TEMPORARY_EXTENSION);
        if let Err(error) = write_synced(&temporary, &encoded) {
            // The half-written file would only be set aside later; a failure here changes nothing.
            let _ = fs::remove_file(&temporary);
            return Err(error.into());
        }
        fs::rename(&temporary, &path).map_err(failed("rename to", &path))?;
        // From here on the file is there, whether or not the next step fails: its number is spent.
        self.next_seq += 1;
        self.waiting.insert(seq, size);
        self.bytes += size;
        sync_directory(&self.directory)?;
        Ok(seq)
    }

    /// The oldest waiting item and its number; None when nothing waits. It stays until [`Self::ack`].
    ///
    /// Items that turn out damaged are set aside on the way, with a warning.
    ///
    /// # Errors
    /// [`SpoolError::File`].
    pub fn oldest(&mut self) -> Result<Option<(u64, Item)>, SpoolError> {
        self.oldest_after(0)
    }

    /// The oldest waiting item with a number above `seq`: for a sender that has several requests on the way.
    ///
    /// # Errors
    /// [`SpoolError::File`].
    pub fn oldest_after(&mut self, seq: u64) -> Result<Option<(u64, Item)>, SpoolError> {
        while let Some((&seq, _)) = self.waiting.range(seq.saturating_add(1)..).next() {
            let path = self.path_of(seq);
            match fs::read(&path) {
                Ok(bytes) => match decode(&bytes) {
                    Ok(item) => return Ok(Some((seq, item))),
                    Err(reason) => {
                        self.put_aside(&path, reason)?;
                        self.forget(seq);
                    }
                },
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), "a spooled item was removed by somebody else");
                    self.forget(seq);
                }
                Err(e) => return Err(failed("read", &path)(e).into()),
            }
        }
        Ok(None)
    }

    /// Removes the item `seq`: the API has answered for it. Removing what is not there does nothing.
    ///
    /// # Errors
    /// [`SpoolError::File`]; the item then stays and will be sent again.
    pub fn ack(&mut self, seq: u64) -> Result<(), SpoolError> {
        if !self.waiting.contains_key(&seq) {
            return Ok(());
        }
        remove_if_there(&self.path_of(seq))?;
        self.forget(seq);
        Ok(())
    }

    /// Waiting items.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the waiting items.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Files set aside since this spool was opened.
    pub const fn set_aside(&self) -> usize {
        self.set_aside
    }

    fn path_of(&self, seq: u64) -> PathBuf {
        self.directory.join(format!("{seq:020}{SUFFIX}"))
    }

    fn forget(&mut self, seq: u64) {
        self.bytes -= self.waiting.remove(&seq).unwrap_or(0);
    }

    /// Lists the directory; contents are read, and judged, when their turn comes.
    fn take_stock(&mut self) -> Result<(), SpoolError> {
        let directory = self.directory.clone();
        for entry in fs::read_dir(&directory).map_err(failed("list", &directory))? {
            let entry = entry.map_err(failed("list", &directory))?;
            let path = entry.path();
            let metadata = entry.metadata().map_err(failed("look at", &path))?;
            if metadata.is_dir() || entry.file_name() == "lock" {
                continue;
            }
            match entry.file_name().to_str().and_then(seq_of) {
                Some(seq) => {
                    self.next_seq = self.next_seq.max(seq.saturating_add(1));
                    self.waiting.insert(seq, metadata.len());
                    self.bytes += metadata.len();
                }
                None => self.put_aside(&path, "its name is not that of an item")?,
            }
        }
        Ok(())
    }

    /// Moves a file to `aside/` under a name that nothing has yet.
    fn put_aside(&mut self, path: &Path, reason: &'static str) -> Result<(), SpoolError> {
        let aside = self.directory.join("aside");
        create_private_directory(&aside)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = (0_u64..)
            .map(|n| aside.join(format!("{name}.{n}")))
            .find(|candidate| !candidate.exists())
            .unwrap_or_else(|| aside.join(name.as_ref()));
        fs::rename(path, &target).map_err(failed("set aside", path))?;
        sync_directory(&aside)?;
        sync_directory(&self.directory)?;
        self.set_aside += 1;
        tracing::warn!(from = %path.display(), to = %target.display(), reason, "set a spool file aside");
        Ok(())
    }
}

/// The number in a file's name, if it is an item's: twenty digits and the suffix.
fn seq_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Zero is "before the first", and the last number would leave none to come after it.
    digits.parse().ok().filter(|seq| *seq > 0 && *seq < u64::MAX)
}

fn encode(item: &Item) -> Result<Vec<u8>, SpoolError> {
    let parts: [(&'static str, &[u8]); 3] = [
        ("kind", item.kind.as_bytes()),
        ("idempotency key", item.idempotency_key.as_bytes()),
        ("body", &item.body),
    ];
    let mut content = Vec::new();
    for (part, bytes) in parts {
        let length = u32::try_from(bytes.len()).map_err(|_| SpoolError::TooLong { part })?;
        content.extend_from_slice(&length.to_le_bytes());
    }
    for (_, bytes) in parts {
        content.extend_from_slice(bytes);
    }
    Ok([&MAGIC, blake3::hash(&content).as_bytes().as_slice(), &content].concat())
}

fn decode(bytes: &[u8]) -> Result<Item, &'static str> {
    let (header, content) = bytes.split_at_checked(HEADER_BYTES - 12).ok_or("it is shorter than a header")?;
    if header[..8] != MAGIC {
        return Err("it does not begin as an item");
    }
    if header[8..] != *blake3::hash(content).as_bytes() {
        return Err("its checksum does not match");
    }
    // The checksum covers the lengths: from here on only a file that was made wrong can fail.
    let (lengths, mut rest) = content.split_at_checked(12).ok_or("its lengths are missing")?;
    let mut take = |at: usize| {
        let length = u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]);
        let (part, after) = rest.split_at_checked(length as usize).ok_or("a part is cut off")?;
        rest = after;
        Ok::<_, &'static str>(part.to_vec())
    };
    let (kind, key, body) = (take(0)?, take(4)?, take(8)?);
    if !rest.is_empty() {
        return Err("something follows its body");
    }
    let text = |bytes| String::from_utf8(bytes).map_err(|_| "its kind or key is not text");
    Ok(Item { kind: text(kind)?, idempotency_key: text(key)?, body })
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
