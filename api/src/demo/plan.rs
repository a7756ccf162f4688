//! What a demo run will do, decided before it does anything: who buys what when, and which runs will go wrong.
//!
//! Everything here follows from the settings and the demand, so that the same command on the same data dir means the same
//! orders. The settings are kept in the data dir: a run that was killed is finished, never mixed with another one.

use std::path::{Path, PathBuf};

use proto::ids::ArtifactHash;
use provider_agent::{Fault, FaultPlan, JobSpec};
use serde::{Deserialize, Serialize};

use super::demand::{self, Dice};
use super::trace::{self, Request};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::files;

/// Orders of a run when nobody says.
pub(crate) const ORDERS: usize = 400;
/// Buyers of a run when nobody says.
pub(crate) const BUYERS: u32 = 8;
/// Seed of a run when nobody says.
pub(crate) const SEED: u64 = 1;
/// Who made what runs: payees of the creator share.
pub(crate) const CREATORS: u32 = 3;
/// Who brought the buyers: payees of the referrer share.
pub(crate) const REFERRERS: u32 = 2;

/// Share of each way to go wrong, in runs per million: together 8 %.
const FAULT_SHARE: &str = "0.016";
/// From this many orders on every fault is seen at least twice.
const FAULTS_CERTAIN_FROM: usize = 100;
/// From this many orders on every fault is seen at least once.
const FAULTS_LIKELY_FROM: usize = 25;
/// Fault seeds tried until one shows every fault.
const FAULT_SEEDS_MAX: u64 = 200_000;
const DAY_US: i64 = 86_400_000_000;

/// One of the demo's providers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Provider {
    /// Names its home folder and log.
    pub(crate) name: &'static str,
    pub(crate) region: &'static str,
    /// Millionths of a dollar per work unit.
    pub(crate) price_per_unit: u64,
    /// Orders at a time.
    pub(crate) concurrency: u32,
}

/// Three providers with different owners. The cheapest has the least room, so that the others get work too.
pub(crate) const PROVIDERS: [Provider; 3] = [
    Provider { name: "north", region: "eu-north", price_per_unit: 1_200, concurrency: 6 },
    Provider { name: "east", region: "us-east", price_per_unit: 1_350, concurrency: 8 },
    Provider { name: "west", region: "us-west", price_per_unit: 1_500, concurrency: 12 },
];

/// The most a buyer pays per work unit, millionths of a dollar: above every provider's price.
pub(crate) const MAX_PRICE_PER_UNIT: u64 = 2_000;

/// What the command line asks for; `None`: whatever the data dir's run has, else the default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) orders: Option<usize>,
    pub(crate) buyers: Option<u32>,
    pub(crate) seed: Option<u64>,
    pub(crate) days: Option<u32>,
    pub(crate) trace: Option<PathBuf>,
}

/// A run's identity and settings, as kept in the data dir.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// 32 hex digits; part of every derived id, so that two runs never share one.
    pub(crate) run_id: String,
    pub(crate) orders: usize,
    pub(crate) buyers: u32,
    pub(crate) seed: u64,
    /// 0: the clock is real.
    pub(crate) days: u32,
    /// The demand: BLAKE3 of the trace's requests, or of the generated ones.
    pub(crate) demand: String,
    /// The trace's path as given, for people; `None`: generated.
    pub(crate) trace: Option<PathBuf>,
    /// When the run was made, Unix microseconds of the system's clock.
    pub(crate) made_at_us: i64,
}

/// One order to be.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) index: usize,
    pub(crate) buyer: usize,
    pub(crate) request: Request,
    pub(crate) job: JobSpec,
    pub(crate) input_hash: ArtifactHash,
    /// How its run will go wrong, known from the agents' fault plan. Nobody trades on this: it only tells the simulated
    /// clock whom not to wait for, and how little time a run gets that is going to use all of it.
    pub(crate) fault: Option<Fault>,
    /// Where it must run; `None`: anywhere.
    pub(crate) region: Option<&'static str>,
    pub(crate) creator: Option<usize>,
    pub(crate) referrer: Option<usize>,
    /// Day of the simulated calendar, from 0.
    pub(crate) day: u32,
}

/// A run, its orders and the agents' fault plan.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) run: Run,
    pub(crate) orders: Vec<Planned>,
    pub(crate) faults: FaultPlan,
}

impl Run {
    /// Where a data dir keeps it.
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("demo").join("run.json")
    }

    /// The run of a data dir, if it has one.
    pub(crate) fn load(data_dir: &Path) -> Outcome<Option<Self>> {
        let path = Self::path(data_dir);
        let Some(bytes) = files::read_if_there(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::outside(format!(
                "{} cannot be read ({error}): choose another --data-dir",
                path.display()
            ))
        })
    }
}

impl Plan {
    /// The plan of `data_dir`: the one that is there, or a new one, which is written down before it is returned.
    pub(crate) fn load_or_make(data_dir: &Path, wanted: &Wanted, now_us: i64) -> Outcome<Self> {
        let found = Run::load(data_dir)?;
        let seed = wanted.seed.or(found.as_ref().map(|run| run.seed)).unwrap_or(SEED);
        let trace = wanted.trace.clone().or_else(|| found.as_ref().and_then(|run| run.trace.clone()));
        let of_trace = trace.as_deref().map(trace::read).transpose()?;
        let orders = wanted
            .orders
            .or(found.as_ref().map(|run| run.orders))
            .unwrap_or_else(|| of_trace.as_ref().map_or(ORDERS, |requests| requests.len().min(ORDERS)));
        let requests = match of_trace {
            Some(mut requests) => {
                if requests.len() < orders {
                    return Err(Failure::usage(format!(
                        "the trace has {} requests, and --orders asks for {orders}",
                        requests.len()
                    )));
                }
                requests.truncate(orders);
                requests
            }
            None => demand::generate(seed, orders),
        };
        let run = Run {
            run_id: hex::encode(rand::random::<[u8; 16]>()),
            orders,
            buyers: wanted.buyers.or(found.as_ref().map(|run| run.buyers)).unwrap_or(BUYERS),
            seed,
            days: wanted.days.or(found.as_ref().map(|run| run.days)).unwrap_or_default(),
            demand: digest(&requests),
            trace,
            made_at_us: now_us,
        };
        let run = match found {
            Some(found) => same_or_refuse(found, &run, data_dir)?,
            None => {
                let bytes = serde_json::to_vec_pretty(&run).map_err(Failure::outside)?;
                files::write_durably(&Run::path(data_dir), &bytes)?;
                run
            }
        };
        Ok(Self::of(run, requests))
    }

    fn of(run: Run, requests: Vec<Request>) -> Self {
        let mut dice = Dice::new("orders", run.seed);
        let span_us = requests.last().map_or(0, |last| last.at_us).max(1);
        let mut orders: Vec<Planned> = requests
            .into_iter()
            .enumerate()
            .map(|(index, request)| {
                let seed: [u8; 32] = dice.bytes();
                let job = JobSpec::from_request(request.context_tokens, request.generated_tokens, seed);
                // Every order throws the same dice, so that a plan with more of them begins like one with fewer.
                let (buyer, region) = (dice.below(run.buyers), dice.below(10));
                let (creator, referrer) = (dice.below(100), dice.below(100));
                Planned {
                    index,
                    buyer: buyer as usize,
                    job,
                    input_hash: ArtifactHash::of(&job.encode()),
                    fault: None,
                    region: PROVIDERS.get(region as usize).map(|provider| provider.region),
                    creator: (creator < 85).then_some((creator % CREATORS) as usize),
                    referrer: (referrer < 40).then_some((referrer % REFERRERS) as usize),
                    day: day_of(request.at_us, span_us, run.days),
                    request,
                }
            })
            .collect();
        let faults = choose_faults(run.seed, &orders);
        for order in &mut orders {
            order.fault = faults.pick(order.input_hash.as_bytes());
        }
        Self { run, orders, faults }
    }

    /// How many orders will go wrong in this way.
    pub(crate) fn faulty(&self, fault: Fault) -> usize {
        self.orders.iter().filter(|order| order.fault == Some(fault)).count()
    }

    /// Simulated time ahead of the system's clock on `day`, microseconds: the calendar ends today, so that no ledger ever
    /// has a time that is still to come.
    pub(crate) fn clock_offset_us(&self, day: u32) -> i64 {
        (i64::from(day) - i64::from(self.run.days)) * DAY_US
    }

    /// What a buyer needs to pay for all of its orders at its own price limit, minor units.
    pub(crate) fn budget(&self, buyer: usize) -> u64 {
        self.orders.iter().filter(|order| order.buyer == buyer).map(Planned::max_price).sum()
    }
}

impl Planned {
    /// The most its buyer pays, millionths of a dollar.
    pub(crate) fn max_price(&self) -> u64 {
        self.job.work_units() * MAX_PRICE_PER_UNIT
    }

    /// Whether its run is going to end by the clock: nobody reports anything.
    pub(crate) fn ends_by_clock(&self) -> bool {
        matches!(self.fault, Some(Fault::Timeout | Fault::Vanish))
    }
}

/// The calendar day of a request at `at_us` of a demand `span_us` long.
fn day_of(at_us: i64, span_us: i64, days: u32) -> u32 {
    let day = i128::from(at_us) * i128::from(days) / (i128::from(span_us) + 1);
    u32::try_from(day).unwrap_or_default()
}

fn digest(requests: &[Request]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("openagents econ demo v1 demand");
    for request in requests {
        hasher.update(&request.at_us.to_le_bytes());
        hasher.update(&request.context_tokens.to_le_bytes());
        hasher.update(&request.generated_tokens.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// A run that was begun is finished as it was begun.
fn same_or_refuse(found: Run, wanted: &Run, data_dir: &Path) -> Outcome<Run> {
    let differs = if found.orders != wanted.orders {
        format!("{} orders, not {}", found.orders, wanted.orders)
    } else if found.buyers != wanted.buyers {
        format!("{} buyers, not {}", found.buyers, wanted.buyers)
    } else if found.seed != wanted.seed {
        format!("seed {}, not {}", found.seed, wanted.seed)
    } else if found.days != wanted.days {
        format!("{} days, not {}", found.days, wanted.days)
    } else if found.demand != wanted.demand {
        "other demand than the trace has now".to_owned()
    } else {
        return Ok(found);
    };
    Err(Failure::usage(format!(
        "{} holds a demo with {differs}: repeat its settings (or leave them out), or choose another --data-dir",
        data_dir.display()
    )))
}

/// A fault plan under which every fault happens, if there are orders enough for that to be likely at all.
fn choose_faults(seed: u64, orders: &[Planned]) -> FaultPlan {
    let least = match orders.len() {
        FAULTS_CERTAIN_FROM.. => 2,
        FAULTS_LIKELY_FROM.. => 1,
        _ => 0,
    };
    let plan = |n: u64| {
        let shares: String = Fault::ALL.iter().map(|fault| format!("{fault}={FAULT_SHARE},")).collect();
        // The text is ours and valid; were it not, the demo would show no faults, and its test would fail.
        format!("{shares}seed={}", seed.wrapping_mul(1_000_003).wrapping_add(n)).parse().unwrap_or_default()
    };
    let shows_all = |plan: &FaultPlan| {
        let mut counts = [0_u32; Fault::ALL.len()];
        for fault in orders.iter().filter_map(|order| plan.pick(order.input_hash.as_bytes())) {
            for (count, _) in counts.iter_mut().zip(Fault::ALL).filter(|(_, kind)| *kind == fault) {
                *count += 1;
            }
        }
        counts.iter().all(|count| *count >= least)
    };
    (0..FAULT_SEEDS_MAX).map(plan).find(shows_all).unwrap_or_else(|| plan(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dir: &Path, wanted: &Wanted) -> Outcome<Plan> {
        Plan::load_or_make(dir, wanted, 1_795_000_000_000_000)
    }

    #[test]
    fn the_default_run_shows_every_fault_and_spreads_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let plan = make(dir.path(), &Wanted::default()).unwrap();
        assert_eq!(plan.orders.len(), ORDERS);
        for fault in Fault::ALL {
            assert!(plan.faulty(fault) >= 2, "{fault}");
        }
        let faulty: usize = Fault::ALL.into_iter().map(|fault| plan.faulty(fault)).sum();
        assert!(faulty < ORDERS / 5, "{faulty}");
        for buyer in 0..BUYERS as usize {
            assert!(plan.budget(buyer) > 0, "buyer {buyer}");
        }
        assert!(plan.orders.iter().any(|order| order.region.is_none()));
    }

    #[test]
    fn few_orders_still_show_every_fault_from_twenty_five_on() {
        for orders in [25, 60, 100] {
            let dir = tempfile::tempdir().unwrap();
            let plan = make(dir.path(), &Wanted { orders: Some(orders), ..Wanted::default() }).unwrap();
            assert!(Fault::ALL.into_iter().all(|fault| plan.faulty(fault) >= 1), "{orders} orders");
        }
    }

    #[test]
    fn a_run_is_finished_as_it_was_begun() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { orders: Some(30), seed: Some(5), ..Wanted::default() };
        let first = make(dir.path(), &wanted).unwrap();
        // Left out means: as it was.
        let again = make(dir.path(), &Wanted::default()).unwrap();
        assert_eq!(first.run, again.run);
        let hashes = |plan: &Plan| plan.orders.iter().map(|o| o.input_hash).collect::<Vec<_>>();
        assert_eq!(hashes(&first), hashes(&again));
        let other = make(dir.path(), &Wanted { orders: Some(31), ..Wanted::default() }).unwrap_err();
        assert!(other.to_string().contains("30 orders, not 31"), "{other}");
    }

    #[test]
    fn a_broken_trace_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace.csv");
        std::fs::write(&trace, "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,x\n").unwrap();
        let failure = make(dir.path(), &Wanted { trace: Some(trace), ..Wanted::default() }).unwrap_err();
        assert!(failure.to_string().contains("line 2"), "{failure}");
        assert!(!Run::path(dir.path()).exists());
    }

    #[test]
    fn days_spread_the_orders_over_the_calendar_and_end_today() {
        let dir = tempfile::tempdir().unwrap();
        let plan = make(dir.path(), &Wanted { days: Some(30), ..Wanted::default() }).unwrap();
        let days: Vec<u32> = plan.orders.iter().map(|order| order.day).collect();
        assert!(days.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!((days[0], days[ORDERS - 1]), (0, 29));
        assert_eq!(plan.clock_offset_us(0), -30 * DAY_US);
        assert!(plan.clock_offset_us(29) < 0);
    }
}
