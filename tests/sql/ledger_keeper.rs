//! The books' keeper: it files and audits behind the log, says what is wrong, and holds nobody up.

use ledger::house::Hand;
use proto::v1::{self, command_body::Kind};
use serde_json::json;
use uuid::Uuid;

use crate::support::checks::{rows, superuser};
use crate::support::http::Craft;
use crate::support::kinds::bytes;
use crate::support::market::Market;
use crate::support::server::Server;

/// Transfers that the keeper files in one go.
const FILED_AT_ONCE: usize = 32_768;

/// A command of as many transfers as one can carry, into the buyer's wallet.
async fn many(market: &Market) {
    let sql = "select account_id::text from ledger.accounts where purpose in ('external', 'wallet') order by purpose";
    let accounts = rows(&market.admin, sql).await;
    let account = |n: usize| bytes(accounts[n].parse::<Uuid>().unwrap());
    let item = || v1::TransferItem {
        transfer_id: bytes(market.id()),
        kind: v1::TransferKind::Plain.into(),
        debit_account_id: account(0),
        credit_account_id: account(1),
        asset_id: 1,
        amount: "1".into(),
        ..Default::default()
    };
    let items: Vec<v1::TransferItem> = (0..ledger::args::TRANSFERS_MAX).map(|_| item()).collect();
    let answer = market.hand_must(Hand::Operator, Kind::PostTransfers(v1::PostTransfers { items })).await;
    assert!(answer.facts_json()["results"].as_array().unwrap().iter().all(|result| result == &json!("ok")));
}

#[tokio::test]
async fn what_was_posted_is_filed_and_audited_behind_the_log() {
    let server = Server::start().await;
    let market = &server.market;
    for _ in 0..=FILED_AT_ONCE / ledger::args::TRANSFERS_MAX {
        many(market).await;
    }
    server
        .until("transfers are filed", "select exists (select from ledger.paged where through_seq > 0)")
        .await;
    let filed = "select sum(entries)::bigint from ledger.entry_pages";
    assert!(market.count(filed).await >= 2 * i64::try_from(FILED_AT_ONCE).unwrap());
    assert_eq!(rows(&market.admin, "select problem from ledger.audit_pages").await, Vec::<String>::new());
    // A server audits as soon as it starts.
    let second = market.second_pipeline();
    let audited = "select exists (select from ledger.audited a join base.ledgers l using (ledger_id) where a.through_seq = l.last_seq)";
    server.until("the books are audited", audited).await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let server = Server::start().await;
    let market = &server.market;
    let keepers =
        "from pg_stat_activity where application_name = 'econ keeper' and datname = current_database()";
    server.until("the keeper is there", &format!("select exists (select {keepers})")).await;
    let killed = market.text(&format!("select pid::text {keepers}")).await;
    market.text(&format!("select pg_terminate_backend({killed})::text")).await;
    let again = format!("select exists (select {keepers} and pid <> {killed})");
    server.until("another one is there", &again).await;
    market.settled().await;
}

#[tokio::test]
async fn wrong_books_are_told_and_counted_and_nothing_stops() {
    let server = Server::start().await;
    let market = &server.market;
    if !superuser(&market.admin).await {
        return;
    }
    market
        .admin
        .batch_execute(
            "set session_replication_role = replica; \
             update ledger.accounts set credits_pending = credits_pending + 1 where purpose = 'external'",
        )
        .await
        .unwrap();
    let second = market.second_pipeline();
    let metrics = Craft::new("nobody", "GET", "/metrics").unsigned();
    let counted = async || loop {
        if server.send(&metrics).await.text().contains("\necon_audit_problems_total") {
            return;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), counted())
        .await
        .expect("nobody counted the problem");
    second.shutdown().await;
    market.settled().await;
    let audited = "select count(*) from ledger.audited a join base.ledgers l using (ledger_id) where a.through_seq = l.last_seq";
    assert_eq!(market.count(audited).await, 0);
}
