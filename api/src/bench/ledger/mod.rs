//! `econ bench ledger`: how fast the books are, each figure beside what the same Postgres does without them.
//!
//! A durable throwaway cluster on disk. The books are driven through the crate's own queue ([`ledger::posting`]), without HTTP,
//! signature or receipt; `ledger.signed.64` is the whole way, over HTTP with signatures and receipts. Baselines run in this
//! process on the same cluster, in turn with what they are compared with.

mod batches;
mod callers;
mod signed;
mod sustained;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ledger::cluster::Cluster;
use ledger::loader;
use ledger::posting::rig::{Bare, Limits, open_ledger};
use ledger::posting::{NewTransfer, Poster};
use tokio_postgres::Config;

use super::baseline;
use super::figures::Figures;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::say;
use batches::Mix;

/// Accounts of each ledger.
const ACCOUNTS: usize = 10_000;
/// Transfers of a batch.
const BATCH: usize = 8_000;
/// The database of the measurement, beside the server's own.
const DATABASE: &str = "bench";
/// Batches that are sent at once: one is posted, one is prepared, one is on its way.
const IN_FLIGHT: usize = 3;

/// Options of the benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct LedgerArgs {
    /// Seconds of each measurement of callers
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Batches of 8,000 in each turn of the batch measurements
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    batches: u64,
    /// Turns of ours and the baseline
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=100))]
    turns: u64,
    /// Transfers of the long run; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    sustained: u64,
    /// Only figures whose name begins so
    #[arg(long, value_name = "PREFIX")]
    only: Option<String>,
    /// Where the throwaway cluster lives: a folder on a disk, not in memory [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Folder of Postgres' programs [default: the first that runs here]
    #[arg(long, env = "ECON_PG_BIN", value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Print lines of JSON
    #[arg(long)]
    json: bool,
}

/// Everything a measurement needs.
struct Bench<'a> {
    args: &'a LedgerArgs,
    cluster: &'a Cluster,
    config: Config,
    figures: Figures,
    next_ledger: i32,
}

/// Runs the benchmark.
pub(crate) async fn run(args: LedgerArgs) -> Outcome {
    let folder = super::folder(args.dir.as_deref())?;
    let server = super::Server::start(folder.path(), args.pg_bin.as_deref()).await?;
    let measured = measure(&args, &server).await;
    server.stop().await?;
    measured?.show(args.json);
    if args.json {
        return Ok(());
    }
    say(
        "\nbare_insert_pk: INSERT … SELECT unnest of the same rows into the same table with its primary key only, one connection,",
    );
    say(
        "next batch sent while the last is in flight. one_session: the same of ours; elsewhere two sessions of ours take turns.",
    );
    say("Durable commits. docs/PERFORMANCE.md says what was tried and where the time goes.");
    Ok(())
}

async fn measure(args: &LedgerArgs, server: &super::Server) -> Outcome<Figures> {
    let cluster = Cluster::attach(server.data_dir()).await?;
    let admin = cluster.config("postgres", cluster.superuser());
    ledger::database::ensure(&admin, DATABASE).await?;
    let config = cluster.config(DATABASE, cluster.superuser());
    let (mut client, driver) = config.connect(tokio_postgres::NoTls).await.map_err(Failure::outside)?;
    let driver = tokio::spawn(driver);
    let options = loader::LoadOptions::embedded().map_err(Failure::outside)?;
    loader::load(&mut client, &options).await.map_err(Failure::outside)?;
    drop(client);
    driver.abort();
    let mut bench = Bench { args, cluster: &cluster, config, figures: Figures::default(), next_ledger: 1 };
    if bench.wants("ledger.batch") {
        bench.batches().await?;
    }
    if bench.wants("ledger.single") {
        bench.callers().await?;
    }
    if bench.wants("ledger.two_ledgers") {
        bench.two_ledgers().await?;
    }
    if bench.wants("ledger.signed") {
        bench.signed(server).await?;
    }
    if args.sustained > 0 && bench.wants("ledger.sustained") {
        bench.sustained().await?;
    }
    Ok(bench.figures)
}

impl Bench<'_> {
    fn wants(&self, prefix: &str) -> bool {
        self.args.only.as_deref().is_none_or(|only| prefix.starts_with(only) || only.starts_with(prefix))
    }

    fn note(&mut self, name: &str, value: f64, unit: &'static str, baseline: Option<(&str, f64)>) {
        self.figures.note(name, value, unit, baseline);
    }

    async fn open(&mut self, limits: Limits) -> Outcome<(i32, Vec<proto::ids::AccountId>)> {
        let ledger_id = self.next_ledger;
        self.next_ledger += 1;
        Ok((ledger_id, open_ledger(&self.config, ledger_id, ACCOUNTS, limits).await?))
    }

    /// Batches of each mix, in turns with the bare insert.
    async fn batches(&mut self) -> Outcome {
        let count = usize::try_from(self.args.batches).unwrap_or(usize::MAX);
        let bare = Bare::create(&self.config).await?;
        let (ledger_id, accounts) = self.open(Limits::OneSide).await?;
        let two = Poster::start(self.config.clone(), ledger_id);
        let one = Poster::with_sessions(self.config.clone(), ledger_id, 1);
        // Warm: plans, caches, and free room on the accounts' pages.
        post_all(&two, Mix::Cold.batches(&accounts, 4)).await?;
        post_all(&one, Mix::Cold.batches(&accounts, 4)).await?;
        insert_all(&bare, &Mix::Cold.batches(&accounts, 4)).await?;
        let (mut ours, mut alone, mut hot, mut theirs) =
            (Rate::default(), Rate::default(), Rate::default(), Rate::default());
        for _ in 0..self.args.turns {
            ours.add(post_all(&two, Mix::Cold.batches(&accounts, count)).await?);
            theirs.add(insert_all(&bare, &Mix::Cold.batches(&accounts, count)).await?);
            hot.add(post_all(&two, Mix::Hot.batches(&accounts, count)).await?);
            alone.add(post_all(&one, Mix::Cold.batches(&accounts, count)).await?);
        }
        let bare_rate = theirs.per_second();
        let unit = "transfers/s";
        self.note("ledger.batch.cold", ours.per_second(), unit, Some(("bare_insert_pk", bare_rate)));
        self.note(
            "ledger.batch.cold.one_session",
            alone.per_second(),
            unit,
            Some(("bare_insert_pk", bare_rate)),
        );
        self.note("ledger.batch.hot", hot.per_second(), unit, Some(("ledger.batch.cold", ours.per_second())));
        let (tight_id, tight) = self.open(Limits::OneSide).await?;
        let tight_poster = Poster::start(self.config.clone(), tight_id);
        for mix in [Mix::Failing, Mix::Pending, Mix::Chained] {
            post_all(&tight_poster, mix.batches(&tight, 2)).await?;
            let mut rate = Rate::default();
            for _ in 0..self.args.turns.div_ceil(2) {
                rate.add(post_all(&tight_poster, mix.batches(&tight, count)).await?);
            }
            self.note(mix.name(), rate.per_second(), unit, Some(("ledger.batch.cold", ours.per_second())));
        }
        Ok(())
    }

    /// One posting loop, then two on two ledgers.
    async fn two_ledgers(&mut self) -> Outcome {
        let count = usize::try_from(self.args.batches).unwrap_or(usize::MAX);
        let mut posters = Vec::new();
        for _ in 0..2 {
            let (ledger_id, accounts) = self.open(Limits::OneSide).await?;
            let poster = Poster::with_sessions(self.config.clone(), ledger_id, 1);
            post_all(&poster, Mix::Cold.batches(&accounts, 4)).await?;
            posters.push((poster, accounts));
        }
        let [(first, first_accounts), (second, second_accounts)] = posters.as_slice() else { return Ok(()) };
        let (mut one, mut both, mut cpu) = (Rate::default(), Rate::default(), Duration::ZERO);
        for _ in 0..self.args.turns {
            one.add(post_all(first, Mix::Cold.batches(first_accounts, count)).await?);
            let (left, right) =
                (Mix::Cold.batches(first_accounts, count), Mix::Cold.batches(second_accounts, count));
            let (began, used) = (Instant::now(), cpu_time());
            let (left, right) = tokio::join!(post_all(first, left), post_all(second, right));
            both.add((left?.0 + right?.0, began.elapsed()));
            cpu += cpu_time().saturating_sub(used);
        }
        self.note(
            "ledger.two_ledgers",
            both.per_second(),
            "transfers/s",
            Some(("one_ledger_one_session", one.per_second())),
        );
        let share = cpu.as_secs_f64() / both.1.as_secs_f64() * 100.0;
        self.note("ledger.two_ledgers.client_cpu", share, "% of a core", None);
        Ok(())
    }
}

/// Transfers and the time they took.
#[derive(Debug, Default, Clone, Copy)]
struct Rate(usize, Duration);

impl Rate {
    fn add(&mut self, (count, time): (usize, Duration)) {
        self.0 += count;
        self.1 += time;
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of transfers")]
    fn per_second(self) -> f64 {
        self.0 as f64 / self.1.as_secs_f64()
    }
}

/// Posts all batches, [`IN_FLIGHT`] at a time; how many transfers, and how long it took.
async fn post_all(poster: &Poster, batches: Vec<Vec<NewTransfer>>) -> Outcome<(usize, Duration)> {
    use futures_util::{StreamExt as _, TryStreamExt as _};
    let count = batches.iter().map(Vec::len).sum();
    let began = Instant::now();
    futures_util::stream::iter(batches.into_iter().map(|batch| poster.post(batch)))
        .buffered(IN_FLIGHT)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    Ok((count, began.elapsed()))
}

/// Inserts all batches into the bare table, the next one sent while the last is in flight.
async fn insert_all(bare: &Bare, batches: &[Vec<NewTransfer>]) -> Outcome<(usize, Duration)> {
    use futures_util::{StreamExt as _, TryStreamExt as _};
    let count = batches.iter().map(Vec::len).sum();
    let began = Instant::now();
    futures_util::stream::iter((1_i64..).zip(batches).map(|(seq, batch)| bare.insert(seq, batch)))
        .buffered(IN_FLIGHT)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await?;
    Ok((count, began.elapsed()))
}

/// CPU that this process has used.
fn cpu_time() -> Duration {
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        let rest = stat.rsplit_once(") ")?.1.to_owned();
        let mut fields = rest.split(' ').skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    });
    // Linux counts these in hundredths of a second on every machine that it runs on.
    Duration::from_millis(ticks.unwrap_or_default() * 10)
}
