//! The market's state machines, move by move: each legal one happens and leaves its receipt, each illegal one is refused
//! and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ledger::house::Hand;
use proto::v1::{self, command_body::Kind};
use uuid::Uuid;

use crate::support::checks::{changed, domain_digest, healthy, rows, verified};
use crate::support::kinds::{self, OUTPUT, UNITS};
use crate::support::market::{FUNDS, Market, Order, fact, id_of};

const PRICE: i64 = 3_700;

#[tokio::test]
async fn a_whole_cycle_pays_the_shares_and_leaves_nothing_in_escrow() {
    let market = Market::start().await;
    let order = market.settled().await;
    assert_eq!(market.state(&order).await, "settled");
    let legs = rows(&market.admin, "select concat_ws(' ', role, amount) from splits.legs order by n").await;
    // 15 % creator, 78 % provider, 5 % operator; nobody referred the buyer, so the provider gets those 2 % too.
    assert_eq!(legs, ["creator 555", "provider 2960", "operator 185"]);
    assert_eq!(market.wallet(&market.buyer).await, i64::try_from(FUNDS).unwrap() - PRICE);
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn only_metered_units_are_paid_and_the_rest_goes_back() {
    let market = Market::start().await;
    let funds = i64::try_from(FUNDS).unwrap();
    let mut spent = 0;
    for (units, paid) in [(&[][..], 0), (&[0], 0), (&[1], 100), (&[10, 36], 3_600), (&[37], 3_700)] {
        let order = market.running().await;
        if !units.is_empty() {
            market.meter(&order, units).await;
        }
        market.must(&market.provider, kinds::report(order.ticket, order.attempt, OUTPUT)).await;
        market.must(&market.buyer, kinds::accept_output(order.order, OUTPUT)).await;
        let answer = market.must(&market.buyer, kinds::settle(order.order)).await;
        assert_eq!(answer.facts_json()["paid"], paid.to_string(), "{units:?}: {}", answer.facts);
        spent += paid;
        assert_eq!(market.wallet(&market.buyer).await, funds - spent, "{units:?}");
        healthy(&market.admin).await;
    }
}

#[tokio::test]
async fn an_over_report_is_quarantined_and_never_billed() {
    let market = Market::start().await;
    let order = market.running().await;
    let answer = market.meter(&order, &[5, 38, 39]).await;
    let facts = answer.facts_json();
    assert_eq!((&facts["accepted"], &facts["quarantined"]["over_limit"]), (&1.into(), &2.into()), "{facts}");
    // A counter that falls, the same seq with other content, a link that is wrong: each is kept as evidence.
    let at = |seq, units| kinds::metering_at(order.ticket, order.attempt, &market.provider.key, seq, units);
    for (kind, reason) in
        [(at(4, 4), "counter_fell"), (at(0, 6), "other_content"), (at(1, 6), "broken_chain")]
    {
        let facts = market.must(&market.provider, kind).await.facts_json();
        assert_eq!((&facts["accepted"], &facts["quarantined"][reason]), (&0.into(), &1.into()), "{facts}");
    }
    assert_eq!(
        market
            .must(&market.provider, kinds::metering(order.ticket, order.attempt, &market.provider.key, &[5]))
            .await
            .facts_json()["duplicate"],
        1
    );
    market.must(&market.provider, kinds::report(order.ticket, order.attempt, OUTPUT)).await;
    let late = market.must(&market.provider, at(9, 37)).await.facts_json();
    assert_eq!(late["quarantined"]["after_cutoff"], 1, "{late}");
    market.must(&market.buyer, kinds::accept_output(order.order, OUTPUT)).await;
    let settled = market.must(&market.buyer, kinds::settle(order.order)).await;
    assert_eq!(settled.facts_json()["billed_units"], "5", "{}", settled.facts);
    assert_eq!(market.count("select count(*) from metering.quarantine").await, 6);
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn what_fails_or_comes_too_late_is_refunded_in_full_with_its_cause() {
    let market = Market::start().await;
    let real = market.count("select last_seq from base.ledgers").await;
    market.freeze();
    let funds = i64::try_from(FUNDS).unwrap();
    let (crashed, unstarted) = (market.running().await, market.ordered().await);
    let (vanished, slow, silent) = (market.ordered().await, market.running().await, market.running().await);
    let (wrong, overdone) = (market.disputed().await, market.reported().await);
    market.meter(&slow, &[3]).await;
    assert_eq!(market.wallet(&market.buyer).await, funds - 7 * PRICE);
    market.must(&market.provider, kinds::fail(crashed.ticket, crashed.attempt, "crash")).await;
    market.must(&market.provider, kinds::fail(unstarted.ticket, Uuid::nil(), "unsupported")).await;
    market.hand_must(Hand::Verifier, kinds::judge(wrong.order, "wrong_output")).await;
    // Before its time no timer takes an order away.
    assert_eq!(market.hand(Hand::Service, kinds::expire_order(vanished.order)).await.code, "UM605");
    market.advance(Duration::from_millis(60_300));
    // The ticket has run out, its grace has not.
    assert_eq!(market.hand(Hand::Service, kinds::expire_order(slow.order)).await.code, "UM605");
    assert_eq!(market.send(&market.provider, kinds::start(vanished.ticket, market.id())).await.code, "UM603");
    assert_eq!(
        market.send(&market.provider, kinds::report(slow.ticket, slow.attempt, OUTPUT)).await.code,
        "UM603"
    );
    market.advance(Duration::from_secs(2));
    for order in [&vanished, &slow, &silent] {
        market.hand_must(Hand::Service, kinds::expire_order(order.order)).await;
        assert!(
            !market.send(&market.provider, kinds::report(order.ticket, order.attempt, OUTPUT)).await.is_ok()
        );
    }
    // The buyer said nothing for longer than it may: the verifier looks.
    market.hand_must(Hand::Verifier, kinds::judge(overdone.order, "over_report")).await;
    for (order, state) in [
        (crashed, "refunded crash"),
        (unstarted, "refunded unsupported"),
        (vanished, "refunded vanished"),
        (slow, "refunded timeout"),
        (silent, "refunded vanished"),
        (wrong, "refunded wrong_output"),
        (overdone, "refunded over_report"),
    ] {
        assert_eq!(market.state(&order).await, state);
    }
    assert_eq!(market.wallet(&market.buyer).await, funds);
    assert_eq!(
        market.count(&format!("select count(*) from base.commands where simulated <> (seq > {real})")).await,
        0,
        "simulated time says so"
    );
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn offers_and_rfqs_expire_at_their_time_and_hold_no_money() {
    let market = Market::start().await;
    market.freeze();
    let rfq = market.id();
    let short = v1::OpenRfq { valid_for_ms: 1_000, ..kinds::rfq(rfq) };
    market.must(&market.buyer, Kind::OpenRfq(short)).await;
    let offer = market.id();
    let long = v1::SubmitOffer { valid_for_ms: 60_000, ..kinds::offer(offer, rfq) };
    market.must(&market.provider, Kind::SubmitOffer(long)).await;
    assert_eq!(
        market.count("select count(*) from market.offers o join market.rfqs r using (rfq_id) where o.expires_at = r.expires_at").await,
        1,
        "an offer never outlives its RFQ"
    );
    let cheap = market.offered().await;
    market.advance(Duration::from_millis(1_300));
    let before = domain_digest(&market.admin).await;
    assert_eq!(market.send(&market.buyer, kinds::accept_offer(offer, "10000")).await.code, "UM602");
    assert_eq!(market.hand(Hand::Service, kinds::expire_rfq(cheap.rfq)).await.code, "UM605");
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    market.hand_must(Hand::Service, kinds::expire_rfq(rfq)).await;
    assert_eq!(
        market.send(&market.provider, Kind::SubmitOffer(kinds::offer(market.id(), rfq))).await.code,
        "UM501"
    );
    assert_eq!(market.send(&market.buyer, kinds::accept_offer(offer, "10000")).await.code, "UM601");
    assert_eq!(market.send(&market.buyer, kinds::cancel_rfq(rfq)).await.code, "UM601");
    assert_eq!(market.wallet(&market.buyer).await, i64::try_from(FUNDS).unwrap());
    healthy(&market.admin).await;
}

#[tokio::test]
async fn a_step_taken_twice_is_taken_once() {
    let market = Market::start().await;
    let order = market.ordered().await;
    let attempt = market.id();
    let steps = |order: &Order| {
        let provider = &market.provider;
        vec![
            (&market.buyer, kinds::accept_offer(order.offer, "10000")),
            (provider, kinds::start(order.ticket, attempt)),
            (provider, kinds::metering(order.ticket, attempt, &provider.key, &[UNITS])),
            (provider, kinds::report(order.ticket, attempt, OUTPUT)),
            (&market.buyer, kinds::accept_output(order.order, OUTPUT)),
            (&market.buyer, kinds::settle(order.order)),
        ]
    };
    for (party, kind) in steps(&order) {
        market.must(party, kind.clone()).await;
        let before = domain_digest(&market.admin).await;
        let again = market.must(party, kind.clone()).await;
        assert!(!again.replayed, "it has a key of its own");
        assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new(), "{kind:?}");
    }
    // The service settles what is settled: nothing happens. With other content it is no repetition.
    let before = domain_digest(&market.admin).await;
    market.hand_must(Hand::Service, kinds::settle(order.order)).await;
    for (party, kind, code) in [
        (&market.provider, kinds::start(order.ticket, market.id()), "UM503"),
        (&market.provider, kinds::report(order.ticket, attempt, [1; 32]), "UM502"),
        (&market.buyer, kinds::accept_output(order.order, [1; 32]), "UM502"),
        (&market.buyer, kinds::reject_output(order.order, OUTPUT, "wrong_output"), "UM604"),
    ] {
        assert_eq!(market.send(party, kind).await.code, code);
    }
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    healthy(&market.admin).await;
}

#[tokio::test]
async fn every_order_takes_only_the_moves_that_the_table_names() {
    let market = Market::start().await;
    let orders: BTreeMap<&str, Order> = BTreeMap::from([
        ("ordered", market.ordered().await),
        ("running", market.running().await),
        ("reported", market.reported().await),
        ("disputed", market.disputed().await),
        ("accepted", market.accepted().await),
        ("settled", market.settled().await),
        ("refunded", market.refunded().await),
    ]);
    // Past every deadline, so that time alone refuses nothing that a timer or the verifier does.
    market.advance(Duration::from_secs(120));
    let legal: BTreeSet<String> =
        rows(&market.admin, "select from_state || ' ' || event from base.state_moves where machine = 'order' and from_state <> ''").await.into_iter().collect();
    let before = domain_digest(&market.admin).await;
    let mut illegal: usize = 0;
    for (state, order) in &orders {
        let (ticket, attempt) = (order.ticket, order.attempt);
        let provider = Some(&market.provider);
        let buyer = Some(&market.buyer);
        let moves = [
            ("start_attempt", provider, None, kinds::start(ticket, market.id())),
            ("report_output", provider, None, kinds::report(ticket, attempt, [1; 32])),
            ("fail_attempt", provider, None, kinds::fail(ticket, attempt, "cancelled")),
            ("accept_output", buyer, None, kinds::accept_output(order.order, OUTPUT)),
            ("reject_output", buyer, None, kinds::reject_output(order.order, OUTPUT, "missing_output")),
            ("settle_order", buyer, None, kinds::settle(order.order)),
            ("expire_order", None, Some(Hand::Service), kinds::expire_order(order.order)),
            ("judge_valid", None, Some(Hand::Verifier), kinds::judge(order.order, "valid")),
            ("judge_invalid", None, Some(Hand::Verifier), kinds::judge(order.order, "missing_output")),
        ];
        for (event, party, hand, kind) in moves {
            if legal.contains(&format!("{state} {event}")) {
                continue;
            }
            illegal += 1;
            let answer = match (party, hand) {
                (Some(party), _) => market.send(party, kind).await,
                (None, Some(hand)) => market.hand(hand, kind).await,
                (None, None) => unreachable!(),
            };
            // The same step again is no move: it answers where the order stands.
            let again = answer.facts_json()["exists"] == true;
            assert!(again || !answer.is_ok(), "{state} {event}: {}", answer.facts);
            assert!(!answer.code.contains('9'), "{state} {event} raised: {}", answer.facts);
            let after = domain_digest(&market.admin).await;
            assert_eq!(changed(&before, &after), Vec::<String>::new(), "{state} {event}: {}", answer.facts);
        }
    }
    assert_eq!(illegal, 7 * 9 - legal.len(), "all pairs of a state and an event but the legal ones");
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn every_legal_move_happens_and_leaves_a_receipt_that_states_it() {
    let market = Market::start().await;
    // rfq and offer: cancelled, expired, outbid.
    let cancelled = market.offered().await;
    market.must(&market.buyer, kinds::cancel_rfq(cancelled.rfq)).await;
    let dear = v1::CapabilityAd { price_per_unit: "150".into(), ..kinds::ad() };
    let outbid = market.another_provider("outbid", dear).await;
    let contested = market.offered().await;
    let losing = v1::SubmitOffer { price_per_unit: "150".into(), ..kinds::offer(market.id(), contested.rfq) };
    market.must(&outbid, Kind::SubmitOffer(losing)).await;
    market.must(&market.buyer, kinds::accept_offer(contested.offer, "10000")).await;
    let expiring = market.offered().await;
    // order: each way to its end.
    let (unstarted, crashed, slow, never) =
        (market.ordered().await, market.running().await, market.running().await, market.ordered().await);
    market.must(&market.provider, kinds::fail(unstarted.ticket, Uuid::nil(), "cancelled")).await;
    market.must(&market.provider, kinds::fail(crashed.ticket, crashed.attempt, "crash")).await;
    let (right, wrong) = (market.disputed().await, market.disputed().await);
    market.hand_must(Hand::Verifier, kinds::judge(right.order, "valid")).await;
    market.hand_must(Hand::Verifier, kinds::judge(wrong.order, "wrong_output")).await;
    let (left_right, left_wrong) = (market.reported().await, market.reported().await);
    market.settled().await;
    market.hand_must(Hand::Service, kinds::settle(right.order)).await;
    market.advance(Duration::from_secs(120));
    market.hand_must(Hand::Verifier, kinds::judge(left_right.order, "valid")).await;
    market.hand_must(Hand::Verifier, kinds::judge(left_wrong.order, "missing_output")).await;
    market.hand_must(Hand::Service, kinds::expire_order(slow.order)).await;
    market.hand_must(Hand::Service, kinds::expire_order(never.order)).await;
    market.hand_must(Hand::Service, kinds::expire_rfq(expiring.rfq)).await;
    // payout: refused by the rail, then paid.
    let failed = market.reserved(id_of(&market.provider)).await;
    market.hand_must(Hand::Service, kinds::fail_payout(failed, "rail_down")).await;
    let paid = fact(
        &market.hand_must(Hand::Service, kinds::reserve(id_of(&market.provider), "")).await,
        "payout_id",
    );
    market.hand_must(Hand::Service, kinds::confirm(paid, "rail-1")).await;

    let missing = rows(
        &market.admin,
        "select concat_ws(' ', m.machine, m.from_state, m.event, m.to_state) from base.state_moves m where not exists \
         (select from base.transitions t where (t.machine, t.from_state, t.event, t.to_state) = (m.machine, m.from_state, m.event, m.to_state))",
    )
    .await;
    assert!(missing.is_empty(), "never seen: {missing:#?}");
    // Each transition is stated by the receipt of its command, in order; the facts are what the receipt's signed bytes hold.
    let unstated = rows(
        &market.admin,
        "select concat_ws(' ', t.seq, t.machine, t.event) from base.transitions t join base.commands c using (ledger_id, seq) \
           left join receipts.receipts r using (ledger_id, seq) \
          where r.receipt_id is null or position(convert_to(c.facts, 'UTF8') in r.envelope) = 0 \
             or c.facts::jsonb -> 'transitions' -> (t.n - 1) is distinct from \
                jsonb_build_object('machine', t.machine, 'id', t.subject_id, 'from', t.from_state, 'event', t.event, 'to', t.to_state)",
    )
    .await;
    assert!(unstated.is_empty(), "{unstated:#?}");
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}
