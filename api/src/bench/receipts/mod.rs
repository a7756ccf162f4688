//! `econ bench receipts`: what receipts cost, each figure beside what the same machine does without them.
//!
//! A durable throwaway cluster on disk, the real server and a real agent. Sealing and proofs work on a database of their own in
//! that cluster, through the pipeline's own statements; the share of sealing and the replay are of a real market's log.

mod market;
mod proof;
mod seal;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use ledger::cluster::Cluster;
use ledger::loader;
use tokio_postgres::Config;

use super::cycle;
use super::figures::Figures;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::say;

/// The database of the measurement, beside the server's own.
const DATABASE: &str = "bench";

/// Options of the benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct ReceiptsArgs {
    /// Turns of ours and the baseline; figures are medians of them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    turns: u64,
    /// Seconds of market load for the share of sealing and for the replay
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Receipts to verify
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    receipts: u64,
    /// Leaves of the log that proofs are of
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    leaves: u64,
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

impl ReceiptsArgs {
    fn wants(&self, prefix: &str) -> bool {
        self.only.as_deref().is_none_or(|only| prefix.starts_with(only) || only.starts_with(prefix))
    }
}

/// Runs the benchmark.
pub(crate) async fn run(args: ReceiptsArgs) -> Outcome {
    let mut figures = Figures::default();
    if args.wants("receipts.verify") {
        verify::measure(&args, &mut figures)?;
    }
    if ["receipts.seal", "receipts.proof", "receipts.share", "receipts.replay"]
        .iter()
        .any(|name| args.wants(name))
    {
        let folder = super::folder(args.dir.as_deref())?;
        let bench = cycle::Bench::start(folder.path(), args.pg_bin.as_deref()).await?;
        let measured = measure(&args, &bench, &mut figures).await;
        bench.stop().await?;
        measured?;
    }
    figures.show(args.json);
    if args.json {
        return Ok(());
    }
    say(
        "\nseal: receipts encoded, signed, stored, heads moved, log appended, committed; the next batch is signed while the last",
    );
    say(
        "is stored. Deciding the commands is not in it. bare_insert_pk: the same bytes, made beforehand, into a table with the",
    );
    say("same primary key and nothing else; same batches, same durable commits.");
    say(
        "share: of the time that a batch of a real market spends in decide, sign, seal and commit, as the writer's clock has it.",
    );
    say(
        "verify: envelope, type, strict signature, receipt, id, leaf and inclusion proof, on all cores; verify_strict: only the",
    );
    say(
        "signatures. No batch verification: it accepts what the strict check refuses, and says of no receipt that it is the bad one.",
    );
    say(
        "replay: the log of that market, decided again into an empty database; original_run: over HTTP, buyers and agent included.",
    );
    Ok(())
}

async fn measure(args: &ReceiptsArgs, bench: &cycle::Bench, figures: &mut Figures) -> Outcome {
    let cluster = Cluster::attach(bench.server.data_dir()).await?;
    let config = database(&cluster).await?;
    if args.wants("receipts.seal") {
        seal::measure(args, &config, figures).await?;
    }
    if args.wants("receipts.share") || args.wants("receipts.replay") {
        market::measure(args, bench, &cluster, figures).await?;
    }
    if args.wants("receipts.proof") {
        proof::measure(args, &config, figures).await?;
    }
    Ok(())
}

/// An empty database with everything in it that `sql/` says.
async fn database(cluster: &Cluster) -> Outcome<Config> {
    let admin = cluster.config("postgres", cluster.superuser());
    ledger::database::ensure(&admin, DATABASE).await?;
    let config = cluster.config(DATABASE, cluster.superuser());
    let (mut client, driver) = config.connect(tokio_postgres::NoTls).await.map_err(Failure::outside)?;
    let driver = tokio::spawn(driver);
    let options = loader::LoadOptions::embedded().map_err(Failure::outside)?;
    loader::load(&mut client, &options).await.map_err(Failure::outside)?;
    drop(client);
    driver.abort();
    Ok(config)
}

/// The middle one of what the turns gave.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// So many in so long.
#[expect(clippy::cast_precision_loss, reason = "counts of receipts")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
