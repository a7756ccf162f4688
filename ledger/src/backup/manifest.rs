//! What a backup set says of itself, and who vouches for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proto::keys::{KeyPair, PublicKey};
use proto::note::{parse_statement, sign_statement};
use serde::{Deserialize, Serialize};

use super::files::{self, Hashes};
use super::{BackupError, signer};
use crate::cluster::ClusterError;

/// The form of manifests and folders that this program writes.
const FORMAT: u32 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
const NOTE: &str = "manifest.note";
pub(super) const FILES: &str = "files.b3";
/// Files of a set that describe it and are therefore not in its list.
const OWN: [&str; 3] = [MANIFEST, NOTE, FILES];

/// How a set holds the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The cluster's files; with archived WAL any later moment.
    Base,
    /// A dump: for another major version, or another server.
    Logical,
}

impl Kind {
    /// As it stands in names and manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Base => "base",
            Kind::Logical => "logical",
        }
    }
}

/// A ledger as its log stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerState {
    /// Which.
    pub ledger_id: u32,
    /// Its log's name.
    pub origin: String,
    /// Commands in the log.
    pub size: u64,
    /// Root of the log, hexadecimal.
    pub root: String,
    /// Ledger time of the newest command, Unix microseconds; `None` before the first.
    pub last_time_us: Option<i64>,
}

/// The part of the log of Postgres that a base needs, and where more of it is archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRange {
    /// Names the cluster, whatever becomes of it.
    pub system_identifier: String,
    /// Timeline that it was made on.
    pub timeline: u32,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// First segment that recovery reads.
    pub first_segment: String,
    /// Where it begins to be needed, and where the base is consistent.
    pub start_lsn: String,
    /// See `start_lsn`.
    pub end_lsn: String,
    /// The archive's stretch that goes on from there; `None`: nothing was archived.
    pub stretch: Option<String>,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub(super) format: u32,
    /// The set's name, which is also its folder's.
    pub name: String,
    /// How it holds the database.
    pub kind: Kind,
    /// Version of the program that made it.
    pub econ_version: String,
    /// `SQL_RELEASE` of the functions in it.
    pub sql_release: i32,
    /// Postgres' version, as 150018.
    pub postgres_version: u32,
    /// Unix microseconds when it was begun; its checkpoints are as of then.
    pub started_at_us: i64,
    /// Unix microseconds when it was done; nothing later is in it.
    pub finished_at_us: i64,
    /// Kind base only.
    pub wal: Option<WalRange>,
    /// At least this is in a base, exactly this in a logical set.
    pub ledgers: Vec<LedgerState>,
    /// Ids of the house's keys, by name. The keys themselves are not here.
    pub keys: BTreeMap<String, String>,
    /// Whether artifacts are in it.
    pub artifacts: bool,
    /// Folders, which may be empty and still be needed.
    pub folders: Vec<String>,
    /// How many files are listed.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// BLAKE3 of `files.b3`.
    pub files_blake3: String,
}

impl Manifest {
    pub(super) const CURRENT_FORMAT: u32 = FORMAT;

    /// Postgres' major version.
    #[must_use]
    pub fn postgres_major(&self) -> u32 {
        self.postgres_version / 10_000
    }
}

/// A set that was read and found to be what its signer says. Its files are compared when they are copied.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) dir: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) hashes: Hashes,
}

/// Writes list, manifest and statement of a set in `dir`, which becomes whole by its rename only.
pub(super) fn write(
    dir: &Path,
    mut manifest: Manifest,
    key: Option<&KeyPair>,
) -> Result<Manifest, BackupError> {
    let tree = files::Tree::of(dir)?;
    let (hashes, bytes) = Hashes::of(dir, &tree.files)?;
    let list = hashes.to_text();
    manifest.folders = tree.folders;
    manifest.files = hashes.0.len() as u64;
    manifest.bytes = bytes;
    manifest.files_blake3 = blake3::hash(list.as_bytes()).to_hex().to_string();
    let mut text = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| BackupError::new("UB900", format!("the manifest cannot be written: {error}")))?;
    text.push(b'\n');
    files::write_durably(&dir.join(FILES), list.as_bytes())?;
    files::write_durably(&dir.join(MANIFEST), &text)?;
    if let Some(key) = key {
        let name = signer(key.public())?;
        let note = sign_statement(&statement(&manifest.name, &text), &name, key);
        files::write_durably(&dir.join(NOTE), note.as_bytes())?;
    }
    Ok(manifest)
}

fn statement(name: &str, manifest: &[u8]) -> [String; 2] {
    [format!("set {name}"), format!("{MANIFEST} {}", blake3::hash(manifest).to_hex())]
}

impl Set {
    /// Reads a set's manifest and list. With a key, only one that this key vouches for: `UB606`. Damage is `UB605`.
    pub(super) fn read(dir: &Path, key: Option<&PublicKey>) -> Result<Set, BackupError> {
        let damaged =
            |what: &str| BackupError::new("UB605", format!("{}: {what}. Take another set", dir.display()));
        let text = files::read_small(&dir.join(MANIFEST))?;
        let list = files::read_small(&dir.join(FILES))?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|_| damaged("its manifest cannot be read"))?;
        if let Some(key) = key {
            vouched_for(dir, &manifest, &text, key)?;
        }
        if manifest.format != FORMAT {
            return Err(damaged(&format!("its form {} is not known here", manifest.format)));
        }
        if blake3::hash(&list).to_hex().as_str() != manifest.files_blake3 {
            return Err(damaged("its list of files is not the one that its manifest names"));
        }
        let hashes = String::from_utf8(list).ok().and_then(|list| Hashes::parse(&list));
        let hashes = hashes.ok_or_else(|| damaged("its list of files cannot be read"))?;
        let set = Set { dir: dir.to_owned(), manifest, hashes };
        set.is_complete()?;
        Ok(set)
    }

    /// Exactly the listed files are there, no more and no fewer.
    fn is_complete(&self) -> Result<(), BackupError> {
        let tree = files::Tree::of(&self.dir)?;
        let found = tree.files.iter().filter(|name| !OWN.contains(&name.as_str()));
        let listed: Vec<&String> = self.hashes.0.keys().collect();
        if let Some(name) = found.clone().find(|name| !self.hashes.0.contains_key(*name)) {
            let message = format!("{} was added to {} after it was made", name, self.dir.display());
            return Err(BackupError::new("UB605", message));
        }
        let found: Vec<&String> = found.collect();
        // Before any of it is copied to where it could fill a disk.
        let mut bytes = 0;
        for name in &found {
            let path = self.dir.join(name);
            let meta = std::fs::symlink_metadata(&path).map_err(ClusterError::io("cannot look at", &path))?;
            bytes += meta.len();
        }
        if bytes > self.manifest.bytes {
            let message = format!(
                "{} has grown from {} bytes to {bytes}: take another set",
                self.dir.display(),
                self.manifest.bytes
            );
            return Err(BackupError::new("UB605", message));
        }
        match listed.iter().find(|name| found.binary_search(name).is_err()) {
            Some(name) => {
                let message = format!("{name} is missing in {}: take another set", self.dir.display());
                Err(BackupError::new("UB605", message))
            }
            None => Ok(()),
        }
    }

    /// Copies what is below the set's folder `from` to `to`, which exists and is empty, each file compared with the list.
    pub(super) fn copy_out(&self, from: &str, to: &Path) -> Result<(), BackupError> {
        let below = |name: &str| name.strip_prefix(from)?.strip_prefix('/').map(str::to_owned);
        for folder in self.manifest.folders.iter().filter_map(|name| below(name)) {
            if !plain(&folder) {
                let message = format!("the set's manifest names the folder {folder}");
                return Err(BackupError::new("UB605", message));
            }
            files::make_folder(&to.join(folder))?;
        }
        for (name, hash) in &self.hashes.0 {
            if let Some(inner) = below(name) {
                files::copy(&self.dir.join(name), &to.join(inner), Some(hash))?;
            }
        }
        Ok(())
    }

    /// One listed file's bytes, compared.
    pub(super) fn small(&self, name: &str) -> Result<Option<Vec<u8>>, BackupError> {
        let Some(hash) = self.hashes.0.get(name) else { return Ok(None) };
        let path = self.dir.join(name);
        let bytes = files::read_small(&path)?;
        if blake3::hash(&bytes) != *hash {
            let message = format!("{} is not what was backed up", path.display());
            return Err(BackupError::new("UB605", message));
        }
        Ok(Some(bytes))
    }
}

fn plain(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

fn vouched_for(dir: &Path, manifest: &Manifest, text: &[u8], key: &PublicKey) -> Result<(), BackupError> {
    let refused = |why: String| {
        let theirs = manifest.keys.get("receipt").map_or("unknown", String::as_str);
        BackupError::new(
            "UB606",
            format!(
                "nobody vouches for {}: {why}. It says that it was made under the receipt key {theirs}, and the one in keys/ is \
                 {}. Put the right keys there; only if you know where the set has been since it was made, add --unsigned",
                dir.display(),
                key.id()
            ),
        )
    };
    let path = dir.join(NOTE);
    if !path.exists() {
        return Err(refused("it is not signed".into()));
    }
    let note = String::from_utf8(files::read_small(&path)?)
        .map_err(|_| refused("its signature cannot be read".into()))?;
    let said = parse_statement(&note, &signer(key)?, key).map_err(|error| refused(error.to_string()))?;
    if said != statement(&manifest.name, text) {
        return Err(refused("its signature is for another manifest".into()));
    }
    Ok(())
}
