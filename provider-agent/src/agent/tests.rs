use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use proto::prost::Message as _;
use proto::v1::agent_frame::Frame;
use proto::v1::command_body::Kind;
use proto::v1::{Envelope, MeteringHead, MeteringRow, ReportOutput};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fake_house::{FakeHouse, Told};
use super::*;
use crate::fault::Fault;
use crate::freivalds;
use crate::job::JobSpec;

/// An agent at work, until it is told to stop or killed.
struct Working {
    home: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Earnings, AgentError>>,
}

impl Working {
    fn start(options: AgentOptions) -> Self {
        let (stop, stopped) = oneshot::channel();
        let home = options.home.clone();
        let task = tokio::spawn(run_until(options, async {
            let _ = stopped.await;
        }));
        Self { home, stop, task }
    }

    async fn stop(self) -> Earnings {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap()
    }

    /// Ends it without letting it save anything, as a SIGKILL would.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        // What waits for a disk cannot be cut short, and holds the spool's lock a moment longer than a dead process
        // would.
        let lock = ledger_folder(&self.home).join("spool/lock");
        while crate::files::try_lock(&lock).unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    }
}

/// Where an agent of the fake house keeps what it knows of its ledger.
fn ledger_folder(home: &Path) -> PathBuf {
    home.join(format!("ledger-{}", &blake3::hash(b"fake/1").to_hex()[..12]))
}

fn options(house: &FakeHouse, home: &Path) -> AgentOptions {
    let mut options = AgentOptions::new(&house.url, home);
    options.threads = Some(NonZeroUsize::MIN);
    options
}

/// The key that an agent in this folder will have: made beforehand, so that tickets can be issued to it.
fn key_in(home: &Path) -> KeyPair {
    let key = KeyPair::from_seed(&[5; 32]);
    key.save(&home.join("key.pem")).unwrap();
    key
}

/// Waits until the agent in this folder has stored that everything up to `cursor` is done with. Nobody tells
/// us about files, so it looks again and again.
async fn until_saved(home: &Path, cursor: u64) {
    let path = ledger_folder(home).join("progress.json");
    let saved = || -> Option<u64> {
        let progress: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        progress["cursor"].as_u64()
    };
    while saved() != Some(cursor) {
        tokio::task::yield_now().await;
    }
}

fn small_job() -> JobSpec {
    JobSpec::from_request(100, 30, [1; 32])
}

fn reports(told: &Told) -> Vec<&ReportOutput> {
    let commands = told.commands.iter();
    commands.filter_map(|(_, kind)| if let Kind::ReportOutput(r) = kind { Some(r) } else { None }).collect()
}

/// What was told, by the first word of each key. Rows in a row count as one: how many a run posts before its
/// last depends on how fast the machine is.
fn steps(told: &Told) -> Vec<&str> {
    let mut steps: Vec<_> = told.commands.iter().map(|(key, _)| key.split(':').next().unwrap()).collect();
    steps.dedup_by(|a, b| a == b && *a == "meter");
    steps
}

/// Every metering row that the house accepted, after checking each run's signature.
fn rows(house: &FakeHouse, key: &KeyPair) -> Vec<MeteringRow> {
    let mut rows = Vec::new();
    for kind in house.kinds(|kind| matches!(kind, Kind::RecordMetering(_))) {
        let Kind::RecordMetering(metering) = kind else { unreachable!() };
        for run in metering.runs {
            let envelope = Envelope::decode(run.head_envelope.as_slice()).unwrap();
            let known = |id: &proto::ids::KeyId| (*id == key.id()).then_some(*key.public());
            let (head, _): (MeteringHead, _) = proto::dsse::verify_message(&envelope, known).unwrap();
            let last = run.rows.last().unwrap();
            assert_eq!(head.last_row_hash, blake3::hash(last).as_bytes());
            rows.extend(run.rows.iter().map(|row| MeteringRow::decode(row.as_slice()).unwrap()));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_registers_offers_executes_meters_reports_and_counts_what_it_earned() {
    let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
    let key = key_in(home.path());
    let spec = small_job();
    house.invite(3, 1, spec.work_units());
    let agent = Working::start(options(&house, home.path()));
    house.until(|told| told.commands.iter().any(|(_, kind)| matches!(kind, Kind::SubmitOffer(_)))).await;
    house.issue(5, 9, &key, &spec);
    house.until(|told| reports(told).len() == 1).await;
    house.close(8, 9, "settled", "", "130");
    house.close(9, 10, "refunded", "timeout", "");
    // The answer to this offer shows that the frames before it were handled.
    house.invite(11, 2, spec.work_units());
    house.until(|told| steps(told).len() == 7).await;
    let earnings = agent.stop().await;
    assert_eq!(earnings.to_string(), "1 settled, 1 refunded, earned 130 minor units of asset 1");

    let told = house.told.lock();
    assert_eq!(steps(&told), ["register", "ad", "offer", "start", "meter", "report", "offer"]);
    let report = reports(&told)[0].clone();
    let output = told.artifacts[&hex::encode(&report.output_hash)].clone();
    drop(told);
    freivalds::check(&spec, &output, [3; 32], 4).unwrap();
    let rows = rows(&house, &key);
    check_chain(&rows, spec.work_units());
    let last = rows.last().unwrap();
    assert_eq!(last.output_hash, report.output_hash);
    assert_eq!(last.attempt_id, report.attempt_id);
    assert_eq!(last.job_hash, blake3::hash(&spec.encode()).as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_killed_tells_the_house_nothing_new_and_earns_nothing_twice() {
    let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
    let key = key_in(home.path());
    let spec = small_job();
    house.invite(3, 1, spec.work_units());
    house.issue(5, 9, &key, &spec);
    let agent = Working::start(options(&house, home.path()));
    house
        .until(|told| steps(told).len() >= 6 && steps(told).contains(&"offer") && reports(told).len() == 1)
        .await;
    house.close(8, 9, "settled", "", "130");
    agent.kill().await;
    let before = house.told.lock().commands.len();

    // The second life asks from wherever the first one had saved; the last offer is news.
    house.invite(11, 2, spec.work_units());
    let agent = Working::start(options(&house, home.path()));
    until_saved(home.path(), 11).await;
    let earnings = agent.stop().await;
    assert_eq!((earnings.settled, earnings.earned[&1].to_string().as_str()), (1, "130"));
    let told = house.told.lock().commands[before..].to_vec();
    assert!(matches!(told.as_slice(), [(_, Kind::SubmitOffer(_))]), "{told:?}");

    // The third one has nothing to ask again.
    let agent = Working::start(options(&house, home.path()));
    house.until(|told| told.asked_after.len() == 3).await;
    assert_eq!(agent.stop().await.settled, 1);
    assert_eq!(house.told.lock().asked_after[2], 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_said_while_the_house_is_away_is_said_in_order_when_it_is_back() {
    let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
    let key = key_in(home.path());
    let spec = small_job();
    house.change(|told| told.away_after_metering = true);
    house.issue(5, 9, &key, &spec);
    let agent = Working::start(options(&house, home.path()));
    let spool = ledger_folder(home.path()).join("spool");
    let report_waits = || {
        let files = std::fs::read_dir(&spool).into_iter().flatten().flatten();
        files.flat_map(|file| std::fs::read(file.path())).any(|item| item.windows(7).any(|w| w == b"report:"))
    };
    // Nobody tells us about files, so look again and again.
    while !report_waits() {
        tokio::task::yield_now().await;
    }
    agent.kill().await;
    assert!(reports(&house.told.lock()).is_empty());

    let agent = Working::start(options(&house, home.path()));
    house.change(|told| (told.away, told.away_after_metering) = (false, false));
    house.until(|told| reports(told).len() == 1).await;
    agent.stop().await;
    let told = house.told.lock();
    let report = reports(&told)[0].clone();
    let last = told.commands.iter().rev().find(|(_, kind)| !matches!(kind, Kind::SubmitOffer(_))).unwrap();
    assert!(last.0.starts_with("report:"), "the report comes last, not {}", last.0);
    let output = told.artifacts[&hex::encode(&report.output_hash)].clone();
    drop(told);
    freivalds::check(&spec, &output, [3; 32], 4).unwrap();
    check_chain(&rows(&house, &key), spec.work_units());
}

/// A whole chain: no gap, linked, counters never falling, ending with the whole job and its output.
fn check_chain(rows: &[MeteringRow], work_units: u64) {
    let mut previous: Option<&MeteringRow> = None;
    for (seq, row) in rows.iter().enumerate() {
        assert_eq!(row.seq as usize, seq);
        if let Some(previous) = previous {
            assert_eq!(row.prev_hash, blake3::hash(&previous.encode_to_vec()).as_bytes());
            assert!(row.kernel_ns >= previous.kernel_ns && row.wall_ns >= previous.wall_ns);
            assert!(row.bytes_in >= previous.bytes_in && row.bytes_out >= previous.bytes_out);
            assert!(row.work_units >= previous.work_units);
            assert!(previous.output_hash.is_empty(), "only the last row names the output");
        }
        previous = Some(row);
    }
    let last = previous.unwrap();
    assert_eq!((last.work_units, last.output_hash.len()), (work_units, 32));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_rows_goes_on_in_the_next_life_where_the_last_one_was_killed() {
    let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
    let key = key_in(home.path());
    // Long enough that a row is due before it ends, also where threads have to wait for their turn.
    let spec = JobSpec::new(256, 512, 4_096, [2; 32]).unwrap();
    // The first life waits for an answer to its first row until it is killed.
    house.change(|told| told.silent_on_metering = true);
    house.issue(5, 9, &key, &spec);
    let metered = |told: &Told| told.commands.iter().filter(|(key, _)| key.starts_with("meter:")).count();
    let agent = Working::start(options(&house, home.path()));
    house.until(|told| metered(told) == 1).await;
    agent.kill().await;
    let first = rows(&house, &key);
    assert!(first[0].output_hash.is_empty(), "the job was too short for this test");
    house.change(|told| told.silent_on_metering = false);

    let agent = Working::start(options(&house, home.path()));
    house.until(|told| reports(told).len() == 1).await;
    agent.stop().await;
    let boots = |rows: &[MeteringRow]| {
        rows.iter().map(|row| row.boot_id.clone()).collect::<std::collections::BTreeSet<_>>().len()
    };
    let rows = rows(&house, &key);
    assert_eq!(boots(&rows), 2, "rows of two lives");
    check_chain(&rows, spec.work_units());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_goes_wrong_in_its_own_way() {
    let spec = small_job();
    for fault in Fault::ALL {
        let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
        let key = key_in(home.path());
        let mut options = options(&house, home.path());
        options.faults = format!("{fault}=1").parse().unwrap();
        house.issue(5, 9, &key, &spec);
        let agent = Working::start(options);
        // An offer shows that the ticket before it was passed over.
        let expected: &[&str] = match fault {
            Fault::Crash => &["start", "fail"],
            Fault::Timeout => &["start", "meter"],
            Fault::WrongOutput | Fault::OverReport => &["start", "meter", "report"],
            Fault::Vanish => &["offer"],
        };
        if fault == Fault::Vanish {
            house.invite(6, 1, 1);
        }
        // A crash may come before or after the first row.
        let steps = |told: &Told| {
            let skipped = if fault == Fault::Crash { "meter" } else { "" };
            steps(told).into_iter().skip(2).filter(|s| *s != skipped).map(str::to_owned).collect::<Vec<_>>()
        };
        house.until(|told| steps(told).len() == expected.len()).await;
        agent.stop().await;
        let told = house.told.lock();
        assert_eq!(steps(&told), expected, "{fault}");
        let output =
            reports(&told).first().map(|report| told.artifacts[&hex::encode(&report.output_hash)].clone());
        let reason = told.commands.iter().find_map(|(_, kind)| match kind {
            Kind::FailAttempt(failed) => Some(failed.reason.clone()),
            _ => None,
        });
        drop(told);
        let rows = rows(&house, &key);
        match fault {
            Fault::Crash => assert_eq!(reason.as_deref(), Some("crash")),
            Fault::Timeout => assert!(rows.iter().all(|row| row.output_hash.is_empty())),
            Fault::WrongOutput => {
                let verdict = freivalds::check(&spec, &output.unwrap(), [3; 32], 4);
                assert_eq!(verdict, Err(freivalds::Mismatch::Product { row: 0 }));
            }
            Fault::OverReport => {
                assert_eq!(rows.last().unwrap().work_units, 3 * spec.work_units());
                freivalds::check(&spec, &output.unwrap(), [3; 32], 4).unwrap();
            }
            Fault::Vanish => assert!(rows.is_empty()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_be_run_is_given_up_with_its_reason() {
    for (reason, executor) in [("unsupported", ExecutorKind::Zero), ("input_missing", ExecutorKind::Cpu)] {
        let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
        let key = key_in(home.path());
        house.issue(5, 9, &key, &small_job());
        if reason == "input_missing" {
            house.change(|told| told.artifacts.clear());
        }
        let agent = Working::start(AgentOptions { executor, ..options(&house, home.path()) });
        house.until(|told| told.commands.len() == 4).await;
        agent.stop().await;
        let told = house.told.lock();
        let Kind::FailAttempt(failed) = &told.commands[3].1 else { panic!("{:?}", told.commands[3]) };
        assert_eq!(failed.reason, reason);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_zero_executor_runs_the_zero_work_job_the_whole_way() {
    let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
    let key = key_in(home.path());
    let executor = ExecutorKind::Zero;
    let agent = Working::start(AgentOptions { executor, ..options(&house, home.path()) });
    for n in 1..=5 {
        house.issue(n.into(), n, &key, &JobSpec::zero_work([n; 32]));
    }
    house.until(|told| reports(told).len() == 5).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invitations_that_do_not_suit_and_tickets_that_are_not_ours_are_passed_over() {
    let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
    let key = key_in(home.path());
    house.issue(1, 9, &KeyPair::from_seed(&[6; 32]), &small_job());
    for (cursor, change) in [
        (2, (|rfq| rfq.work_class = "gemm.fp8".to_owned()) as fn(&mut proto::v1::RfqInvitation)),
        (3, |rfq| rfq.asset_id = 2),
        (4, |rfq| rfq.max_price = "9".to_owned()),
        (5, |rfq| rfq.work_units = u64::MAX),
        (6, |rfq| rfq.expires_at_us = 0),
        (7, |rfq| rfq.max_price = "1.5".to_owned()),
        (8, |rfq| rfq.rfq_id.truncate(15)),
    ] {
        house.invite(cursor, 1, 1);
        house.change(|told| {
            let Some(Frame::Rfq(rfq)) = told.last_frame() else { unreachable!() };
            change(rfq);
        });
    }
    house.invite(9, 2, 1);
    let agent = Working::start(options(&house, home.path()));
    house.until(|told| told.commands.len() >= 3).await;
    agent.stop().await;
    let told = house.told.lock();
    assert_eq!(told.commands.len(), 3, "registration, ad and one offer");
    let Kind::SubmitOffer(offer) = &told.commands[2].1 else { panic!("{:?}", told.commands[2]) };
    assert_eq!((offer.rfq_id.as_slice(), offer.price_per_unit.as_str()), (&[2; 16][..], "10"));
    assert_ne!(offer.offer_id, AgentId::of_first_key(key.public()).to_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ad_is_published_again_only_when_it_changes_even_back_to_an_earlier_one() {
    let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
    for (region, ads) in [("here", 1), ("here", 1), ("there", 2), ("here", 3)] {
        let options = AgentOptions { region: region.to_owned(), ..options(&house, home.path()) };
        let lives = house.told.lock().asked_after.len();
        let agent = Working::start(options);
        house.until(|told| told.asked_after.len() > lives).await;
        agent.stop().await;
        let published = house.kinds(|kind| matches!(kind, Kind::PublishCapability(_)));
        assert_eq!(published.len(), ads, "{region}");
    }
}

#[tokio::test]
async fn an_agent_that_cannot_work_says_why() {
    let (house, home) = (FakeHouse::open().await, tempfile::tempdir().unwrap());
    let check = async |change: &dyn Fn(&mut AgentOptions), expected: &str| {
        let mut options = options(&house, home.path());
        change(&mut options);
        let error = run_until(options, std::future::pending()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    };
    check(&|o| o.api = "https://a".to_owned(), "only http://").await;
    check(&|o| o.ledger_id = Some(9), "has no ledger 9").await;
    check(&|o| o.asset_id = Some(9), "has no asset 9").await;
    check(&|o| o.service_key = Some("00".repeat(32)), "this agent trusts 0000").await;
}

#[test]
fn an_agent_can_run_on_any_thread() {
    fn must_be_send<T: Send>(_: T) {}
    must_be_send(run(AgentOptions::new("http://a", "/nowhere")));
}
