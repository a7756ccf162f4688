//! `kill -9` of Postgres, the postmaster and every process of it, again and again while programs post: what was acknowledged
//! is there whole, nothing is there by half, and whoever repeats what was not acknowledged posts it once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ledger::clock::Clock;
use ledger::cluster::{Cluster, ClusterOptions};
use ledger::house::{Hand, House};
use ledger::loader::{LoadOptions, load};
use ledger::pipeline::{Answer, Pipeline, PipelineOptions};
use ledger::testing::{Watchdog, scratch_dir};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use proto::v1::{self, command_body::Kind};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::support::checks::{healthy, rows};
use crate::support::direct::{Item, START_US, audit, id, id_at, open_ledger, post};
use crate::support::party::LEDGER;
use crate::support::program::until;

const KILLS: u64 = 20;
const COMMAND_KILLS: u64 = 4;
const POSTERS: usize = 4;
const DATABASE: &str = "econ";

/// A durable Postgres of this test's own.
struct Victim {
    cluster: Cluster,
    dir: std::path::PathBuf,
    _watchdog: Watchdog,
}

impl Victim {
    async fn start() -> Victim {
        let dir = scratch_dir("econ-crash-");
        let watchdog = Watchdog::over(&dir);
        let mut options = ClusterOptions::new(&dir);
        if let Some(bin) = std::env::var_os("ECON_TEST_PG_BIN") {
            options.pg_bin = Some(bin.into());
        }
        let cluster = Cluster::start(options).await.unwrap();
        let victim = Victim { cluster, dir, _watchdog: watchdog };
        let create = format!("create database {DATABASE} template template0 encoding 'UTF8'");
        victim.connect("postgres").await.batch_execute(&create).await.unwrap();
        load(&mut victim.admin().await, &LoadOptions::embedded().unwrap()).await.unwrap();
        victim
    }

    async fn connect(&self, database: &str) -> Client {
        let config = self.cluster.config(database, self.cluster.superuser());
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn admin(&self) -> Client {
        self.connect(DATABASE).await
    }

    /// Kills the postmaster and each of its children; and starts it again.
    async fn kill_and_restart(&self) {
        let postmaster = Pid::from_raw(self.cluster.pid());
        // Stopped, so that it forks no more while its children are counted.
        kill(postmaster, Signal::SIGSTOP).unwrap();
        let children = children_of(postmaster.as_raw());
        assert!(!children.is_empty());
        kill(postmaster, Signal::SIGKILL).unwrap();
        for pid in &children {
            // It may have ended by itself meanwhile.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        until("the end of every process", async || {
            let gone = !self.cluster.is_alive() && children.iter().all(|pid| parent_of(*pid).is_none());
            gone.then_some(())
        })
        .await;
        assert!(self.cluster.ensure_running().await.unwrap(), "it was dead");
    }
}

/// Parent of a process; `None` when it is gone, or dead and not yet reaped.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    (state != "Z" && state != "X").then_some(parent)
}

fn children_of(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The `n`-th number of a seed; others with ECON_TEST_SEED.
fn drawn(seed: &str, n: u64) -> u64 {
    let more = std::env::var("ECON_TEST_SEED").unwrap_or_default();
    let hash = blake3::hash(format!("{seed}/{n}/{more}").as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
}

fn journal(batch: u64) -> Uuid {
    id_at(START_US / 1_000, (1 << 60) | u128::from(batch))
}

/// The n-th batch, always the same: few items and many, holds and what ends them, chains, and some that the accounts cannot
/// bear.
fn batch(n: u64) -> Vec<Item> {
    let sizes = [1, 2, 7, 12, 13, 40, 150, 400];
    let size = sizes[usize::try_from(drawn("size", n)).unwrap() % sizes.len()];
    let of = |i: u64| id((u128::from(n) << 16) + u128::from(i) + 1_000_000);
    (0..size)
        .map(|i| {
            let dice = drawn("item", n * 1_000 + i);
            let (debit, credit) = (u32::try_from(dice % 4).unwrap(), u32::try_from((dice >> 8) % 3).unwrap());
            // The limited ones receive more often than they give, and give more at a time than they often have.
            let (debit, credit, amount) = match (dice >> 16) % 8 {
                0 => (100 + debit, 5 + credit, 90),
                1..=3 => (debit, 100 + credit, 10),
                _ => (debit, 4 + credit, 1 + (dice >> 24) % 50),
            };
            let item = match i % 5 {
                2 if (dice >> 32).is_multiple_of(2) => Item::pending(of(i), debit, credit, amount),
                3 if (dice >> 33).is_multiple_of(2) => Item::end(of(i), "post_pending", of(i - 1)),
                4 if (dice >> 34).is_multiple_of(4) && i + 1 < size => {
                    Item::plain(of(i), debit, credit, amount).linked()
                }
                _ => Item::plain(of(i), debit, credit, amount),
            };
            Item { journal: Some(journal(n)), ..item }
        })
        .collect()
}

#[derive(Default)]
struct Load {
    next: AtomicU64,
    acknowledged: Mutex<BTreeMap<u64, Vec<String>>>,
    unanswered: Mutex<Vec<u64>>,
}

impl Load {
    /// Posts batch after batch until the connection is lost.
    async fn run(self: Arc<Load>, db: Client) {
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            match post(&db, 1, START_US, &batch(n)).await {
                Ok(results) => {
                    self.acknowledged.lock().insert(n, results);
                }
                Err(error) => {
                    assert!(
                        error.as_db_error().is_none_or(|e| e.code().code().starts_with("57P")),
                        "batch {n}: {error:?}"
                    );
                    self.unanswered.lock().push(n);
                    return;
                }
            }
        }
    }
}

/// How many transfers of each batch there are.
async fn written(db: &Client) -> BTreeMap<Uuid, usize> {
    let sql = "select journal_id, count(*) from ledger.transfers where ledger_id = 1 group by 1";
    let counts = db.query(sql, &[]).await.unwrap();
    counts.iter().map(|row| (row.get(0), usize::try_from(row.get::<_, i64>(1)).unwrap())).collect()
}

fn count(results: &[String], result: &str) -> usize {
    results.iter().filter(|found| *found == result).count()
}

/// What a repeated item may answer when its batch was there: it was posted, or it had been refused for good. In a chain the
/// first that exists breaks it.
fn repeated(first: &str, again: &str) -> bool {
    match first {
        "ok" => again == "exists" || again == "linked_event_failed",
        "exceeds_credits" | "pending_transfer_not_found" => {
            again == "id_already_failed" || again == "linked_event_failed"
        }
        _ => again != "ok" && again != "exists",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_of_all_of_postgres_and_nothing_is_there_by_half() {
    let victim = Victim::start().await;
    open_ledger(&victim.admin().await, 1, 8).await;
    let load = Arc::new(Load::default());
    for round in 0..KILLS {
        let before = load.acknowledged.lock().len();
        let mut posters = Vec::new();
        for _ in 0..POSTERS {
            let db = victim.admin().await;
            db.batch_execute("set role econ_engine").await.unwrap();
            posters.push(tokio::spawn(Arc::clone(&load).run(db)));
        }
        let enough = before + 2 + usize::try_from(drawn("kill", round)).unwrap() % 12;
        until("acknowledged batches", async || (load.acknowledged.lock().len() >= enough).then_some(()))
            .await;
        victim.kill_and_restart().await;
        for poster in posters {
            poster.await.unwrap();
        }

        let db = victim.admin().await;
        assert_eq!(audit(&db).await, Vec::<String>::new(), "round {round}");
        let found = written(&db).await;
        let acknowledged = load.acknowledged.lock().clone();
        for (n, results) in &acknowledged {
            let there = found.get(&journal(*n)).copied().unwrap_or(0);
            assert_eq!(there, count(results, "ok"), "round {round}: batch {n} was acknowledged");
        }
        // The newest that were acknowledged answer the same way once more.
        for (n, results) in acknowledged.iter().rev().take(3) {
            let again = post(&db, 1, START_US, &batch(*n)).await.unwrap();
            for (first, again) in results.iter().zip(&again) {
                assert!(repeated(first, again), "round {round}: batch {n}: {first} and then {again}");
            }
        }
        let unanswered = std::mem::take(&mut *load.unanswered.lock());
        for n in unanswered {
            let there = found.get(&journal(n)).copied().unwrap_or(0);
            let again = post(&db, 1, START_US, &batch(n)).await.unwrap();
            if there > 0 {
                // Had it been there by half, the other half would be posted now.
                assert_eq!(count(&again, "ok"), 0, "round {round}: batch {n}: {again:?}");
                assert!(count(&again, "exists") > 0, "round {round}: batch {n}: {again:?}");
                assert_eq!(written(&db).await[&journal(n)], there, "round {round}: batch {n}");
            } else {
                assert_eq!(count(&again, "exists"), 0, "round {round}: batch {n}");
                load.acknowledged.lock().insert(n, again);
            }
        }
        assert_eq!(audit(&db).await, Vec::<String>::new(), "round {round}, after the retries");
    }
    let posted = load.acknowledged.lock().len();
    println!("{KILLS} kills, {posted} batches");
    victim.cluster.stop().await.unwrap();
}

fn command(n: u64, [debit, credit]: [Uuid; 2]) -> Kind {
    let bytes = |id: Uuid| id.into_bytes().to_vec();
    let size = [1, 5, 13, 60][usize::try_from(drawn("command", n)).unwrap() % 4];
    // Ids of the time at which this runs: the pipeline's clock is real.
    let items = (0..size)
        .map(|i| v1::TransferItem {
            transfer_id: bytes(id_at(ledger::clock::system_now_us() / 1_000, (u128::from(n) << 16) + i)),
            kind: v1::TransferKind::Plain.into(),
            debit_account_id: bytes(debit),
            credit_account_id: bytes(credit),
            asset_id: 1,
            amount: "1".into(),
            ..Default::default()
        })
        .collect();
    Kind::PostTransfers(v1::PostTransfers { items })
}

fn pipeline(victim: &Victim, house: &House, dir: &Path) -> Pipeline {
    Pipeline::start(PipelineOptions {
        database: victim.cluster.config(DATABASE, "econ_api"),
        house: house.clone(),
        clock: Clock::real(),
        ledger_ids: vec![LEDGER],
        checkpoint_dir: dir.join("checkpoints"),
        batch_max: 16,
    })
}

async fn send(pipeline: &Pipeline, key: &str, kind: &Kind) -> Option<Answer> {
    let body = v1::CommandBody { kind: Some(kind.clone()) };
    pipeline.submit_service(LEDGER, Hand::Operator, key, body).await.ok()
}

fn results(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.code, "ok", "{}", answer.facts);
    let facts = answer.facts_json();
    facts["results"].as_array().unwrap().iter().map(|result| result.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_killed_with_postgres_answers_once_more_under_its_key_and_exists_under_another() {
    let victim = Victim::start().await;
    let keys = victim.dir.join("keys");
    let house = House::load_or_create(&keys).unwrap();
    let first = pipeline(&victim, &house, &victim.dir);
    assert_eq!(first.init(LEDGER, "econ.test/ledger/1", "market").await.unwrap().code, "ok");
    first.shutdown().await;
    let own =
        "select ledger.account_id(1, 1, p, null, null)::text from (values ('equity'), ('external')) as v (p)";
    let own = rows(&victim.admin().await, own).await;
    let accounts = [0, 1].map(|n| own[n].parse::<Uuid>().unwrap());
    let next = Arc::new(AtomicU64::new(0));
    let mut posted = 0;
    for round in 0..COMMAND_KILLS {
        let pipeline = Arc::new(pipeline(&victim, &house, &victim.dir));
        let answered = Arc::new(Mutex::new(Vec::new()));
        let enough = 5 + usize::try_from(drawn("command kill", round)).unwrap() % 30;
        let mut senders = Vec::new();
        for _ in 0..POSTERS {
            let (pipeline, answered, next) =
                (Arc::clone(&pipeline), Arc::clone(&answered), Arc::clone(&next));
            senders.push(tokio::spawn(async move {
                // Ends with the command that was on its way when enough had been answered: whether it waits out the
                // restart inside the pipeline or fails, it is asked for again below.
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let kind = command(n, accounts);
                    let answer = send(&pipeline, &format!("key-{n}"), &kind).await;
                    let lost = answer.is_none();
                    let mut answered = answered.lock();
                    answered.push((n, kind, answer));
                    if lost || answered.len() >= enough + POSTERS {
                        return;
                    }
                }
            }));
        }
        until("answers", async || (answered.lock().len() >= enough).then_some(())).await;
        victim.kill_and_restart().await;
        for sender in senders {
            sender.await.unwrap();
        }
        let sent = std::mem::take(&mut *answered.lock());
        for (n, kind, first) in sent {
            let stored = send(&pipeline, &format!("key-{n}"), &kind).await.expect("it runs again");
            if let Some(first) = first {
                assert_eq!(
                    (stored.seq, &stored.facts),
                    (first.seq, &first.facts),
                    "round {round}: command {n}"
                );
            }
            assert!(results(&stored).iter().all(|result| result == "ok"), "{}", stored.facts);
            posted += results(&stored).len();
            let other = send(&pipeline, &format!("other-{n}"), &kind).await.expect("it runs");
            assert!(results(&other).iter().all(|result| result == "exists"), "{}", other.facts);
        }
        pipeline.shutdown().await;
        let db = victim.admin().await;
        healthy(&db).await;
        let moved = rows(&db, "select count(*)::text from ledger.transfers").await;
        assert_eq!(moved, [posted.to_string()], "round {round}");
    }
    victim.cluster.stop().await.unwrap();
}
