//! Carrying out what the log says is erased.
//!
//! The command comes first: from it on nobody is served the bytes, and only then are uploads marked and files removed. A
//! process that is killed in between leaves work that the next one finds, in the database ([`carry_out_all`]) or in the
//! store ([`sweep`]); all of it may be repeated.

use std::collections::BTreeSet;
use std::sync::Arc;

use ledger::{Reader, artifacts, base};
use proto::ids::ArtifactHash;
use proto::v1::EraseSubject;

use crate::artifacts::{Store, StoreError};
use crate::server::ServerState;
use crate::server::problem::Problem;

/// Artifacts in one look.
const PAGE: u32 = 1_000;

/// Finishes what an earlier server was killed in, and looks through the store, while this one serves: what is erased is not
/// served anyway.
pub fn start(state: &Arc<ServerState>, ledger_id: u32) {
    let sweeping = state.clone();
    state.spawn(move |stop| async move {
        let swept = tokio::select! {
            swept = finish(&sweeping.store, &sweeping.reader, ledger_id, sweeping.pipeline.now_us()) => swept,
            () = stop.cancelled() => return,
        };
        match swept {
            Ok(swept) if swept == Swept::default() => {}
            Ok(swept) if swept.failed > 0 => {
                tracing::error!(ledger_id, ?swept, "not all that is erased is removed: the next start tries again");
            }
            Ok(swept) => tracing::info!(ledger_id, ?swept, "the artifact store was swept"),
            Err(problem) => {
                tracing::error!(ledger_id, code = %problem.code, detail = problem.detail, "what is erased is not removed yet: the next start tries again");
            }
        }
    });
}

/// Whatever is left to remove, by the log and by the store. A file that cannot be removed is counted and stops nothing.
pub async fn finish(store: &Store, reader: &Reader, ledger_id: u32, now_us: i64) -> Result<Swept, Problem> {
    match carry_out_all(store, reader, ledger_id, now_us).await {
        Err(problem) if problem.code != NOT_ALL_REMOVED => return Err(problem),
        // The sweep meets the same files and counts them.
        _ => {}
    }
    let mut swept = sweep(store, reader, ledger_id).await?;
    sweep_strays(store, reader, &mut swept).await?;
    Ok(swept)
}

/// The code of an erasure that is in the log and not in the store.
const NOT_ALL_REMOVED: &str = "UB905";

/// Told to whoever asked; what the disk said is logged.
pub(crate) fn not_all_removed(failed: usize) -> Problem {
    Problem::new(
        NOT_ALL_REMOVED,
        format!(
            "erased, so nobody is served the bytes; but files of {failed} artifacts could not be removed: look at the disk and \
             the server's log, then restart econ, which tries again"
        ),
    )
}

/// Whatever failed after the command, the command stands.
pub fn unfinished(problem: Problem) -> Problem {
    if problem.code == NOT_ALL_REMOVED {
        return problem;
    }
    tracing::error!(code = %problem.code, detail = problem.detail, "an erasure could not be carried out");
    let detail = format!(
        "erased, so nobody is served the bytes; but removing them broke off ({}): restart econ, which goes on",
        problem.code
    );
    Problem::new(NOT_ALL_REMOVED, detail)
}

/// Carries out the erasure of these artifacts, which the log must name. A file that cannot be removed keeps no other: at the
/// end it is `UB905`, and its uploads are not marked, so that whoever tries again finds it.
pub async fn carry_out(
    store: &Store,
    reader: &Reader,
    ledger_id: u32,
    hashes: &[ArtifactHash],
    now_us: i64,
) -> Result<(), Problem> {
    let failed = carry_out_each(store, reader, ledger_id, hashes, now_us).await?;
    if failed.is_empty() { Ok(()) } else { Err(not_all_removed(failed.len())) }
}

/// Those whose files could not be removed.
async fn carry_out_each(
    store: &Store,
    reader: &Reader,
    ledger_id: u32,
    hashes: &[ArtifactHash],
    now_us: i64,
) -> Result<Vec<ArtifactHash>, Problem> {
    let mut failed = Vec::new();
    for hash in hashes {
        // Keeping what is uploaded and removing it must not meet.
        let _guard = store.lock(hash).await;
        if artifacts::erases_bytes(reader, ledger_id, hash).await?
            && let Err(error) = store.erase(ledger_id, hash).await
        {
            tracing::error!(ledger_id, %hash, %error, "an erased artifact could not be removed");
            failed.push(*hash);
            continue;
        }
        artifacts::apply_erasure(reader, ledger_id, hash, now_us).await?;
    }
    Ok(failed)
}

/// Carries out whatever the log says and the database does not know as done. `UB905`: not all of it could be.
pub async fn carry_out_all(
    store: &Store,
    reader: &Reader,
    ledger_id: u32,
    now_us: i64,
) -> Result<(), Problem> {
    let mut failed = BTreeSet::new();
    loop {
        // Those that failed come first or last in any page: they are asked for again, and the page is as much longer.
        let page = PAGE.saturating_add(u32::try_from(failed.len()).unwrap_or(u32::MAX));
        let mut hashes = artifacts::pending_erasures(reader, ledger_id, page).await?;
        hashes.retain(|hash| !failed.contains(hash));
        if hashes.is_empty() {
            break;
        }
        failed.extend(carry_out_each(store, reader, ledger_id, &hashes, now_us).await?);
    }
    if failed.is_empty() { Ok(()) } else { Err(not_all_removed(failed.len())) }
}

/// The hashes that a command names.
pub fn hashes_of(erase: &EraseSubject) -> Vec<ArtifactHash> {
    erase.items.iter().filter_map(|item| ArtifactHash::from_slice(&item.artifact_hash).ok()).collect()
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Artifacts removed that nobody holds: withdrawn or erased, and the process was killed before their files were gone;
    /// or put back by whoever restored a backup.
    pub removed: u64,
    /// Artifacts sealed that an earlier release stored plainly.
    pub sealed: u64,
    /// Artifacts, or folders of them, that could not be read, removed or sealed: see the log.
    pub failed: u64,
    /// Artifacts that no row explains: nobody may read them, and the operator's erasure of the hash removes them.
    pub unknown: u64,
}

/// Looks at every file of a ledger's artifacts: what was withdrawn or erased by all who uploaded it is removed, what is
/// plain is sealed.
pub async fn sweep(store: &Store, reader: &Reader, ledger_id: u32) -> Result<Swept, Problem> {
    let mut swept = Swept::default();
    for first in 0..=u8::MAX {
        for hashes in stored(store, ledger_id, first, &mut swept).await.chunks(1_000) {
            remove_unheld(store, reader, ledger_id, hashes, &mut swept).await?;
            for hash in hashes {
                let _guard = store.lock(hash).await;
                match store.seal_plain(ledger_id, hash).await {
                    Ok(sealed) => swept.sealed += u64::from(sealed),
                    Err(error) => not_swept(ledger_id, hash, &error, &mut swept),
                }
            }
        }
    }
    Ok(swept)
}

/// Looks at folders that are no ledger's: earlier releases stored what was sent there, where no erasure looks for it.
async fn sweep_strays(store: &Store, reader: &Reader, swept: &mut Swept) -> Result<(), Problem> {
    let ledgers = base::read_ledgers(reader).await?;
    for ledger_id in store.ledger_ids().await.map_err(StoreError::Io)? {
        if ledgers.iter().any(|ledger| ledger.ledger_id == ledger_id) {
            continue;
        }
        for first in 0..=u8::MAX {
            for hashes in stored(store, ledger_id, first, swept).await.chunks(1_000) {
                // A number that no ledger can have: no row can know it either.
                if ledger_id == 0 || i32::try_from(ledger_id).is_err() {
                    for hash in hashes {
                        let _guard = store.lock(hash).await;
                        remove(store, ledger_id, hash, swept).await;
                    }
                } else {
                    remove_unheld(store, reader, ledger_id, hashes, swept).await?;
                }
            }
        }
    }
    Ok(())
}

async fn stored(store: &Store, ledger_id: u32, first: u8, swept: &mut Swept) -> Vec<ArtifactHash> {
    match store.stored(ledger_id, first).await {
        Ok(stored) => stored.into_iter().collect(),
        Err(error) => {
            not_swept(ledger_id, &format!("{first:02x}…"), &error, swept);
            Vec::new()
        }
    }
}

async fn remove_unheld(
    store: &Store,
    reader: &Reader,
    ledger_id: u32,
    hashes: &[ArtifactHash],
    swept: &mut Swept,
) -> Result<(), Problem> {
    for hash in artifacts::unheld(reader, ledger_id, hashes).await? {
        let _guard = store.lock(&hash).await;
        // It may have come back since.
        if !artifacts::unheld(reader, ledger_id, &[hash]).await?.is_empty() {
            remove(store, ledger_id, &hash, swept).await;
        }
    }
    for hash in artifacts::unknown(reader, ledger_id, hashes).await? {
        let _guard = store.lock(&hash).await;
        // It may have been removed just now, or be recorded since.
        if store.has_any(ledger_id, &hash)
            && !artifacts::unknown(reader, ledger_id, &[hash]).await?.is_empty()
        {
            swept.unknown += 1;
        }
    }
    Ok(())
}

async fn remove(store: &Store, ledger_id: u32, hash: &ArtifactHash, swept: &mut Swept) {
    match store.erase(ledger_id, hash).await {
        Ok(()) => swept.removed += 1,
        Err(error) => not_swept(ledger_id, hash, &error, swept),
    }
}

/// Goes on with the next.
fn not_swept(ledger_id: u32, what: &dyn std::fmt::Display, error: &std::io::Error, swept: &mut Swept) {
    tracing::error!(ledger_id, artifact = %what, %error, "an artifact could not be swept");
    swept.failed += 1;
}
