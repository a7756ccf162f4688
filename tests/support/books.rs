//! Something of everything that the operator may do with the books.

use ledger::house::Hand;
use proto::v1::{self, command_body::Kind};
use uuid::Uuid;

use super::kinds::{self, bytes};
use super::market::{Market, id_of};

/// The rest of the operator's books: liquidity, an exchange, a reversal, a balanced transfer, an account closed and opened
/// again, a period, and value from and to a ledger that is not here.
pub async fn books(market: &Market) {
    let account = |asset: i32, purpose: &str, owner: &str| {
        let sql = format!("select ledger.account_id(1, {asset}, '{purpose}', {owner}, null)::text");
        async move { market.text(&sql).await.parse::<Uuid>().unwrap() }
    };
    let buyer = format!("'{}'", id_of(&market.buyer));
    let (dollars, coins) = (account(1, "wallet", &buyer).await, account(2, "wallet", &buyer).await);
    let coin = v1::Deposit { asset_id: 2, ..kinds::deposit(id_of(&market.buyer), "1", "coin") };
    market.hand_must(Hand::Operator, Kind::Deposit(coin)).await;
    let (equity, liquidity) = (account(2, "equity", "null").await, account(2, "liquidity", "null").await);
    let item = |debit: Uuid, credit: Uuid, amount: &str| v1::TransferItem {
        transfer_id: bytes(market.id()),
        kind: v1::TransferKind::Plain.into(),
        debit_account_id: bytes(debit),
        credit_account_id: bytes(credit),
        asset_id: 2,
        amount: amount.into(),
        ..Default::default()
    };
    let wrong = item(equity, liquidity, "7");
    let closing = v1::TransferItem {
        kind: v1::TransferKind::Pending.into(),
        closing_debit: true,
        ..item(equity, coins, "")
    };
    // The void comes first: it opens the account again for the others.
    let items = vec![
        v1::TransferItem {
            kind: v1::TransferKind::VoidPending.into(),
            pending_id: closing.transfer_id.clone(),
            ..item(equity, coins, "")
        },
        item(equity, liquidity, "5000"),
        v1::TransferItem { reverses_id: wrong.transfer_id.clone(), ..item(liquidity, equity, "7") },
        v1::TransferItem { balancing_debit: true, ..item(coins, equity, "9") },
        v1::TransferItem {
            effective_at_us: market.pipeline.now_us() - 5_000_000,
            ..item(equity, coins, "2")
        },
    ];
    let first = Kind::PostTransfers(v1::PostTransfers { items: vec![wrong] });
    market.hand_must(Hand::Operator, first).await;
    let close = Kind::PostTransfers(v1::PostTransfers { items: vec![closing] });
    market.hand_must(Hand::Operator, close).await;
    let blocked = Kind::PostTransfers(v1::PostTransfers { items: vec![item(equity, coins, "1")] });
    let answer = market.hand_must(Hand::Operator, blocked).await;
    assert_eq!(answer.facts_json()["results"], serde_json::json!(["debit_account_already_closed"]));
    let answer = market.hand_must(Hand::Operator, Kind::PostTransfers(v1::PostTransfers { items })).await;
    assert_eq!(answer.facts_json()["results"], serde_json::json!(["ok", "ok", "ok", "ok", "ok"]));
    let exchange = kinds::exchange(market.id(), dollars, coins, "100");
    market.hand_must(Hand::Operator, Kind::Exchange(exchange.clone())).await;
    let again = market.hand_must(Hand::Operator, Kind::Exchange(exchange)).await;
    assert_eq!(again.facts_json()["exists"], true);
    let end_us = market.pipeline.now_us() - 3_600_000_000;
    market.hand_must(Hand::Operator, kinds::close_period(end_us)).await;
    let group = market.id();
    market.hand_must(Hand::Operator, kinds::send_across(group, 2, dollars, "30")).await;
    let other = market.hand(Hand::Operator, kinds::receive_across(group, 2, dollars, "30")).await;
    assert_eq!(other.code, "UL503");
    market.hand_must(Hand::Operator, kinds::receive_across(market.id(), 2, dollars, "12")).await;
}
