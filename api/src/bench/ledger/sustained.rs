//! A long run: does it stay as fast, does memory stay, what does a transfer take on disk, and how fast is its history read?

use std::time::{Duration, Instant};

use ledger::posting::Poster;
use ledger::posting::rig::{Limits, Pager, Probe};
use rand::RngExt as _;

use super::super::stats::{milliseconds, percentiles};
use super::{BATCH, Bench, Mix, Rate, post_all};
use crate::cli::failure::{Failure, Outcome};

/// Batches that are made and posted at a time, so that the client's own memory stays.
const CHUNK: usize = 25;
/// Reads of each kind.
const READS: usize = 400;
/// Entries of a statement.
const ENTRIES: i32 = 100;

impl Bench<'_> {
    #[expect(clippy::cast_precision_loss, reason = "counts and bytes")]
    pub(super) async fn sustained(&mut self) -> Outcome {
        let total = usize::try_from(self.args.sustained).unwrap_or(usize::MAX);
        let (ledger_id, accounts) = self.open(Limits::OneSide).await?;
        let probe = Probe::connect(&self.config).await?;
        let (rows_before, bytes_before) = probe.size().await?;
        let poster = Poster::start(self.config.clone(), ledger_id);
        let pager = Pager::start(self.config.clone(), ledger_id);
        let mut chunks = Vec::new();
        // The most that was in use in the first and in the last tenth: one sample says more of the allocator's moment than of growth.
        let (mut done, mut early, mut late) = (0, 0, 0);
        while done < total {
            let mut rate = Rate::default();
            rate.add(
                post_all(&poster, Mix::Cold.batches(&accounts, CHUNK.min((total - done).div_ceil(BATCH))))
                    .await?,
            );
            done += rate.0;
            chunks.push(rate);
            let used = memory(&probe).await?;
            if done <= (total / 10).max(CHUNK * BATCH) {
                early = used.max(early);
            }
            if done >= total - total / 10 {
                late = used.max(late);
            }
        }
        let share = (1_000_000.min(total / 2) / (CHUNK * BATCH)).max(1).min(chunks.len());
        let of = |part: &[Rate]| {
            part.iter().fold(Rate::default(), |mut sum, rate| {
                sum.add((rate.0, rate.1));
                sum
            })
        };
        let first = of(&chunks[..share]).per_second();
        let last = of(&chunks[chunks.len() - share..]).per_second();
        self.note("ledger.sustained", of(&chunks).per_second(), "transfers/s", None);
        self.note("ledger.sustained.last_million", last, "transfers/s", Some(("first_million", first)));
        self.note(
            "ledger.sustained.memory",
            late as f64 / 1e6,
            "MB",
            Some(("at_10_percent", early as f64 / 1e6)),
        );
        let (_, tail) = probe.tail(ledger_id).await?;
        self.note("ledger.sustained.tail", tail as f64, "transfers", None);
        self.reads(&probe, ledger_id, &accounts).await?;
        let (rows, bytes) = probe.size().await?;
        self.note(
            "ledger.bytes_per_transfer",
            (bytes - bytes_before) as f64 / (rows - rows_before).max(1) as f64,
            "bytes",
            None,
        );
        let (problems, first) = probe.audit(ledger_id).await?;
        drop(pager);
        match first {
            None if problems == 0 => Ok(()),
            first => Err(Failure::outside(format!(
                "the audit found {problems} problems: {}",
                first.unwrap_or_default()
            ))),
        }
    }

    /// Statements and balances of the past, of accounts drawn at random, with the tail as the run has left it.
    async fn reads(&mut self, probe: &Probe, ledger_id: i32, accounts: &[proto::ids::AccountId]) -> Outcome {
        let (last_seq, _) = probe.tail(ledger_id).await?;
        for (name, point_in_time) in [("ledger.read.statement_100", false), ("ledger.read.balance_at", true)]
        {
            let mut waits: Vec<Duration> = Vec::new();
            for n in 0..READS + 20 {
                let (account, seq) = {
                    let mut rng = rand::rng();
                    (accounts[rng.random_range(0..accounts.len())], rng.random_range(1..=last_seq.max(1)))
                };
                let began = Instant::now();
                if point_in_time {
                    probe.balance_at(ledger_id, account, seq).await?;
                } else {
                    probe.statement(ledger_id, account, ENTRIES).await?;
                }
                // The first few warm the session's plans.
                if n >= 20 {
                    waits.push(began.elapsed());
                }
            }
            if let Some(found) = percentiles(&mut waits) {
                self.note(&format!("{name}.p50"), milliseconds(found.p50), "ms", None);
                self.note(&format!("{name}.p99"), milliseconds(found.p99), "ms", None);
            }
        }
        Ok(())
    }
}

/// Private memory of the posting sessions' backends and of this process, bytes. The pager's is left out: it sorts in up to its work_mem and gives that back.
async fn memory(probe: &Probe) -> Outcome<u64> {
    let mut pids = probe.posting_pids().await?;
    pids.push(i32::try_from(std::process::id()).unwrap_or_default());
    let of = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        anonymous.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    Ok(pids.iter().filter_map(of).sum::<u64>() * 1_024)
}
