//! Signs what the log says, and when, keeps it in the database and, fsynced, outside: a shortened log is noticed.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::merkle::TreeHash;
use proto::note::{
    Checkpoint, NoteName, StatedLoss, parse_and_verify, parse_timed, read_unverified,
    sign_timed_checkpoint_with,
};
use tokio_postgres::{Client, NoTls};

use super::{Shared, Stage};
use crate::error::Error;
use crate::receipts::log::FOREST;

/// While commands come, a checkpoint is made about this often.
pub(super) const INTERVAL: Duration = Duration::from_millis(1_000);
const TICK: Duration = Duration::from_millis(50);

/// Whatever goes wrong with upkeep; it is logged and tried again.
pub(super) type Upkeep<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Makes checkpoints until the writers are gone, and a last one then.
pub(super) async fn keep(shared: Arc<Shared>, ledger_id: u32) {
    let mut done = 0;
    loop {
        pause(&shared).await;
        let last = shared.drained();
        if shared.dead() {
            return;
        }
        match make(&shared, ledger_id, done).await {
            Ok(size) => done = size,
            Err(error) => tracing::error!(%error, ledger_id, "no checkpoint was made"),
        }
        if last {
            return;
        }
    }
}

/// An interval, cut short when the writers are gone.
pub(super) async fn pause(shared: &Shared) {
    let mut waited = Duration::ZERO;
    while waited < INTERVAL && !shared.drained() {
        tokio::time::sleep(TICK).await;
        waited += TICK;
    }
}

/// The time that a checkpoint of the log as it is read *after* this call may state, Unix seconds. Taken before, because the
/// time is a promise: whatever was due by then is covered. A command that begins later gets a later deadline, since from
/// here on the writers accept nothing that would be due by this time; one that has begun is waited for
/// (`receipts.read_settled_log`).
fn promise_time_s(shared: &Shared) -> u64 {
    let time_s = u64::try_from(shared.options.clock.now_us() / 1_000_000).unwrap_or_default();
    shared.signed_until(time_s);
    time_s
}

/// Signs and keeps one checkpoint if the log has grown beyond `done`; returns the size it has reached.
async fn make(shared: &Shared, ledger_id: u32, done: i64) -> Upkeep<i64> {
    let (client, driver) = shared.options.database.connect(NoTls).await?;
    let driver = tokio::spawn(driver);
    let id = i32::try_from(ledger_id)?;
    let time_s = promise_time_s(shared);
    let Some(row) =
        client.query_opt("select size, root, origin from receipts.read_settled_log($1)", &[&id]).await?
    else {
        return Ok(done);
    };
    let (size, root, origin): (i64, Vec<u8>, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if size > done {
        let origin: NoteName = origin.parse()?;
        let losses = stated_losses(&client, shared, ledger_id, &origin).await?;
        let checkpoint =
            Checkpoint { origin, size: u64::try_from(size)?, root: TreeHash::from_slice(&root)? };
        let key = shared.options.house.receipt_key();
        let note = sign_timed_checkpoint_with(&checkpoint, &losses, key, time_s);
        if shared.dies_at(Stage::CheckpointSigned) {
            return Ok(done);
        }
        client
            .query_one("select receipts.store_checkpoint($1, $2, $3, $4)", &[&id, &size, &root, &note])
            .await?;
        if shared.dies_at(Stage::CheckpointStored) {
            return Ok(done);
        }
        if shared.dies_at(Stage::CheckpointHalfWritten) {
            half_written(&path(&shared.options.checkpoint_dir, ledger_id), note.as_bytes())?;
            return Ok(done);
        }
        keep_outside(shared, ledger_id, note).await?;
    }
    drop(client);
    driver.await??;
    Ok(size.max(done))
}

/// Keeps the newest checkpoint outside the database, whole and fsynced.
pub(super) async fn keep_outside(shared: &Shared, ledger_id: u32, note: String) -> Upkeep<()> {
    let path = path(&shared.options.checkpoint_dir, ledger_id);
    tokio::task::spawn_blocking(move || write_durably(&path, note.as_bytes())).await??;
    Ok(())
}

/// What a new checkpoint has to state besides the log. Fails rather than paper over a log that lost its tail: what was promised
/// outside must still hold.
pub(super) async fn stated_losses(
    client: &Client,
    shared: &Shared,
    ledger_id: u32,
    origin: &NoteName,
) -> Upkeep<Vec<String>> {
    let outside = agrees_with_outside(client, shared, ledger_id, origin).await?;
    // A log that was once restored to an earlier point says so for ever, even where one of the two was lost.
    let id = i32::try_from(ledger_id)?;
    let inside = client.query_opt("select note from receipts.read_checkpoint($1)", &[&id]).await?;
    let inside: Option<String> = inside.map(|row| row.try_get(0)).transpose()?;
    // Nothing is signed again that the house has not signed before.
    let key = shared.options.house.receipt_key().public();
    let inside = inside.filter(|note| parse_and_verify(note, origin, key).is_ok());
    let losses = proto::note::stated_losses([outside.as_deref(), inside.as_deref()].into_iter().flatten());
    Ok(losses.iter().map(StatedLoss::to_string).collect())
}

/// Checks the checkpoint kept outside against the log, and returns it. `UR903`: the log in the database is not the one
/// that was promised.
async fn agrees_with_outside(
    client: &Client,
    shared: &Shared,
    ledger_id: u32,
    origin: &NoteName,
) -> Upkeep<Option<String>> {
    let path = path(&shared.options.checkpoint_dir, ledger_id);
    let note = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        note => note?,
    };
    let key = shared.options.house.receipt_key().public();
    let outside = parse_and_verify(&note, origin, key)?;
    if ledger_id != FOREST
        && let Ok(timed) = parse_timed(&note, origin, key)
    {
        // What an earlier run signed binds this one, even if the clock was set back in between.
        shared.signed_until(timed.time_s);
    }
    let row = client
        .query_one(
            "select receipts.root_at($1, $2)",
            &[&i32::try_from(ledger_id)?, &i64::try_from(outside.size)?],
        )
        .await?;
    let root: Option<Vec<u8>> = row.try_get(0)?;
    if root.as_deref() != Some(outside.root.0.as_slice()) {
        let log = if ledger_id == FOREST {
            "the forest".to_owned()
        } else {
            format!("the receipt log of ledger {ledger_id}")
        };
        return Err(Box::new(Error::new(
            "UR903",
            format!(
                "{log} disagrees with the checkpoint kept outside the database ({}, size {}): \
                 it was shortened, restored to an earlier point, or changed. Run `econ verify`.",
                path.display(),
                outside.size
            ),
        )));
    }
    Ok(Some(note))
}

/// The same check before a server starts to serve; a ledger that does not exist yet agrees.
pub(super) async fn check(shared: &Shared, ledger_id: u32) -> Result<(), Error> {
    let (client, driver) = shared.options.database.connect(NoTls).await?;
    let driver = tokio::spawn(driver);
    let id = i32::try_from(ledger_id).map_err(|_| Error::new("UB401", "there is no such ledger"))?;
    let row = if ledger_id == FOREST {
        client.query_opt("select origin from receipts.read_forest()", &[]).await?
    } else {
        client.query_opt("select origin from base.read_ledgers() where ledger_id = $1", &[&id]).await?
    };
    let origin = row.map(|row| row.try_get::<_, String>(0)).transpose()?;
    // Without a ledger, an old checkpoint beside an empty database is a lost log too.
    let result = match origin.as_deref().map(str::parse::<NoteName>) {
        Some(Ok(origin)) => agrees_with_outside(&client, shared, ledger_id, &origin).await.map(drop),
        Some(Err(error)) => Err(error.into()),
        None if promises_more_than_nothing(&path(&shared.options.checkpoint_dir, ledger_id)) => {
            let log = if ledger_id == FOREST { "forest".to_owned() } else { format!("ledger {ledger_id}") };
            Err(format!("the database holds no {log}, but a checkpoint of one is kept outside it").into())
        }
        None => Ok(()),
    };
    drop(client);
    let _ = driver.await;
    result.map_err(|error| match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::new("UR903", error.to_string()),
    })
}

/// Whether there is a checkpoint of something. One of an empty log is what a restore leaves to a forest that has to be made anew.
fn promises_more_than_nothing(path: &Path) -> bool {
    let empty = |note: String| read_unverified(&note).is_ok_and(|checkpoint| checkpoint.size == 0);
    path.exists() && !fs::read_to_string(path).is_ok_and(empty)
}

/// Where the newest checkpoint of a ledger, or of the forest, is kept outside the database.
pub(crate) fn path(dir: &Path, ledger_id: u32) -> PathBuf {
    if ledger_id == FOREST {
        return dir.join("forest.checkpoint");
    }
    dir.join(format!("ledger-{ledger_id}.checkpoint"))
}

/// What a process leaves that dies while it writes.
fn half_written(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(&bytes[..bytes.len() / 2])?;
    file.keep().map_err(|error| error.error)?;
    Ok(())
}

/// Replaces a file whole or not at all: written beside, fsynced, renamed, folder fsynced. The folder is made when missing.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(dir)?.sync_all()
}

impl Shared {
    /// From now on nothing is accepted that would be due at this time or earlier: a checkpoint states it.
    fn signed_until(&self, time_s: u64) {
        let us = i64::try_from(time_s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        self.signed_us.fetch_max(us, Ordering::AcqRel);
    }
}
