//! Archived WAL for a recovery: every segment without a gap, as it was sealed, put where Postgres looks by itself. So no
//! `restore_command` has to find anything, and no shell is given a path.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use proto::keys::PublicKey;

use super::manifest::WalRange;
use super::repository::names;
use super::seal::{PARTIAL, Seal, TAIL, path_of};
use super::segments::Segment;
use super::{BackupError, files};
use crate::cluster::ClusterError;

/// What an archive could give.
#[derive(Debug, Default)]
pub(super) struct Replayable {
    /// How many segments were put there.
    pub(super) segments: u64,
    /// Everything that was committed up to this moment is in them, Unix microseconds.
    pub(super) reached_us: Option<i64>,
    /// Why not more, when there should be more.
    pub(super) damage: Option<String>,
}

impl Replayable {
    pub(super) fn reached(&self) -> String {
        let at = self.reached_us.and_then(|us| Timestamp::from_microsecond(us).ok());
        at.map_or_else(|| "the end of the base".to_owned(), |at| at.to_string())
    }
}

/// Copies what follows a base from its stretch into `pg_wal`.
pub(super) fn copy(
    folder: &Path,
    range: &WalRange,
    key: Option<&PublicKey>,
    pg_wal: &Path,
) -> Result<Replayable, BackupError> {
    let stretch = range.stretch.as_deref().unwrap_or_default();
    let first = Segment::of_name(&range.first_segment, range.segment_bytes)
        .ok_or_else(|| BackupError::new("UB605", "the set names no WAL segment to begin from"))?;
    let at = |segment: Segment, offset: u64| segment.number * range.segment_bytes + offset;
    let end = Segment::of_lsn(range.timeline, &range.end_lsn, range.segment_bytes)
        .map(|(segment, offset)| at(segment, offset))
        .ok_or_else(|| BackupError::new("UB605", "the set does not say where its own WAL ends"))?;
    let mut found = Replayable::default();
    let (tail, whole) = match last_sealed(folder, stretch, key, range.segment_bytes) {
        Ok(last) => last,
        Err(why) => {
            found.damage = Some(format!("{TAIL}: {why}"));
            (None, names(folder)?)
        }
    };
    let beyond = |segment: Segment| {
        let name = segment.name(range.segment_bytes);
        whole.iter().any(|other| *other > name) || tail.as_ref().is_some_and(|tail| tail.segment > name)
    };
    let mut segment = first;
    loop {
        let name = segment.name(range.segment_bytes);
        let to = pg_wal.join(&name);
        let sealed = Seal::read(&path_of(folder, &name), stretch, key);
        let copied = match sealed {
            Ok(Some(seal)) if seal.segment == name && seal.length == range.segment_bytes => {
                replace(&folder.join(&name), &to, &seal, range.segment_bytes)
            }
            Ok(Some(_)) => Err("its statement is about something else".to_owned()),
            Ok(None) => match &tail {
                // The base brought more of it along, and needs that to be consistent.
                Some(tail) if tail.segment == name && to.exists() && at(segment, tail.length) < end => {
                    tracing::warn!(
                        segment = name,
                        "the archive ends before the base does, so the base is all there is"
                    );
                    break;
                }
                Some(tail) if tail.segment == name => {
                    let partial: PathBuf = folder.join(format!("{name}{PARTIAL}"));
                    let from = if partial.exists() { partial } else { folder.join(&name) };
                    let copied = replace(&from, &to, tail, range.segment_bytes);
                    if copied.is_ok() {
                        found.segments += 1;
                        found.reached_us = Some(tail.at_us);
                        break;
                    }
                    copied
                }
                // The base brought it along, and the archive goes on later.
                _ if to.exists() && beyond(segment) => {
                    segment = segment.next();
                    continue;
                }
                _ if beyond(segment) => Err("it is missing".to_owned()),
                _ => break,
            },
            Err(why) => Err(why),
        };
        match copied {
            Ok(at_us) => {
                found.segments += 1;
                found.reached_us = Some(at_us);
                segment = segment.next();
            }
            Err(why) => {
                found.damage = Some(format!("segment {name} of {}: {why}", folder.display()));
                break;
            }
        }
    }
    Ok(found)
}

/// The statement about the tail, and the names of whole segments.
fn last_sealed(
    folder: &Path,
    stretch: &str,
    key: Option<&PublicKey>,
    segment_bytes: u64,
) -> Result<(Option<Seal>, Vec<String>), String> {
    // Read first: what becomes whole meanwhile is found whole.
    let tail = Seal::read(&folder.join(TAIL), stretch, key)?;
    if let Some(tail) = &tail
        && (tail.length > segment_bytes || Segment::parse(&tail.segment).is_none())
    {
        return Err("it names no part of a segment".into());
    }
    let all = names(folder).map_err(|error| error.to_string())?;
    Ok((tail, all.into_iter().filter(|name| Segment::parse(name).is_some()).collect()))
}

/// Puts the sealed bytes of a segment in the place of whatever is there, filled up with zeros; the seal's time. What nobody
/// vouches for never gets that name.
fn replace(from: &Path, to: &Path, seal: &Seal, segment_bytes: u64) -> Result<i64, String> {
    let aside = to.with_extension("new");
    let copy = || -> Result<blake3::Hash, BackupError> {
        let mut target = files::create(&aside)?;
        let (mut hasher, mut left) = (blake3::Hasher::new(), seal.length);
        files::read_through(from, |block| {
            let n = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let part = block.get(..n).unwrap_or_default();
            left -= n as u64;
            hasher.update(part);
            target.write_all(part)
        })?;
        // As Postgres makes segments: whole, with zeros behind what was written.
        target.set_len(segment_bytes).map_err(ClusterError::io("cannot fill up", &aside))?;
        Ok(hasher.finalize())
    };
    let copied = match copy() {
        Ok(hash) if hash == seal.hash => {
            fs::rename(&aside, to).map(|()| seal.at_us).map_err(|error| error.to_string())
        }
        Ok(_) => Err("it is not what was archived: it was damaged or changed".into()),
        Err(error) => Err(error.to_string()),
    };
    if copied.is_err() {
        // Whatever stays under this name, Postgres passes over.
        let _ = fs::remove_file(&aside);
    }
    copied
}
