//! `econ demo`: a whole market in one command.
//!
//! It starts the server and three agents as processes of their own, lets buyers replay demand, waits until every order has
//! ended and every share is paid out, says what happened, and has everything proven. It can be killed at any moment, and so
//! can any of its parts: the same command on the same data dir goes on where it was.

pub(crate) mod buyer;
pub(crate) mod children;
mod demand;
pub(crate) mod hub;
mod journal;
mod plan;
mod progress;
mod stage;
mod summary;
mod trace;

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::ids::RfqId;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::cli::failure::{Failure, Outcome};
use crate::cli::market::Order;
use crate::cli::place::{PlaceArgs, default_data_dir};
use crate::cli::{say, stop, verify, views};
use buyer::{Buyer, BuyerError, Ended};
use children::Notice;
use journal::Journal;
use plan::{Plan, Planned, Wanted};
use progress::Progress;
use stage::Stage;
use summary::Summary;

/// Orders between request and end at one time. Less than the providers' room, so that what vanishes does not block.
const IN_FLIGHT: usize = 16;
/// Orders that get their ids at once: some seconds' worth, so that ids are near the time of their use.
const ISSUE: usize = 256;
/// How long payouts may take after the last order.
const PAYOUTS_LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(200);

/// Options of the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Folder for this demo, never a real market's [default: /var/lib/econ-demo for root, else ~/.local/share/econ-demo]
    #[arg(long, env = "ECON_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Use this Postgres (15 to 18) instead of an embedded one
    #[arg(long, env = "ECON_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Folder of Postgres' programs for the embedded one [default: the first that runs here]
    #[arg(long, env = "ECON_PG_BIN", value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Replay this demand: CSV with TIMESTAMP,ContextTokens,GeneratedTokens [default: generated from the seed]
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How many orders [default: 400]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    orders: Option<usize>,
    /// How many buyers [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    buyers: Option<u32>,
    /// The same seed gives the same orders and the same faults [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Pace of the demand: 1 honours its timestamps, 10 is ten times faster [default: as fast as it goes]
    #[arg(long, value_name = "FACTOR", value_parser = speed, conflicts_with = "days")]
    speed: Option<f64>,
    /// Spread the orders over so many days of a simulated calendar that ends today; receipts say that it is simulated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: Option<u32>,
    /// Port that the API should have; another one when it is taken
    #[arg(long, value_name = "PORT", default_value_t = crate::cli::up::PORT)]
    port: u16,
    /// Print the summary as one JSON object, and exit
    #[arg(long)]
    json: bool,
    /// Exit when it is over, on a terminal too
    #[arg(long)]
    exit: bool,
}

impl DemoArgs {
    /// Whether the market stays open when all is told.
    fn serves(&self) -> bool {
        !self.json && !self.exit && std::io::stdout().is_terminal()
    }
}

/// Runs the demo; whether every order ended and everything was proven.
pub(crate) async fn run(args: DemoArgs) -> Outcome<bool> {
    let data_dir = args.data_dir.clone().map_or_else(|| default_data_dir("econ-demo"), Ok)?;
    let place = PlaceArgs {
        data_dir: Some(data_dir.clone()),
        database_url: args.database_url.clone(),
        pg_bin: args.pg_bin.clone(),
    };
    let wanted = Wanted {
        orders: args.orders,
        buyers: args.buyers,
        seed: args.seed,
        days: args.days,
        trace: args.trace.clone(),
    };
    // Before anything starts or is written: a broken trace, a data dir of somebody else.
    let lock = stage::claim(&data_dir)?;
    let plan = Plan::load_or_make(&data_dir, &wanted, ledger::clock::system_now_us())?;
    let began = Instant::now();
    let (notices, mut news) = mpsc::unbounded_channel();
    let watched = !args.json && std::io::stderr().is_terminal();
    let told = tokio::spawn(stop::told_to_stop(false));
    tokio::pin!(told);
    let stage = tokio::select! {
        stage = Stage::start(&place, &plan, args.port, notices) => stage?,
        // What was started sees that nobody holds its input any more, and ends.
        why = &mut told => return Err(interrupted(why, &plan)),
    };
    let played = tokio::select! {
        played = play(&args, &place, &plan, &stage, watched, began, &mut news) => played,
        why = &mut told => Err(interrupted(why, &plan)),
    };
    let summary = match played {
        Ok(summary) => summary,
        Err(failure) => {
            stage.stop().await?;
            return Err(failure);
        }
    };
    if args.json {
        say(summary.to_json())
    } else {
        say(summary.to_text())
    }
    if args.serves() {
        say("The market is still open. Ctrl-C ends it; the same command shows this again.");
        // However that ends, the market is closed next.
        let _ = told.await;
    }
    stage.stop().await?;
    drop(lock);
    Ok(summary.is_good())
}

fn interrupted(why: Result<Outcome<&'static str>, tokio::task::JoinError>, plan: &Plan) -> Failure {
    match why {
        Ok(Ok(why)) => {
            let settings = format!("run {} of {} orders", &plan.run.run_id[..8], plan.run.orders);
            Failure::outside(format!(
                "stopped by {why} ({settings}): the same command goes on where this one was"
            ))
        }
        Ok(Err(failure)) => failure,
        Err(error) => Failure::outside(error),
    }
}

/// From an open market to a proven summary.
async fn play(
    args: &DemoArgs,
    place: &PlaceArgs,
    plan: &Plan,
    stage: &Stage,
    watched: bool,
    began: Instant,
    news: &mut mpsc::UnboundedReceiver<Notice>,
) -> Outcome<Summary> {
    let mut progress = Progress::new(plan.orders.len(), watched);
    trade(args, plan, stage, &mut progress, news).await?;
    progress.finish();
    progress::line("waiting for the last payouts");
    wait_for_payouts(stage).await?;
    progress::line("proving: signatures, links, Merkle log, balances, and a replay of every command");
    let data_dir = place.data_dir()?;
    let report = verify::check(stage.database(), &data_dir, verify::BATCH).await?;
    let asset = stage.asset().clone();
    let (verified, urls) = (verify::to_json(&report), stage.urls(&data_dir, args.serves()));
    Summary::read(stage.database(), plan.clone(), asset, verified, urls, began.elapsed().as_secs_f64()).await
}

/// What an earlier process already made of each order.
struct Known {
    orders: HashMap<RfqId, Order>,
}

impl Known {
    async fn ask(buyers: &[Arc<Buyer>]) -> Outcome<Self> {
        let mut orders = HashMap::new();
        for buyer in buyers {
            let found = buyer.market.orders(usize::MAX).await?;
            orders.extend(found.into_iter().map(|order| (order.rfq_id, order)));
        }
        Ok(Self { orders })
    }

    fn of(&self, journal: &Journal, index: usize) -> Option<&Order> {
        journal
            .times(index)
            .flat_map(|at_ms| (0..buyer::TRIES_MAX).map(move |attempt| (attempt, at_ms)))
            .find_map(|(attempt, at_ms)| self.orders.get(&journal.rfq_id(index, attempt, at_ms)))
    }
}

/// Brings every order to its end.
async fn trade(
    args: &DemoArgs,
    plan: &Plan,
    stage: &Stage,
    progress: &mut Progress,
    news: &mut mpsc::UnboundedReceiver<Notice>,
) -> Outcome {
    let mut journal = Journal::open(stage.data_dir(), &plan.run.run_id)?;
    let buyers = stage.buyers(plan).await?;
    let known = Known::ask(&buyers).await?;
    let mut open: Vec<&Planned> = Vec::new();
    for order in &plan.orders {
        match known.of(&journal, order.index) {
            Some(found) if found.is_closed() => progress.ended(&found.state),
            _ => open.push(order),
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    if progress.done() > 0 {
        progress.line(&format!("going on: {} orders had ended before", progress.done()));
    }
    stage.open_providers(plan).await?;
    let mut work = Work {
        room: Arc::new(Semaphore::new(IN_FLIGHT)),
        running: JoinSet::new(),
        waited_for: 0,
        progress,
        news,
    };
    let began = Instant::now();
    let first_us = open.first().map_or(0, |order| order.request.at_us);
    let mut day = None;
    for order in open {
        if plan.run.days > 0 && day != Some(order.day) {
            // The calendar moves on when all but those who will never answer have ended: the new day ends them.
            work.settle_down().await?;
            stage.set_day(plan, order.day).await?;
            day = Some(order.day);
        }
        if let Some(speed) = args.speed {
            let due_us = i64_to_f64(order.request.at_us - first_us) / speed;
            work.pause_until(began + Duration::from_secs_f64(due_us / 1e6)).await?;
        }
        let now_ms = stage.ledger_ms();
        let at_ms = match journal.fresh(order.index, now_ms) {
            Some(at_ms) => at_ms,
            None => {
                // For those that are near, too: one line and one sync for many.
                let mut near =
                    plan.orders.iter().skip(order.index).take(ISSUE).filter(|next| next.day == order.day);
                journal
                    .issue(order.index..=near.next_back().map_or(order.index, |last| last.index), now_ms)?;
                now_ms
            }
        };
        let ids: Vec<RfqId> =
            (0..buyer::TRIES_MAX).map(|attempt| journal.rfq_id(order.index, attempt, at_ms)).collect();
        let buyer = buyers.get(order.buyer).cloned().ok_or_else(|| Failure::outside("a buyer is missing"))?;
        work.begin(buyer, order.clone(), known.of(&journal, order.index).cloned(), ids).await?;
    }
    while !work.running.is_empty() {
        work.next().await?;
    }
    Ok(())
}

/// Orders on their way.
struct Work<'a> {
    room: Arc<Semaphore>,
    running: JoinSet<(bool, Result<Ended, BuyerError>)>,
    /// Running orders that will end without help of the clock.
    waited_for: usize,
    progress: &'a mut Progress,
    news: &'a mut mpsc::UnboundedReceiver<Notice>,
}

impl Work<'_> {
    async fn begin(
        &mut self,
        buyer: Arc<Buyer>,
        order: Planned,
        known: Option<Order>,
        ids: Vec<RfqId>,
    ) -> Outcome {
        let permit = loop {
            match self.room.clone().try_acquire_owned() {
                Ok(permit) => break permit,
                Err(_) => self.next().await?,
            }
        };
        let by_clock = order.ends_by_clock();
        self.waited_for += usize::from(!by_clock);
        self.running.spawn(async move {
            let _permit = permit;
            let rfq_id = |attempt: u32| ids.get(attempt as usize).copied().unwrap_or_else(RfqId::now_v7);
            (by_clock, buyer.buy(&order, known, rfq_id).await)
        });
        Ok(())
    }

    /// The next thing that happens: an order ends, or a process dies.
    async fn next(&mut self) -> Outcome {
        tokio::select! {
            ended = self.running.join_next() => match ended {
                Some(Ok((by_clock, Ok(ended)))) => {
                    self.waited_for -= usize::from(!by_clock);
                    self.progress.ended(&ended.state);
                    tracing::debug!(state = ended.state, cause = ended.cause, "an order ended");
                    Ok(())
                }
                Some(Ok((_, Err(BuyerError::Client(error))))) => Err(error.into()),
                Some(Ok((_, Err(error)))) => Err(Failure::outside(error)),
                Some(Err(error)) => Err(Failure::outside(format!("a buyer ended early: {error}"))),
                None => Ok(()),
            },
            Some(notice) = self.news.recv() => match notice {
                Notice::Restarted(what) => {
                    self.progress.line(&what);
                    Ok(())
                }
                Notice::Lost(failure) => Err(failure),
            },
        }
    }

    /// Until only orders are left that nobody but the clock will end.
    async fn settle_down(&mut self) -> Outcome {
        while self.waited_for > 0 {
            self.next().await?;
        }
        Ok(())
    }

    /// Lets things happen until `moment`.
    async fn pause_until(&mut self, moment: Instant) -> Outcome {
        while Instant::now() < moment {
            let limit = tokio::time::sleep_until(moment.into());
            tokio::select! {
                () = limit => {}
                done = self.next(), if !self.running.is_empty() => done?,
            }
        }
        Ok(())
    }
}

/// Until nothing is owed to anybody; what stays below the least payout is told in the summary, so this gives up in the end.
async fn wait_for_payouts(stage: &Stage) -> Outcome {
    let began = Instant::now();
    while began.elapsed() < PAYOUTS_LIMIT {
        let rows = views::rows(stage.database(), "finance.payout_reconciliation").await?;
        let owed: u128 = rows
            .iter()
            .map(|row| views::whole(&row["payable_minor"]) + views::whole(&row["reserved_minor"]))
            .sum();
        if owed == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    progress::line("some shares are not paid out yet: the summary says how many");
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // Microseconds of a pause: half a millisecond in a century does not matter.
fn i64_to_f64(value: i64) -> f64 {
    value as f64
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err("write a number above zero, such as 1 or 10".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_number_above_zero() {
        assert!(speed("1").is_ok() && speed("0.5").is_ok());
        for bad in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(speed(bad).is_err(), "{bad}");
        }
    }
}
