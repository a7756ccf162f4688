//! A market in a database of its own: the pipeline, the house's hands, a funded buyer, a provider that advertises and is
//! reachable, a payee. Time is real until a test advances it; ids are made by the market's clock.

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ledger::clock::{Clock, system_now_us};
use ledger::house::{Hand, House};
use ledger::pipeline::{Answer, Pipeline, PipelineOptions};
use ledger::testing::TestDb;
use proto::keys::KeyPair;
use proto::v1::{self, KeyPurpose, command_body::Kind};
use tempfile::TempDir;
use tokio_postgres::Client;
use uuid::Uuid;

use super::kinds::{self, OUTPUT, UNITS};
use super::party::{LEDGER, Party};

/// What the buyer has to spend at the start, minor units.
pub const FUNDS: u64 = 1_000_000_000;

/// The ids of one order. Nil: not there yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Order {
    pub rfq: Uuid,
    pub offer: Uuid,
    pub order: Uuid,
    pub ticket: Uuid,
    pub attempt: Uuid,
}

pub struct Market {
    pub pipeline: Pipeline,
    /// The database's superuser, who sees and may do everything.
    pub admin: Client,
    pub buyer: Party,
    pub provider: Party,
    /// Gets the creator share of every order.
    pub payee: Party,
    offset_us: AtomicI64,
    /// Where the clock stands still, Unix microseconds; 0: it runs.
    frozen_us: AtomicI64,
    keys: AtomicU64,
    dir: TempDir,
    pub db: TestDb,
}

impl Market {
    pub async fn start() -> Market {
        let db = TestDb::new().await;
        let dir = TempDir::new().unwrap();
        let house = House::load_or_create(&dir.path().join("keys")).unwrap();
        let pipeline = pipeline(&db, &house, dir.path(), Clock::real());
        let market = Market {
            pipeline,
            admin: db.admin().await,
            buyer: Party::new("buyer", KeyPurpose::Buyer),
            provider: Party::new("provider", KeyPurpose::Provider),
            payee: Party::new("payee", KeyPurpose::Payee),
            offset_us: AtomicI64::new(0),
            frozen_us: AtomicI64::new(0),
            keys: AtomicU64::new(0),
            dir,
            db,
        };
        let genesis = market.pipeline.init(LEDGER, "econ.test/ledger/1", "market").await.unwrap();
        assert_eq!(genesis.code, "ok", "{}", genesis.facts);
        for party in [&market.buyer, &market.provider, &market.payee] {
            party.register(&market.pipeline).await;
        }
        let funds = kinds::deposit(id_of(&market.buyer), &FUNDS.to_string(), "funds");
        market.hand_must(Hand::Operator, Kind::Deposit(funds)).await;
        market.must(&market.provider, kinds::publish(kinds::ad())).await;
        market.reachable(&market.provider, true).await;
        market
    }

    /// Another server on the same database, with the same keys and clock.
    pub fn second_pipeline(&self) -> Pipeline {
        pipeline(&self.db, self.pipeline.house(), self.dir.path(), self.pipeline.clock().clone())
    }

    /// The same server once more, after this one's shutdown.
    pub fn restart(&mut self) {
        self.pipeline = self.second_pipeline();
    }

    /// Where keys and outside checkpoints are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A fresh idempotency key.
    pub fn key(&self) -> String {
        format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// A fresh UUIDv7 by the market's clock.
    pub fn id(&self) -> Uuid {
        let ms = u64::try_from(self.pipeline.now_us() / 1_000).unwrap();
        let seed = blake3::hash(format!("id-{}", self.keys.fetch_add(1, Ordering::Relaxed)).as_bytes());
        let random: [u8; 10] = seed.as_bytes()[..10].try_into().unwrap();
        uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid()
    }

    /// From now on time stands still between commands and passes only by [`Market::advance`]: however slow the machine,
    /// deadlines fall where the test put them.
    pub fn freeze(&self) {
        self.frozen_us.store(self.pipeline.now_us(), Ordering::Relaxed);
        self.tick();
    }

    /// From now on the accepting clock is a simulated one, later by this much than it was.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap();
        if self.frozen_us.load(Ordering::Relaxed) > 0 {
            self.frozen_us.fetch_add(by, Ordering::Relaxed);
            self.tick();
        } else {
            let offset = self.offset_us.fetch_add(by, Ordering::Relaxed) + by;
            self.pipeline.clock().simulate(offset);
        }
    }

    /// Puts a clock that stands still back to where it stands.
    fn tick(&self) {
        let frozen_us = self.frozen_us.load(Ordering::Relaxed);
        if frozen_us > 0 {
            self.pipeline.clock().simulate(frozen_us - system_now_us());
        }
    }

    /// One of the house's keys as a party that signs over HTTP.
    pub fn house_party(&self, file: &str, purpose: KeyPurpose) -> Party {
        Party { key: KeyPair::load(&self.dir.path().join("keys").join(file)).unwrap(), purpose }
    }

    pub async fn send(&self, party: &Party, kind: Kind) -> Answer {
        self.tick();
        party.send(&self.pipeline, &self.key(), kind).await
    }

    pub async fn must(&self, party: &Party, kind: Kind) -> Answer {
        self.tick();
        party.must(&self.pipeline, &self.key(), kind).await
    }

    pub async fn hand(&self, hand: Hand, kind: Kind) -> Answer {
        self.tick();
        let body = v1::CommandBody { kind: Some(kind) };
        self.pipeline.submit_service(LEDGER, hand, &self.key(), body).await.unwrap()
    }

    pub async fn hand_must(&self, hand: Hand, kind: Kind) -> Answer {
        let answer = self.hand(hand, kind).await;
        assert_eq!(answer.code, "ok", "{}", answer.facts);
        answer
    }

    pub async fn reachable(&self, provider: &Party, reachable: bool) {
        let connection = Uuid::from_bytes([5; 16]);
        self.hand_must(Hand::Service, kinds::presence(id_of(provider), reachable, connection)).await;
    }

    /// Another provider with an ad of its own and a live connection.
    pub async fn another_provider(&self, name: &str, ad: v1::CapabilityAd) -> Party {
        let party = Party::new(name, KeyPurpose::Provider);
        party.register(&self.pipeline).await;
        self.must(&party, kinds::publish(ad)).await;
        self.reachable(&party, true).await;
        party
    }

    /// An RFQ with a creator, open to offers.
    pub async fn asked(&self) -> Order {
        let rfq = self.id();
        let open = v1::OpenRfq { creator_id: self.payee.id().into(), ..kinds::rfq(rfq) };
        self.must(&self.buyer, Kind::OpenRfq(open)).await;
        Order { rfq, ..Order::default() }
    }

    pub async fn offered(&self) -> Order {
        let asked = self.asked().await;
        let offer = self.id();
        self.must(&self.provider, Kind::SubmitOffer(kinds::offer(offer, asked.rfq))).await;
        Order { offer, ..asked }
    }

    /// Money is in escrow and the ticket is out.
    pub async fn ordered(&self) -> Order {
        let offered = self.offered().await;
        let answer = self.must(&self.buyer, kinds::accept_offer(offered.offer, "10000")).await;
        Order { order: fact(&answer, "order_id"), ticket: fact(&answer, "run_ticket_id"), ..offered }
    }

    pub async fn running(&self) -> Order {
        let ordered = self.ordered().await;
        let attempt = self.id();
        self.must(&self.provider, kinds::start(ordered.ticket, attempt)).await;
        Order { attempt, ..ordered }
    }

    pub async fn meter(&self, order: &Order, units: &[u64]) -> Answer {
        self.must(&self.provider, kinds::metering(order.ticket, order.attempt, &self.provider.key, units))
            .await
    }

    /// Metered in full, output reported.
    pub async fn reported(&self) -> Order {
        let running = self.running().await;
        self.meter(&running, &[UNITS / 2, UNITS]).await;
        self.must(&self.provider, kinds::report(running.ticket, running.attempt, OUTPUT)).await;
        running
    }

    pub async fn disputed(&self) -> Order {
        let reported = self.reported().await;
        self.must(&self.buyer, kinds::reject_output(reported.order, OUTPUT, "wrong_output")).await;
        reported
    }

    pub async fn accepted(&self) -> Order {
        let reported = self.reported().await;
        self.must(&self.buyer, kinds::accept_output(reported.order, OUTPUT)).await;
        reported
    }

    /// A whole cycle.
    pub async fn settled(&self) -> Order {
        let accepted = self.accepted().await;
        self.must(&self.buyer, kinds::settle(accepted.order)).await;
        accepted
    }

    pub async fn refunded(&self) -> Order {
        let running = self.running().await;
        self.must(&self.provider, kinds::fail(running.ticket, running.attempt, "crash")).await;
        running
    }

    /// Reserves whatever is open for a payee; the payout's id.
    pub async fn reserved(&self, payee: Uuid) -> Uuid {
        fact(&self.hand_must(Hand::Service, kinds::reserve(payee, "")).await, "payout_id")
    }

    /// One text of the database.
    pub async fn text(&self, sql: &str) -> String {
        let row = self.admin.query_one(sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error())).get(0)
    }

    pub async fn count(&self, sql: &str) -> i64 {
        let row = self.admin.query_one(sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error())).get(0)
    }

    /// State and cause of an order.
    pub async fn state(&self, order: &Order) -> String {
        self.text(&format!(
            "select concat_ws(' ', state, cause) from market.orders where order_id = '{}'",
            order.order
        ))
        .await
    }

    /// What an agent can spend, minor units.
    pub async fn wallet(&self, party: &Party) -> i64 {
        self.count(&format!(
            "select coalesce(sum(credits_posted - debits_posted - debits_pending), 0)::bigint from ledger.accounts \
             where purpose = 'wallet' and owner_id = '{}'",
            id_of(party)
        ))
        .await
    }
}

fn pipeline(db: &TestDb, house: &House, dir: &Path, clock: Clock) -> Pipeline {
    Pipeline::start(PipelineOptions {
        database: db.config("econ_api"),
        house: house.clone(),
        clock,
        ledger_ids: vec![LEDGER],
        checkpoint_dir: dir.join("checkpoints"),
        batch_max: 256,
    })
}

pub fn id_of(party: &Party) -> Uuid {
    party.id().as_uuid()
}

/// An id that an answer's facts name.
pub fn fact(answer: &Answer, name: &str) -> Uuid {
    let facts = answer.facts_json();
    let text = facts[name].as_str().unwrap_or_else(|| panic!("no {name} in {facts}"));
    text.parse().unwrap()
}
