//! `econ bench`: figures, each beside a baseline that was taken in the same run on the same machine.

mod baseline;
mod cycle;
mod figures;
mod ledger;
mod receipts;
mod stats;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::cli::failure::{Failure, Outcome};
use crate::cli::say;
use crate::demo::children::{Notice, Spec, Watched};

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Full cycles from request to settlement, over HTTP and WebSocket, signatures and receipts on
    Cycle(cycle::CycleArgs),
    /// The books by themselves: batches, many callers, a long run, history
    Ledger(ledger::LedgerArgs),
    /// Receipts: sealing, verifying, replaying, proofs
    Receipts(receipts::ReceiptsArgs),
}

/// Runs a benchmark.
pub(crate) async fn run(command: BenchCommand) -> Outcome {
    match command {
        BenchCommand::Cycle(args) => cycle::run(args).await,
        BenchCommand::Ledger(args) => ledger::run(args).await,
        BenchCommand::Receipts(args) => receipts::run(args).await,
    }
}

/// A throwaway folder, on a disk if the caller is well advised.
fn folder(dir: Option<&Path>) -> Outcome<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("econ-bench-");
    let folder = match dir {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    }
    .map_err(|error| Failure::outside(format!("cannot create a folder for the benchmark: {error}")))?;
    let in_memory = nix::sys::statfs::statfs(folder.path())
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    if in_memory {
        let hint =
            "the cluster's folder is in memory, so commits cost nothing: name one on a disk with --dir";
        let _ = writeln!(std::io::stderr(), "econ: {hint}");
    }
    Ok(folder)
}

/// The real server as a process of its own, on a durable cluster in a throwaway folder.
struct Server {
    data_dir: PathBuf,
    url: String,
    process: Watched,
    sender: mpsc::UnboundedSender<Notice>,
    // What happens to the processes is seen at once: a benchmark whose server died is over.
    notices: mpsc::UnboundedReceiver<Notice>,
}

impl Server {
    async fn start(data_dir: &Path, pg_bin: Option<&Path>) -> Outcome<Self> {
        let (sender, notices) = mpsc::unbounded_channel();
        let mut up = vec!["up".into(), "--data-dir".into(), data_dir.into()];
        if let Some(pg_bin) = pg_bin {
            up.extend(["--pg-bin".into(), pg_bin.into()]);
        }
        up.extend(["--port".into(), "0".into(), "--exit-with-parent".into(), "--ready-json".into()]);
        let log = data_dir.join("log").join("server.log");
        let spec = Spec { name: "server".into(), args: up, log, announces: true };
        let process = Watched::start(spec, sender.clone()).await?;
        let url = process.ready["url"].as_str().unwrap_or_default().to_owned();
        Ok(Self { data_dir: data_dir.to_owned(), url, process, sender, notices })
    }

    fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn url(&self) -> &str {
        &self.url
    }

    /// Fails when a watched process has died.
    fn all_alive(&self) -> Outcome {
        if self.notices.is_empty() {
            return Ok(());
        }
        Err(Failure::outside("a process died during the measurement: its figures would mean nothing"))
    }

    async fn stop(self) -> Outcome {
        self.process.stop().await
    }
}

/// One line of `--json`.
fn line(bench: &str, value: f64, unit: &str, baseline: Option<(&str, f64)>) {
    say(figure(bench, value, unit, baseline));
}

fn figure(bench: &str, value: f64, unit: &str, baseline: Option<(&str, f64)>) -> Value {
    let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
    let ratio =
        baseline.map(|(_, of)| (value / of * 10_000.0).round() / 10_000.0).filter(|ratio| ratio.is_finite());
    json!({
        "bench": bench, "value": rounded(value), "unit": unit,
        "baseline": baseline.map(|(name, _)| name), "baseline_value": baseline.map(|(_, of)| rounded(of)), "ratio": ratio,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_exactly_the_agreed_fields() {
        let with = figure("cycle.32", 150.0, "cycles/s", Some(("pgbench_simple_update.8", 1_200.0)));
        assert_eq!(with["ratio"], 0.125);
        let without = figure("cycle.32.total.p50", 12.3456, "ms", None);
        assert_eq!((&without["value"], &without["ratio"]), (&json!(12.346), &Value::Null));
        for value in [with, without] {
            let mut fields: Vec<&String> = value.as_object().unwrap().keys().collect();
            fields.sort();
            assert_eq!(fields, ["baseline", "baseline_value", "bench", "ratio", "unit", "value"]);
        }
    }
}
