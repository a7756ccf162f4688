//! A replay with everything that can be said about it: how far, how fast, and whether every table is what the log gives.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::{Client, Config};

use super::file::FileLog;
use super::scratch::{Scratch, connect, session};
use super::source::{DatabaseLog, Log};
use super::{ReplayOptions, Replayed, Until, replay};
use crate::error::Error;
use crate::verify::stored::Rederive;
use crate::verify::{
    Comparison, Expected, LEFT_OUT, LeftOut, Problem, Reached, TEXT_FORMS, compare, compare_with,
    filled_by_schema,
};

/// What is replayed.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "one is made per proof")]
pub enum Source {
    /// A database, as a user that may read every table.
    Database(Config),
    /// An exported file.
    File(PathBuf),
}

/// How to prove.
#[derive(Clone)]
pub struct ProofOptions {
    /// How to replay.
    pub replay: ReplayOptions,
    /// What the tables should hold, where the source has none; without it they are only digested.
    pub expected: Option<Expected>,
}

/// What a replay showed.
#[derive(Debug, Clone)]
pub struct Proof {
    /// How far it came, and whether every receipt came out again.
    pub replayed: Replayed,
    /// Every table that was compared; empty when the replay did not come through.
    pub tables: Vec<Comparison>,
    /// What was not compared, each with its reason.
    pub left_out: &'static [LeftOut],
}

impl Proof {
    /// Nothing is off.
    pub fn passed(&self) -> bool {
        self.problems().is_empty()
    }

    /// Everything that is off, the first of each kind and of each table.
    pub fn problems(&self) -> Vec<Problem> {
        let replayed = &self.replayed;
        let found = [&replayed.problem, &replayed.unsigned, &replayed.checkpoint_problem];
        found
            .into_iter()
            .flatten()
            .cloned()
            .chain(self.tables.iter().filter_map(Comparison::problem))
            .collect()
    }
}

/// Replays a source into `target` (see [`super::prepare`]) and compares every table. The source is read in one snapshot, so a
/// running server does not disturb the picture. Afterwards the target's session is an auditor's.
pub async fn prove(source: &Source, target: &Client, options: &ProofOptions) -> Result<Proof, Error> {
    match source {
        Source::Database(config) => {
            let client = connect(config).await?;
            client.batch_execute(TEXT_FORMS).await?;
            client.batch_execute("begin transaction isolation level repeatable read read only").await?;
            let log = Log::Database(DatabaseLog::open(&client).await?);
            let proof = prove_log(log, Some(&client), target, options).await;
            client.batch_execute("rollback").await?;
            proof
        }
        Source::File(path) => prove_log(Log::File(FileLog::open(path).await?), None, target, options).await,
    }
}

async fn prove_log(
    mut log: Log<'_>,
    source: Option<&Client>,
    target: &Client,
    options: &ProofOptions,
) -> Result<Proof, Error> {
    if log.ledgers().is_empty() {
        return Err(Error::new("UB401", "there is no ledger to replay"));
    }
    let expected = match &options.expected {
        None => Expected::default(),
        Some(expected) => {
            as_auditor(target).await?;
            let filled = filled_by_schema(target).await?;
            target.batch_execute("reset all; reset role").await?;
            session(target).await?;
            expected.clone().without(&filled)
        }
    };
    let replayed = replay(&mut log, target, &options.replay).await?;
    as_auditor(target).await?;
    let tables = match (replayed.problem.is_some(), source) {
        // Tables can only be compared after the whole log.
        (true, _) => Vec::new(),
        (false, Some(source)) => {
            let reached: Reached = replayed
                .ledgers
                .iter()
                .filter(|end| end.seq > 0)
                .map(|end| (i32::try_from(end.ledger_id).unwrap_or_default(), end.seq))
                .collect();
            let whole = options.replay.until == Until::End;
            compare(source, target, (!whole).then_some(&reached)).await?
        }
        (false, None) => compare_with(target, &expected).await?,
    };
    Ok(Proof { replayed, tables, left_out: LEFT_OUT })
}

/// Makes the session that replayed one that may read every table, and none that may change one.
pub(crate) async fn as_auditor(target: &Client) -> Result<(), Error> {
    target.batch_execute("reset all; set role econ_auditor").await?;
    target.batch_execute(TEXT_FORMS).await?;
    Ok(())
}

/// How fast a log replays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Commands that were decided again.
    pub commands: u64,
    /// Seconds that took, without making the database and without comparing.
    pub seconds: f64,
}

impl Rate {
    /// Commands per second.
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn per_second(&self) -> f64 {
        self.commands as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Measures the replay of a database's whole log into a scratch database of the server of `admin`, `batch` commands to a
/// transaction. `UR932`: the log did not come out again, so a rate would mean nothing.
pub async fn rate(
    source: &Config,
    admin: &Config,
    batch: usize,
    rederive: Arc<Rederive>,
) -> Result<Rate, Error> {
    let scratch = Scratch::create(admin).await?;
    let measured = rate_into(source, &scratch, batch, rederive).await;
    scratch.drop().await?;
    measured
}

async fn rate_into(
    source: &Config,
    scratch: &Scratch,
    batch: usize,
    rederive: Arc<Rederive>,
) -> Result<Rate, Error> {
    let target = scratch.load().await?;
    let client = connect(source).await?;
    client.batch_execute("begin transaction isolation level repeatable read read only").await?;
    let mut log = Log::Database(DatabaseLog::open(&client).await?);
    let began = Instant::now();
    let replayed = replay(&mut log, &target, &ReplayOptions::new(batch, rederive)).await?;
    let seconds = began.elapsed().as_secs_f64();
    if let Some(problem) = replayed.problem {
        return Err(Error::new("UR932", format!("{}: {}", problem.place, problem.message)));
    }
    Ok(Rate { commands: replayed.commands, seconds })
}
