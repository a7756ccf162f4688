//! Many callers, each posting one transfer at a time and waiting for it: what the queue makes of them.

use std::time::{Duration, Instant};

use ledger::posting::rig::Limits;
use ledger::posting::{NewTransfer, Poster};
use proto::ids::{AccountId, TransferId};
use proto::money::Amount;
use rand::RngExt as _;
use tokio::task::JoinSet;

use super::super::stats::{milliseconds, percentiles};
use super::{Bench, baseline};
use crate::cli::failure::{Failure, Outcome};

impl Bench<'_> {
    pub(super) async fn callers(&mut self) -> Outcome {
        let seconds = self.args.seconds;
        let time = Duration::from_secs(seconds);
        let (ledger_id, accounts) = self.open(Limits::OneSide).await?;
        let poster = Poster::start(self.config.clone(), ledger_id);
        run_for(&poster, &accounts, 64, Duration::from_secs(1)).await?;
        baseline::initialize(self.cluster).await?;
        for (callers, clients) in [(1, 1), (64, 64), (512, 64)] {
            let (count, mut waits, elapsed) = run_for(&poster, &accounts, callers, time).await?;
            let tps = baseline::simple_update(self.cluster, clients, seconds).await?;
            let name = if callers == 1 {
                "ledger.single.1".to_owned()
            } else {
                format!("ledger.single.coalesced.{callers}")
            };
            #[expect(clippy::cast_precision_loss, reason = "counts of transfers")]
            let rate = count as f64 / elapsed.as_secs_f64();
            let against = format!("pgbench_simple_update.{clients}");
            self.note(&name, rate, "transfers/s", Some((&against, tps)));
            if let Some(found) = percentiles(&mut waits) {
                // A client of pgbench waits clients / tps for each of its transactions.
                let theirs = (callers == 1).then(|| ("pgbench_simple_update.1.latency", 1_000.0 / tps));
                self.note(&format!("{name}.p50"), milliseconds(found.p50), "ms", theirs);
                self.note(&format!("{name}.p99"), milliseconds(found.p99), "ms", None);
            }
        }
        Ok(())
    }
}

/// So many callers for so long: transfers posted, how long each waited, and the time until the last one ended.
async fn run_for(
    poster: &Poster,
    accounts: &[AccountId],
    callers: usize,
    time: Duration,
) -> Outcome<(usize, Vec<Duration>, Duration)> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    let accounts: std::sync::Arc<[AccountId]> = accounts.into();
    for _ in 0..callers {
        let (poster, accounts) = (poster.clone(), accounts.clone());
        running.spawn(async move {
            let mut waits = Vec::new();
            while began.elapsed() < time {
                let (from, step) = {
                    let mut rng = rand::rng();
                    (rng.random_range(0..accounts.len()), rng.random_range(1..accounts.len()))
                };
                let to = (from + step) % accounts.len();
                let asked = Instant::now();
                let transfer = NewTransfer::plain(
                    TransferId::now_v7(),
                    accounts[from],
                    accounts[to],
                    1,
                    Amount::from_u64(7),
                    "trade",
                );
                let results = poster.post(vec![transfer]).await?;
                if let Some(wrong) = results.iter().find(|result| !result.is_posted()) {
                    return Err(Failure::outside(format!("a transfer was refused: {}", wrong.0)));
                }
                waits.push(asked.elapsed());
            }
            Ok::<_, Failure>(waits)
        });
    }
    let mut waits = Vec::new();
    while let Some(ended) = running.join_next().await {
        waits.extend(ended.map_err(|error| Failure::outside(format!("a caller ended early: {error}")))??);
    }
    Ok((waits.len(), waits, began.elapsed()))
}
