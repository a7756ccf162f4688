//! The log gives the state: replayed in batches of any size, with refusals and our own bugs in it, every table comes out
//! the same as it is.

use std::time::Duration;

use ledger::house::Hand;
use proto::v1::{self, KeyPurpose, command_body::Kind};
use uuid::Uuid;

use crate::support::books::books;
use crate::support::checks::{healthy, rows, verified};
use crate::support::kinds::{self, OUTPUT, bytes};
use crate::support::market::{Market, fact, id_of};
use crate::support::party::{LEDGER, Party};
use crate::support::replays::gives_every_table_again;

/// Something of everything that a log can hold.
pub async fn busy() -> Market {
    let market = Market::start().await;
    // A bug of ours, so that the log holds a forced refusal.
    market
        .admin
        .batch_execute(
            "create function market.our_bug() returns trigger language plpgsql as
               $$ begin if new.work_class = 'bug' then raise 'a bug'; end if; return new; end $$;
             grant execute on function market.our_bug() to econ_engine;
             create trigger our_bug before insert on market.rfqs for each row execute function market.our_bug();",
        )
        .await
        .unwrap();
    let bug = v1::OpenRfq { work_class: "bug".into(), ..kinds::rfq(market.id()) };
    assert_eq!(market.send(&market.buyer, Kind::OpenRfq(bug)).await.code, "UB900");
    for _ in 0..4 {
        market.settled().await;
    }
    let over = market.running().await;
    market.meter(&over, &[7, 50]).await;
    market.must(&market.provider, kinds::report(over.ticket, over.attempt, OUTPUT)).await;
    let wrong = market.disputed().await;
    market.hand_must(Hand::Verifier, kinds::judge(wrong.order, "wrong_output")).await;
    market.refunded().await;
    let regretted = market.asked().await;
    market.must(&market.buyer, kinds::cancel_rfq(regretted.rfq)).await;
    // Refusals of each layer: key reused, nonce reused, unknown key, purpose, domain.
    market.buyer.must(&market.pipeline, "used", Kind::OpenRfq(kinds::rfq(market.id()))).await;
    let reused = market.buyer.send(&market.pipeline, "used", Kind::OpenRfq(kinds::rfq(market.id()))).await;
    assert_eq!(reused.code, "UB601");
    for (key, code) in [("one", "ok"), ("two", "UI205")] {
        let kind = Kind::OpenRfq(kinds::rfq(market.id()));
        let request = market.buyer.submission(key, kind, Some("a-nonce-used-once-only"));
        assert_eq!(market.pipeline.submit(request).await.unwrap().code, code);
    }
    let stranger = Party::new("stranger", KeyPurpose::Buyer);
    assert_eq!(market.send(&stranger, kinds::settle(wrong.order)).await.code, "UI202");
    assert_eq!(market.send(&market.provider, kinds::settle(wrong.order)).await.code, "UI301");
    assert_eq!(market.send(&market.buyer, kinds::settle(wrong.order)).await.code, "UM604");
    // Payouts that fail, are paid, and wait; the operator's own transfers; a revoked key.
    let failed = market.reserved(id_of(&market.payee)).await;
    market.hand_must(Hand::Service, kinds::fail_payout(failed, "rail_down")).await;
    let paid = market.reserved(id_of(&market.payee)).await;
    market.hand_must(Hand::Service, kinds::confirm(paid, "rail-1")).await;
    market.reserved(id_of(&market.provider)).await;
    transfers(&market).await;
    books(&market).await;
    let revoke =
        v1::RevokeKey { key_id: stranger.key.public().id().as_ref().to_vec(), reason: "lost".into() };
    stranger.register(&market.pipeline).await;
    market.must(&stranger, Kind::RevokeKey(revoke)).await;
    // Time that is simulated, and timers.
    let (late, unasked) = (market.running().await, market.offered().await);
    market.advance(Duration::from_secs(3_600));
    market.hand_must(Hand::Service, kinds::expire_order(late.order)).await;
    market.hand_must(Hand::Service, kinds::expire_rfq(unasked.rfq)).await;
    market.hand_must(Hand::Verifier, kinds::judge(over.order, "valid")).await;
    market.hand_must(Hand::Service, kinds::settle(over.order)).await;
    erasures(&market, over.order).await;
    market.pipeline.shutdown().await;
    market
}

/// Contents erased for the sake of each kind of subject, by the operator and by an agent itself, and what is refused.
async fn erasures(market: &Market, order: Uuid) {
    let (buyer, payee) = (id_of(&market.buyer), id_of(&market.payee));
    let (agent, hashes) = (v1::ErasureSubject::Agent, [[7; 32], [77; 32]]);
    let all = hashes.map(|hash| (hash, None));
    market.hand_must(Hand::Operator, kinds::erase(v1::ErasureSubject::Order, Some(order), &all)).await;
    market.hand_must(Hand::Operator, kinds::erase(v1::ErasureSubject::Artifact, None, &all[1..])).await;
    market.must(&market.payee, kinds::erase(agent, Some(payee), &[(hashes[1], Some(payee))])).await;
    let of_another = kinds::erase(agent, Some(payee), &[(hashes[0], Some(buyer))]);
    assert_eq!(market.send(&market.payee, of_another).await.code, "UM304");
    // It still asks for something.
    let too_early = market.hand(Hand::Operator, kinds::erase(agent, Some(buyer), &all)).await;
    assert_eq!(too_early.code, "UM608", "{}", too_early.facts);
}

/// A batch of the operator's: a hold that is posted in part, one that is left, a chain that fails whole.
async fn transfers(market: &Market) {
    let account = |purpose: &str| {
        let sql = format!(
            "select account_id::text from ledger.accounts where purpose = '{purpose}' and asset_id = 1 limit 1"
        );
        async move { market.text(&sql).await.parse::<Uuid>().unwrap() }
    };
    let (wallet, external) = (account("wallet").await, account("external").await);
    let hold = market.id();
    let item = |kind: v1::TransferKind, amount: &str| v1::TransferItem {
        transfer_id: bytes(market.id()),
        kind: kind.into(),
        debit_account_id: bytes(external),
        credit_account_id: bytes(wallet),
        asset_id: 1,
        amount: amount.into(),
        ..Default::default()
    };
    let items = vec![
        v1::TransferItem {
            transfer_id: bytes(hold),
            timeout_ms: 60_000,
            ..item(v1::TransferKind::Pending, "500")
        },
        v1::TransferItem { timeout_ms: 1_000, ..item(v1::TransferKind::Pending, "70") },
        v1::TransferItem { pending_id: bytes(hold), ..item(v1::TransferKind::PostPending, "300") },
        v1::TransferItem { linked: true, ..item(v1::TransferKind::Plain, "1") },
        item(v1::TransferKind::Plain, "NaN"),
    ];
    let answer = market.hand_must(Hand::Operator, Kind::PostTransfers(v1::PostTransfers { items })).await;
    let expected = serde_json::json!(["ok", "ok", "ok", "linked_event_failed", "amount_must_be_whole"]);
    assert_eq!(answer.facts_json()["results"], expected);
}

#[tokio::test]
async fn replay_gives_every_table_again_in_batches_of_any_size() {
    let market = busy().await;
    let tables = gives_every_table_again(&market).await;
    assert!(tables.len() > 30, "{tables:?}");
    let empty: Vec<&str> =
        tables.iter().filter(|table| table.replayed.rows == 0).map(|table| table.table.as_str()).collect();
    assert_eq!(empty, Vec::<&str>::new(), "a table without rows proves nothing");
    let codes = rows(&market.admin, "select distinct code from base.commands order by 1").await;
    let refused = ["UB601", "UB900", "UI202", "UI205", "UI301", "UL503", "UM304", "UM604", "UM608"];
    assert_eq!(codes, [&refused[..], &["ok"]].concat());
    verified(&market).await;
}

#[tokio::test]
async fn a_restart_goes_on_where_the_log_ends() {
    let mut market = Market::start().await;
    let order = market.accepted().await;
    let request = market.buyer.submission("settle", kinds::settle(order.order), None);
    let first = market.pipeline.submit(request.clone()).await.unwrap();
    market.pipeline.shutdown().await;
    assert_eq!(market.pipeline.submit(request.clone()).await.unwrap_err().code, "UB803", "it takes no more");
    market.restart();
    market.pipeline.check_checkpoints().await.unwrap();
    let again = market.pipeline.submit(request).await.unwrap();
    assert!(again.replayed);
    assert_eq!((again.seq, again.receipt_id), (first.seq, first.receipt_id));
    // The genesis that every start offers changes nothing either.
    let genesis = market.pipeline.init(LEDGER, "econ.test/ledger/1", "market").await.unwrap();
    assert_eq!((genesis.seq, genesis.replayed), (1, true));
    let next = market.must(&market.buyer, Kind::OpenRfq(kinds::rfq(market.id()))).await;
    assert_eq!(next.seq, first.seq + 1);
    assert_eq!(fact(&next, "rfq_id").get_version_num(), 7);
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}
