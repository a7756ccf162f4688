//! Statements about archived WAL: what Postgres streamed is what will be replayed. Postgres' own checksums find damage; these
//! find a hand.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::keys::{KeyPair, PublicKey};
use proto::note::{parse_statement, sign_statement};
use serde::{Deserialize, Serialize};

use super::repository::names;
use super::segments::Segment;
use super::{BackupError, files, signer};
use crate::cluster::ClusterError;

/// Ending of a statement's file name.
const SEAL: &str = ".seal";
/// The statement about the segment that is still being received.
pub(super) const TAIL: &str = "tail.seal";
/// Ending that pg_receivewal gives it.
pub(super) const PARTIAL: &str = ".partial";
/// How often an idle tail is stated anew: how far the archive reaches in time is what it says.
const IDLE: Duration = Duration::from_secs(2);
/// How often whole segments are looked through although none was added.
const LOOK: Duration = Duration::from_secs(60);

/// What a statement says: so many first bytes of a segment have this hash, and nothing later than `at_us` is missing before
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) segment: String,
    pub(super) length: u64,
    pub(super) hash: blake3::Hash,
    pub(super) at_us: i64,
}

impl Seal {
    fn sign(&self, stretch: &str, key: &KeyPair) -> Result<String, BackupError> {
        let Seal { segment, length, hash, at_us } = self;
        let lines = [format!("wal {stretch}"), format!("{segment} {length} {} {at_us}", hash.to_hex())];
        Ok(sign_statement(&lines, &signer(key.public())?, key))
    }

    /// Reads a statement about WAL of `stretch`. Without a key whatever stands there is believed.
    pub(super) fn parse(note: &str, stretch: &str, key: Option<&PublicKey>) -> Result<Seal, String> {
        let lines = match key {
            Some(key) => {
                let name = signer(key).map_err(|error| error.to_string())?;
                parse_statement(note, &name, key).map_err(|error| error.to_string())?
            }
            None => note.lines().skip(1).take(2).collect(),
        };
        let [of, what] = lines[..] else { return Err("its statement has another form".into()) };
        if of.strip_prefix("wal ") != Some(stretch) {
            return Err("its statement is about another stretch".into());
        }
        let words: Vec<&str> = what.split(' ').collect();
        let seal = match words[..] {
            [segment, length, hash, at_us] => (|| {
                Some(Seal {
                    segment: segment.to_owned(),
                    length: length.parse().ok()?,
                    hash: blake3::Hash::from_hex(hash).ok()?,
                    at_us: at_us.parse().ok()?,
                })
            })(),
            _ => None,
        };
        seal.ok_or_else(|| "its statement cannot be read".into())
    }

    /// Reads the statement in a file; `None` when there is none.
    pub(super) fn read(path: &Path, stretch: &str, key: Option<&PublicKey>) -> Result<Option<Seal>, String> {
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::read_small(path).map_err(|error| error.to_string())?;
        let note = String::from_utf8(bytes).map_err(|_| "its statement is no text".to_owned())?;
        Seal::parse(&note, stretch, key).map(Some)
    }
}

/// The file of the statement about a whole segment.
pub(super) fn path_of(folder: &Path, segment: &str) -> PathBuf {
    folder.join(format!("{segment}{SEAL}"))
}

/// `<data>/wal-sealed.json`.
pub(super) const MEMORY: &str = "wal-sealed.json";

/// What was received and judged of a stretch, kept in the data dir: whoever can write to the archive must not be able to have
/// the same segment sealed twice, or have sealed what we did not receive.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Memory {
    stretch: String,
    /// The newest whole segment that was sealed, or refused.
    judged: Option<String>,
    /// The first bytes of the segment that is being received.
    tail: Option<Received>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Received {
    segment: String,
    length: u64,
    blake3: String,
}

impl Memory {
    /// A stretch that it does not know begins without a memory.
    fn read(data_dir: &Path, stretch: &str) -> Result<Memory, BackupError> {
        let path = data_dir.join(MEMORY);
        if path.exists() {
            let memory: Memory = serde_json::from_slice(&files::read_small(&path)?)
                .map_err(|error| ClusterError::io("cannot read", path)(error.into()))?;
            if memory.stretch == stretch {
                return Ok(memory);
            }
        }
        Ok(Memory { stretch: stretch.to_owned(), ..Memory::default() })
    }

    fn write(&self, data_dir: &Path) -> Result<(), BackupError> {
        let path = data_dir.join(MEMORY);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| BackupError::from(ClusterError::io("cannot encode", &path)(error.into())))?;
        files::write_into(&path, &text)
    }

    fn is_judged(&self, segment: &str) -> bool {
        self.judged.as_deref().is_some_and(|judged| segment <= judged)
    }

    /// What was received of this segment.
    fn received(&self, segment: &str) -> Option<&Received> {
        self.tail.as_ref().filter(|tail| tail.segment == segment)
    }
}

/// Makes statements about the WAL of one stretch as it comes in.
#[derive(Debug)]
pub(super) struct Sealer {
    folder: PathBuf,
    stretch: String,
    key: Arc<KeyPair>,
    data_dir: PathBuf,
    memory: Option<Memory>,
    tail: Option<Tail>,
    looked: Option<Instant>,
    /// What was found wrong with whole segments, until another look finds it mended.
    complaint: Option<String>,
}

#[derive(Debug)]
struct Tail {
    segment: Segment,
    length: u64,
    hasher: blake3::Hasher,
    said: Option<Instant>,
}

impl Sealer {
    pub(super) fn new(folder: PathBuf, stretch: String, key: Arc<KeyPair>, data_dir: PathBuf) -> Sealer {
        Sealer { folder, stretch, key, data_dir, memory: None, tail: None, looked: None, complaint: None }
    }

    /// A receiver that starts again writes the tail anew, so it is read again, and compared with what was received before.
    pub(super) fn forget(&mut self) {
        self.tail = None;
    }

    /// States everything up to `flushed`, which the receiver has on stable storage, and keeps the newest checkpoints.
    /// `now_us`: a moment at which that was all there was. What was changed since it was received, or has lost its statement, is
    /// `UB621`, and the rest is stated all the same.
    pub(super) fn seal(
        &mut self,
        flushed: Option<(Segment, u64)>,
        segment_bytes: u64,
        now_us: i64,
    ) -> Result<(), BackupError> {
        // Evidence first: that it may run ahead of the WAL is the truth about what a restore would lose.
        for (ledger_id, note) in crate::verify::read_outside(&self.data_dir.join("checkpoints"))? {
            let path = crate::pipeline::checkpoint_path(&self.folder, ledger_id);
            if fs::read(&path).ok().as_deref() != Some(note.as_bytes()) {
                files::write_into(&path, note.as_bytes())?;
            }
        }
        if let Some((segment, offset)) = flushed {
            let mut memory = match self.memory.take() {
                Some(memory) => memory,
                None => Memory::read(&self.data_dir, &self.stretch)?,
            };
            let done = self.seal_received(&mut memory, segment, offset, segment_bytes, now_us);
            self.memory = Some(memory);
            done?;
        }
        match &self.complaint {
            Some(why) => Err(self.changed(why)),
            None => Ok(()),
        }
    }

    fn changed(&self, what: &str) -> BackupError {
        BackupError::new(
            "UB621",
            format!(
                "in {} {what}. It is not sealed, so the archive leads from older sets to before it only. Make a backup now: moments \
                 after it can be reached from there. Then remove the segment, and find out who can write to the folder",
                self.folder.display()
            ),
        )
    }

    fn seal_received(
        &mut self,
        memory: &mut Memory,
        segment: Segment,
        offset: u64,
        segment_bytes: u64,
        now_us: i64,
    ) -> Result<(), BackupError> {
        let begins = self.tail.as_ref().is_none_or(|tail| tail.segment != segment);
        if begins || self.looked.is_none_or(|looked| looked.elapsed() > LOOK) {
            self.complaint = self.seal_whole(memory, now_us)?;
            self.looked = Some(Instant::now());
        }
        let fresh = || Tail { segment, length: 0, hasher: blake3::Hasher::new(), said: None };
        let tail = self.tail.take().filter(|_| !begins).unwrap_or_else(fresh);
        // After a failure it is read from its beginning.
        self.tail = Some(self.seal_tail(memory, tail, offset, segment_bytes, now_us)?);
        Ok(())
    }

    /// Judges every whole segment that nobody has stated anything about; the first that is wrong.
    fn seal_whole(&self, memory: &mut Memory, now_us: i64) -> Result<Option<String>, BackupError> {
        let there = names(&self.folder)?;
        let mut complaint = None;
        let mut complain = |name: &str, why: &str| {
            complaint.get_or_insert_with(|| format!("the segment {name} {why}"));
        };
        let is_sealed = |name: &str| {
            let seal = Seal::read(&path_of(&self.folder, name), &self.stretch, Some(self.key.public()));
            matches!(seal, Ok(Some(seal)) if seal.segment == name)
        };
        // Should the memory be gone or be a moment old: they are made in order.
        let mut seals = there.iter().rev().filter_map(|name| name.strip_suffix(SEAL));
        let newest = seals.find(|name| Segment::parse(name).is_some() && is_sealed(name)).map(str::to_owned);
        memory.judged = memory.judged.take().max(newest);
        for name in there.iter().filter(|name| Segment::parse(name).is_some()) {
            let seal_path = path_of(&self.folder, name);
            if memory.is_judged(name) {
                if fs::symlink_metadata(&seal_path).is_err() {
                    complain(
                        name,
                        "has no seal: it was removed, or never given because the segment was changed",
                    );
                }
                continue;
            }
            match self.hash_whole(name, memory.received(name))? {
                Some((hash, length)) => {
                    let seal = Seal { segment: name.clone(), length, hash, at_us: now_us };
                    files::write_into(&seal_path, seal.sign(&self.stretch, &self.key)?.as_bytes())?;
                }
                None => complain(name, "is not what was received: it was changed before it was whole"),
            }
            // Afterwards: a seal that is missing is never made again.
            memory.judged = Some(name.clone());
            memory.write(&self.data_dir)?;
        }
        Ok(complaint)
    }

    /// Hash and length of a segment; `None` when it does not begin with what was received.
    fn hash_whole(
        &self,
        name: &str,
        received: Option<&Received>,
    ) -> Result<Option<(blake3::Hash, u64)>, BackupError> {
        let (mut hasher, mut left) = (blake3::Hasher::new(), received.map_or(0, |received| received.length));
        let whole = files::read_through(&self.folder.join(name), |block| {
            let n = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= n as u64;
            hasher.update(block.get(..n).unwrap_or_default());
            Ok(())
        })?;
        let same = |received: &Received| left == 0 && hasher.finalize().to_hex().as_str() == received.blake3;
        Ok(received.is_none_or(same).then_some(whole))
    }

    fn seal_tail(
        &self,
        memory: &mut Memory,
        mut tail: Tail,
        offset: u64,
        segment_bytes: u64,
        now_us: i64,
    ) -> Result<Tail, BackupError> {
        let name = tail.segment.name(segment_bytes);
        let received = memory.received(&name);
        let idle = tail.said.is_some_and(|said| said.elapsed() < IDLE);
        // A receiver that began again reports less for a moment. What was stated stays.
        let behind = received.is_some_and(|received| offset.max(tail.length) < received.length);
        if offset == 0 || behind || (offset <= tail.length && idle) {
            return Ok(tail);
        }
        if offset > tail.length {
            let partial = self.folder.join(format!("{name}{PARTIAL}"));
            // It may have become whole since.
            let path = if partial.exists() { partial } else { self.folder.join(&name) };
            let failed = |error| ClusterError::io("cannot read", &path)(error);
            let mut file = files::open_plain(&path)?;
            file.seek(SeekFrom::Start(tail.length)).map_err(failed)?;
            if let Some(received) = received.filter(|received| tail.length < received.length) {
                tail.read_on(&mut file, received.length).map_err(failed)?;
                if tail.hasher.finalize().to_hex().as_str() != received.blake3 {
                    let what = format!(
                        "the first {} bytes of {name}{PARTIAL} are not what was received",
                        tail.length
                    );
                    return Err(self.changed(&what));
                }
            }
            tail.read_on(&mut file, offset).map_err(failed)?;
            let blake3 = tail.hasher.finalize().to_hex().to_string();
            memory.tail = Some(Received { segment: name.clone(), length: tail.length, blake3 });
            memory.write(&self.data_dir)?;
        }
        let seal = Seal { segment: name, length: tail.length, hash: tail.hasher.finalize(), at_us: now_us };
        files::write_into(&self.folder.join(TAIL), seal.sign(&self.stretch, &self.key)?.as_bytes())?;
        tail.said = Some(Instant::now());
        Ok(tail)
    }
}

impl Tail {
    /// Takes in the bytes of the file, from where it stands up to `to`.
    fn read_on(&mut self, file: &mut fs::File, to: u64) -> std::io::Result<()> {
        let mut more = vec![0; usize::try_from(to - self.length).unwrap_or_default()];
        file.read_exact(&mut more)?;
        self.hasher.update(&more);
        self.length = to;
        Ok(())
    }
}
