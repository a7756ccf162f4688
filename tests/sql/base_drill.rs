//! Failure drills: one fixed sequence of signed commands, told once without a death and once with a death at each stage of the
//! pipeline. Whoever got no answer asks again, as a client would. Every table and every receipt must be the same.
//!
//! Time and chance are the drill's: in a server, a request that was not committed gets a new command id and a new moment when
//! it is sent again, so that runs could not be compared. Nothing else is held still.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures_util::future::join_all;
use ledger::clock::Clock;
use ledger::house::{Hand, House};
use ledger::pipeline::{Answer, Drill, Pipeline, PipelineOptions, Stage, Submission};
use ledger::testing::TestDb;
use ledger::verify::{self, TEXT_FORMS, VerifyOptions};
use proto::v1::{self, KeyPurpose, command_body::Kind};
use tempfile::TempDir;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::checks::{healthy, rows};
use crate::support::kinds::{self, OUTPUT, bytes};
use crate::support::market::{fact, id_of};
use crate::support::party::{LEDGER, Party};

/// When the drill begins.
const START_US: i64 = 1_795_694_400_000_000;

/// Where to die: at the n-th time that this stage is reached.
#[derive(Debug, Clone, Copy)]
struct Death {
    stage: Stage,
    nth: u32,
}

/// What somebody wishes.
enum Wish<'a> {
    Of(&'a Party, Kind),
    /// With a nonce of its own.
    Again(&'a Party, Kind, &'static str),
    By(Hand, Kind),
}

#[allow(clippy::large_enum_variant, reason = "a few are made")]
enum Sent {
    Of(Box<Submission>),
    By(Hand, String, v1::CommandBody),
}

struct Run {
    pipeline: Pipeline,
    house: House,
    clock: Clock,
    at_us: i64,
    count: u64,
    death: Option<Death>,
    reached: Arc<AtomicU32>,
    died: Arc<AtomicBool>,
    checkpoints: TempDir,
    db: TestDb,
}

impl Run {
    async fn start(keys: &Path, death: Option<Death>) -> Run {
        let db = TestDb::new().await;
        // A bug of ours: what raises is taken out of its batch, and the others are run one by one.
        db.admin()
            .await
            .batch_execute(
                "create function market.our_bug() returns trigger language plpgsql as
                   $$ begin if new.work_class = 'bug' then raise 'a bug'; end if; return new; end $$;
                 grant execute on function market.our_bug() to econ_engine;
                 create trigger our_bug before insert on market.rfqs for each row execute function market.our_bug();",
            )
            .await
            .unwrap();
        let house = House::load_or_create(keys).unwrap();
        let clock = Clock::real();
        clock.stand(START_US);
        let checkpoints = TempDir::new().unwrap();
        let (reached, died) = (Arc::default(), Arc::default());
        let pipeline = pipeline(&db, &house, &clock, checkpoints.path(), death, &reached, &died);
        Run { pipeline, house, clock, at_us: START_US, count: 0, death, reached, died, checkpoints, db }
    }

    /// What `econ up` does after a process is gone.
    async fn restart(&mut self) {
        self.pipeline.shutdown().await;
        self.pipeline = pipeline(
            &self.db,
            &self.house,
            &self.clock,
            self.checkpoints.path(),
            self.death,
            &self.reached,
            &self.died,
        );
        self.pipeline.check_checkpoints().await.unwrap();
    }

    /// An orderly end of the process, with its last checkpoint; once more where it died over that.
    async fn stop(&mut self) {
        let dead_before = self.died.load(Ordering::Acquire);
        self.pipeline.shutdown().await;
        if self.died.load(Ordering::Acquire) != dead_before {
            self.restart().await;
            self.pipeline.shutdown().await;
        }
    }

    fn id(&mut self) -> Uuid {
        self.count += 1;
        let seed = blake3::hash(format!("id {}", self.count).as_bytes());
        let random: [u8; 10] = seed.as_bytes()[..10].try_into().unwrap();
        uuid::Builder::from_unix_timestamp_millis(u64::try_from(self.at_us / 1_000).unwrap(), &random)
            .into_uuid()
    }

    /// Sends wishes at the same time, in this order, until each has its answer.
    async fn wave(&mut self, wishes: Vec<Wish<'_>>) -> Vec<Answer> {
        self.at_us += 1_000_000;
        self.clock.stand(self.at_us);
        let mut waiting = Vec::new();
        for wish in wishes {
            self.count += 1;
            let key = format!("key-{}", self.count);
            let nonce = format!("a nonce of the drill {}", self.count).replace(' ', "-");
            waiting.push(match wish {
                Wish::Of(party, kind) => Sent::Of(Box::new(party.submission(&key, kind, Some(&nonce)))),
                Wish::Again(party, kind, nonce) => {
                    Sent::Of(Box::new(party.submission(&key, kind, Some(nonce))))
                }
                Wish::By(hand, kind) => Sent::By(hand, key, v1::CommandBody { kind: Some(kind) }),
            });
        }
        let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
        while answers.len() < waiting.len() {
            let open: Vec<usize> = (0..waiting.len()).filter(|n| !answers.contains_key(n)).collect();
            let pipeline = self.pipeline.clone();
            let said = join_all(open.iter().map(|n| ask(&pipeline, &waiting[*n]))).await;
            let mut dead = false;
            for (n, said) in open.into_iter().zip(said) {
                match said {
                    Ok(answer) => {
                        answers.insert(n, answer);
                    }
                    Err(error) => {
                        assert_eq!(error.code, "UB803", "{error}");
                        dead = true;
                    }
                }
            }
            if dead {
                assert!(self.died.load(Ordering::Acquire), "nobody answered, and nobody died");
                self.restart().await;
            }
        }
        answers.into_values().collect()
    }

    async fn all_ok(&mut self, wishes: Vec<Wish<'_>>) -> Vec<Answer> {
        let answers = self.wave(wishes).await;
        for answer in &answers {
            assert_eq!(answer.code, "ok", "{}", answer.facts);
        }
        answers
    }
}

async fn ask(pipeline: &Pipeline, sent: &Sent) -> Result<Answer, ledger::Error> {
    match sent {
        Sent::Of(submission) => pipeline.submit(submission.as_ref().clone()).await,
        Sent::By(hand, key, body) => pipeline.submit_service(LEDGER, *hand, key, body.clone()).await,
    }
}

fn pipeline(
    db: &TestDb,
    house: &House,
    clock: &Clock,
    checkpoint_dir: &Path,
    death: Option<Death>,
    reached: &Arc<AtomicU32>,
    died: &Arc<AtomicBool>,
) -> Pipeline {
    let (reached, died) = (Arc::clone(reached), Arc::clone(died));
    let dies = move |stage: Stage| {
        let Some(death) = death.filter(|death| death.stage == stage) else { return false };
        // Once: whoever comes back lives on.
        let dies = reached.fetch_add(1, Ordering::AcqRel) == death.nth;
        died.fetch_or(dies, Ordering::AcqRel);
        dies
    };
    let options = PipelineOptions {
        database: db.config("econ_api"),
        house: house.clone(),
        clock: clock.clone(),
        ledger_ids: vec![LEDGER],
        checkpoint_dir: checkpoint_dir.to_owned(),
        batch_max: 64,
    };
    let chance = |purpose: &[u8]| blake3::hash(purpose).into();
    Pipeline::start_drill(options, Drill { dies: Box::new(dies), chance: Some(Box::new(chance)) })
}

fn register(party: &Party) -> Wish<'_> {
    let key = v1::Key { public_key: party.key.public().as_bytes().to_vec(), purpose: party.purpose.into() };
    Wish::Of(party, Kind::RegisterAgent(v1::RegisterAgent { key: Some(key), ..Default::default() }))
}

/// The drill: a market from its genesis to its payouts, several things at a time, refusals and a bug of ours among them.
async fn told(run: &mut Run) {
    let (buyer, provider, payee) = (
        Party::new("drill buyer", KeyPurpose::Buyer),
        Party::new("drill provider", KeyPurpose::Provider),
        Party::new("drill payee", KeyPurpose::Payee),
    );
    let genesis = ledger::args::genesis_body("econ.test/drill/1", "drill", run.pipeline.house());
    run.all_ok(vec![Wish::By(Hand::Operator, genesis.kind.unwrap())]).await;
    run.all_ok(vec![register(&buyer), register(&provider), register(&payee)]).await;
    let connection = Uuid::from_bytes([5; 16]);
    run.all_ok(vec![
        Wish::By(Hand::Operator, Kind::Deposit(kinds::deposit(id_of(&buyer), "1000000", "funds"))),
        Wish::Of(&provider, kinds::publish(kinds::ad())),
        Wish::By(Hand::Service, kinds::presence(id_of(&provider), true, connection)),
    ])
    .await;

    // Four requests, one of them our bug; and three orders of the others.
    let rfqs: Vec<Uuid> = (0..4).map(|_| run.id()).collect();
    let wish = |n: usize, rfq: Uuid| {
        let work_class = if n == 1 { "bug" } else { kinds::WORK_CLASS };
        let creator_id = payee.id().into();
        Wish::Of(
            &buyer,
            Kind::OpenRfq(v1::OpenRfq { work_class: work_class.into(), creator_id, ..kinds::rfq(rfq) }),
        )
    };
    let asked = run.wave(rfqs.iter().enumerate().map(|(n, rfq)| wish(n, *rfq)).collect()).await;
    let codes: Vec<&str> = asked.iter().map(|answer| answer.code.as_str()).collect();
    assert_eq!(codes, ["ok", "UB900", "ok", "ok"]);
    let rfqs = [rfqs[0], rfqs[2], rfqs[3]];
    let offers: Vec<Uuid> = rfqs.iter().map(|_| run.id()).collect();
    let offered = rfqs
        .iter()
        .zip(&offers)
        .map(|(rfq, offer)| Wish::Of(&provider, Kind::SubmitOffer(kinds::offer(*offer, *rfq))));
    run.all_ok(offered.collect()).await;
    // Three in a row by one actor: what links their receipts must survive as well.
    let ordered = offers.iter().map(|offer| Wish::Of(&buyer, kinds::accept_offer(*offer, "10000")));
    let ordered = run.all_ok(ordered.collect()).await;
    let tickets: Vec<Uuid> = ordered.iter().map(|answer| fact(answer, "run_ticket_id")).collect();
    let orders: Vec<Uuid> = ordered.iter().map(|answer| fact(answer, "order_id")).collect();
    let attempts: Vec<Uuid> = orders.iter().map(|_| run.id()).collect();
    let started = tickets
        .iter()
        .zip(&attempts)
        .map(|(ticket, attempt)| Wish::Of(&provider, kinds::start(*ticket, *attempt)));
    run.all_ok(started.collect()).await;
    run.stop().await;
    run.restart().await;

    let metered = tickets.iter().zip(&attempts).map(|(ticket, attempt)| {
        Wish::Of(&provider, kinds::metering(*ticket, *attempt, &provider.key, &[7, kinds::UNITS]))
    });
    run.all_ok(metered.collect()).await;
    run.all_ok(vec![
        Wish::Of(&provider, kinds::report(tickets[0], attempts[0], OUTPUT)),
        Wish::Of(&provider, kinds::report(tickets[1], attempts[1], OUTPUT)),
        Wish::Of(&provider, kinds::fail(tickets[2], attempts[2], "crash")),
    ])
    .await;
    run.all_ok(vec![
        Wish::Of(&buyer, kinds::accept_output(orders[0], OUTPUT)),
        Wish::Of(&buyer, kinds::reject_output(orders[1], OUTPUT, "wrong_output")),
    ])
    .await;
    // Refusals, which have their receipts too; a nonce that was used is one of them.
    let (one, two) = (run.id(), run.id());
    let refused = run
        .wave(vec![
            Wish::Of(&provider, kinds::settle(orders[0])),
            Wish::Of(&buyer, kinds::settle(orders[2])),
            Wish::Again(&buyer, Kind::OpenRfq(kinds::rfq(one)), "a-nonce-used-twice"),
            Wish::Again(&buyer, Kind::OpenRfq(kinds::rfq(two)), "a-nonce-used-twice"),
        ])
        .await;
    let codes: Vec<&str> = refused.iter().map(|answer| answer.code.as_str()).collect();
    assert_eq!(codes, ["UI301", "UM604", "ok", "UI205"]);
    run.all_ok(vec![
        Wish::By(Hand::Service, kinds::settle(orders[0])),
        Wish::By(Hand::Verifier, kinds::judge(orders[1], "wrong_output")),
    ])
    .await;
    let reserved = run
        .all_ok(vec![
            Wish::By(Hand::Service, kinds::reserve(id_of(&provider), "")),
            Wish::By(Hand::Service, kinds::reserve(id_of(&payee), "")),
        ])
        .await;
    let payouts: Vec<Uuid> = reserved.iter().map(|answer| fact(answer, "payout_id")).collect();
    let end_us = run.at_us - 3_600_000_000;
    run.all_ok(vec![
        Wish::By(Hand::Service, kinds::confirm(payouts[0], "rail-1")),
        Wish::By(Hand::Service, kinds::fail_payout(payouts[1], "rail_down")),
        Wish::By(Hand::Operator, kinds::close_period(end_us)),
        Wish::Of(
            &buyer,
            Kind::RevokeKey(v1::RevokeKey {
                key_id: buyer.key.public().id().as_ref().to_vec(),
                reason: "lost".into(),
            }),
        ),
    ])
    .await;
    let late = run.id();
    let answer =
        run.wave(vec![Wish::Of(&buyer, Kind::CancelRfq(v1::CancelRfq { rfq_id: bytes(late) }))]).await;
    assert_eq!(answer[0].code, "UI203", "{}", answer[0].facts);
    run.stop().await;
}

/// Digest of every table that replay makes again.
async fn tables(db: &Client) -> BTreeMap<String, String> {
    db.batch_execute(TEXT_FORMS).await.unwrap();
    let mut digests = BTreeMap::new();
    for table in verify::tables(db).await.unwrap() {
        let digest = verify::digest(db, &table).await.unwrap();
        digests.insert(table.name, digest.to_string());
    }
    digests
}

async fn drilled(keys: &Path, death: Option<Death>) -> BTreeMap<String, String> {
    let mut run = Run::start(keys, death).await;
    told(&mut run).await;
    assert_eq!(run.died.load(Ordering::Acquire), death.is_some(), "{death:?} never came");
    let admin = run.db.admin().await;
    healthy(&admin).await;
    let report = verify::run(&VerifyOptions {
        database: run.db.config("econ_auditor"),
        admin: run.db.cluster().config("postgres", None),
        receipt_key: Some(*run.house.receipt_key().public()),
        checkpoint_dir: Some(run.checkpoints.path().to_owned()),
        checkpoints: Vec::new(),
        rederive: Arc::new(|_| Err("no GraphQL here".into())),
        batch: 500,
    })
    .await
    .unwrap();
    assert!(report.passed(), "{death:?}: {report}");
    tables(&admin).await
}

#[tokio::test]
async fn a_pipeline_that_dies_at_any_stage_ends_in_the_same_tables_and_receipts() {
    let keys = TempDir::new().unwrap();
    let lived = drilled(keys.path(), None).await;
    assert_eq!(lived, drilled(keys.path(), None).await, "the drill itself is not the same twice");
    let at = |stage, nth| Death { stage, nth };
    let mut deaths: Vec<Death> =
        [Stage::CheckpointSigned, Stage::CheckpointStored, Stage::CheckpointHalfWritten]
            .map(|stage| at(stage, 0))
            .into();
    // The genesis; among the orders; among the payouts. Each wave is one batch at least.
    for nth in [0, 6, 14] {
        let stages = [Stage::Taken, Stage::Decided, Stage::Signed, Stage::Sealed, Stage::Committed];
        deaths.extend(stages.map(|stage| at(stage, nth)));
    }
    for death in deaths {
        let died = drilled(keys.path(), Some(death)).await;
        let differing: Vec<&String> =
            lived.keys().filter(|table| lived.get(*table) != died.get(*table)).collect();
        assert!(differing.is_empty(), "{death:?}: {differing:?}");
        assert_eq!(lived, died);
    }
}

/// The one thing that a retry adds: a refusal because its key was taken has no key to be found by. It is refused once more.
#[tokio::test]
async fn a_refusal_for_a_taken_key_whose_answer_was_lost_is_given_a_second_time() {
    let keys = TempDir::new().unwrap();
    let mut run = Run::start(keys.path(), Some(Death { stage: Stage::Committed, nth: 3 })).await;
    let buyer = Party::new("drill buyer", KeyPurpose::Buyer);
    let genesis = ledger::args::genesis_body("econ.test/drill/1", "drill", run.pipeline.house());
    run.all_ok(vec![Wish::By(Hand::Operator, genesis.kind.unwrap())]).await;
    run.all_ok(vec![register(&buyer)]).await;
    let (one, two) = (run.id(), run.id());
    let ask = |rfq| {
        buyer.submission("taken", Kind::OpenRfq(kinds::rfq(rfq)), Some(&format!("a-nonce-of-its-own-{rfq}")))
    };
    assert_eq!(run.pipeline.submit(ask(one)).await.unwrap().code, "ok");
    assert_eq!(run.pipeline.submit(ask(two)).await.unwrap_err().code, "UB803", "its answer is lost");
    // Later than the first try: a new command id, as in a server.
    run.clock.stand(run.at_us + 1_000_000);
    run.restart().await;
    assert_eq!(run.pipeline.submit(ask(two)).await.unwrap().code, "UB601");
    run.stop().await;
    let codes = rows(&run.db.admin().await, "select code from base.commands order by seq").await;
    assert_eq!(codes, ["ok", "ok", "ok", "UB601", "UB601"]);
}
