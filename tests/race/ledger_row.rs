//! One writer per ledger: whoever holds the ledger's row decides next, and the others see what it decided.

use futures_util::future::join_all;
use futures_util::poll;
use ledger::house::Hand;
use ledger::pipeline::{Answer, Pipeline};
use proto::v1::{self, command_body::Kind};
use tokio_postgres::Client;

use super::blocked;
use crate::support::checks::{healthy, rows, verified};
use crate::support::kinds::{self, OUTPUT};
use crate::support::market::{Market, Order, id_of};
use crate::support::party::LEDGER;

/// A session that holds the ledger's row until it commits.
async fn holding(market: &Market) -> Client {
    let holder = market.db.admin().await;
    holder
        .batch_execute("begin; select from base.ledgers where ledger_id = 1 for no key update")
        .await
        .unwrap();
    holder
}

/// Somebody's command on its way into a pipeline.
#[derive(Clone)]
enum Step {
    Buyer(Kind),
    Provider(Kind),
    House(Hand, Kind),
}

async fn sent(market: &Market, pipeline: &Pipeline, step: Step) -> Answer {
    match step {
        Step::Buyer(kind) => market.buyer.send(pipeline, &market.key(), kind).await,
        Step::Provider(kind) => market.provider.send(pipeline, &market.key(), kind).await,
        Step::House(hand, kind) => {
            let body = v1::CommandBody { kind: Some(kind) };
            pipeline.submit_service(LEDGER, hand, &market.key(), body).await.unwrap()
        }
    }
}

/// Both steps reach the ledger's row while it is held, `first` before `second`, each through a server of its own.
async fn raced(market: &Market, other: &Pipeline, first: Step, second: Step) -> (Answer, Answer) {
    let holder = holding(market).await;
    let mut first = Box::pin(sent(market, &market.pipeline, first));
    assert!(poll!(&mut first).is_pending());
    let before = blocked(&market.admin, 1).await;
    let mut second = Box::pin(sent(market, other, second));
    assert!(poll!(&mut second).is_pending());
    let both = blocked(&market.admin, 2).await;
    assert_eq!(both[0], before[0], "the first to come waits longest");
    assert!(poll!(&mut first).is_pending(), "nobody is answered while the row is held");
    holder.batch_execute("commit").await.unwrap();
    futures_util::future::join(first, second).await
}

#[tokio::test]
async fn commands_wait_for_the_ledgers_row_and_then_commit_together_in_the_order_they_came() {
    let market = Market::start().await;
    let last = market.count("select last_seq from base.ledgers").await;
    let holder = holding(&market).await;
    let open = || Step::Buyer(Kind::OpenRfq(kinds::rfq(market.id())));
    let mut first = Box::pin(sent(&market, &market.pipeline, open()));
    assert!(poll!(&mut first).is_pending());
    blocked(&market.admin, 1).await;
    // These come while the first batch is in flight: they are the next one.
    let mut waiting = Box::pin(join_all((0..40).map(|_| sent(&market, &market.pipeline, open()))));
    assert!(poll!(&mut waiting).is_pending());
    assert_eq!(market.count("select last_seq from base.ledgers").await, last, "nothing is decided yet");
    holder.batch_execute("commit").await.unwrap();
    let first = first.await;
    let answers = waiting.await;
    let last = u64::try_from(last).unwrap();
    assert_eq!(first.seq, last + 1);
    let seqs: Vec<u64> = answers.iter().map(|answer| answer.seq).collect();
    assert_eq!(seqs, (last + 2..last + 42).collect::<Vec<_>>(), "queue order is log order");
    let transactions =
        format!("select count(distinct xmin::text) from base.commands where seq > {}", last + 1);
    assert_eq!(market.count(&transactions).await, 1, "forty commands, one transaction");
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn two_servers_on_one_ledger_take_turns_and_the_log_stays_gapless() {
    let market = Market::start().await;
    let other = market.second_pipeline();
    for _ in 0..3 {
        let open = || Step::Buyer(Kind::OpenRfq(kinds::rfq(market.id())));
        let (first, second) = raced(&market, &other, open(), open()).await;
        assert_eq!(first.seq + 1, second.seq, "who waits first is served first");
        assert!(first.at_us <= second.at_us, "ledger time never falls");
    }
    let broken = rows(
        &market.admin,
        "select 'seq ' || seq from (select seq, row_number() over (order by seq) as n, at < lag(at) over (order by seq) as falls \
         from base.commands) c where seq <> n or falls",
    )
    .await;
    assert!(broken.is_empty(), "{broken:?}");
    other.shutdown().await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

/// Two that want different ends of one thing: whoever comes first gets it, the other is refused, and money is conserved.
#[tokio::test]
async fn of_two_that_exclude_each_other_the_first_to_come_wins() {
    let market = Market::start().await;
    let other = market.second_pipeline();
    let expire = |order: &Order| Step::House(Hand::Service, kinds::expire_order(order.order));
    let report = |order: &Order| Step::Provider(kinds::report(order.ticket, order.attempt, OUTPUT));
    let fail = |order: &Order| Step::Provider(kinds::fail(order.ticket, order.attempt, "crash"));
    let accept = |order: &Order| Step::Buyer(kinds::accept_output(order.order, OUTPUT));
    let reject = |order: &Order| Step::Buyer(kinds::reject_output(order.order, OUTPUT, "wrong_output"));
    let judge = |order: &Order| Step::House(Hand::Verifier, kinds::judge(order.order, "missing_output"));
    let settle = |order: &Order| Step::Buyer(kinds::settle(order.order));
    let cancel = |order: &Order| Step::Buyer(kinds::cancel_rfq(order.rfq));
    let order = |order: &Order| Step::Buyer(kinds::accept_offer(order.offer, "10000"));

    // The provider reports what it also gives up.
    for swap in [false, true] {
        let running = market.running().await;
        let (one, two) =
            if swap { (fail(&running), report(&running)) } else { (report(&running), fail(&running)) };
        let (first, second) = raced(&market, &other, one, two).await;
        assert_eq!((first.code.as_str(), second.code.as_str()), ("ok", "UM604"));
        assert_eq!(market.state(&running).await, if swap { "refunded crash" } else { "reported" });
    }
    // The buyer cancels what it also orders.
    for swap in [false, true] {
        let offered = market.offered().await;
        let (one, two) =
            if swap { (cancel(&offered), order(&offered)) } else { (order(&offered), cancel(&offered)) };
        let (first, second) = raced(&market, &other, one, two).await;
        assert_eq!((first.code.as_str(), second.code.as_str()), ("ok", "UM601"));
    }
    // The buyer accepts what it also rejects, at the same time.
    for swap in [false, true] {
        let reported = market.reported().await;
        let (one, two) = if swap {
            (reject(&reported), accept(&reported))
        } else {
            (accept(&reported), reject(&reported))
        };
        let (first, second) = raced(&market, &other, one, two).await;
        assert_eq!((first.code.as_str(), second.code.as_str()), ("ok", "UM604"));
    }
    healthy(&market.admin).await;
    // Past every deadline: settlement against expiry, the buyer's late word against the verifier's.
    let (accepted, running, settling) =
        (market.accepted().await, market.running().await, market.accepted().await);
    let (late, judged) = (market.reported().await, market.reported().await);
    market.advance(std::time::Duration::from_secs(120));
    for (one, two, codes) in [
        (settle(&accepted), expire(&accepted), ("ok", "UM604")),
        (expire(&settling), settle(&settling), ("UM604", "ok")),
        (expire(&running), report(&running), ("ok", "UM604")),
        (accept(&late), judge(&late), ("ok", "UM604")),
        (judge(&judged), accept(&judged), ("ok", "UM604")),
    ] {
        let (first, second) = raced(&market, &other, one, two).await;
        assert_eq!((first.code.as_str(), second.code.as_str()), codes, "{} {}", first.facts, second.facts);
        healthy(&market.admin).await;
    }
    assert_eq!(market.state(&accepted).await, "settled");
    assert_eq!(market.state(&settling).await, "settled");
    assert_eq!(market.state(&running).await, "refunded vanished");
    assert_eq!(market.state(&judged).await, "refunded missing_output");
    other.shutdown().await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn buyer_and_service_settling_at_the_same_time_settle_once() {
    let market = Market::start().await;
    let other = market.second_pipeline();
    for buyer_first in [true, false] {
        let order = market.accepted().await;
        let steps =
            [Step::Buyer(kinds::settle(order.order)), Step::House(Hand::Service, kinds::settle(order.order))];
        let [one, two] = if buyer_first {
            steps
        } else {
            let [a, b] = steps;
            [b, a]
        };
        let (first, second) = raced(&market, &other, one, two).await;
        assert_eq!(first.facts_json()["paid"], "3700", "{}", first.facts);
        assert_eq!(second.facts_json()["exists"], true, "{}", second.facts);
    }
    assert_eq!(market.count("select count(*) from splits.settlements").await, 2);
    healthy(&market.admin).await;
    other.shutdown().await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn two_orders_for_the_last_money_spend_it_once() {
    let market = Market::start().await;
    let other = market.second_pipeline();
    let poor = crate::support::party::Party::new("poor", v1::KeyPurpose::Buyer);
    poor.register(&market.pipeline).await;
    let funds = Kind::Deposit(kinds::deposit(id_of(&poor), "4000", "pocket-money"));
    market.hand_must(Hand::Operator, funds).await;
    let mut offers = Vec::new();
    for _ in 0..2 {
        let (rfq, offer) = (market.id(), market.id());
        market.must(&poor, Kind::OpenRfq(kinds::rfq(rfq))).await;
        market.must(&market.provider, Kind::SubmitOffer(kinds::offer(offer, rfq))).await;
        offers.push(offer);
    }
    let holder = holding(&market).await;
    let accept = |pipeline, offer| {
        let (poor, key) = (&poor, market.key());
        async move { poor.send(pipeline, &key, kinds::accept_offer(offer, "4000")).await }
    };
    let mut one = Box::pin(accept(&market.pipeline, offers[0]));
    assert!(poll!(&mut one).is_pending());
    blocked(&market.admin, 1).await;
    let mut two = Box::pin(accept(&other, offers[1]));
    assert!(poll!(&mut two).is_pending());
    blocked(&market.admin, 2).await;
    holder.batch_execute("commit").await.unwrap();
    let (one, two) = futures_util::future::join(one, two).await;
    assert_eq!((one.code.as_str(), two.code.as_str()), ("ok", "UM702"), "{}", two.facts);
    assert_eq!(market.wallet(&poor).await, 300);
    healthy(&market.admin).await;
    other.shutdown().await;
    market.pipeline.shutdown().await;
}

#[tokio::test]
async fn a_connection_that_is_lost_in_flight_is_retried_and_acts_once() {
    let market = Market::start().await;
    let offered = market.offered().await;
    let holder = holding(&market).await;
    let mut accepting =
        Box::pin(market.buyer.send(&market.pipeline, "accept", kinds::accept_offer(offered.offer, "10000")));
    assert!(poll!(&mut accepting).is_pending());
    let writer = blocked(&market.admin, 1).await[0];
    market.admin.execute("select pg_terminate_backend($1)", &[&writer]).await.unwrap();
    // The writer comes back on another connection with the same commands, and waits again.
    let again = loop {
        assert!(poll!(&mut accepting).is_pending(), "nothing can be answered while the row is held");
        let waiting = blocked(&market.admin, 1).await[0];
        if waiting != writer {
            break waiting;
        }
    };
    assert_ne!(again, writer);
    holder.batch_execute("commit").await.unwrap();
    let answer = accepting.await;
    assert_eq!(answer.code, "ok", "{}", answer.facts);
    assert_eq!(market.count("select count(*) from market.orders").await, 1);
    assert_eq!(market.wallet(&market.buyer).await, 1_000_000_000 - 3_700);
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}
