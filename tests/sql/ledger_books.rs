//! The operator's books, called as `econ_engine`: exchange between assets, accounting periods, value between ledgers, the
//! flags of its transfers, and what the audit views say when somebody tampers with any of it.

use ledger::testing::TestDb;
use tokio_postgres::Client;

/// Two ledgers with a buyer. `t.run` sends one command and answers "code facts"; `t.a` is an account's id, opened or not, as
/// asset/purpose[/owner or peer]; amounts and everything else are the handlers' own arguments.
const HELPERS: &str = "
  create schema t;
  create sequence t.seqs;
  create function t.id(p_label text) returns uuid language sql as
    $$ select base.derive_id('019b76da-a800-7000-8000-000000000000', p_label, 0) $$;
  create function t.run(p_ledger integer, p_kind text, p_args jsonb) returns text language plpgsql as $$
    declare v_seq bigint := nextval('t.seqs'); v_out base.outcome; begin
      v_out := base.dispatch(row(p_ledger, v_seq, t.id('command ' || v_seq), t.id('operator'), '', '2026-01-01', coalesce(nullif(current_setting('t.rules', true), '')::integer, 3), '{}')::base.command_context, p_kind, p_args);
      return v_out.code || ' ' || v_out.facts;
    end $$;
  create function t.a(p_ledger integer, p_asset integer, p_purpose text) returns uuid language sql as $$
    select ledger.account_id(p_ledger, p_asset, p_purpose, case when p_purpose in ('wallet', 'payable') then t.id('buyer') end,
      case when p_purpose = 'clearing' then ledger.peer_ref(3 - p_ledger) end) $$;
  create function t.item(p_ledger integer, p_asset integer, p_id text, p_debit text, p_credit text, p_amount text) returns jsonb language sql as $$
    select jsonb_build_object('transfer_id', t.id(p_id), 'kind', 'plain', 'debit_account_id', t.a(p_ledger, p_asset, p_debit),
      'credit_account_id', t.a(p_ledger, p_asset, p_credit), 'asset_id', p_asset, 'amount', p_amount, 'timeout_ms', 0, 'linked', false) $$;
  create function t.post(p_ledger integer, p_items jsonb) returns text language sql as $$
    select t.run(p_ledger, 'post_transfers', jsonb_build_object('items', p_items)) $$;
  create function t.exchange(p_changes jsonb) returns text language sql as $$
    select t.run(1, 'exchange', jsonb_build_object('exchange_id', t.id('exchange'), 'from_account_id', t.a(1, 1, 'wallet'),
      'to_account_id', t.a(1, 2, 'wallet'), 'sell_amount', '101', 'rate', '0.333', 'rate_source', 'ecb/2026-01-01') || p_changes) $$;
  create function t.cross(p_ledger integer, p_kind text, p_changes jsonb) returns text language sql as $$
    select t.run(p_ledger, p_kind, jsonb_build_object('group_id', t.id('group'), 'peer_ledger_id', 3 - p_ledger,
      'account_id', t.a(p_ledger, 1, 'wallet'), 'asset_id', 1, 'amount', '70') || p_changes) $$;
  create function t.balance(p_ledger integer, p_asset integer, p_purpose text) returns bigint language sql as $$
    select coalesce(sum(credits_posted - debits_posted), 0)::bigint from ledger.accounts
     where ledger_id = p_ledger and asset_id = p_asset and purpose = p_purpose $$;
  create function t.unhealthy() returns text language sql as $$
    select string_agg(x, ' ') from (
      select to_jsonb(v)::text from ledger.audit_accounts v union all select to_jsonb(v)::text from ledger.audit_conservation v
      union all select to_jsonb(v)::text from ledger.audit_holds v union all select to_jsonb(v)::text from ledger.audit_exchanges v
      union all select to_jsonb(v)::text from ledger.audit_reversals v union all select to_jsonb(v)::text from ledger.audit_periods v
      union all select to_jsonb(v)::text from ledger.audit_crossings v union all select to_jsonb(v)::text from ledger.audit_flags v
      union all select to_jsonb(v)::text from ledger.audit_transfers v where v.problem <> 'command_missing') as u (x) $$;
  create function t.state() returns text language sql as $$
    select md5(string_agg(x, '|' order by x)) from (
      select a::text from ledger.accounts a union all select x::text from ledger.transfers x union all select h::text from ledger.holds h
      union all select e::text from ledger.exchanges e union all select c::text from ledger.crossings c
      union all select p::text from ledger.periods p union all select j::text from ledger.journals j) as u (x) $$;
  grant usage on schema t to econ_engine;
  grant usage on sequence t.seqs to econ_engine;
  insert into base.ledgers (ledger_id, name, origin, last_time) values (1, 'one', 'one', '2026-01-01'), (2, 'two', 'two', '2026-01-01');
  insert into ledger.assets values (1, 'USD', 6), (2, 'EUR', 2);
  insert into identity.agents values (t.id('buyer'), 1, 1, '2026-01-01', null, t.id('buyer'));";

/// 500 USD and 1 EUR in the buyer's wallets of ledger 1, 40 USD in that of ledger 2, 1,000 EUR of liquidity.
const FUNDS: &str = "
  select t.run(l, 'deposit', jsonb_build_object('agent_id', t.id('buyer'), 'asset_id', a, 'amount', m, 'external_reference', 'r' || a))
    from (values (1, 1, '500'), (1, 2, '1'), (2, 1, '40')) as v (l, a, m);
  select t.post(1, jsonb_build_array(t.item(1, 2, 'liquidity', 'equity', 'liquidity', '1000')))";

async fn books() -> (TestDb, Client) {
    let test_db = TestDb::new().await;
    let db = test_db.admin().await;
    db.batch_execute(HELPERS).await.unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
    // The audit views are the auditor's; the functions here run as whoever calls them.
    db.batch_execute(
        "alter function t.unhealthy() security definer; alter function t.state() security definer; set role econ_engine",
    )
    .await
    .unwrap();
    db.batch_execute(FUNDS).await.unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
    (test_db, db)
}

async fn text(db: &Client, sql: &str) -> String {
    let row = db.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()));
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

async fn balance(db: &Client, ledger: i32, asset: i32, purpose: &str) -> i64 {
    db.query_one("select t.balance($1, $2, $3)", &[&ledger, &asset, &purpose]).await.unwrap().get(0)
}

async fn healthy(db: &Client) {
    assert_eq!(text(db, "select t.unhealthy()").await, "");
}

/// Each call answers with its code and changes nothing.
async fn refused(db: &Client, cases: &[(String, &str)]) {
    let before = text(db, "select t.state()").await;
    for (call, code) in cases {
        let answer = text(db, &format!("select {call}")).await;
        assert!(answer.starts_with(&format!("{code} ")), "{call}: {code} expected, {answer} found");
        assert_eq!(text(db, "select t.state()").await, before, "{call} changed something");
    }
}

/// A call of t.exchange with some arguments as JSON, for people to read.
fn exchange(changes: &str) -> String {
    format!("t.exchange({changes})")
}

#[tokio::test]
async fn an_exchange_moves_each_asset_within_itself_and_is_made_once() {
    let (_test_db, db) = books().await;
    let first = text(&db, "select t.exchange('{}')").await;
    assert!(first.starts_with("ok ") && first.contains(r#""buy_amount": "33""#), "{first}");
    for (asset, purpose, expected) in [
        (1, "wallet", 399),
        (1, "liquidity", 101),
        (1, "external", -500),
        (2, "wallet", 34),
        (2, "liquidity", 967),
        (2, "equity", -1000),
        (2, "external", -1),
    ] {
        assert_eq!(balance(&db, 1, asset, purpose).await, expected, "{asset} {purpose}");
    }
    let state = text(&db, "select t.state()").await;
    // A rate is a number: 0.3330 is the same one. What was kept is what is answered.
    let again = text(&db, "select t.exchange('{\"rate\": \"0.3330\", \"min_buy_amount\": \"34\"}')").await;
    assert_eq!(again.replace(r#""exists": true, "#, ""), first);
    assert!(again.contains("exists"), "{again}");
    for (field, value) in [
        ("from_account_id", "t.a(1, 1, 'equity')"),
        ("to_account_id", "t.a(1, 2, 'equity')"),
        ("sell_amount", "'102'"),
        ("rate", "'0.334'"),
        ("rate_source", "'desk'"),
    ] {
        let other = text(&db, &format!("select t.exchange(jsonb_build_object('{field}', {value}))")).await;
        assert!(other.starts_with("UL502 ") && other.contains(field), "{field}: {other}");
    }
    assert_eq!(text(&db, "select t.state()").await, state);
    healthy(&db).await;
}

#[tokio::test]
async fn an_exchange_that_cannot_be_is_refused_whole() {
    let (_test_db, db) = books().await;
    db.batch_execute("select t.post(1, jsonb_build_array(t.item(1, 1, 'e1', 'external', 'equity', '5'), t.item(1, 2, 'e2', 'external', 'equity', '5')))")
        .await
        .unwrap();
    let nines = "9".repeat(28);
    let set = |field: &str, value: &str| exchange(&format!("jsonb_build_object('{field}', {value})"));
    let mut cases = vec![
        (set("exchange_id", "'x'"), "UL104"),
        (set("from_account_id", "null"), "UL104"),
        (set("to_account_id", "7"), "UL104"),
        (set("rate_source", "''"), "UL104"),
        (set("rate_source", "'two words'"), "UL104"),
        (set("sell_amount", "'0'"), "UL101"),
        (set("sell_amount", "'1.5'"), "UL101"),
        (set("sell_amount", "'-1'"), "UL101"),
        (set("sell_amount", "null"), "UL101"),
        (set("min_buy_amount", "'x'"), "UL101"),
        (set("exchange_id", "'00000000-0000-4000-8000-000000000000'"), "UB105"),
        (set("from_account_id", "t.id('nowhere')"), "UL403"),
        (set("to_account_id", "t.id('nowhere')"), "UL403"),
        (set("from_account_id", "t.a(1, 1, 'external')"), "UL302"),
        (set("to_account_id", "t.a(1, 2, 'liquidity')"), "UL302"),
        (set("to_account_id", "t.a(1, 1, 'equity')"), "UL106"),
        (set("to_account_id", "t.a(1, 1, 'wallet')"), "UL106"),
        (set("rate", "'0.0099'"), "UL107"),
        (set("rate", &format!("'{nines}'")), "UL701"),
        (set("min_buy_amount", "'34'"), "UL704"),
        (set("sell_amount", "'501'"), "UL702"),
        (set("rate", "'9.92'"), "UL703"),
    ];
    for rate in ["", "0", "0.000", "-1", "+1", "NaN", "Infinity", "1e3", ".5", "1.", " 1", "1,5", "\u{661}"] {
        cases.push((set("rate", &format!("'{rate}'")), "UL105"));
    }
    cases.push((set("rate", &format!("'1{nines}'")), "UL105"));
    cases.push((set("rate", &format!("'0.{nines}1'")), "UL105"));
    refused(&db, &cases).await;
    // Liquidity that is reserved is not there to give; equity may go below zero, but liquidity may not, and none was opened.
    db.batch_execute("select t.post(1, jsonb_build_array(t.item(1, 2, 'hold', 'liquidity', 'equity', '970') || '{\"kind\": \"pending\"}'))").await.unwrap();
    let backwards =
        "jsonb_build_object('from_account_id', t.a(1, 2, 'equity'), 'to_account_id', t.a(1, 1, 'wallet'))";
    refused(&db, &[(exchange("'{}'"), "UL703"), (exchange(backwards), "UL703")]).await;
    db.batch_execute("select t.post(1, jsonb_build_array(t.item(1, 2, 'close', 'liquidity', 'equity', '') || '{\"kind\": \"pending\", \"closing_debit\": true}'))").await.unwrap();
    refused(&db, &[(exchange("'{}'"), "UL601")]).await;
    healthy(&db).await;
}

#[tokio::test]
async fn nothing_but_an_exchange_gets_from_one_asset_to_another() {
    let (_test_db, db) = books().await;
    for (change, result) in [
        ("jsonb_build_object('credit_account_id', t.a(1, 2, 'wallet'))", "accounts_must_have_the_same_asset"),
        (
            "jsonb_build_object('debit_account_id', t.a(1, 2, 'liquidity'))",
            "accounts_must_have_the_same_asset",
        ),
        ("'{\"asset_id\": 2}'", "transfer_must_have_the_same_asset_as_accounts"),
    ] {
        let post = format!(
            "select t.post(1, jsonb_build_array(t.item(1, 1, 'x', 'wallet', 'external', '5') || {change}))"
        );
        let answer = text(&db, &post).await;
        assert!(answer.contains(&format!(r#""results": ["{result}"]"#)), "{answer}");
    }
    let mixed = "select t.cross(1, 'send_across', '{\"asset_id\": 2}')";
    assert!(text(&db, mixed).await.starts_with("UL106 "));
}

#[tokio::test]
async fn every_asset_is_conserved_by_every_exchange_at_any_rate() {
    let (_test_db, db) = books().await;
    // Amounts and rates from a fixed walk; the EUR side runs dry now and then, and is refused.
    let mut codes = std::collections::BTreeSet::new();
    for n in 1..=60_u64 {
        let walk = n * 2_654_435_761 % 1_000_003;
        let (sell, rate) = (1 + walk % 97, format!("{}.{:06}", walk % 13, walk));
        let ways = [("1, 1, 'wallet'", "1, 2, 'wallet'"), ("1, 2, 'wallet'", "1, 1, 'wallet'")];
        let (from, to) = ways[usize::from(n % 3 == 0)];
        let answer = text(
            &db,
            &format!(
                "select t.exchange(jsonb_build_object('exchange_id', t.id('x{n}'), 'from_account_id', t.a({from}), 'to_account_id', t.a({to}), \
                 'sell_amount', '{sell}', 'rate', '{rate}'))"
            ),
        )
        .await;
        codes.insert(answer.split(' ').next().unwrap().to_owned());
        for (asset, outside) in [(1, -500), (2, -1001)] {
            let mut inside = 0;
            for purpose in ["wallet", "liquidity"] {
                inside += balance(&db, 1, asset, purpose).await;
            }
            assert_eq!(inside, -outside, "asset {asset} after exchange {n}: {answer}");
        }
    }
    assert!(codes.contains("ok") && codes.len() > 1, "{codes:?}");
    healthy(&db).await;
}

#[tokio::test]
async fn a_period_closes_once_in_order_and_nothing_is_told_about_it_any_more() {
    let (_test_db, db) = books().await;
    let close = |at: &str| format!("t.run(1, 'close_period', jsonb_build_object('ends_at_us', {at}))");
    let us = |at: &str| format!("base.us('{at}')");
    refused(
        &db,
        &[
            (close("null"), "UL104"),
            (close("0"), "UL104"),
            (close("-5"), "UL104"),
            (close("1.5"), "UL104"),
            (close("'1'::text"), "UL104"),
            (close("9999999999999999"), "UL104"),
            (close(&us("2026-01-01 00:00:00.000001")), "UL602"),
        ],
    )
    .await;
    let told = |id: &str, at: &str, more: &str| {
        format!(
            "select t.post(1, jsonb_build_array(t.item(1, 1, '{id}', 'external', 'equity', '5') || jsonb_build_object('effective_at_us', {at}) || '{more}'))"
        )
    };
    let result = async |sql: String| {
        let answer = text(&db, &sql).await;
        let facts: serde_json::Value = serde_json::from_str(answer.split_once(' ').unwrap().1).unwrap();
        facts["results"][0].as_str().unwrap_or(&answer).to_owned()
    };
    assert_eq!(result(told("a", &us("2025-11-30"), "{}")).await, "ok");
    let first = text(&db, &format!("select {}", close(&us("2025-12-01")))).await;
    assert!(first.starts_with("ok ") && !first.contains("exists"), "{first}");
    let again = text(&db, &format!("select {}", close(&us("2025-12-01")))).await;
    assert!(again.contains(r#""exists": true"#), "{again}");
    refused(&db, &[(close(&us("2025-11-01")), "UL603")]).await;
    assert_eq!(result(told("a", &us("2025-11-30"), "{}")).await, "exists");
    for (id, at, expected) in [
        ("b", us("2025-11-30 23:59:59.999999"), "effective_at_in_closed_period"),
        ("b", us("2025-12-01"), "ok"),
        ("b", us("2025-12-02"), "exists_with_different_effective_at"),
        ("c", us("2026-01-01 00:00:00.000001"), "effective_at_must_not_advance"),
        ("c", us("2026-01-01"), "ok"),
        ("c", "0".into(), "exists"),
        ("d", "'soon'::text".into(), "effective_at_must_not_advance"),
        ("d", "1.5".into(), "effective_at_must_not_advance"),
        ("d", "true".into(), "effective_at_must_not_advance"),
        ("d", "99999999999999999999".into(), "effective_at_must_not_advance"),
        ("d", "-9223372036854775808".into(), "effective_at_must_not_advance"),
    ] {
        assert_eq!(result(told(id, &at, "{}")).await, expected, "{id} {at}");
    }
    // The last moment of the present closes too: what is recorded at that moment is in the next period.
    assert!(text(&db, &format!("select {}", close(&us("2026-01-01")))).await.starts_with("ok "));
    assert_eq!(result(told("e", "0", "{}")).await, "ok");
    healthy(&db).await;
}

#[tokio::test]
async fn an_items_flags_and_reversal_arrive_and_what_is_no_flag_is_refused() {
    let (_test_db, db) = books().await;
    let item = |id: &str, debit: &str, credit: &str, amount: &str, more: &str| {
        format!("t.item(1, 1, '{id}', '{debit}', '{credit}', '{amount}') || {more}")
    };
    let reverses = |id: &str| format!("jsonb_build_object('reverses_id', t.id('{id}'))");
    for (item, expected) in [
        (item("a", "wallet", "equity", "", "'{\"balancing_debit\": \"yes\"}'"), "reserved_flag"),
        (item("a", "wallet", "equity", "", "'{\"balancing_credit\": 1}'"), "reserved_flag"),
        (item("a", "wallet", "equity", "", "'{\"closing_debit\": []}'"), "reserved_flag"),
        (
            item("a", "wallet", "equity", "600", "'{\"balancing_debit\": true, \"closing_debit\": false}'"),
            "ok",
        ),
        (item("a", "wallet", "equity", "600", "'{}'"), "exists_with_different_flags"),
        (item("b", "wallet", "equity", "", "'{\"balancing_debit\": true}'"), "exceeds_credits"),
        (item("c", "equity", "wallet", "499", &reverses("a")), "reversal_has_different_amount"),
        (item("c", "wallet", "equity", "500", &reverses("a")), "reversal_must_mirror_accounts"),
        (item("c", "equity", "wallet", "500", &reverses("a")), "ok"),
        (item("d", "equity", "wallet", "500", &reverses("a")), "reversed_transfer_already_reversed"),
        (item("c", "equity", "wallet", "500", "'{}'"), "exists_with_different_reverses_id"),
        (item("e", "equity", "wallet", "1", "'{\"reverses_id\": \"a\"}'"), "reversed_transfer_not_found"),
        (item("f", "external", "equity", "0", "'{\"kind\": \"pending\", \"closing_credit\": true}'"), "ok"),
        (item("g", "external", "equity", "1", "'{}'"), "credit_account_already_closed"),
        (
            "jsonb_build_object('transfer_id', t.id('h'), 'kind', 'void_pending', 'pending_id', t.id('f'))"
                .to_owned(),
            "ok",
        ),
        (item("i", "external", "equity", "1", "'{}'"), "ok"),
    ] {
        let answer = text(&db, &format!("select t.post(1, jsonb_build_array({item}))")).await;
        assert!(answer.contains(&format!(r#""results": ["{expected}"]"#)), "{item}: {answer}");
    }
    assert_eq!(balance(&db, 1, 1, "wallet").await, 500);
    healthy(&db).await;
}

#[tokio::test]
async fn the_markets_own_accounts_are_opened_when_they_are_first_posted_to_and_clearing_is_not_the_operators()
{
    let (_test_db, db) = books().await;
    let post = |debit: &str, credit: &str| {
        format!(
            "select t.post(2, jsonb_build_array(t.item(2, 2, '{debit}{credit}', '{debit}', '{credit}', '5')))"
        )
    };
    // A log of the first rules, in which nothing opened them, replays to what it was.
    db.batch_execute("set t.rules = '1'").await.unwrap();
    assert!(text(&db, &post("equity", "external")).await.contains("debit_account_not_found"));
    db.batch_execute("set t.rules = '2'").await.unwrap();
    assert!(text(&db, &post("external", "liquidity")).await.contains(r#"["ok"]"#));
    assert!(text(&db, &post("liquidity", "equity")).await.contains(r#"["ok"]"#));
    assert!(text(&db, &post("liquidity", "equity")).await.contains(r#"["exists"]"#));
    assert!(text(&db, &post("equity", "payable")).await.contains("credit_account_not_found"));
    text(&db, "select t.cross(1, 'send_across', '{}')").await;
    let sent = "t.post(1, jsonb_build_array(t.item(1, 1, 'x', 'clearing', 'wallet', '5')))".to_owned();
    refused(&db, &[(sent, "UL301")]).await;
    healthy(&db).await;
}

/// Closing holds of an asset that has no external account yet, of one that has, and of the buyer's wallet.
const CLOSINGS: [&str; 4] = [
    "t.item(1, 1, 'closing', 'wallet', 'equity', '0') || '{\"kind\": \"pending\", \"closing_debit\": true}'",
    "t.item(1, 1, 'closing', 'equity', 'wallet', '0') || '{\"kind\": \"pending\", \"closing_credit\": true}'",
    "t.item(1, 1, 'closing', 'external', 'equity', '0') || '{\"kind\": \"pending\", \"closing_debit\": true}'",
    "t.item(1, 3, 'closing', 'equity', 'external', '0') || '{\"kind\": \"pending\", \"closing_credit\": true}'",
];

#[tokio::test]
async fn the_operator_can_close_neither_wallets_nor_the_way_in_and_out_and_old_logs_that_did_replay() {
    let (_test_db, db) = books().await;
    db.batch_execute("reset role; insert into ledger.assets values (3, 'CHF', 2); set role econ_engine")
        .await
        .unwrap();
    let post = |items: &[&str]| format!("t.post(1, jsonb_build_array({}))", items.join(", "));
    let harmless = "t.item(1, 1, 'harmless', 'external', 'equity', '5')";
    let mut cases: Vec<(String, &str)> = CLOSINGS.iter().map(|item| (post(&[item]), "UL301")).collect();
    cases.push((post(&[harmless, CLOSINGS[3]]), "UL301"));
    refused(&db, &cases).await;
    // Equity and liquidity are the operator's own, and so is voiding whatever was closed before.
    for (n, item) in CLOSINGS.iter().enumerate() {
        let item = item.replace("'closing'", &format!("'closing {n}'"));
        db.batch_execute("set t.rules = '2'").await.unwrap();
        let closed = text(&db, &format!("select {}", post(&[&item]))).await;
        assert!(closed.contains(r#"["ok"]"#), "{item}: {closed}");
        db.batch_execute("reset t.rules").await.unwrap();
        let void = format!(
            "jsonb_build_object('transfer_id', t.id('void {n}'), 'kind', 'void_pending', 'pending_id', t.id('closing {n}'))"
        );
        let opened = text(&db, &format!("select {}", post(&[&void]))).await;
        assert!(opened.contains(r#"["ok"]"#), "{item}: {opened}");
    }
    let own = "t.item(1, 2, 'own', 'liquidity', 'equity', '0') || '{\"kind\": \"pending\", \"closing_debit\": true, \"closing_credit\": true}'";
    assert!(text(&db, &format!("select {}", post(&[own]))).await.contains(r#"["ok"]"#));
    healthy(&db).await;
}

#[tokio::test]
async fn one_side_of_an_exchange_is_not_taken_back_unless_an_old_log_took_back_the_other() {
    let (_test_db, db) = books().await;
    text(&db, "select t.exchange('{}')").await;
    let back = |leg: &str, asset: i32, debit: &str, credit: &str, amount: &str| {
        format!(
            "t.post(1, jsonb_build_array(t.item(1, {asset}, 'back {leg}', '{debit}', '{credit}', '{amount}') \
             || jsonb_build_object('reverses_id', (select {leg}_transfer_id from ledger.exchanges))))"
        )
    };
    let sell = back("sell", 1, "liquidity", "wallet", "101");
    let buy = back("buy", 2, "wallet", "liquidity", "33");
    refused(&db, &[(sell.clone(), "UL301"), (buy.clone(), "UL301")]).await;
    db.batch_execute("set t.rules = '2'").await.unwrap();
    assert!(text(&db, &format!("select {sell}")).await.contains(r#"["ok"]"#));
    db.batch_execute("reset t.rules").await.unwrap();
    assert!(text(&db, "select t.unhealthy()").await.contains("reversed_in_part"));
    assert!(text(&db, &format!("select {buy}")).await.contains(r#"["ok"]"#));
    healthy(&db).await;
}

#[tokio::test]
async fn what_crosses_is_in_one_ledger_or_in_flight_or_in_the_other_at_every_moment() {
    let (_test_db, db) = books().await;
    let whole = async |step: &str, in_flight: i64| {
        healthy(&db).await;
        let sums = "select string_agg(distinct state, ' ') from finance.crossings where state = 'in flight'";
        assert_eq!(text(&db, sums).await, if in_flight == 0 { "" } else { "in flight" }, "{step}");
        let (one, two) = (balance(&db, 1, 1, "wallet").await, balance(&db, 2, 1, "wallet").await);
        assert_eq!(one + two + in_flight, 540, "{step}");
        let clearing = balance(&db, 1, 1, "clearing").await + balance(&db, 2, 1, "clearing").await;
        assert_eq!(clearing, in_flight, "{step}");
    };
    db.batch_execute("reset role").await.unwrap();
    whole("before", 0).await;
    let sent = text(&db, "select t.cross(1, 'send_across', '{}')").await;
    assert!(sent.starts_with("ok ") && sent.contains(r#""direction": "out""#), "{sent}");
    whole("sent", 70).await;
    let again = text(&db, "select t.cross(1, 'send_across', '{}')").await;
    assert!(again.starts_with("ok ") && again.contains(r#""exists": true"#), "{again}");
    whole("sent twice", 70).await;
    let arrived = text(&db, "select t.cross(2, 'receive_across', '{}')").await;
    assert!(arrived.starts_with("ok ") && arrived.contains(r#""direction": "in""#), "{arrived}");
    whole("arrived", 0).await;
    assert!(text(&db, "select t.cross(2, 'receive_across', '{}')").await.contains("exists"));
    whole("arrived twice", 0).await;
    assert_eq!(balance(&db, 2, 1, "wallet").await, 110);
    let back = "jsonb_build_object('group_id', t.id('back'), 'amount', '110')";
    assert!(text(&db, &format!("select t.cross(2, 'send_across', {back})")).await.starts_with("ok "));
    whole("on its way back", 110).await;
    assert!(text(&db, &format!("select t.cross(1, 'receive_across', {back})")).await.starts_with("ok "));
    whole("back", 0).await;
    let rows = "select string_agg(concat_ws(' ', from_ledger_id, to_ledger_id, asset, amount_minor, state), ', ' order by amount_minor) from finance.crossings";
    assert_eq!(text(&db, rows).await, "1 2 USD 70 arrived, 2 1 USD 110 arrived");
}

#[tokio::test]
async fn a_crossing_that_cannot_be_is_refused_whole() {
    let (_test_db, db) = books().await;
    assert!(text(&db, "select t.cross(1, 'send_across', '{}')").await.starts_with("ok "));
    let set = |kind: &str, field: &str, value: &str| {
        format!(
            "t.cross(1, '{kind}', jsonb_build_object('group_id', t.id('other')) || jsonb_build_object('{field}', {value}))"
        )
    };
    let mut cases = Vec::new();
    for kind in ["send_across", "receive_across"] {
        for (field, value, code) in [
            ("group_id", "'x'", "UL104"),
            ("peer_ledger_id", "0", "UL104"),
            ("peer_ledger_id", "1", "UL104"),
            ("peer_ledger_id", "2147483648", "UL104"),
            ("peer_ledger_id", "'2'::text", "UL104"),
            ("account_id", "null", "UL104"),
            ("asset_id", "0", "UL104"),
            ("amount", "'0'", "UL101"),
            ("amount", "'1.5'", "UL101"),
            ("amount", "'NaN'", "UL101"),
            ("group_id", "'00000000-0000-4000-8000-000000000000'", "UB105"),
            ("asset_id", "3", "UL402"),
            ("account_id", "t.id('nowhere')", "UL403"),
            ("account_id", "t.a(1, 1, 'external')", "UL302"),
            ("account_id", "t.a(1, 1, 'clearing')", "UL302"),
            ("account_id", "t.a(1, 2, 'wallet')", "UL106"),
        ] {
            cases.push((set(kind, field, value), code));
        }
        cases.push((set(kind, "amount", &format!("'{}'", "9".repeat(28))), "UL701"));
    }
    cases.push((set("send_across", "amount", "'431'"), "UL702"));
    for (field, value) in [
        ("peer_ledger_id", "3"),
        ("account_id", "t.a(1, 1, 'equity')"),
        ("asset_id", "2"),
        ("amount", "'71'"),
    ] {
        let other = format!("t.cross(1, 'send_across', jsonb_build_object('{field}', {value}))");
        assert!(text(&db, &format!("select {other}")).await.contains(field), "{field}");
        cases.push((other, "UL503"));
    }
    cases.push(("t.cross(1, 'receive_across', '{}')".into(), "UL503"));
    refused(&db, &cases).await;
    db.batch_execute("select t.post(1, jsonb_build_array(t.item(1, 1, 'close', 'equity', 'external', '0') || '{\"kind\": \"pending\", \"closing_debit\": true}'))").await.unwrap();
    let closed = ["send_across", "receive_across"].map(|kind| set(kind, "account_id", "t.a(1, 1, 'equity')"));
    refused(&db, &closed.map(|call| (call, "UL601"))).await;
    healthy(&db).await;
}

#[tokio::test]
async fn the_audit_views_of_the_books_name_what_was_tampered_with() {
    let (_test_db, db) = books().await;
    if !crate::support::checks::superuser(&db).await {
        return;
    }
    db.batch_execute(
        "select t.exchange('{}'), t.cross(1, 'send_across', '{}'), t.cross(2, 'receive_across', '{}'); \
         select t.post(1, jsonb_build_array(t.item(1, 1, 'a', 'wallet', 'equity', '5'), \
           t.item(1, 1, 'b', 'equity', 'wallet', '5') || jsonb_build_object('reverses_id', t.id('a')), \
           t.item(1, 1, 'late', 'equity', 'wallet', '5') || jsonb_build_object('effective_at_us', base.us('2025-12-31')))); \
         reset role; set session_replication_role = replica",
    )
    .await
    .unwrap();
    healthy(&db).await;
    let exchange = "select string_agg(problem, ' ' order by problem) from ledger.audit_exchanges";
    let flags = "select string_agg(problem, ' ' order by problem) from ledger.audit_flags";
    let closing = "select t.post(1, jsonb_build_array(t.item(1, 1, 'close', 'equity', 'external', '0') || '{\"kind\": \"pending\", \"closing_debit\": true}'))";
    let closed = |tamper: &str| format!("{closing}; {tamper}");
    let crossing = "select string_agg(problem, ' ' order by problem) from ledger.audit_crossings";
    let reversal = "select string_agg(problem, ' ' order by problem) from ledger.audit_reversals";
    for (tamper, view, expected) in [
        (
            "update ledger.exchanges set buy_transfer_id = t.id('x')",
            exchange,
            "buy_transfer_missing exchange_missing",
        ),
        (
            "update ledger.exchanges set sell_transfer_id = t.id('x')",
            exchange,
            "exchange_missing sell_transfer_missing",
        ),
        ("delete from ledger.exchanges", exchange, "exchange_missing exchange_missing"),
        (
            "select ledger.post_transfers(row(1, nextval('t.seqs'), t.id('bug'), t.id('operator'), '', '2026-01-01', 3, '{}')::base.command_context, \
               t.id('bug'), array[row(t.id('bug'), 'plain', t.a(1, 1, 'liquidity'), t.a(1, 1, 'wallet'), 1, 101, null, 0, false, 'operator', 0, \
               (select sell_transfer_id from ledger.exchanges), null)]::ledger.transfer_input[])",
            exchange,
            "reversed_in_part",
        ),
        ("update ledger.accounts set closed = true where purpose = 'equity' and asset_id = 1", flags, "closed_without_a_hold"),
        (
            "update ledger.accounts set closed_by = t.id('a') where purpose = 'equity' and asset_id = 1",
            flags,
            "closed_by_no_open_closing_hold closed_without_a_hold",
        ),
        (
            "update ledger.accounts set closed = true, closed_by = t.id('x') where purpose = 'equity' and asset_id = 1",
            flags,
            "closed_by_no_open_closing_hold",
        ),
        (closed("").as_str(), flags, ""),
        (closed("update ledger.accounts set closed = false where closed").as_str(), flags, "closed_without_a_hold"),
        (
            closed("update ledger.accounts set closed = false, closed_by = null where closed").as_str(),
            flags,
            "open_despite_a_closing_hold",
        ),
        (
            closed("update ledger.accounts set closed = true, closed_by = t.id('close') where purpose = 'external' and asset_id = 1 and ledger_id = 1").as_str(),
            flags,
            "closed_by_no_open_closing_hold",
        ),
        (
            closed("update ledger.holds set state = 'voided', ended_by = t.id('x') where transfer_id = t.id('close')").as_str(),
            flags,
            "closed_by_no_open_closing_hold",
        ),
        (
            closed("update ledger.transfers set flags = 8 where transfer_id = t.id('close')").as_str(),
            flags,
            "closed_by_no_open_closing_hold open_despite_a_closing_hold",
        ),
        ("update ledger.exchanges set rate = 0.334", exchange, ""),
        ("update ledger.exchanges set rate = 0.33, sell_amount = 102", exchange, "sell_amount_differs"),
        ("update ledger.exchanges set seq = 1", exchange, "command_differs"),
        ("update ledger.exchanges set sell_asset_id = 3", exchange, "sell_asset_differs sold_elsewhere"),
        (
            "update ledger.transfers set amount = 32 where transfer_id = (select buy_transfer_id from ledger.exchanges)",
            exchange,
            "buy_amount_differs",
        ),
        (
            "update ledger.transfers set debit_account_id = t.a(1, 2, 'equity') where transfer_id = (select buy_transfer_id from ledger.exchanges)",
            exchange,
            "bought_elsewhere",
        ),
        (
            "update ledger.transfers set journal_id = t.id('x') where transfer_id = (select buy_transfer_id from ledger.exchanges)",
            exchange,
            "journals_differ",
        ),
        (
            "delete from ledger.crossings where direction = 'out'",
            crossing,
            "clearing_balance_differs never_sent",
        ),
        (
            "update ledger.crossings set amount = 71 where direction = 'in'",
            crossing,
            "amount_differs clearing_balance_differs transfer_amount_differs",
        ),
        (
            "update ledger.crossings set peer_ledger_id = 3 where direction = 'out'",
            crossing,
            "clearing_balance_differs credit_account_differs peer_differs",
        ),
        (
            "update ledger.crossings set account_id = t.id('x') where direction = 'in'",
            crossing,
            "credit_account_differs",
        ),
        (
            "update ledger.crossings set transfer_id = t.id('x') where direction = 'in'",
            crossing,
            "transfer_missing",
        ),
        ("delete from ledger.reversals", reversal, "reversal_missing"),
        ("update ledger.transfers set reverses_id = null", reversal, "transfer_missing"),
        (
            "update ledger.transfers set reverses_id = t.id('late') where reverses_id is not null",
            reversal,
            "reversed_id_differs",
        ),
        ("delete from ledger.transfers where transfer_id = t.id('a')", reversal, "reversed_transfer_missing"),
        ("update ledger.transfers set amount = 4 where transfer_id = t.id('a')", reversal, "amount_differs"),
        (
            "update ledger.transfers set credit_account_id = t.a(1, 1, 'external') where transfer_id = t.id('b')",
            reversal,
            "accounts_not_mirrored",
        ),
        (
            "update ledger.transfers set kind = 'pending' where transfer_id = t.id('a')",
            reversal,
            "reversed_transfer_not_posted",
        ),
        (
            "insert into ledger.periods values (1, '2026-01-01', 1, '2026-01-01')",
            "select problem || ' ' || (found = t.id('late')::text) from ledger.audit_periods",
            "told_after_closing true",
        ),
        (
            "insert into ledger.periods values (1, '2025-01-01', 99, '2026-01-01'), (1, '2025-02-01', 98, '2026-01-01')",
            "select problem from ledger.audit_periods",
            "closed_out_of_order",
        ),
    ] {
        db.batch_execute(&format!("begin; {tamper}"))
            .await
            .unwrap_or_else(|error| panic!("{tamper}: {:?}", error.as_db_error()));
        assert_eq!(text(&db, view).await, expected, "{tamper}");
        db.batch_execute("rollback").await.unwrap();
    }
}
