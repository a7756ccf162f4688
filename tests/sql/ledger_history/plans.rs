//! What a read costs when the history is long: the tail and the page, never the history.

use tokio_postgres::Client;

use super::{books, post};
use crate::support::checks::rows;

const COMMANDS: i64 = 25;
const ITEMS: i64 = 8_000;
/// Transfers of the last command stay in the tail.
const FILED: i32 = 192_000;

/// 200,000 transfers among the eight accounts of ledger 1, of which all but the last command's are filed.
async fn long(db: &Client) {
    let sql = "select ledger.post_direct(1, t.at($1), i.ids, i.ids, array_fill('plain'::text, array[$3]), i.debits, i.credits, \
               array_fill(1, array[$3]), array_fill(1::numeric, array[$3]), array_fill('test'::text, array[$3]), array_fill(null::uuid, array[$3]), \
               array_fill(null::bigint, array[$3]), array_fill(false, array[$3]), array_fill(0::smallint, array[$3]), array_fill(null::uuid, array[$3]), \
               array_fill(null::timestamptz, array[$3])) \
               from (select array_agg(t.id($2 || '/' || n)) as ids, array_agg(t.account(4 + n % 4)) as debits, \
                            array_agg(t.account(4 + (n + 1 + n / 4 % 3) % 4)) as credits from generate_series(1, $3) n) as i";
    for command in 0..COMMANDS {
        let at_us = super::START_US + command * 1_000_000;
        let items = i32::try_from(ITEMS).unwrap();
        let row = db.query_one(sql, &[&at_us, &command.to_string(), &items]).await;
        let results: Vec<String> = row.unwrap_or_else(|error| panic!("{:?}", error.as_db_error())).get(0);
        assert!(results.iter().all(|result| result == "ok"), "{:?}", results.iter().find(|r| *r != "ok"));
    }
    let mut filed = 0;
    while filed < FILED {
        filed += db.query_one("select ledger.page_entries(1, 32000)", &[]).await.unwrap().get::<_, i32>(0);
    }
    assert_eq!(filed, FILED);
}

#[tokio::test]
async fn a_statement_costs_the_tail_and_its_pages_however_long_the_history_is() {
    let (_test_db, db) = books().await;
    long(&db).await;
    // The newest entries of ledger 2 are few: what is asked there must not read ledger 1.
    post(&db, 2, super::START_US, &[serde_json::json!({ "id": "x", "journal": "x", "kind": "plain", "debit": 0, "credit": 4, "amount": 1 })]).await;
    let middle = "12::bigint, 4000, 100";
    let reads = [
        (
            "the newest",
            "read_statement(t.id('operator'), 1, t.account(4), 'record', null, null, null, 100)".to_owned(),
        ),
        (
            "the middle",
            format!("read_statement(t.id('operator'), 1, t.account(4), 'record', null, {middle})"),
        ),
        (
            "the newest events",
            "read_statement(t.id('operator'), 1, t.account(4), 'event', null, null, null, 100)".to_owned(),
        ),
        (
            "events of the middle",
            format!(
                "read_statement(t.id('operator'), 1, t.account(4), 'event', t.at({}), {middle})",
                super::START_US + 11_000_000
            ),
        ),
        (
            "a balance of the middle",
            "read_balance_at(t.id('operator'), 1, t.account(4), '2026-01-01 00:00:11', 'record')".to_owned(),
        ),
        (
            "an event balance of the middle",
            "read_balance_at(t.id('operator'), 1, t.account(4), '2026-01-01 00:00:11', 'event')".to_owned(),
        ),
        (
            "all balances of the middle",
            "read_trial_balance(t.id('operator'), 1, '2026-01-01 00:00:11', 'record')".to_owned(),
        ),
        ("the newest transfers", "read_transfers(t.id('operator'), 1, null, null, null, 100)".to_owned()),
        ("an owner's entries", "read_entries(t.id('own'), 1, null, null, null, 100)".to_owned()),
        (
            "another ledger",
            "read_statement(t.id('operator'), 2, t.account(4), 'record', null, null, null, 100)".to_owned(),
        ),
    ];
    for statistics in [
        "select 1",
        "reset role; analyze ledger.transfers, ledger.entry_pages, ledger.accounts; set role econ_engine",
    ] {
        for mode in ["force_generic_plan", "force_custom_plan"] {
            db.batch_execute(&format!("{statistics}; set plan_cache_mode = {mode}; set jit = off"))
                .await
                .unwrap();
            for (what, read) in &reads {
                let (scans, fetched) = cost(&db, read).await;
                assert_eq!(scans, 0, "{what}, {mode}, {statistics}: a sequential scan of the transfers");
                // The tail twice (entries, balance), a page here and there.
                let most = 2 * ITEMS + 1_500;
                assert!(fetched <= most, "{what}, {mode}, {statistics}: {fetched} transfers were fetched");
            }
        }
    }
    let plan = rows(&db, "explain (costs off) select * from ledger.entries_before(1, t.account(4), 9223372036854775807, 0, 100)").await.join("\n");
    assert!(
        plan.contains("transfers_seq_ix") && plan.contains("entry_pages_pk") && plan.contains("transfers_pk"),
        "{plan}"
    );
    assert!(!plan.contains("Seq Scan on transfers"), "{plan}");
}

/// Sequential scans of the transfers, and how many of them were fetched by an index, in one call.
async fn cost(db: &Client, read: &str) -> (i64, i64) {
    // What the session counted before may not have been handed on yet.
    let counters = async || -> (i64, i64) {
        let sql = "select s.seq_scan, s.idx_tup_fetch from pg_stat_xact_user_tables s where s.relid = 'ledger.transfers'::regclass";
        let row = db.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    };
    db.batch_execute("begin").await.unwrap();
    let before = counters().await;
    db.batch_execute(&format!("select count(*) from ledger.{read}"))
        .await
        .unwrap_or_else(|error| panic!("{read}: {:?}", error.as_db_error()));
    let after = counters().await;
    db.batch_execute("commit").await.unwrap();
    (after.0 - before.0, after.1 - before.1)
}
