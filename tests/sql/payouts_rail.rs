//! Money out: each payable is paid at most once, whatever the rail says and however many ask at once.

use futures_util::future::join_all;
use ledger::house::Hand;
use ledger::pipeline::Answer;
use proto::v1;
use uuid::Uuid;

use crate::support::checks::{changed, domain_digest, healthy, rows, verified};
use crate::support::kinds;
use crate::support::market::{Market, fact, id_of};
use crate::support::party::LEDGER;

/// What the provider earns from one ordinary order.
const EARNED: i64 = 2_960;

/// earned, paid, reserved and payable of an agent, minor units.
async fn books(market: &Market, payee: Uuid) -> [i64; 4] {
    let row = market
        .admin
        .query_one(
            "select sum(earned_minor)::bigint, sum(paid_minor)::bigint, sum(reserved_minor)::bigint, sum(payable_minor)::bigint \
             from finance.payout_reconciliation where payee_id = $1",
            &[&payee],
        )
        .await
        .unwrap();
    [row.get(0), row.get(1), row.get(2), row.get(3)]
}

#[tokio::test]
async fn a_payout_is_reserved_then_confirmed_and_reconciliation_ties_at_each_step() {
    let market = Market::start().await;
    let payee = id_of(&market.provider);
    for _ in 0..3 {
        market.settled().await;
    }
    assert_eq!(books(&market, payee).await, [3 * EARNED, 0, 0, 3 * EARNED]);
    let payout = market.reserved(payee).await;
    assert_eq!(books(&market, payee).await, [3 * EARNED, 0, 3 * EARNED, 0]);
    healthy(&market.admin).await;
    // What is earned meanwhile waits for the next payout.
    market.settled().await;
    assert_eq!(books(&market, payee).await, [4 * EARNED, 0, 3 * EARNED, EARNED]);
    market.hand_must(Hand::Service, kinds::confirm(payout, "rail-1")).await;
    assert_eq!(books(&market, payee).await, [4 * EARNED, 3 * EARNED, 0, EARNED]);
    healthy(&market.admin).await;
    let next = market.reserved(payee).await;
    market.hand_must(Hand::Operator, kinds::confirm(next, "rail-2")).await;
    assert_eq!(books(&market, payee).await, [4 * EARNED, 4 * EARNED, 0, 0]);
    assert_eq!(market.hand(Hand::Service, kinds::reserve(payee, "")).await.code, "UP701");
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn a_refused_payout_opens_its_payables_again_and_they_are_paid_once() {
    let market = Market::start().await;
    let payee = id_of(&market.provider);
    market.settled().await;
    market.settled().await;
    for n in 0..3 {
        let payout = market.reserved(payee).await;
        let refused = market.hand_must(Hand::Service, kinds::fail_payout(payout, "rail_down")).await;
        assert_eq!(refused.facts_json()["amount"], (2 * EARNED).to_string());
        assert_eq!(books(&market, payee).await, [2 * EARNED, 0, 0, 2 * EARNED]);
        healthy(&market.admin).await;
        // What has failed stays failed.
        let before = domain_digest(&market.admin).await;
        assert_eq!(
            market.hand(Hand::Service, kinds::confirm(payout, &format!("late-{n}"))).await.code,
            "UP601"
        );
        assert_eq!(
            market.hand(Hand::Service, kinds::fail_payout(payout, "another_reason")).await.code,
            "UP601"
        );
        market.hand_must(Hand::Service, kinds::fail_payout(payout, "rail_down")).await;
        assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    }
    let payout = market.reserved(payee).await;
    market.hand_must(Hand::Service, kinds::confirm(payout, "rail-1")).await;
    assert_eq!(books(&market, payee).await, [2 * EARNED, 2 * EARNED, 0, 0]);
    let paid = rows(
        &market.admin,
        "select concat_ws(' ', i.payable_id, count(*) filter (where p.state = 'confirmed')) from payouts.payout_items i \
         join payouts.payouts p using (ledger_id, payout_id) group by i.payable_id",
    )
    .await;
    assert_eq!(paid.len(), 2);
    assert!(paid.iter().all(|line| line.ends_with(" 1")), "{paid:?}");
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn one_movement_of_the_rail_confirms_one_payout() {
    let market = Market::start().await;
    market.settled().await;
    let (first, second) =
        (market.reserved(id_of(&market.provider)).await, market.reserved(id_of(&market.payee)).await);
    market.hand_must(Hand::Service, kinds::confirm(first, "rail-1")).await;
    let before = domain_digest(&market.admin).await;
    let again = market.hand_must(Hand::Service, kinds::confirm(first, "rail-1")).await;
    assert_eq!(again.facts_json()["exists"], true, "confirmed twice is confirmed once");
    for (payout, reference, code) in [
        (first, "rail-2", "UP501"),
        (second, "rail-1", "UP502"),
        (second, "", "UP101"),
        (second, "a name", "UP101"),
        (market.id(), "rail-3", "UP402"),
    ] {
        assert_eq!(
            market.hand(Hand::Service, kinds::confirm(payout, reference)).await.code,
            code,
            "{reference:?}"
        );
    }
    assert_eq!(market.hand(Hand::Service, kinds::fail_payout(first, "changed_its_mind")).await.code, "UP601");
    assert_eq!(market.hand(Hand::Service, kinds::fail_payout(second, "Jane Doe, DE12")).await.code, "UP101");
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    market.hand_must(Hand::Service, kinds::confirm(second, "rail-2")).await;
    healthy(&market.admin).await;
}

#[tokio::test]
async fn a_payout_without_payee_money_or_rail_is_refused_and_changes_nothing() {
    let market = Market::start().await;
    market.settled().await;
    let payee = id_of(&market.provider);
    let before = domain_digest(&market.admin).await;
    let reserve = |change: fn(&mut v1::ReservePayout)| {
        let v1::command_body::Kind::ReservePayout(mut reserve) = kinds::reserve(payee, "") else {
            unreachable!()
        };
        change(&mut reserve);
        v1::command_body::Kind::ReservePayout(reserve)
    };
    for (kind, code) in [
        (reserve(|r| r.rail = "carrier-pigeon".into()), "UP101"),
        (reserve(|r| r.rail = String::new()), "UP101"),
        (reserve(|r| r.asset_id = 9), "UP403"),
        (reserve(|r| r.asset_id = 2), "UP701"),
        (reserve(|r| r.payee_id = vec![1; 16]), "UP401"),
        (kinds::reserve(payee, "2961"), "UP701"),
        (kinds::reserve(id_of(&market.buyer), ""), "UP701"),
    ] {
        assert_eq!(market.hand(Hand::Service, kind.clone()).await.code, code, "{kind:?}");
    }
    // A payee that is missing or malformed is not even a command.
    let nobody = v1::CommandBody { kind: Some(reserve(|r| r.payee_id = Vec::new())) };
    let error = market.pipeline.submit_service(LEDGER, Hand::Service, "nobody", nobody).await.unwrap_err();
    assert_eq!(error.code, "UB103");
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    market.hand_must(Hand::Service, kinds::reserve(payee, "2960")).await;
    healthy(&market.admin).await;
}

#[tokio::test]
async fn schedulers_that_reserve_at_the_same_time_pay_at_most_once() {
    let market = Market::start().await;
    let payee = id_of(&market.provider);
    market.settled().await;
    market.settled().await;
    // Twelve wishes with keys of their own, through two servers.
    let second = market.second_pipeline();
    let wishes = (0..12).map(|n| {
        let pipeline = if n % 2 == 0 { &market.pipeline } else { &second };
        let hand = if n % 3 == 0 { Hand::Operator } else { Hand::Service };
        let body = v1::CommandBody { kind: Some(kinds::reserve(payee, "")) };
        async move { pipeline.submit_service(LEDGER, hand, &format!("reserve-{n}"), body).await.unwrap() }
    });
    let answers: Vec<Answer> = join_all(wishes).await;
    let (won, lost): (Vec<&Answer>, Vec<&Answer>) = answers.iter().partition(|answer| answer.is_ok());
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|answer| answer.code == "UP701"), "{lost:?}");
    assert_eq!(won[0].facts_json()["payables"], 2);
    // And as many confirmations of it, each with the rail's one reference.
    let payout = fact(won[0], "payout_id");
    let confirmations =
        (0..6).map(|n| {
            let pipeline = if n % 2 == 0 { &market.pipeline } else { &second };
            let body = v1::CommandBody { kind: Some(kinds::confirm(payout, "rail-1")) };
            async move {
                pipeline.submit_service(LEDGER, Hand::Service, &format!("confirm-{n}"), body).await.unwrap()
            }
        });
    let answers = join_all(confirmations).await;
    assert_eq!(answers.iter().filter(|answer| answer.facts_json()["exists"].is_null()).count(), 1);
    assert_eq!(books(&market, payee).await, [2 * EARNED, 2 * EARNED, 0, 0]);
    healthy(&market.admin).await;
    second.shutdown().await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}
