//! `ledger.post_transfers` against a model of its semantics: random batches over few accounts with tight limits, colliding
//! ids, chains, timeouts, closing accounts and advancing time. After each batch every result, balance, transfer, hold and
//! spent id is compared.
//!
//! The seed is fixed, so that a failure comes back; `ECON_TEST_SEED` (a number) and `ECON_TEST_CASES` search further.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use ledger::testing::TestDb;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use model::{AMOUNT_MAX, Account, Command, Item, Model, Transfer};

/// Ledger time at the start of every case: 2026-01-01, Unix microseconds.
const START_US: i64 = 1_767_225_600_000_000;
const HOUR_MS: i64 = 3_600_000;
const ACCOUNTS: usize = 9;

/// Every result that random batches must have produced, or the generator has gone blind.
const RESULTS: [&str; 59] = [
    "ok",
    "linked_event_failed",
    "linked_event_chain_open",
    "reserved_flag",
    "id_must_not_be_zero",
    "id_must_not_be_int_max",
    "exists",
    "exists_with_different_flags",
    "exists_with_different_pending_id",
    "exists_with_different_timeout",
    "exists_with_different_debit_account_id",
    "exists_with_different_credit_account_id",
    "exists_with_different_amount",
    "exists_with_different_asset",
    "exists_with_different_reason",
    "id_already_failed",
    "id_time_out_of_range",
    "debit_account_id_must_not_be_zero",
    "debit_account_id_must_not_be_int_max",
    "credit_account_id_must_not_be_zero",
    "credit_account_id_must_not_be_int_max",
    "accounts_must_be_different",
    "pending_id_must_be_zero",
    "pending_id_must_not_be_zero",
    "pending_id_must_not_be_int_max",
    "pending_id_must_be_different",
    "timeout_reserved_for_pending_transfer",
    "timeout_must_not_be_negative",
    "amount_must_not_be_zero",
    "amount_must_be_whole",
    "amount_must_not_be_negative",
    "overflows_amount",
    "asset_must_not_be_zero",
    "reason_must_not_be_empty",
    "debit_account_not_found",
    "credit_account_not_found",
    "accounts_must_have_the_same_asset",
    "transfer_must_have_the_same_asset_as_accounts",
    "pending_transfer_not_found",
    "pending_transfer_not_pending",
    "pending_transfer_has_different_debit_account_id",
    "pending_transfer_has_different_credit_account_id",
    "pending_transfer_has_different_asset",
    "exceeds_pending_transfer_amount",
    "pending_transfer_has_different_amount",
    "pending_transfer_already_posted",
    "pending_transfer_already_voided",
    "pending_transfer_expired",
    "debit_account_already_closed",
    "credit_account_already_closed",
    "overflows_debits_pending",
    "overflows_credits_pending",
    "overflows_debits_posted",
    "overflows_credits_posted",
    "overflows_debits",
    "overflows_credits",
    "overflows_timeout",
    "exceeds_credits",
    "exceeds_debits",
];

#[derive(Debug, Clone)]
enum Step {
    /// Posts a batch after so many milliseconds.
    Post(i64, Vec<Item>),
    /// Closes an account, or opens it again.
    Toggle(usize),
}

fn account(n: usize) -> Uuid {
    Uuid::from_u128(0xacc0_0000_0000_8000_8000_0000_0000_0000 | n as u128)
}

/// The n-th transfer id. Every third is 20 hours later and every fifth 40, so that time leaves some behind and reaches others.
fn transfer(n: u32) -> Uuid {
    let hours = if n % 5 == 4 { 40 } else { i64::from(n % 3 == 2) * 20 };
    v7(START_US / 1_000 + hours * HOUR_MS, u128::from(n))
}

fn v7(unix_ms: i64, n: u128) -> Uuid {
    let unix_ms = u128::try_from(unix_ms).unwrap();
    Uuid::from_u128(unix_ms << 80 | 7 << 76 | 2 << 62 | n)
}

/// Mostly `usual`, now and then one of the ids that are never right.
fn id_or_odd(usual: impl Strategy<Value = Uuid> + 'static) -> BoxedStrategy<Option<Uuid>> {
    prop_oneof![
        60 => usual.prop_map(Some),
        1 => Just(None),
        1 => Just(Some(Uuid::nil())),
        1 => Just(Some(Uuid::max())),
    ]
    .boxed()
}

fn any_account() -> BoxedStrategy<Option<Uuid>> {
    // The first four do most of the trade; ACCOUNTS itself does not exist.
    id_or_odd(prop_oneof![30 => 0..4_usize, 10 => 0..=ACCOUNTS].prop_map(account))
}

fn amount() -> BoxedStrategy<Option<String>> {
    prop_oneof![
        40 => (1..60_i128).prop_map(|n| Some(n.to_string())),
        6 => (1..=3_i128).prop_map(|n| Some((AMOUNT_MAX / 5 * 2 + n).to_string())),
        1 => Just(Some(AMOUNT_MAX.to_string())),
        1 => Just(Some((AMOUNT_MAX + 1).to_string())),
        1 => proptest::sample::select(vec!["0", "-1", "NaN", "Infinity", "-Infinity", "0.5"]).prop_map(|t| Some(t.to_owned())),
        1 => Just(None),
    ]
    .boxed()
}

fn timeout() -> BoxedStrategy<Option<i64>> {
    prop_oneof![
        10 => Just(None),
        2 => Just(Some(0)),
        12 => (1..4_i64).prop_map(|n| Some(n * 500)),
        1 => proptest::sample::select(vec![-1, 315_360_000_000_000, 315_360_000_000_001, i64::MAX]).prop_map(Some),
    ]
    .boxed()
}

fn item() -> BoxedStrategy<Item> {
    let kind = prop_oneof![
        50 => Just("plain"),
        50 => Just("pending"),
        40 => Just("post_pending"),
        25 => Just("void_pending"),
        1 => Just("expire_pending"),
    ];
    let head = (id_or_odd((0..60_u32).prop_map(transfer)), kind, any_account(), any_account(), amount());
    let asset = prop_oneof![40 => Just(Some(1)), 2 => Just(Some(2)), 1 => Just(Some(0)), 1 => Just(None)];
    let reason =
        prop_oneof![40 => Just(Some("trade")), 1 => Just(Some("fee")), 1 => Just(Some("")), 1 => Just(None)];
    let tail = (
        asset,
        (0..60_u32).prop_map(transfer),
        timeout(),
        proptest::bool::weighted(0.15),
        reason,
        0..100_u32,
    );
    (head, tail)
        .prop_map(
            |((id, kind, debit, credit, amount), (asset, pending, timeout_ms, linked, reason, dice))| {
                let ends = matches!(kind, "post_pending" | "void_pending");
                // The fields that a kind does not use are filled in a few times, to be refused.
                let given = dice < 8;
                let pending = match dice {
                    90 => None,
                    91 => Some(Uuid::max()),
                    92 => id,
                    _ => (ends || dice == 93).then_some(pending),
                };
                Item {
                    id,
                    kind,
                    debit: debit.filter(|_| !ends || given),
                    credit: credit.filter(|_| !ends || given),
                    asset: asset.filter(|_| !ends || given),
                    amount: amount.filter(|_| !ends || dice % 3 > 0),
                    pending,
                    timeout_ms: timeout_ms.filter(|_| kind == "pending" || dice == 94),
                    linked,
                    reason: reason.filter(|_| !ends || dice % 2 > 0),
                }
            },
        )
        .boxed()
}

/// What follows an item: its retry, alike or with one field changed, or an end of the hold it made.
fn follow_up(of: &Item, id: Uuid, turn: u32) -> Item {
    let retry = Item { linked: false, ..of.clone() };
    // An end of an end is another end of the same hold.
    let end =
        |kind| Item { id: Some(id), kind, pending: of.pending.or(of.id), timeout_ms: None, ..retry.clone() };
    let bare =
        |kind| Item { debit: None, credit: None, asset: None, amount: None, reason: None, ..end(kind) };
    match turn {
        0 => Item { asset: Some(2), ..retry },
        1 => Item { reason: Some("fee"), ..retry },
        2 => Item { timeout_ms: Some(7), ..retry },
        3 => Item { amount: Some("7".to_owned()), ..retry },
        4 => end("post_pending"),
        5 => end("void_pending"),
        6 => Item { debit: Some(account(5)), ..end("post_pending") },
        7 => Item { credit: Some(account(5)), ..end("void_pending") },
        8 => Item { asset: Some(2), ..end("post_pending") },
        9 | 10 => bare("post_pending"),
        11 | 12 => bare("void_pending"),
        _ => retry,
    }
}

/// A few items, or more than the 64 beyond which slots are found by joins; then what follows some of them.
fn batch() -> BoxedStrategy<Vec<Item>> {
    let batch = prop_oneof![20 => vec(item(), 1..8), 10 => vec(item(), 12..40), 3 => vec(item(), 65..100)];
    let follow_ups = vec((any::<proptest::sample::Index>(), (0..60_u32).prop_map(transfer), 0..16_u32), 0..8);
    (batch, follow_ups)
        .prop_map(|(mut items, follow_ups)| {
            for (of, id, turn) in follow_ups {
                items.push(follow_up(of.get(&items), id, turn));
            }
            items
        })
        .boxed()
}

fn step() -> BoxedStrategy<Step> {
    let advance_ms = prop_oneof![20 => (0..4_i64).prop_map(|n| n * 500), 1 => Just(18 * HOUR_MS)];
    prop_oneof![
        20 => (advance_ms, batch()).prop_map(|(ms, items)| Step::Post(ms, items)),
        1 => (0..ACCOUNTS).prop_map(Step::Toggle),
    ]
    .boxed()
}

/// What each account is: asset, limited debits, limited credits, closed.
fn opened() -> BTreeMap<Uuid, Account> {
    let of = |asset, debits_limited, credits_limited, closed| Account {
        asset,
        debits_limited,
        credits_limited,
        closed,
        debits_pending: 0,
        debits_posted: 0,
        credits_pending: 0,
        credits_posted: 0,
    };
    let kinds: [Account; ACCOUNTS] = [
        of(1, false, false, false),
        of(1, true, false, false),
        of(1, true, false, false),
        of(1, false, true, false),
        of(1, false, false, true),
        of(1, false, false, false),
        of(1, true, true, false),
        of(2, false, false, false),
        of(2, true, false, false),
    ];
    kinds.into_iter().enumerate().map(|(n, kind)| (account(n), kind)).collect()
}

async fn open_ledger(db: &Client, ledger_id: i32) {
    db.execute(
        "insert into base.ledgers (ledger_id, name, origin) values ($1, 'model', 'model')",
        &[&ledger_id],
    )
    .await
    .unwrap();
    let open = "insert into ledger.accounts (ledger_id, account_id, asset_id, purpose, owner_id, \
                debits_must_not_exceed_credits, credits_must_not_exceed_debits, closed, seq, opened_at) \
                values ($1, $2, $3, 'equity', $2, $4, $5, $6, 1, 'epoch')";
    for (id, a) in opened() {
        db.execute(open, &[&ledger_id, &id, &a.asset, &a.debits_limited, &a.credits_limited, &a.closed])
            .await
            .unwrap();
    }
}

/// Posts through the gate as `econ_engine`, the role whose rights the server has.
async fn post(db: &Client, ledger_id: i32, command: Command, items: &[Item]) -> Vec<String> {
    let sql = "select ledger.post_transfers( \
      row($1::integer, $2::bigint, $3::uuid, $3::uuid, ''::bytea, \
        'epoch'::timestamptz + $4::bigint * interval '1 microsecond', 1, '{}'::jsonb)::base.command_context, \
      $5::uuid, array(select row(i.id, i.kind, i.debit, i.credit, i.asset, i.amount::numeric, i.pending, \
          i.timeout_ms, i.linked, i.reason, 0, null, null)::ledger.transfer_input \
        from unnest($6::uuid[], $7::text[], $8::uuid[], $9::uuid[], $10::integer[], $11::text[], $12::uuid[], \
            $13::bigint[], $14::boolean[], $15::text[]) with ordinality \
          as i (id, kind, debit, credit, asset, amount, pending, timeout_ms, linked, reason, n) order by i.n))";
    fn column<T>(items: &[Item], of: impl Fn(&Item) -> T) -> Vec<T> {
        items.iter().map(of).collect()
    }
    let command_id = v7(command.at / 1_000, u128::try_from(command.seq).unwrap());
    let row = db
        .query_one(
            sql,
            &[
                &ledger_id,
                &command.seq,
                &command_id,
                &command.at,
                &command.journal,
                &column(items, |i| i.id),
                &column(items, |i| i.kind),
                &column(items, |i| i.debit),
                &column(items, |i| i.credit),
                &column(items, |i| i.asset),
                &column(items, |i| i.amount.clone()),
                &column(items, |i| i.pending),
                &column(items, |i| i.timeout_ms),
                &column(items, |i| i.linked),
                &column(items, |i| i.reason),
            ],
        )
        .await
        .unwrap_or_else(|error| panic!("the gate raised: {:?}", error.as_db_error()));
    row.get(0)
}

fn number(row: &Row, column: &str) -> i128 {
    row.get::<_, &str>(column).parse().unwrap()
}

/// Everything the books say of one ledger, in the model's shapes.
async fn books(db: &Client, ledger_id: i32) -> Model {
    let mut model = Model::default();
    let sql = "select account_id, asset_id, debits_must_not_exceed_credits as dl, \
               credits_must_not_exceed_debits as cl, closed, debits_pending::text as dp, debits_posted::text as dpo, credits_pending::text as cp, credits_posted::text as cpo \
               from ledger.accounts where ledger_id = $1";
    for row in db.query(sql, &[&ledger_id]).await.unwrap() {
        let found = Account {
            asset: row.get("asset_id"),
            debits_limited: row.get("dl"),
            credits_limited: row.get("cl"),
            closed: row.get("closed"),
            debits_pending: number(&row, "dp"),
            debits_posted: number(&row, "dpo"),
            credits_pending: number(&row, "cp"),
            credits_posted: number(&row, "cpo"),
        };
        model.accounts.insert(row.get("account_id"), found);
    }
    let sql = "select *, amount::text as amount_text, base.us(timeout_at) as timeout_us, base.us(at) as at_us \
               from ledger.transfers where ledger_id = $1 order by seq, item";
    for row in db.query(sql, &[&ledger_id]).await.unwrap() {
        let kind: String = row.get("kind");
        model.transfers.push(Transfer {
            id: Some(row.get("transfer_id")).filter(|_| kind != "expire_pending"),
            kind,
            debit: row.get("debit_account_id"),
            credit: row.get("credit_account_id"),
            asset: row.get("asset_id"),
            amount: number(&row, "amount_text"),
            pending: row.get("pending_id"),
            timeout_at: row.get("timeout_us"),
            journal: row.get("journal_id"),
            reason: row.get("reason"),
            seq: row.get("seq"),
            item: row.get("item"),
            at: row.get("at_us"),
        });
    }
    let known = |text: &str| {
        let names = ["pending", "posted", "voided", "expired"];
        *names.iter().chain(&RESULTS).find(|name| **name == text).unwrap()
    };
    for row in db
        .query("select transfer_id, state from ledger.holds where ledger_id = $1", &[&ledger_id])
        .await
        .unwrap()
    {
        model.holds.insert(row.get(0), known(row.get(1)));
    }
    let sql = "select transfer_id, result from ledger.failed_transfers where ledger_id = $1";
    for row in db.query(sql, &[&ledger_id]).await.unwrap() {
        model.failed.insert(row.get(0), known(row.get(1)));
    }
    model
}

/// Physical identity of every row: a row that was written at all differs, even when it was written back the same.
async fn row_versions(db: &Client, ledger_id: i32) -> String {
    let sql = "select concat_ws(' ', \
      (select md5(string_agg(concat(a), ',' order by account_id)) from ledger.accounts a where ledger_id = $1), \
      (select md5(string_agg(concat(t), ',' order by transfer_id)) from ledger.transfers t where ledger_id = $1), \
      (select md5(string_agg(concat(h), ',' order by transfer_id)) from ledger.holds h where ledger_id = $1))";
    db.query_one(sql, &[&ledger_id]).await.unwrap().get(0)
}

/// `audit_transfers` also wants each transfer's command; this test has none.
async fn audits(db: &Client) -> Vec<String> {
    let sql = "select 'accounts ' || a::text from ledger.audit_accounts a \
         union all select 'conservation ' || c::text from ledger.audit_conservation c \
         union all select 'holds ' || h::text from ledger.audit_holds h \
         union all select 'transfers ' || t::text from ledger.audit_transfers t where t.problem <> 'command_missing'";
    db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

const TOGGLE: &str =
    "update ledger.accounts set closed = not closed where ledger_id = $1 and account_id = $2";

async fn run_case(
    db: &Client,
    ledger_id: i32,
    steps: &[Step],
    seen: &Mutex<BTreeSet<String>>,
) -> Result<(), TestCaseError> {
    open_ledger(db, ledger_id).await;
    let mut model = Model { accounts: opened(), ..Model::default() };
    let mut at = START_US;
    for (n, step) in steps.iter().enumerate() {
        match step {
            Step::Toggle(n) => {
                let id = account(*n);
                db.execute(TOGGLE, &[&ledger_id, &id]).await.unwrap();
                let toggled = model.accounts.get_mut(&id).unwrap();
                toggled.closed = !toggled.closed;
            }
            Step::Post(advance_ms, items) => {
                at += advance_ms * 1_000;
                let seq = i64::try_from(n).unwrap() + 2;
                let command = Command { seq, at, journal: v7(at / 1_000, 0xfff_0000 + n as u128) };
                let before = row_versions(db, ledger_id).await;
                let found = post(db, ledger_id, command, items).await;
                let expected = model.post(command, items);
                prop_assert_eq!(&found, &expected, "step {}: results", n);
                if !found.iter().any(|result| result == "ok") {
                    prop_assert_eq!(
                        before,
                        row_versions(db, ledger_id).await,
                        "step {}: a refused item wrote a row",
                        n
                    );
                }
                let books = books(db, ledger_id).await;
                prop_assert_eq!(&books.accounts, &model.accounts, "step {}: accounts", n);
                prop_assert_eq!(&books.transfers, &model.transfers, "step {}: transfers", n);
                prop_assert_eq!(&books.holds, &model.holds, "step {}: holds", n);
                prop_assert_eq!(&books.failed, &model.failed, "step {}: spent ids", n);
                seen.lock().unwrap().extend(found);
            }
        }
    }
    Ok(())
}

fn from_env(name: &str, usual: u32) -> u32 {
    std::env::var(name)
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[test]
fn every_result_and_every_balance_is_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (test_db, db) = runtime.block_on(async {
        let test_db = TestDb::new().await;
        let db = test_db.admin().await;
        db.batch_execute(
            "set role econ_engine; insert into ledger.assets values (1, 'USD', 6), (2, 'EUR', 2)",
        )
        .await
        .unwrap();
        (test_db, db)
    });
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&from_env("ECON_TEST_SEED", 1).to_le_bytes());
    let config =
        Config { cases: from_env("ECON_TEST_CASES", 160), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let seen = Mutex::new(BTreeSet::new());
    let next_ledger = AtomicI32::new(1);
    let outcome = runner.run(&vec(step(), 1..24), |steps| {
        let ledger_id = next_ledger.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(run_case(&db, ledger_id, &steps, &seen))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => panic!("{why}\nminimal steps: {steps:#?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    assert_eq!(runtime.block_on(audits(&db)), Vec::<String>::new(), "the audit views are empty");
    let seen = seen.into_inner().unwrap();
    let unseen: Vec<_> = RESULTS.iter().filter(|result| !seen.contains(**result)).collect();
    assert!(unseen.is_empty(), "the generator never produced {unseen:?}");
    runtime.block_on(test_db.close());
}
