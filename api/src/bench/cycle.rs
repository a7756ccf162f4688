//! `econ bench cycle`: how many whole cycles, from request to settlement, the house does in a second.
//!
//! A durable throwaway cluster on disk, the real server and a real agent as processes of their own, buyers over real HTTP
//! and WebSocket. Only the work itself is nothing (a 1×1×1 product), so that what is measured is everything around it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::cluster::Cluster;
use proto::ids::{AgentId, OfferId, RfqId};
use proto::keys::KeyPair;
use proto::money::Amount;
use proto::v1::KeyPurpose;
use provider_agent::JobSpec;
use provider_agent::client::{Client, ClientError};
use tokio::task::JoinSet;

use super::stats::{milliseconds, percentiles};
use super::{Server, baseline, line};
use crate::cli::client::operator_key;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::market::{Checked, EventKind, Market, NewRfq};
use crate::cli::{say, table};
use crate::demo::children::{Spec, Watched};
use crate::demo::hub::{Follower, Hub};

/// Concurrent buyers of each measurement.
const CONCURRENCY: [usize; 3] = [1, 8, 32];
/// What happens between the moments that a buyer can see.
const SEGMENTS: [&str; 6] = ["rfq_to_offer", "accept_to_ticket", "execute", "judge", "settle", "total"];
/// What a cycle waits for at most.
const NEWS_LIMIT: Duration = Duration::from_secs(20);
/// Before figures count: connections, plans and caches are warm.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);
/// A buyer's money: more than any bench spends.
const FUNDS: u64 = 1_000_000_000_000;
const PRICE_LIMIT: u64 = 1_000;

/// Options of the benchmark.
#[derive(Debug, clap::Args)]
pub(crate) struct CycleArgs {
    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
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

/// One measured cycle, by segment in the order of [`SEGMENTS`].
pub(super) type Cycle = [Duration; 6];

/// What one concurrency came to.
struct Measured {
    concurrency: usize,
    per_second: f64,
    cycles: Vec<Cycle>,
}

/// Runs the benchmark.
pub(crate) async fn run(args: CycleArgs) -> Outcome {
    let folder = super::folder(args.dir.as_deref())?;
    let bench = Bench::start(folder.path(), args.pg_bin.as_deref()).await?;
    let measured = bench.measure(&args).await;
    bench.stop().await?;
    let (measured, baseline) = measured?;
    report(&args, &measured, baseline);
    Ok(())
}

/// A server and a provider with an executor that does no work.
pub(super) struct Bench {
    pub(super) server: Server,
    agent: Watched,
}

impl Bench {
    pub(super) async fn start(data_dir: &Path, pg_bin: Option<&Path>) -> Outcome<Self> {
        let server = Server::start(data_dir, pg_bin).await?;
        let mut args: Vec<std::ffi::OsString> =
            vec!["agent".into(), "--home".into(), data_dir.join("agent").into()];
        for (option, value) in [
            ("--api", server.url()),
            ("--executor", "zero"),
            ("--concurrency", "256"),
            ("--price-per-unit", "100"),
        ] {
            args.extend([option.into(), value.into()]);
        }
        args.push("--exit-with-parent".into());
        let log = data_dir.join("log").join("agent.log");
        let agent = Spec { name: "agent".into(), args, log, announces: false };
        let agent = Watched::start(agent, server.sender.clone()).await?;
        Ok(Self { server, agent })
    }

    async fn measure(&self, args: &CycleArgs) -> Outcome<(Vec<Measured>, f64)> {
        let seconds = Duration::from_secs(args.seconds);
        let most = CONCURRENCY.into_iter().max().unwrap_or(1);
        let buyers = self.buyers(most).await?;
        let mut measured = Vec::new();
        for concurrency in CONCURRENCY {
            run_for(&buyers[..concurrency], WARM_UP).await?;
            let began = Instant::now();
            let cycles = run_for(&buyers[..concurrency], seconds).await?;
            // Until the last one ended: a cycle that was begun counts with all of its time.
            let per_second = cycles.len() as f64 / began.elapsed().as_secs_f64();
            measured.push(Measured { concurrency, per_second, cycles });
        }
        self.server.all_alive()?;
        let cluster = Cluster::attach(self.server.data_dir()).await?;
        let baseline = baseline::run(&cluster, args.seconds).await?;
        Ok((measured, baseline))
    }

    /// Registered and funded buyers, each with its own connection, as strangers would have.
    pub(super) async fn buyers(&self, count: usize) -> Outcome<Vec<Arc<Buyer>>> {
        let client = |key: KeyPair| Client::new(self.server.url(), Arc::new(key));
        let operator =
            Market::open(client(KeyPair::load(&operator_key(self.server.data_dir()))?)?, None).await?;
        let asset_id = operator.info.assets.first().map_or(1, |asset| asset.asset_id);
        let mut buyers = Vec::new();
        for n in 0..count {
            let market = operator.with_client(client(KeyPair::generate()?)?);
            market.register(KeyPurpose::Buyer, None).await?;
            let me: AgentId = market.me()?;
            operator.deposit(me, asset_id, Amount::from_u64(FUNDS), &format!("bench-{n}")).await?;
            let hub = Hub::start(market.clone());
            buyers.push(Arc::new(Buyer { market, hub, asset_id }));
        }
        Ok(buyers)
    }

    pub(super) async fn stop(self) -> Outcome {
        self.agent.stop().await?;
        self.server.stop().await
    }
}

/// A buyer that does one cycle after the other.
pub(super) struct Buyer {
    market: Market,
    hub: Hub,
    asset_id: u32,
}

/// Every buyer does cycles until the time is over; all of them, in no order.
pub(super) async fn run_for(buyers: &[Arc<Buyer>], time: Duration) -> Outcome<Vec<Cycle>> {
    let until = Instant::now() + time;
    let mut running = JoinSet::new();
    for buyer in buyers {
        let buyer = buyer.clone();
        running.spawn(async move {
            let mut cycles = Vec::new();
            while Instant::now() < until {
                cycles.push(buyer.cycle().await?);
            }
            Ok::<_, Failure>(cycles)
        });
    }
    let mut cycles = Vec::new();
    while let Some(ended) = running.join_next().await {
        cycles.extend(ended.map_err(|error| Failure::outside(format!("a buyer ended early: {error}")))??);
    }
    Ok(cycles)
}

impl Buyer {
    async fn cycle(&self) -> Outcome<Cycle> {
        let job = JobSpec::zero_work(rand::random());
        let rfq_id = RfqId::now_v7();
        let mut follower = self.hub.follow(rfq_id);
        let input_hash = self.market.put_job(&job).await?;
        let rfq = NewRfq {
            rfq_id,
            region: None,
            input_hash,
            work_units: job.work_units(),
            asset_id: self.asset_id,
            max_price: Amount::from_u64(PRICE_LIMIT),
            valid_for_ms: 30_000,
            max_duration_ms: 30_000,
            creator_id: None,
            referrer_id: None,
        };
        let asked = Instant::now();
        let opened = self.market.open_rfq(&rfq).await?;
        if opened.facts["invited"].as_array().is_none_or(Vec::is_empty) {
            return Err(Failure::outside("no provider was asked: the agent is not reachable"));
        }
        let offer_id = first_offer(&mut follower).await?;
        let offered = Instant::now();
        let accepted = self.market.accept_offer(offer_id, &rfq.max_price.to_string()).await?;
        let ordered = Instant::now();
        let order_id = accepted.facts["order_id"].as_str().and_then(|id| id.parse().ok());
        let order_id = order_id.ok_or_else(|| Failure::outside("an accepted offer without an order"))?;
        until_state(&mut follower, "reported").await?;
        let reported = Instant::now();
        let order = self.market.order(order_id).await?;
        let order = order.ok_or_else(|| Failure::outside(format!("order {order_id} has disappeared")))?;
        match (self.market.checked_output(&order, job).await?, order.output_hash) {
            (Checked::Right(_), Some(output)) => self.market.accept_output(order_id, output).await?,
            _ => return Err(Failure::outside(format!("the output of order {order_id} is wrong"))),
        };
        let judged = Instant::now();
        until_state(&mut follower, "settled").await?;
        let settled = Instant::now();
        Ok([
            offered - asked,
            ordered - offered,
            reported - ordered,
            judged - reported,
            settled - judged,
            settled - asked,
        ])
    }
}

async fn first_offer(follower: &mut Follower) -> Outcome<OfferId> {
    loop {
        let event = follower.next(NEWS_LIMIT).await.ok_or_else(silent)?;
        if let (EventKind::Offer, Some(offer_id)) = (event.kind, event.offer_id) {
            return Ok(offer_id);
        }
    }
}

async fn until_state(follower: &mut Follower, wanted: &str) -> Outcome {
    loop {
        let event = follower.next(NEWS_LIMIT).await.ok_or_else(silent)?;
        match event.state.as_deref() {
            Some(state) if state == wanted && event.order_id.is_some() => return Ok(()),
            Some("refunded") => return Err(Failure::outside("an order was refunded during the measurement")),
            _ => {}
        }
    }
}

fn silent() -> Failure {
    ClientError::Unreachable(format!("no news for {NEWS_LIMIT:?}")).into()
}

fn report(args: &CycleArgs, measured: &[Measured], tps: f64) {
    let mut shown = table::plain(["cycles", "per second", "of pgbench", "segment, ms", "p50", "p95", "p99"]);
    for at in measured {
        let name = format!("cycle.{}", at.concurrency);
        if args.json {
            line(&name, at.per_second, "cycles/s", Some((baseline::NAME, tps)));
        }
        for (i, segment) in SEGMENTS.into_iter().enumerate() {
            let mut sample: Vec<Duration> = at.cycles.iter().map(|cycle| cycle[i]).collect();
            let Some(found) = percentiles(&mut sample) else { continue };
            let ranks = [("p50", found.p50), ("p95", found.p95), ("p99", found.p99)];
            if args.json {
                for (rank, value) in ranks {
                    line(&format!("{name}.{segment}.{rank}"), milliseconds(value), "ms", None);
                }
                continue;
            }
            let first = |text: String| if i == 0 { text } else { String::new() };
            let ms = |value: Duration| format!("{:.1}", milliseconds(value));
            shown.add_row([
                first(name.clone()),
                first(format!("{:.1}", at.per_second)),
                first(format!("{:.3}", at.per_second / tps)),
                segment.to_owned(),
                ms(found.p50),
                ms(found.p95),
                ms(found.p99),
            ]);
        }
    }
    if args.json {
        return line(baseline::NAME, tps, "tps", None);
    }
    say(shown);
    say(format_args!(
        "\n{}: {tps:.0} transactions/s, by pgbench in the same cluster right after",
        baseline::NAME
    ));
    say(
        "A cycle is request, offer, acceptance, ticket, run, metering, output, judgement and settlement: some ten commands",
    );
    say(
        "with a receipt each. rfq_to_offer, accept_to_ticket and judge are what the buyer waits for the house; execute holds",
    );
    say("the agent's way too (ticket, input, a 1x1x1 product, output, metering, report).");
}
