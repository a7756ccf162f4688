//! `receipts.share` and `receipts.replay`: a real market under load, where its writer's time goes, and its log replayed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::cluster::Cluster;
use ledger::{Reader, receipts, replay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::cycle::{self, WARM_UP};
use super::{ReceiptsArgs, per_second};
use crate::bench::figures::Figures;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::place::DATABASE;
use crate::cli::verify::{BATCH, rederive};

const BUYERS: usize = 32;
const LEDGER: u32 = 1;
/// What the writer does with a batch, in this order, each with a histogram of its own.
const STEPS: [&str; 4] = ["decide", "sign", "seal", "commit"];

pub(super) async fn measure(
    args: &ReceiptsArgs,
    bench: &cycle::Bench,
    cluster: &Cluster,
    figures: &mut Figures,
) -> Outcome {
    let reader = Reader::new(cluster.config(DATABASE, "econ_api"), 1)?;
    let buyers = bench.buyers(BUYERS).await?;
    cycle::run_for(&buyers, WARM_UP).await?;
    let before = (steps(bench.server.url()).await?, size(&reader).await?);
    let began = Instant::now();
    cycle::run_for(&buyers, Duration::from_secs(args.seconds)).await?;
    let took = began.elapsed();
    let after = (steps(bench.server.url()).await?, size(&reader).await?);
    let commands = after.1.saturating_sub(before.1);
    let original = per_second(usize::try_from(commands).unwrap_or(usize::MAX), took);
    if args.wants("receipts.share") {
        let spent: Vec<f64> = after.0.iter().zip(before.0).map(|(after, before)| after - before).collect();
        let whole: f64 = spent.iter().sum();
        let share = |part: f64| part / whole * 100.0;
        figures.note("receipts.share", share(spent[1] + spent[2]), "% of the writer's time", None);
        for (step, spent) in STEPS.iter().zip(&spent) {
            figures.note(&format!("receipts.share.{step}"), share(*spent), "%", None);
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of commands")]
        figures.note("receipts.share.command", whole / commands as f64 * 1e6, "us a command", None);
    }
    if args.wants("receipts.replay") {
        let replayed = replay(cluster).await?;
        figures.note("receipts.replay", replayed, "commands/s", Some(("original_run", original)));
    }
    Ok(())
}

/// Commands per second of replaying the whole log.
async fn replay(cluster: &Cluster) -> Outcome<f64> {
    let source = cluster.config(DATABASE, "econ_auditor");
    let admin = cluster.config("postgres", cluster.superuser());
    Ok(replay::rate(&source, &admin, BATCH, Arc::new(rederive)).await?.per_second())
}

async fn size(reader: &Reader) -> Outcome<u64> {
    Ok(receipts::read_log(reader, LEDGER).await?.map_or(0, |log| log.size))
}

/// Seconds that the server's writer has spent in each of [`STEPS`], as `/metrics` says.
async fn steps(url: &str) -> Outcome<[f64; 4]> {
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let mut said = String::new();
    let mut socket = TcpStream::connect(host).await.map_err(Failure::outside)?;
    socket
        .write_all(format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())
        .await
        .map_err(Failure::outside)?;
    socket.read_to_string(&mut said).await.map_err(Failure::outside)?;
    let mut found = [0.0; 4];
    for (step, found) in STEPS.iter().zip(&mut found) {
        let name = format!("econ_{step}_seconds_sum ");
        let value = said.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok());
        *found = value.ok_or_else(|| Failure::outside(format!("/metrics says nothing of {name}")))?;
    }
    Ok(found)
}
