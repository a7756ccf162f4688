//! Carrying out what the log says is erased.
//!
//! The command comes first: from it on nobody is served the bytes, and only then are uploads marked and files removed. A
//! process that is killed in between leaves work that the next one finds, in the database ([`carry_out_all`]) or in the
//! store ([`sweep`]); all of it may be repeated.

use std::sync::Arc;

use ledger::{Reader, artifacts};
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
            Ok(Swept { removed: 0, sealed: 0 }) => {}
            Ok(swept) => tracing::info!(ledger_id, ?swept, "the artifact store was swept"),
            Err(problem) => {
                tracing::error!(ledger_id, code = %problem.code, detail = problem.detail, "what is erased is not removed yet: the next start tries again");
            }
        }
    });
}

/// Whatever is left to remove, by the log and by the store.
pub async fn finish(store: &Store, reader: &Reader, ledger_id: u32, now_us: i64) -> Result<Swept, Problem> {
    carry_out_all(store, reader, ledger_id, now_us).await?;
    sweep(store, reader, ledger_id).await
}

/// Carries out the erasure of these artifacts, which the log must name.
pub(crate) async fn carry_out(
    store: &Store,
    reader: &Reader,
    ledger_id: u32,
    hashes: &[ArtifactHash],
    now_us: i64,
) -> Result<(), Problem> {
    for hash in hashes {
        // Keeping what is uploaded and removing it must not meet.
        let _guard = store.lock(hash).await;
        if artifacts::apply_erasure(reader, ledger_id, hash, now_us).await? {
            store.erase(ledger_id, hash).await.map_err(StoreError::Io)?;
        }
    }
    Ok(())
}

/// Carries out whatever the log says and the database does not know as done.
pub async fn carry_out_all(
    store: &Store,
    reader: &Reader,
    ledger_id: u32,
    now_us: i64,
) -> Result<(), Problem> {
    loop {
        let hashes = artifacts::pending_erasures(reader, ledger_id, PAGE).await?;
        if hashes.is_empty() {
            return Ok(());
        }
        carry_out(store, reader, ledger_id, &hashes, now_us).await?;
    }
}

/// The hashes that a command names.
pub(crate) fn hashes_of(erase: &EraseSubject) -> Vec<ArtifactHash> {
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
}

/// Looks at every file of a ledger's artifacts: what was withdrawn or erased by all who uploaded it is removed, what is
/// plain is sealed.
pub async fn sweep(store: &Store, reader: &Reader, ledger_id: u32) -> Result<Swept, Problem> {
    let mut swept = Swept::default();
    for first in 0..=u8::MAX {
        let stored: Vec<_> =
            store.stored(ledger_id, first).await.map_err(StoreError::Io)?.into_iter().collect();
        for hashes in stored.chunks(1_000) {
            for hash in artifacts::unheld(reader, ledger_id, hashes).await? {
                let _guard = store.lock(&hash).await;
                // It may have come back since.
                if artifacts::unheld(reader, ledger_id, &[hash]).await?.is_empty() {
                    continue;
                }
                store.erase(ledger_id, &hash).await.map_err(StoreError::Io)?;
                swept.removed += 1;
            }
            for hash in hashes {
                let _guard = store.lock(hash).await;
                swept.sealed += u64::from(store.seal_plain(ledger_id, hash).await.map_err(StoreError::Io)?);
            }
        }
    }
    Ok(swept)
}
