//! Handlers and reads of the SQL domain `ledger`, called as `econ_engine`: deposits, the operator's own postings, statements,
//! and what the audit views say of tampered books.

use ledger::testing::TestDb;
use tokio_postgres::Client;

/// Helpers in the test's database: ids by label, a command context, and an outcome as "code facts".
const HELPERS: &str = "
  create schema t;
  create function t.id(p_label text) returns uuid language sql as
    $$ select base.derive_id('019b76da-a800-7000-8000-000000000000', p_label, 0) $$;
  create function t.ctx(p_seq bigint) returns base.command_context language sql as
    $$ select row(1, p_seq, t.id('command ' || p_seq), t.id('operator'), '', '2026-01-01', 1, '{}')::base.command_context $$;
  create function t.deposit(p_seq bigint, p_args text) returns text language sql as
    $$ select o.code || ' ' || o.facts from ledger.deposit(t.ctx(p_seq), p_args::jsonb) o $$;
  create function t.post(p_seq bigint, p_items text) returns text language sql as
    $$ select o.code || ' ' || coalesce(o.facts ->> 'results', o.facts::text)
         from ledger.post_transfers_command(t.ctx(p_seq), jsonb_build_object('items', p_items::jsonb)) o $$;
  grant usage, create on schema t to econ_engine;
  insert into base.ledgers (ledger_id, name, origin, last_time) values (1, 'test', 'test', '2026-01-01');
  insert into ledger.assets values (1, 'USD', 6), (2, 'EUR', 2);
  insert into identity.agents values (t.id('buyer'), 1, 1, '2026-01-01', null, t.id('buyer'));
  set role econ_engine;";

async fn books() -> (TestDb, Client) {
    let test_db = TestDb::new().await;
    let db = test_db.admin().await;
    db.batch_execute(HELPERS).await.unwrap();
    (test_db, db)
}

async fn text(db: &Client, sql: &str) -> String {
    db.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error())).get(0)
}

async fn count(db: &Client, sql: &str) -> i64 {
    db.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error())).get(0)
}

/// A deposit's arguments; `agent` is a label.
fn deposit(seq: i64, agent: &str, asset: &str, amount: &str, reference: &str) -> String {
    format!(
        "select t.deposit({seq}, jsonb_build_object('agent_id', t.id('{agent}'), 'asset_id', '{asset}'::jsonb, \
         'amount', '{amount}', 'external_reference', '{reference}')::text)"
    )
}

#[tokio::test]
async fn a_deposit_is_booked_once_for_each_reference() {
    let (_test_db, db) = books().await;
    let first = text(&db, &deposit(2, "buyer", "1", "500", "wire/1")).await;
    assert!(first.starts_with("ok ") && !first.contains("exists"), "{first}");
    let again = text(&db, &deposit(3, "buyer", "1", "500", "wire/1")).await;
    assert!(again.starts_with("ok ") && again.contains(r#""exists": true"#), "{again}");
    for (agent, asset, amount, field) in [
        ("seller", "2", "501", "agent_id"),
        ("buyer", "2", "501", "asset_id"),
        ("buyer", "1", "501", "amount"),
    ] {
        let other = text(&db, &deposit(4, agent, asset, amount, "wire/1")).await;
        assert!(other.starts_with("UL501 ") && other.contains(field), "{field}: {other}");
    }
    assert_eq!(count(&db, "select count(*) from ledger.transfers").await, 1);
    let balance = "select concat_ws(' ', asset_code, purpose, posted, spendable) from ledger.read_balances(t.id('buyer'), 1)";
    assert_eq!(text(&db, balance).await, "USD wallet 500 500");
    assert_eq!(
        count(&db, "select count(*) from ledger.read_balances(null, 1)").await,
        0,
        "no actor, no balance"
    );
}

#[tokio::test]
async fn a_hostile_deposit_is_refused_and_opens_no_account() {
    let (_test_db, db) = books().await;
    for (agent, asset, amount, reference, code) in [
        ("buyer", "1", "5", "", "UL102"),
        ("buyer", "1", "5", "-leading", "UL102"),
        ("buyer", "1", "5", "two words", "UL102"),
        ("buyer", "1", "0", "a", "UL101"),
        ("buyer", "1", "-5", "a", "UL101"),
        ("buyer", "1", "0.5", "a", "UL101"),
        ("buyer", "1", "NaN", "a", "UL101"),
        ("buyer", "1", "1e3", "a", "UL101"),
        ("buyer", "1", "10000000000000000000000000000", "a", "UL101"),
        ("nobody", "1", "5", "a", "UL401"),
        ("buyer", "3", "5", "a", "UL402"),
        ("buyer", "1e99", "5", "a", "UL402"),
        ("buyer", "-1", "5", "a", "UL402"),
        ("buyer", "null", "5", "a", "UL402"),
        ("buyer", "\"1\"", "5", "a", "UL402"),
    ] {
        let answer = text(&db, &deposit(2, agent, asset, amount, reference)).await;
        assert!(answer.starts_with(code), "{agent} {asset} {amount} {reference}: {answer}");
    }
    for args in [
        "{}",
        "null",
        "[]",
        "\"x\"",
        r#"{"agent_id": "x", "asset_id": 1, "amount": "5", "external_reference": "a"}"#,
    ] {
        let answer = text(&db, &format!("select t.deposit(2, '{args}')")).await;
        assert!(answer.starts_with("UL"), "{args}: {answer}");
    }
    assert_eq!(count(&db, "select count(*) from ledger.accounts").await, 0);

    assert!(text(&db, &deposit(2, "buyer", "1", "1", "first")).await.starts_with("ok "));
    let overflow = text(&db, &deposit(3, "buyer", "1", &"9".repeat(28), "second")).await;
    assert!(overflow.starts_with("UL701"), "{overflow}");
    db.batch_execute("update ledger.accounts set closed = true where purpose = 'wallet'").await.unwrap();
    let closed = text(&db, &deposit(3, "buyer", "1", "1", "second")).await;
    assert!(closed.starts_with("UL601"), "{closed}");
}

#[tokio::test]
async fn the_operator_posts_to_its_own_kinds_of_account_only() {
    let (_test_db, db) = books().await;
    db.batch_execute(
        "select ledger.open_account(t.ctx(2), 1, 'equity', null, null), ledger.open_account(t.ctx(2), 1, 'external', null, null), \
         ledger.open_account(t.ctx(2), 1, 'escrow', null, t.id('order')), ledger.open_account(t.ctx(2), 1, 'payable', t.id('buyer'), null)",
    )
    .await
    .unwrap();
    db.batch_execute(
        "create function t.account(p_purpose text) returns uuid language sql as \
           $$ select account_id from ledger.accounts where purpose = p_purpose $$; \
         create function t.item(p_id text, p_kind text, p_debit text, p_credit text, p_amount text, p_pending text) returns jsonb \
           language sql as $$ select jsonb_build_object('transfer_id', t.id(p_id), 'kind', p_kind, 'debit_account_id', t.account(p_debit), \
           'credit_account_id', t.account(p_credit), 'asset_id', 1, 'amount', p_amount, 'pending_id', t.id(p_pending), 'timeout_ms', 0) $$",
    )
    .await
    .unwrap_or_else(|error| panic!("{error:?}"));
    let good = "select t.post(3, jsonb_build_array(t.item('a', 'plain', 'external', 'equity', '7', null), \
                t.item('a', 'plain', 'external', 'equity', '7', null), t.item('b', 'plain', 'external', 'equity', '0.7', null), \
                'null'::jsonb, '{}'::jsonb)::text)";
    assert_eq!(
        text(&db, good).await,
        r#"ok ["ok", "exists", "amount_must_be_whole", "reserved_flag", "reserved_flag"]"#
    );
    for purpose in ["escrow", "payable"] {
        let answer = text(
            &db,
            &format!(
                "select t.post(4, jsonb_build_array(t.item('a', 'plain', 'external', 'equity', '7', null), \
            t.item('c', 'plain', 'equity', '{purpose}', '1', null))::text)"
            ),
        )
        .await;
        assert!(
            answer.starts_with("UL301") && answer.contains("item 2") && answer.contains(purpose),
            "{answer}"
        );
    }
    // A payout's hold names a payable: ending it through the side door is refused as well.
    let hold = "select ledger.post_transfers(t.ctx(5), t.id('journal'), array[row(t.id('hold'), 'pending', t.account('equity'), \
                t.account('payable'), 1, 3, null, null, false, 'payout', 0, null, null)::ledger.transfer_input])::text";
    assert_eq!(text(&db, hold).await, "{ok}");
    for kind in ["post_pending", "void_pending"] {
        let answer = text(
            &db,
            &format!(
                "select t.post(6, jsonb_build_array(t.item('d', '{kind}', null, null, '', 'hold'))::text)"
            ),
        )
        .await;
        assert!(answer.starts_with("UL301"), "{kind}: {answer}");
    }
    // An account that cannot be read is not the same as one left out.
    let hold = "select t.post(7, jsonb_build_array(t.item('e', 'pending', 'external', 'equity', '5', null), \
                t.item('f', 'post_pending', null, null, '', 'e') || '{\"credit_account_id\": \"equity\"}')::text)";
    assert_eq!(text(&db, hold).await, r#"ok ["ok", "pending_transfer_has_different_credit_account_id"]"#);
    for (items, what) in [("[]", "none"), ("{}", "no list"), ("null", "null")] {
        assert!(text(&db, &format!("select t.post(8, '{items}')")).await.starts_with("UL103"), "{what}");
    }
    let many = "select t.post(8, (select jsonb_agg('{}'::jsonb) from generate_series(1, 8191))::text)";
    assert!(text(&db, many).await.starts_with("UL103"));
}

#[tokio::test]
async fn pages_of_a_statement_lose_nothing_and_double_nothing() {
    let (_test_db, db) = books().await;
    // Wallet and payable of one agent trade with each other: each transfer has two entries in one statement.
    db.batch_execute(
        "select t.deposit(2, jsonb_build_object('agent_id', t.id('buyer'), 'asset_id', 1, 'amount', '1000', 'external_reference', 'a')::text); \
         select ledger.open_account(t.ctx(2), 1, 'payable', t.id('buyer'), null); \
         select ledger.post_transfers(t.ctx(s), t.id('journal'), array(select row(t.id('t' || s || '/' || n), 'plain', \
           ledger.find_account(1, 1, 'wallet', t.id('buyer'), null), ledger.find_account(1, 1, 'payable', t.id('buyer'), null), \
           1, n, null, null, false, 'test', 0, null, null)::ledger.transfer_input from generate_series(1, 5) n)) from generate_series(3, 6) s",
    )
    .await
    .unwrap();
    let page = "select seq, item, side from ledger.read_entries(t.id('buyer'), 1, 1, $1, $2, $3)";
    let row =
        |row: &tokio_postgres::Row| (row.get::<_, i64>(0), row.get::<_, i32>(1), row.get::<_, String>(2));
    let nothing = (None::<i64>, None::<i32>);
    let whole: Vec<_> =
        db.query(page, &[&nothing.0, &nothing.1, &1000]).await.unwrap().iter().map(row).collect();
    assert_eq!(whole.len(), 41);
    let mut paged = Vec::new();
    let mut after = nothing;
    loop {
        let rows: Vec<_> = db.query(page, &[&after.0, &after.1, &3]).await.unwrap().iter().map(row).collect();
        let Some(last) = rows.last() else { break };
        after = (Some(last.0), Some(last.1));
        paged.extend(rows);
    }
    assert_eq!(paged, whole);
    assert_eq!(
        count(&db, "select count(*) from ledger.read_entries(null, 1, 1, null, null, 10)").await,
        0,
        "no actor, no entry"
    );
}

#[tokio::test]
async fn eight_thousand_items_are_posted_and_a_retry_of_them_changes_nothing() {
    let (_test_db, db) = books().await;
    db.batch_execute(
        "create function t.batch(p_seq bigint) returns text[] language sql as $$ select ledger.post_transfers(t.ctx(p_seq), t.id('journal'), \
           array(select row(t.id('t' || n), 'plain', a.ids[1 + n % 50], a.ids[51 + n % 50], 1, n, null, null, false, 'test', 0, null, null)::ledger.transfer_input \
             from generate_series(1, 8190) n)) \
           from (select array(select ledger.open_account(t.ctx(2), 1, 'equity', t.id('o' || n), null) from generate_series(1, 100) n) as ids) a $$",
    )
    .await
    .unwrap();
    let kinds = "select string_agg(distinct r, ' ') || ' ' || count(*) from unnest(t.batch($1)) r";
    for (seq, expected) in [(3_i64, "ok 8190"), (4, "exists 8190")] {
        let found: String = db.query_one(kinds, &[&seq]).await.unwrap().get(0);
        assert_eq!(found, expected);
    }
    assert_eq!(count(&db, "select sum(credits_posted)::bigint from ledger.accounts").await, 8190 * 8191 / 2);
    assert_eq!(count(&db, "select count(*) from ledger.audit_accounts").await, 0);
}

#[tokio::test]
async fn the_audit_views_name_what_was_tampered_with() {
    let (_test_db, db) = books().await;
    if !crate::support::checks::superuser(&db).await {
        return;
    }
    db.batch_execute(
        "select t.deposit(2, jsonb_build_object('agent_id', t.id('buyer'), 'asset_id', 1, 'amount', '1000', 'external_reference', 'a')::text); \
         select ledger.post_transfers(t.ctx(3), t.id('journal'), array[row(t.id('hold'), 'pending', ledger.find_account(1, 1, 'wallet', t.id('buyer'), null), \
           ledger.find_account(1, 1, 'external', null, null), 1, 30, null, null, false, 'test', 0, null, null)::ledger.transfer_input]); \
         reset role; set session_replication_role = replica",
    )
    .await
    .unwrap();
    let healthy = "select (select count(*) from ledger.audit_accounts) + (select count(*) from ledger.audit_conservation) \
                   + (select count(*) from ledger.audit_holds) \
                   + (select count(*) from ledger.audit_transfers where problem <> 'command_missing')";
    assert_eq!(count(&db, healthy).await, 0);
    for (tamper, view, expected) in [
        (
            "update ledger.accounts set credits_posted = 1001 where purpose = 'wallet'",
            "select column_name || ' ' || stored || ' ' || expected from ledger.audit_accounts",
            "credits_posted 1001 1000",
        ),
        (
            "update ledger.accounts set credits_posted = 1001 where purpose = 'wallet'",
            "select phase || ' ' || difference from ledger.audit_conservation",
            "posted -1",
        ),
        (
            "update ledger.transfers set amount = 999 where kind = 'plain'",
            "select string_agg(concat_ws(' ', column_name, stored, expected), ', ' order by column_name) from ledger.audit_accounts",
            "credits_posted 1000 999, debits_posted 1000 999",
        ),
        (
            "update ledger.transfers set credit_account_id = t.id('nowhere') where kind = 'plain'",
            "select problem from ledger.audit_transfers where problem <> 'command_missing'",
            "credit_account_missing",
        ),
        (
            "update ledger.transfers set asset_id = 2 where kind = 'plain'",
            "select string_agg(problem, ' ' order by problem) from ledger.audit_transfers where problem <> 'command_missing'",
            "credit_asset_differs debit_asset_differs",
        ),
        ("delete from ledger.holds", "select problem from ledger.audit_holds", "hold_missing"),
        (
            "delete from ledger.transfers where kind = 'pending'",
            "select problem from ledger.audit_holds",
            "pending_transfer_missing",
        ),
        (
            "update ledger.holds set state = 'posted', ended_by = t.id('x')",
            "select string_agg(problem, ' ' order by problem) from ledger.audit_holds",
            "end_missing state_differs",
        ),
        (
            "update ledger.holds set amount = 29",
            "select problem || ' ' || found || ' ' || expected from ledger.audit_holds",
            "amount_differs 29 30",
        ),
    ] {
        db.batch_execute(&format!("begin; {tamper}")).await.unwrap();
        assert_eq!(text(&db, view).await, expected, "{tamper}");
        db.batch_execute("rollback").await.unwrap();
    }
    assert_eq!(
        count(&db, "select count(*) from ledger.audit_transfers where problem = 'command_missing'").await,
        2
    );
}
