//! Proves that a database is what its command log says, and that the log is what its senders and the house signed.
//!
//! Everything is read in one REPEATABLE READ transaction, so a running server does not disturb the picture.

mod blame;
mod books;
mod compare;
mod digest;
mod forest;
pub(crate) mod log;
mod losses;
pub(crate) mod report;
pub(crate) mod stored;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::keys::PublicKey;
use tokio_postgres::{Client, Config};

pub use blame::Touched;
pub use compare::{Comparison, Difference, Extent, How, Reached, compare, compare_with, filled_by_schema};
pub use digest::{Digest, Expected, TEXT_FORMS, digest};
pub use report::{Check, Problem, Report};
pub use stored::Rederive;
pub use tables::{Column, LEFT_OUT, LeftOut, Table, tables, tables_without};

use crate::error::Error;
use crate::receipts::log::FOREST;
use crate::replay::{self, DatabaseLog, Log, ReplayOptions, Scratch, connect};

/// What to verify, against what.
pub struct VerifyOptions {
    /// The database, as a user that may read every table.
    pub database: Config,
    /// A database of the same server (e.g. `postgres`), as a user that may create databases: replay needs a scratch one.
    pub admin: Config,
    /// The receipt key as kept outside the database; `None`: the one of the genesis, which a forger could have changed.
    pub receipt_key: Option<PublicKey>,
    /// Where the newest checkpoints are kept outside the database.
    pub checkpoint_dir: Option<PathBuf>,
    /// Checkpoints that somebody else kept (a witness, a client), each with the name to report it by.
    pub checkpoints: Vec<(String, String)>,
    /// From signed GraphQL JSON to command bytes.
    pub rederive: Arc<Rederive>,
    /// Commands per transaction of the replay.
    pub batch: usize,
}

/// Runs every check. `Err` only when the checks could not be made; what they found is in the report.
pub async fn run(options: &VerifyOptions) -> Result<Report, Error> {
    // Before the snapshot: a running server may move its checkpoints on, but never behind a log that is read later.
    let kept = match &options.checkpoint_dir {
        Some(dir) => read_outside(dir)?,
        None => BTreeMap::new(),
    };
    let source = connect(&options.database).await?;
    source.batch_execute(TEXT_FORMS).await?;
    source.batch_execute("begin transaction isolation level repeatable read read only").await?;
    let mut report = Report::default();
    let ledgers = source.query("select ledger_id, origin from base.ledgers order by ledger_id", &[]).await?;
    let mut outside = outside_notes(&source, kept, options, &mut report).await?;
    for row in &ledgers {
        let (id, origin): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        let ledger_id = u32::try_from(id).map_err(|_| Error::new("UB401", "there is no such ledger"))?;
        let notes = outside.remove(&ledger_id).unwrap_or_default();
        log::check(
            &source,
            ledger_id,
            &origin,
            options.receipt_key,
            notes,
            options.rederive.as_ref(),
            &mut report,
        )
        .await?;
    }
    if let Some(row) = ledgers.first() {
        let first = u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
        let key = log::receipt_key(&source, first, options.receipt_key).await?;
        forest::check(&source, key, outside.remove(&FOREST).unwrap_or_default(), &mut report).await?;
    }
    if let Some(ledger_id) = outside.keys().next() {
        let place = format!("base.ledgers ledger {ledger_id}");
        let message =
            "a checkpoint of this ledger is kept outside, but the database has no such ledger".into();
        report.add(
            "ledgers",
            "every ledger with a checkpoint outside exists",
            1,
            Some(Problem { place, message }),
        );
    }
    if ledgers.is_empty() {
        let problem = Problem { place: "base.ledgers".into(), message: "there is no ledger".into() };
        report.add("ledgers", "at least one ledger exists", 0, Some(problem));
        return Ok(report);
    }
    books::check(&source, &mut report).await?;
    check_replay(&source, options, &mut report).await?;
    report.left_out = LEFT_OUT.to_vec();
    source.batch_execute("rollback").await?;
    Ok(report)
}

/// Every checkpoint from outside, by ledger (0: the forest), each with its place. One that is of no log here is a finding.
async fn outside_notes(
    source: &Client,
    kept: BTreeMap<u32, String>,
    options: &VerifyOptions,
    report: &mut Report,
) -> Result<BTreeMap<u32, Vec<(String, String)>>, Error> {
    let mut outside: BTreeMap<u32, Vec<(String, String)>> = BTreeMap::new();
    for (ledger_id, note) in kept {
        let place = if ledger_id == FOREST {
            "the forest's checkpoint kept outside the database"
        } else {
            "the checkpoint kept outside the database"
        };
        outside.entry(ledger_id).or_default().push((place.to_owned(), note));
    }
    if options.checkpoints.is_empty() {
        return Ok(outside);
    }
    let names =
        "select ledger_id, origin from base.ledgers union all select ledger_id, origin from receipts.forests";
    let mut logs = BTreeMap::new();
    for row in &source.query(names, &[]).await? {
        let (id, origin): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        logs.insert(origin, u32::try_from(id).unwrap_or_default());
    }
    let mut problem = None;
    for (place, note) in &options.checkpoints {
        let found = match proto::note::read_unverified(note) {
            Ok(checkpoint) => logs
                .get(checkpoint.origin.as_str())
                .copied()
                .ok_or_else(|| format!("there is no log {} here", checkpoint.origin)),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(ledger_id) => outside.entry(ledger_id).or_default().push((place.clone(), note.clone())),
            Err(message) => {
                problem.get_or_insert(Problem { place: place.clone(), message });
            }
        }
    }
    let count = options.checkpoints.len() as u64;
    report.add("checkpoints.given", "each checkpoint handed in is of a log that is here", count, problem);
    Ok(outside)
}

/// Replays the log into a scratch database and compares every table.
async fn check_replay(source: &Client, options: &VerifyOptions, report: &mut Report) -> Result<(), Error> {
    let scratch = Scratch::create(&options.admin).await?;
    let result = replay_and_compare(source, &scratch, options, report).await;
    scratch.drop().await?;
    result
}

async fn replay_and_compare(
    source: &Client,
    scratch: &Scratch,
    options: &VerifyOptions,
    report: &mut Report,
) -> Result<(), Error> {
    let target = scratch.load().await?;
    let mut log = Log::Database(DatabaseLog::open(source).await?);
    let how = ReplayOptions {
        receipt_key: options.receipt_key,
        ..ReplayOptions::new(options.batch, Arc::clone(&options.rederive))
    };
    // Signatures and checkpoints were judged with the log; here it is what comes out that counts.
    let (commands, problem) = match replay::replay(&mut log, &target, &how).await {
        Ok(replayed) => (replayed.commands, replayed.problem),
        Err(error) => (0, Some(Problem { place: error.code.to_string(), message: error.message })),
    };
    let whole = problem.is_none();
    report.add(
        "replay.receipts",
        "replaying the log makes every receipt again, byte for byte",
        commands,
        problem,
    );
    let (mut count, mut first) = (0, None);
    if whole {
        replay::as_auditor(&target).await?;
        for comparison in compare::compare(source, &target, None).await? {
            count += comparison.stored.map_or(0, |stored| stored.rows);
            first = first.or_else(|| comparison.problem());
        }
    } else {
        let message = "not compared: the replay did not reach the end".into();
        first = Some(Problem { place: "replay".into(), message });
    }
    report.add("replay.tables", "every row of every table is what the log gives", count, first);
    Ok(())
}

/// The newest checkpoint of each ledger and of the forest, as kept outside the database in a folder. `UR906`: it cannot be
/// read.
pub fn read_outside(dir: &Path) -> Result<BTreeMap<u32, String>, Error> {
    let failed = |error: std::io::Error| {
        Error::new(
            "UR906",
            format!("the checkpoints kept outside cannot be read: {}: {error}", dir.display()),
        )
    };
    let mut notes = BTreeMap::new();
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(notes),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let ledger_id = name.to_str().and_then(|name| match name.strip_suffix(".checkpoint")? {
            "forest" => Some(FOREST),
            name => name.strip_prefix("ledger-")?.parse::<u32>().ok().filter(|id| *id != FOREST),
        });
        if let Some(ledger_id) = ledger_id {
            let path = crate::pipeline::checkpoint_path(dir, ledger_id);
            notes.insert(ledger_id, std::fs::read_to_string(path).map_err(failed)?);
        }
    }
    Ok(notes)
}
