//! Random walks over the market: buyers, providers, timers, verifier and scheduler do whatever comes to mind, also to things
//! that are not theirs or long over. After every step the audit views are empty and no money is made or lost; a step that
//! was refused, repeated or retried has changed no domain state; at the end the log proves all of it.
//!
//! The seeds are fixed; `ECON_TEST_SEED` (a number) and `ECON_TEST_WALKS` search further.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ledger::house::Hand;
use ledger::pipeline::{Answer, Submission};
use proto::v1::{self, KeyPurpose, command_body::Kind};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::support::checks::{changed, domain_digest, healthy, rows, verified};
use crate::support::kinds::{self, OUTPUT};
use crate::support::market::{Market, fact, id_of};
use crate::support::party::{LEDGER, Party};
use crate::support::replays::gives_every_table_again;

const STEPS: usize = 250;
/// What walks of that length must have met, or the generator has gone blind: none of these is rare.
const CODES: [&str; 11] =
    ["ok", "UM101", "UM301", "UM302", "UM404", "UM501", "UM601", "UM604", "UM605", "UM703", "UP701"];

/// Something that came to be: its id, the id that goes with it (a ticket, an attempt), and whose it is.
#[derive(Clone, Copy)]
struct Thing {
    id: Uuid,
    with: Uuid,
    buyer: usize,
    provider: usize,
}

#[derive(Default)]
struct Seen {
    rfqs: Vec<Thing>,
    offers: Vec<Thing>,
    /// With their tickets.
    orders: Vec<Thing>,
    /// With their tickets.
    attempts: Vec<Thing>,
    payouts: Vec<Thing>,
    sent: Vec<(Submission, Answer)>,
}

struct Walk {
    market: Market,
    random: StdRng,
    buyers: Vec<Party>,
    providers: Vec<Party>,
    seen: Seen,
    codes: BTreeSet<String>,
}

/// Who takes a step.
enum Who {
    Buyer(usize),
    Provider(usize),
    Hand(Hand),
}

impl Walk {
    async fn start(seed: u64) -> Walk {
        let market = Market::start().await;
        let poor = Party::new("poor", KeyPurpose::Buyer);
        poor.register(&market.pipeline).await;
        let funds = Kind::Deposit(kinds::deposit(id_of(&poor), "4000", "pocket-money"));
        market.hand_must(Hand::Operator, funds).await;
        let dear = v1::CapabilityAd { price_per_unit: "130".into(), ..kinds::ad() };
        let second = market.another_provider("second", dear).await;
        market.freeze();
        // Registered, and asked by nobody.
        let idle = Party::new("idle", KeyPurpose::Provider);
        idle.register(&market.pipeline).await;
        Walk {
            buyers: vec![Party::new("buyer", KeyPurpose::Buyer), poor],
            providers: vec![Party::new("provider", KeyPurpose::Provider), second, idle],
            market,
            random: StdRng::seed_from_u64(seed),
            seen: Seen::default(),
            codes: BTreeSet::new(),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    /// One of them, the later ones more often; something that nobody knows when there is none, and now and then anyway.
    fn one(&mut self, from: fn(&Seen) -> &Vec<Thing>) -> Thing {
        let len = from(&self.seen).len();
        if len == 0 || self.below(25) == 0 {
            return Thing {
                id: Uuid::from_bytes([3; 16]),
                with: Uuid::from_bytes([4; 16]),
                buyer: 0,
                provider: 0,
            };
        }
        let back = self.below(len.min(6));
        from(&self.seen)[len - 1 - back]
    }

    /// Mostly whose it is.
    fn whose(&mut self, own: usize, of: usize) -> usize {
        if self.below(8) == 0 { self.below(of) } else { own }
    }

    fn output(&mut self) -> [u8; 32] {
        if self.below(8) == 0 { [1; 32] } else { OUTPUT }
    }

    /// Somebody's next idea, and whose things it is about.
    fn idea(&mut self) -> (Who, Kind, Thing) {
        let order = self.one(|seen| &seen.orders);
        let attempt = self.one(|seen| &seen.attempts);
        let rfq = self.one(|seen| &seen.rfqs);
        let reason = ["wrong_output", "over_report", "missing_output", "valid"][self.below(4)];
        match self.below(20) {
            0 | 1 => {
                let buyer = usize::from(self.below(3) == 0);
                let wish = v1::OpenRfq {
                    max_price: ["10000", "10000", "10000", "3700", "100", "0"][self.below(6)].into(),
                    valid_for_ms: [60_000, 60_000, 5_000][self.below(3)],
                    max_duration_ms: [60_000, 20_000][self.below(2)],
                    creator_id: if self.below(2) == 0 {
                        id_of(&self.market.payee).into()
                    } else {
                        Vec::new()
                    },
                    ..kinds::rfq(self.market.id())
                };
                (Who::Buyer(buyer), Kind::OpenRfq(wish), Thing { buyer, ..rfq })
            }
            2..=4 => {
                let provider = [0, 0, 0, 1, 1, 2][self.below(6)];
                let price = ["100", "100", "90", "130", "300", "1.5"][self.below(6)];
                let valid_for_ms = [60_000, 60_000, 4_000][self.below(3)];
                let offer = v1::SubmitOffer {
                    price_per_unit: price.into(),
                    valid_for_ms,
                    ..kinds::offer(self.market.id(), rfq.id)
                };
                (Who::Provider(provider), Kind::SubmitOffer(offer), Thing { provider, ..rfq })
            }
            5 | 6 => {
                let offer = self.one(|seen| &seen.offers);
                let cap = ["10000", "10000", "10000", "3000"][self.below(4)];
                (Who::Buyer(self.whose(offer.buyer, 2)), kinds::accept_offer(offer.id, cap), offer)
            }
            7 | 8 => (
                Who::Provider(self.whose(order.provider, 3)),
                kinds::start(order.with, self.market.id()),
                order,
            ),
            9 | 10 => {
                let provider = self.whose(attempt.provider, 3);
                let seq = u32::try_from(self.below(6)).unwrap() * 2;
                let units = u64::from(seq) * 4 + u64::try_from(self.below(5)).unwrap();
                let key = &self.providers[provider].key;
                (
                    Who::Provider(provider),
                    kinds::metering_at(attempt.with, attempt.id, key, seq, units),
                    attempt,
                )
            }
            11 | 12 => {
                let output = self.output();
                (
                    Who::Provider(self.whose(attempt.provider, 3)),
                    kinds::report(attempt.with, attempt.id, output),
                    attempt,
                )
            }
            13 => {
                let (of, id) = if self.below(3) == 0 { (order, Uuid::nil()) } else { (attempt, attempt.id) };
                let reason = ["crash", "cancelled"][self.below(2)];
                (Who::Provider(self.whose(of.provider, 3)), kinds::fail(of.with, id, reason), of)
            }
            14 if self.below(3) == 0 => (
                Who::Buyer(self.whose(order.buyer, 2)),
                kinds::reject_output(order.id, OUTPUT, reason),
                order,
            ),
            14 => {
                let output = self.output();
                (Who::Buyer(self.whose(order.buyer, 2)), kinds::accept_output(order.id, output), order)
            }
            15 => (Who::Hand(Hand::Verifier), kinds::judge(order.id, reason), order),
            16 if self.below(2) == 0 => {
                (Who::Buyer(self.whose(order.buyer, 2)), kinds::settle(order.id), order)
            }
            16 => (Who::Hand(Hand::Service), kinds::settle(order.id), order),
            17 => match self.below(6) {
                0 => (Who::Buyer(self.whose(rfq.buyer, 2)), kinds::cancel_rfq(rfq.id), rfq),
                1 | 2 => (Who::Hand(Hand::Service), kinds::expire_rfq(rfq.id), rfq),
                _ => (Who::Hand(Hand::Service), kinds::expire_order(order.id), order),
            },
            18 => {
                let payee =
                    [id_of(&self.providers[order.provider]), id_of(&self.market.payee)][self.below(2)];
                (Who::Hand(Hand::Service), kinds::reserve(payee, ["", "2000"][self.below(2)]), order)
            }
            _ => {
                let payout = self.one(|seen| &seen.payouts);
                let reference = format!("rail-{}", self.below(30));
                let fails = self.below(2) == 0;
                let kind = if fails {
                    kinds::fail_payout(payout.id, "rail_down")
                } else {
                    kinds::confirm(payout.id, &reference)
                };
                (Who::Hand(Hand::Service), kind, payout)
            }
        }
    }

    /// What an honest party would do next about something: without it walks would seldom get to an order's end.
    async fn duty(&mut self) -> Option<(Who, Kind, Thing)> {
        if self.below(2) == 0 {
            let offer = self.one(|seen| &seen.offers);
            return Some((Who::Buyer(offer.buyer), kinds::accept_offer(offer.id, "10000"), offer));
        }
        let order = self.one(|seen| &seen.orders);
        let sql = "select o.state, a.attempt_id from market.orders o left join metering.attempts a using (ledger_id, run_ticket_id) \
                   where o.order_id = $1";
        let row = self.market.admin.query_opt(sql, &[&order.id]).await.unwrap()?;
        let (state, attempt): (String, Option<Uuid>) = (row.get(0), row.get(1));
        let provider = Who::Provider(order.provider);
        Some(match (state.as_str(), attempt) {
            ("ordered", _) => (provider, kinds::start(order.with, self.market.id()), order),
            ("running", Some(attempt)) => (provider, kinds::report(order.with, attempt, OUTPUT), order),
            ("reported", _) => (Who::Buyer(order.buyer), kinds::accept_output(order.id, OUTPUT), order),
            ("disputed", _) => (Who::Hand(Hand::Verifier), kinds::judge(order.id, "valid"), order),
            ("accepted", _) => (Who::Buyer(order.buyer), kinds::settle(order.id), order),
            _ => return None,
        })
    }

    async fn take(&mut self, who: Who, kind: Kind) -> Answer {
        let party = match who {
            Who::Hand(hand) => return self.market.hand(hand, kind).await,
            Who::Buyer(n) => &self.buyers[n],
            Who::Provider(n) => &self.providers[n],
        };
        let submission = party.submission(&self.market.key(), kind, None);
        let answer = self.market.pipeline.submit(submission.clone()).await.unwrap();
        self.seen.sent.push((submission, answer.clone()));
        answer
    }

    fn remember(&mut self, answer: &Answer, about: Thing) {
        let facts = answer.facts_json();
        if !answer.is_ok() || facts["exists"] == true {
            return;
        }
        let thing = |id, with| Thing { id: fact(answer, id), with: fact(answer, with), ..about };
        if facts["invited"].is_array() {
            self.seen.rfqs.push(thing("rfq_id", "rfq_id"));
        } else if facts["price"].is_string() {
            self.seen.offers.push(thing("offer_id", "rfq_id"));
        } else if facts["ticket_nonce"].is_string() {
            self.seen.orders.push(thing("order_id", "run_ticket_id"));
        } else if facts["attempt_id"].is_string() {
            self.seen.attempts.push(thing("attempt_id", "run_ticket_id"));
        } else if facts["payables"].is_number() {
            self.seen.payouts.push(thing("payout_id", "payee_id"));
        }
    }

    /// One step, and what must hold after each.
    async fn step(&mut self, before: BTreeMap<String, String>, what: &str) -> BTreeMap<String, String> {
        let seconds = if self.below(12) == 0 { self.below(20) } else { 0 };
        self.market.advance(Duration::from_millis(u64::try_from(seconds * 1_000 + 20).unwrap()));
        let retry = self.below(12) == 0 && !self.seen.sent.is_empty();
        let (asked, answer, about) = if retry {
            let n = self.below(self.seen.sent.len());
            let (submission, first) = self.seen.sent[n].clone();
            let again = self.market.pipeline.submit(submission).await.unwrap();
            assert!(again.replayed, "{what}");
            assert_eq!((again.receipt_id, &again.facts), (first.receipt_id, &first.facts), "{what}");
            ("the retry".to_owned(), again, None)
        } else {
            let duty = if self.below(3) == 0 { self.duty().await } else { None };
            let (who, kind, about) = duty.unwrap_or_else(|| self.idea());
            let asked = format!("{kind:?}");
            (asked, self.take(who, kind).await, Some(about))
        };
        let after = domain_digest(&self.market.admin).await;
        let tables = changed(&before, &after);
        // The same content again is an answer, not an act.
        let nothing = retry || !answer.is_ok() || answer.facts_json()["exists"] == true;
        assert!(
            !nothing || tables.is_empty(),
            "{what} changed {tables:?}: {asked} -> {} {}",
            answer.code,
            answer.facts
        );
        assert!(
            answer.code == "ok" || answer.code.as_bytes()[2] != b'9',
            "{what}: {asked} -> {}",
            answer.facts
        );
        healthy(&self.market.admin).await;
        if let Some(about) = about {
            self.codes.insert(answer.code.clone());
            self.remember(&answer, about);
        }
        after
    }
}

/// A number of the environment.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test]
async fn whatever_anybody_does_money_is_conserved_and_refusals_change_nothing() {
    let first = setting("ECON_TEST_SEED").unwrap_or(1);
    let walks = setting("ECON_TEST_WALKS").unwrap_or(2);
    let mut codes = BTreeSet::new();
    let mut states = BTreeSet::new();
    for seed in first..first + walks {
        let mut walk = Walk::start(seed).await;
        let mut digest = domain_digest(&walk.market.admin).await;
        for step in 0..STEPS {
            digest = walk.step(digest, &format!("seed {seed}, step {step}")).await;
        }
        codes.append(&mut walk.codes);
        states.extend(rows(&walk.market.admin, "select distinct state from market.orders").await);
        assert_eq!(
            walk.market.count(&format!("select last_seq from base.ledgers where ledger_id = {LEDGER}")).await,
            walk.market.count("select count(*) from receipts.receipts").await
        );
        walk.market.pipeline.shutdown().await;
        verified(&walk.market).await;
        gives_every_table_again(&walk.market).await;
    }
    let unmet: Vec<&str> = CODES.into_iter().filter(|code| !codes.contains(*code)).collect();
    assert!(unmet.is_empty(), "never met: {unmet:?} of {codes:?}");
    for state in ["settled", "refunded"] {
        assert!(states.contains(state), "no order was {state}: {states:?}");
    }
}
