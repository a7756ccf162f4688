//! Artifacts and what opens them. A set holds artifacts as they lie in the store, sealed; it never changes. Their keys lie
//! beside the sets, in a mirror without history: the next backup after an erasure removes the key, and with it what every
//! older set holds of those bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use tokio_postgres::Client;

use super::manifest::Set;
use super::{BackupError, files};
use crate::artifacts::{SEALED_HEAD_BYTES, sealed_head};
use crate::cluster::{ClusterError, Staging};

/// Of the artifacts themselves, in a data dir and in a set.
pub(super) const ARTIFACTS: &str = "artifacts";
/// Of their keys, in a data dir and beside the sets.
pub(super) const KEYS: &str = "artifact-keys";
/// What is still arriving lies in a folder of its own, in both.
const INCOMING: &str = "incoming";
/// How the names of sealed artifacts end; their keys' names are the same without it.
const SEALED: &str = ".sealed";
/// Hashes in one question.
const PAGE: usize = 1_000;

/// Puts the artifacts into a set. Whole ones only: what is still arriving lies in a folder of its own.
pub(super) fn copy_in(data_dir: &Path, set: &Path) -> Result<(), BackupError> {
    let (from, to) = (data_dir.join(ARTIFACTS), set.join(ARTIFACTS));
    files::make_folder(&to)?;
    let tree = files::Tree::of(&from)?;
    let whole = |name: &&String| !name.starts_with(INCOMING);
    for folder in tree.folders.iter().filter(whole) {
        files::make_folder(&to.join(folder))?;
    }
    let (sealed, plain): (Vec<_>, Vec<_>) =
        tree.files.iter().filter(whole).partition(|name| name.ends_with(SEALED));
    if !plain.is_empty() {
        // A set never changes, so what could not be erased from it must not get there.
        tracing::warn!(
            count = plain.len(),
            "artifacts of an earlier release are not sealed yet and not in the set: start econ once, then make another"
        );
    }
    for file in sealed {
        match files::copy(&from.join(file), &to.join(file), None) {
            Ok(_) => {}
            // Erased a moment ago.
            Err(_) if !from.join(file).exists() => {
                let _ = std::fs::remove_file(to.join(file));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Adds the keys that the mirror lacks or has otherwise: bytes that were erased and came back have a new one.
pub(super) fn mirror_keys(data_dir: &Path, repository: &Path) -> Result<(), BackupError> {
    let (from, to) = (data_dir.join(KEYS), repository.join(KEYS));
    if !from.exists() {
        return Ok(());
    }
    files::make_folder(&to)?;
    let tree = files::Tree::of(&from)?;
    for folder in &tree.folders {
        files::make_folder(&to.join(folder))?;
    }
    for file in tree.files.iter().filter(|name| !name.starts_with(INCOMING)) {
        let sealed = data_dir.join(ARTIFACTS).join(format!("{file}{SEALED}"));
        match files::read_small(&from.join(file)) {
            Err(_) if !from.join(file).exists() => continue,
            Err(error) => return Err(error),
            Ok(key) if opens(&key, &sealed)? => {
                let target = to.join(file);
                if !target.exists() || files::read_small(&target)? != key {
                    files::write_into(&target, &key)?;
                }
            }
            // The mirror's may be the right one.
            Ok(_) => {
                tracing::warn!(file, "this key does not open its artifact, so the mirror keeps what it has")
            }
        }
    }
    Ok(())
}

/// Whether a key is the one that a sealed artifact names. `false` without that artifact.
fn opens(key: &[u8], sealed: &Path) -> Result<bool, BackupError> {
    let Ok(key) = <[u8; 32]>::try_from(key) else { return Ok(false) };
    if !sealed.exists() {
        return Ok(false);
    }
    let mut head = [0; SEALED_HEAD_BYTES];
    let read = files::open_plain(sealed)?.read_exact(&mut head);
    Ok(read.is_ok() && head == sealed_head(&key))
}

/// Removes the keys of what nobody holds any more. What no row knows stays: the mirror may be of more than this database, and
/// a data dir that lost its keys must not take the mirror's along.
pub(super) async fn forget_erased(
    api: &Client,
    data_dir: &Path,
    repository: &Path,
) -> Result<u64, BackupError> {
    let (own, mirror) = (data_dir.join(KEYS), repository.join(KEYS));
    if !mirror.exists() {
        return Ok(0);
    }
    // Of no artifact: an earlier econ took them along while they arrived.
    let _ = std::fs::remove_dir_all(mirror.join(INCOMING));
    let mut gone: BTreeMap<i32, Vec<(Vec<u8>, String)>> = BTreeMap::new();
    for file in files::Tree::of(&mirror)?.files {
        let mut parts = file.splitn(3, '/');
        let (Some(ledger_id), Some(_), Some(hash)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (Ok(ledger_id), Ok(hash)) = (ledger_id.parse(), hex::decode(hash)) else { continue };
        if !own.join(&file).exists() {
            gone.entry(ledger_id).or_default().push((hash, file));
        }
    }
    let mut removed = 0;
    for (ledger_id, keys) in gone {
        for keys in keys.chunks(PAGE) {
            let hashes: Vec<&[u8]> = keys.iter().map(|(hash, _)| hash.as_slice()).collect();
            let rows = api.query("select artifacts.unheld($1, $2)", &[&ledger_id, &hashes]).await?;
            let unheld: BTreeSet<Vec<u8>> =
                rows.iter().map(|row| row.try_get(0)).collect::<Result<_, tokio_postgres::Error>>()?;
            for (_, file) in keys.iter().filter(|(hash, _)| unheld.contains(hash)) {
                let path = mirror.join(file);
                std::fs::remove_file(&path).map_err(ClusterError::io("cannot remove", &path))?;
                files::sync(path.parent().unwrap_or(&mirror))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Copies a set's artifacts, and the keys that are mirrored beside it, into the staging folder; how many have no key and so
/// cannot be opened.
pub(super) fn copy_out(set: &Set, staging: &Path) -> Result<u64, BackupError> {
    if !set.manifest.artifacts {
        return Ok(0);
    }
    let (artifacts, keys) = (staging.join(ARTIFACTS), staging.join(KEYS));
    files::make_folder(&artifacts)?;
    set.copy_out(ARTIFACTS, &artifacts)?;
    let tree = files::Tree::of(&artifacts)?;
    files::sync_tree(&artifacts, &tree)?;
    let mirror = set.dir.parent().and_then(Path::parent).map(|repository| repository.join(KEYS));
    let mut without = 0;
    for name in tree.files.iter().filter_map(|file| file.strip_suffix(SEALED)) {
        let found = mirror.as_ref().map(|mirror| mirror.join(name)).filter(|key| key.exists());
        let key = found.map(|found| files::read_small(&found)).transpose()?.unwrap_or_default();
        if !opens(&key, &artifacts.join(format!("{name}{SEALED}")))? {
            without += 1;
            continue;
        }
        let to = keys.join(name);
        files::make_folder(to.parent().unwrap_or(&keys))?;
        files::write_durably(&to, &key)?;
    }
    if keys.exists() {
        files::sync_tree(&keys, &files::Tree::of(&keys)?)?;
    }
    Ok(without)
}

/// Adds to the data dir what it lacks; the names are hashes, so nothing that is there can be another. Keys first: an artifact
/// without its key counts as none.
pub(super) fn put_in_place(staging: &Staging) -> Result<(), BackupError> {
    for name in [KEYS, ARTIFACTS] {
        let (from, to) = (staging.dir().join(name), staging.data_dir().join(name));
        if !from.exists() {
            continue;
        }
        let tree = files::Tree::of(&from)?;
        files::make_folder(&to)?;
        for folder in &tree.folders {
            files::make_folder(&to.join(folder))?;
        }
        for file in tree.files.iter().filter(|file| !to.join(file).exists()) {
            let target = to.join(file);
            std::fs::rename(from.join(file), &target)
                .map_err(ClusterError::io("cannot rename to", target))?;
        }
        files::sync_tree(&to, &files::Tree::of(&to)?)?;
    }
    Ok(())
}
