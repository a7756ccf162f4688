//! Statements about archived WAL: what Postgres streamed is what will be replayed. Postgres' own checksums find damage; these
//! find a hand.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::keys::{KeyPair, PublicKey};
use proto::note::{parse_statement, sign_statement};

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

/// Makes statements about the WAL of one stretch as it comes in.
#[derive(Debug)]
pub(super) struct Sealer {
    folder: PathBuf,
    stretch: String,
    key: Arc<KeyPair>,
    checkpoint_dir: PathBuf,
    tail: Option<Tail>,
}

#[derive(Debug)]
struct Tail {
    segment: Segment,
    length: u64,
    hasher: blake3::Hasher,
    said: Option<Instant>,
}

impl Sealer {
    pub(super) fn new(
        folder: PathBuf,
        stretch: String,
        key: Arc<KeyPair>,
        checkpoint_dir: PathBuf,
    ) -> Sealer {
        Sealer { folder, stretch, key, checkpoint_dir, tail: None }
    }

    /// What was read of the tail may be written anew by a receiver that starts again, so it is read again.
    pub(super) fn forget(&mut self) {
        self.tail = None;
    }

    /// States everything up to `flushed`, which the receiver has on stable storage, and keeps the newest checkpoints.
    /// `now_us`: a moment at which that was all there was.
    pub(super) fn seal(
        &mut self,
        flushed: Option<(Segment, u64)>,
        segment_bytes: u64,
        now_us: i64,
    ) -> Result<(), BackupError> {
        // Evidence first: that it may run ahead of the WAL is the truth about what a restore would lose.
        for (ledger_id, note) in crate::verify::read_outside(&self.checkpoint_dir)? {
            let path = crate::pipeline::checkpoint_path(&self.folder, ledger_id);
            if fs::read(&path).ok().as_deref() != Some(note.as_bytes()) {
                files::write_durably(&path, note.as_bytes())?;
            }
        }
        let Some((segment, offset)) = flushed else { return Ok(()) };
        if self.tail.as_ref().is_none_or(|tail| tail.segment != segment) {
            self.seal_whole(now_us)?;
            self.tail = Some(Tail { segment, length: 0, hasher: blake3::Hasher::new(), said: None });
        }
        self.seal_tail(offset, segment_bytes, now_us)
    }

    /// Every whole segment that nobody has stated anything about.
    pub(super) fn seal_whole(&self, now_us: i64) -> Result<(), BackupError> {
        let there = names(&self.folder)?;
        for name in there.iter().filter(|name| Segment::parse(name).is_some()) {
            let path = path_of(&self.folder, name);
            if path.exists() {
                continue;
            }
            let (hash, length) = files::read_through(&self.folder.join(name), |_| Ok(()))?;
            let seal = Seal { segment: name.clone(), length, hash, at_us: now_us };
            files::write_durably(&path, seal.sign(&self.stretch, &self.key)?.as_bytes())?;
        }
        Ok(())
    }

    fn seal_tail(&mut self, offset: u64, segment_bytes: u64, now_us: i64) -> Result<(), BackupError> {
        let Some(tail) = &mut self.tail else { return Ok(()) };
        let idle = tail.said.is_some_and(|said| said.elapsed() < IDLE);
        if offset == 0 || (offset <= tail.length && idle) {
            return Ok(());
        }
        let name = tail.segment.name(segment_bytes);
        let partial = self.folder.join(format!("{name}{PARTIAL}"));
        // It may have become whole since.
        let path = if partial.exists() { partial } else { self.folder.join(&name) };
        if offset > tail.length {
            let mut file = files::open_plain(&path)?;
            let failed = |error| ClusterError::io("cannot read", &path)(error);
            file.seek(SeekFrom::Start(tail.length)).map_err(failed)?;
            let mut more = vec![0; usize::try_from(offset - tail.length).unwrap_or_default()];
            file.read_exact(&mut more).map_err(failed)?;
            tail.hasher.update(&more);
            tail.length = offset;
        }
        let seal = Seal { segment: name, length: tail.length, hash: tail.hasher.finalize(), at_us: now_us };
        files::write_durably(&self.folder.join(TAIL), seal.sign(&self.stretch, &self.key)?.as_bytes())?;
        tail.said = Some(Instant::now());
        Ok(())
    }
}
