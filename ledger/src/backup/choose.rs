//! What a restore begins with: a place without a database, the house's keys, a set that fits, and where its WAL goes on.

use std::path::Path;

use proto::keys::PublicKey;

use super::make::receipt_key;
use super::manifest::{Kind, MANIFEST, Manifest, Set};
use super::repository::Repository;
use super::restore::{KEYS, RestoreOptions, Target};
use super::{BackupError, NOT_OURS, files, logical};
use crate::cluster::Staging;
use crate::loader::SQL_RELEASE;

/// `UB504` where a restore would overwrite a database.
pub(super) async fn refuse_to_overwrite(
    staging: &Staging,
    options: &RestoreOptions,
) -> Result<(), BackupError> {
    let occupied = |what: String| {
        Err(BackupError::new(
            "UB504",
            format!(
                "{what} holds a database, and a restore never overwrites one: name another, or move that one away"
            ),
        ))
    };
    if staging.data_dir().join("pg").exists() {
        return occupied(format!("the data dir {}", staging.data_dir().display()));
    }
    match &options.external {
        Some(external) if !logical::is_empty(external).await? => occupied(
            "the external database (if that is what a killed restore has left there, drop it and make it anew)".into(),
        ),
        _ => Ok(()),
    }
}

/// Copies the house's keys into a data dir that has none. Other ones than those that are there are `UB603`.
pub(super) fn install_keys(staging: &Staging, from: Option<&Path>) -> Result<(), BackupError> {
    let Some(from) = from else { return Ok(()) };
    let to = staging.data_dir().join("keys");
    let mut missing = Vec::new();
    for name in KEYS {
        let (key, path) = (files::read_small(&from.join(name))?, to.join(name));
        if !path.exists() {
            missing.push((path, key));
        } else if files::read_small(&path)? != key {
            let message = format!("{} is another key than the one in {}", path.display(), from.display());
            return Err(BackupError::new("UB603", message));
        }
    }
    files::make_folder(&to)?;
    staging.give(&to)?;
    for (path, key) in missing {
        files::write_durably(&path, &key)?;
        staging.give(&path)?;
    }
    Ok(())
}

/// The key that vouches for sets and signs checkpoints. `UB606` when it is missing, unless nobody has to vouch.
pub(super) fn trusted_key(keys: &Path, unsigned: bool) -> Result<Option<PublicKey>, BackupError> {
    match receipt_key(keys)? {
        None if !unsigned => Err(BackupError::new(
            "UB606",
            format!(
                "the keys of the house are not in {}: put them there from where you keep them, or name their folder with --keys. \
                 Without them nobody can tell whether a backup is yours, and the server cannot go on",
                keys.display()
            ),
        )),
        key => Ok(key),
    }
}

/// The set that was named, or the best in the folder; and the folders for backups: that with the WAL that goes on from it, and its
/// own.
pub(super) fn choose(
    options: &RestoreOptions,
    key: Option<&PublicKey>,
) -> Result<(Set, Vec<Repository>), BackupError> {
    let from = options.from.canonicalize().map_err(|error| {
        BackupError::new("UB413", format!("there is no backup in {}: {error}", options.from.display()))
    })?;
    let one = from.join(MANIFEST).exists();
    let own = if one { from.parent().and_then(Path::parent).unwrap_or(&from) } else { &from };
    let repositories: Vec<Repository> =
        options.archive.as_deref().into_iter().chain([own]).map(Repository::at).collect();
    if one {
        return Ok((Set::read(&from, key)?, repositories));
    }
    let in_time = |set: &Set| match options.target {
        Target::Latest => true,
        Target::Time(us) => set.manifest.finished_at_us <= us,
    };
    let mut sets: Vec<Set> = Repository::at(&from).read_sets(key)?;
    let had = sets.len();
    sets.retain(in_time);
    // A base goes further than a dump, if there is one.
    let wanted = if options.external.is_some() { Kind::Logical } else { Kind::Base };
    let best = sets.iter().rposition(|set| set.manifest.kind == wanted);
    match best.or(sets.len().checked_sub(1)) {
        Some(best) => Ok((sets.swap_remove(best), repositories)),
        None => Err(BackupError::new(
            "UB413",
            match had {
                0 => format!("there is no backup set in {} that this house vouches for", from.display()),
                _ => format!(
                    "no backup set in {} was finished by that moment: name a later one",
                    from.display()
                ),
            },
        )),
    }
}

/// Whether this program and this place can take the set at all.
pub(super) fn is_fit(set: &Manifest, options: &RestoreOptions) -> Result<(), BackupError> {
    if set.kind == Kind::Base && options.external.is_some() {
        return Err(BackupError::new("UB608", NOT_OURS));
    }
    if set.kind == Kind::Logical && options.target != Target::Latest {
        return Err(BackupError::new("UB607", "a logical backup is of one moment: leave --until out"));
    }
    if let Target::Time(us) = options.target
        && us < set.finished_at_us
    {
        return Err(BackupError::new(
            "UB607",
            format!(
                "{} was made after that moment, and leads to later ones only: name an older set",
                set.name
            ),
        ));
    }
    if options.target != Target::Latest && set.wal.as_ref().is_none_or(|wal| wal.stretch.is_none()) {
        return Err(BackupError::new(
            "UB607",
            "no WAL was archived when this set was made, so it leads to its own moment only: leave --until out",
        ));
    }
    if set.sql_release > SQL_RELEASE {
        return Err(BackupError::new(
            "UB610",
            format!("the set was made by a newer econ ({}): restore it with that one", set.econ_version),
        ));
    }
    Ok(())
}
