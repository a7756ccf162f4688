//! Keeps the forest: an append-only log over the checkpoints of all ledgers, so that one signed head speaks for all of them.

use std::sync::Arc;

use proto::merkle::TreeHash;
use proto::note::{Checkpoint, NoteName, sign_timed_checkpoint_with};
use tokio_postgres::NoTls;

use super::Shared;
use super::checkpoint::{self, Upkeep};
use crate::receipts::log::FOREST;

/// Enters new checkpoints until the writers are gone; [`make`] is called once more when the last ones are signed.
pub(super) async fn keep(shared: Arc<Shared>) {
    while !shared.drained() {
        checkpoint::pause(&shared).await;
        make_or_say(&shared).await;
    }
}

/// [`make`], and a word in the log when it fails.
pub(super) async fn make_or_say(shared: &Shared) {
    if let Err(error) = make(shared).await {
        tracing::error!(%error, "the forest was not kept");
    }
}

/// Enters the ledgers' new checkpoints, signs the forest's head and keeps it. Entries, tiles, head and checkpoint are one
/// transaction, under the lock of the forest's row: whatever breaks off leaves nothing, and a second server waits.
async fn make(shared: &Shared) -> Upkeep<()> {
    let (mut client, driver) = shared.options.database.connect(NoTls).await?;
    let driver = tokio::spawn(driver);
    let ledgers =
        client.query("select origin from base.read_ledgers() order by ledger_id limit 1", &[]).await?;
    let Some(first) = ledgers.first() else { return Ok(()) };
    let name = name_after(first.try_get(0)?);
    let time_s = u64::try_from(shared.options.clock.now_us() / 1_000_000)?;
    let transaction = client.transaction().await?;
    let head = "select origin, size, root, appended from receipts.append_forest($1)";
    let row = transaction.query_one(head, &[&name]).await?;
    let (origin, size, root, appended): (String, i64, Vec<u8>, i32) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    if appended == 0 {
        transaction.rollback().await?;
    } else {
        let origin: NoteName = origin.parse()?;
        let losses = checkpoint::stated_losses(transaction.client(), shared, FOREST, &origin).await?;
        let checkpoint =
            Checkpoint { origin, size: u64::try_from(size)?, root: TreeHash::from_slice(&root)? };
        let note =
            sign_timed_checkpoint_with(&checkpoint, &losses, shared.options.house.receipt_key(), time_s);
        let store = "select receipts.store_checkpoint(0, $1, $2, $3)";
        transaction.query_one(store, &[&size, &root, &note]).await?;
        transaction.commit().await?;
        checkpoint::keep_outside(shared, FOREST, note).await?;
    }
    drop(client);
    driver.await??;
    Ok(())
}

/// What a new forest is called: as its first ledger, with `forest` instead of `ledger/1`.
pub(crate) fn name_after(origin: &str) -> String {
    format!("{}/forest", origin.strip_suffix("/ledger/1").unwrap_or(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forest_is_named_beside_its_first_ledger_and_never_like_one() {
        assert_eq!(name_after("econ.local/0123/ledger/1"), "econ.local/0123/forest");
        assert_eq!(name_after("econ.local/0123/ledger/11"), "econ.local/0123/ledger/11/forest");
    }
}
