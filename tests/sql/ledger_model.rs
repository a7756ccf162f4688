//! `ledger.post_transfers` against a model of its semantics: random batches over few accounts with tight limits, colliding
//! ids, chains, timeouts, balancing, closing and reversing transfers, event times, and advancing time. After each batch every
//! result, balance, transfer, hold, reversal, journal and spent id is compared. The same steps are also given to
//! `ledger.post_batch` directly and, chain by chain, to `ledger.judge`: where one batch ends must not matter.
//!
//! The seed is fixed, so that a failure comes back; `ECON_TEST_SEED` (a number) and `ECON_TEST_CASES` search further.

mod generator;
mod model;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use ledger::testing::TestDb;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use tokio_postgres::{Client, Row};

use crate::support::direct::many_accounts;
use generator::{START_US, Step, account, case, opened, v7};
use model::{Account, Command, Item, Model, Transfer};

/// Every result that random batches must have produced, or the generator has gone blind.
const RESULTS: [&str; 74] = [
    "ok",
    "linked_event_failed",
    "linked_event_chain_open",
    "reserved_flag",
    "id_must_not_be_zero",
    "id_must_not_be_int_max",
    "exists",
    "exists_with_different_flags",
    "exists_with_different_pending_id",
    "exists_with_different_reverses_id",
    "exists_with_different_timeout",
    "exists_with_different_debit_account_id",
    "exists_with_different_credit_account_id",
    "exists_with_different_amount",
    "exists_with_different_asset",
    "exists_with_different_reason",
    "exists_with_different_effective_at",
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
    "closing_transfer_must_be_pending",
    "timeout_must_not_be_negative",
    "closing_transfer_must_not_time_out",
    "reversal_must_be_plain",
    "flags_are_mutually_exclusive",
    "reverses_id_must_be_different",
    "amount_must_not_be_zero",
    "amount_must_be_whole",
    "amount_must_not_be_negative",
    "overflows_amount",
    "asset_must_not_be_zero",
    "reason_must_not_be_empty",
    "effective_at_reserved_for_posting",
    "effective_at_must_not_advance",
    "effective_at_in_closed_period",
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
    "reversed_transfer_not_found",
    "reversed_transfer_not_posted",
    "reversal_must_mirror_accounts",
    "reversal_has_different_amount",
    "reversed_transfer_already_reversed",
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

/// The ways to post. Each has a ledger of its own, and all must come to the same.
const WAYS: [&str; 3] = [
    "ledger.post_transfers(c.ctx, $3, c.items)",
    "ledger.post_batch(c.ctx, $3, null, $5, $6, $7, $8, $9, $10::text[]::numeric[], $14, $11, $12, $13, $15, $16, \
       array(select 'epoch'::timestamptz + u.e * interval '1 microsecond' from unnest($17::bigint[]) with ordinality as u (e, n) order by u.n), null)",
    "t.post_singly(c.ctx, c.items)",
];

/// Each chain by itself, each item without one by itself, through `ledger.judge`.
const POST_SINGLY: &str = "
  create schema t;
  create function t.post_singly(p_ctx base.command_context, p_items ledger.transfer_input[]) returns text[] language plpgsql as $$
    declare
      v_item ledger.transfer_input;
      v_chain ledger.transfer_input[] := '{}';
      v_results text[] := '{}';
    begin
      foreach v_item in array p_items loop
        v_chain := v_chain || v_item;
        if not coalesce(v_item.linked, false) then
          v_results := v_results || ledger.post_direct_few(p_ctx, null, v_chain);
          v_chain := '{}';
        end if;
      end loop;
      return v_results || ledger.post_direct_few(p_ctx, null, v_chain);
    end $$;
  grant usage on schema t to econ_engine";

/// Posts as `econ_engine`, the role whose rights the server has.
async fn post(db: &Client, way: usize, ledger_id: i32, command: Command, items: &[Item]) -> Vec<String> {
    let sql = format!(
        "select {} from (select \
      row($1::integer, $2::bigint, $3::uuid, $3::uuid, ''::bytea, \
        'epoch'::timestamptz + $4::bigint * interval '1 microsecond', 1, '{{}}'::jsonb)::base.command_context as ctx, \
      array(select row(i.id, i.kind, i.debit, i.credit, i.asset, i.amount::numeric, i.pending, \
          i.timeout_ms, i.linked, i.reason, i.flags, i.reverses, \
          'epoch'::timestamptz + i.effective * interval '1 microsecond')::ledger.transfer_input \
        from unnest($5::uuid[], $6::text[], $7::uuid[], $8::uuid[], $9::integer[], $10::text[], $11::uuid[], \
            $12::bigint[], $13::boolean[], $14::text[], $15::smallint[], $16::uuid[], $17::bigint[]) with ordinality \
          as i (id, kind, debit, credit, asset, amount, pending, timeout_ms, linked, reason, flags, reverses, effective, n) \
        order by i.n) as items) as c",
        WAYS[way]
    );
    fn column<T>(items: &[Item], of: impl Fn(&Item) -> T) -> Vec<T> {
        items.iter().map(of).collect()
    }
    let statement = db.prepare(&sql).await.unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
    let row = db
        .query_one(
            &statement,
            &[
                &ledger_id,
                &command.seq,
                &command.journal,
                &command.at,
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
                &column(items, |i| i.flags),
                &column(items, |i| i.reverses),
                &column(items, |i| i.effective),
            ],
        )
        .await
        .unwrap_or_else(|error| panic!("posting by {} raised: {:?}", WAYS[way], error.as_db_error()));
    row.get(0)
}

fn number(row: &Row, column: &str) -> i128 {
    row.get::<_, &str>(column).parse().unwrap()
}

/// Everything the books say of one ledger, in the model's shapes.
async fn books(db: &Client, ledger_id: i32) -> Model {
    let mut model = Model::default();
    let sql = "select account_id, asset_id, debits_must_not_exceed_credits as dl, \
               credits_must_not_exceed_debits as cl, closed, closed_by, debits_pending::text as dp, debits_posted::text as dpo, credits_pending::text as cp, credits_posted::text as cpo \
               from ledger.accounts where ledger_id = $1";
    for row in db.query(sql, &[&ledger_id]).await.unwrap() {
        let found = Account {
            asset: row.get("asset_id"),
            debits_limited: row.get("dl"),
            credits_limited: row.get("cl"),
            closed: row.get("closed"),
            closed_by: row.get("closed_by"),
            debits_pending: number(&row, "dp"),
            debits_posted: number(&row, "dpo"),
            credits_pending: number(&row, "cp"),
            credits_posted: number(&row, "cpo"),
        };
        model.accounts.insert(row.get("account_id"), found);
    }
    let sql = "select *, amount::text as amount_text, base.us(timeout_at) as timeout_us, base.us(at) as at_us, \
               base.us(effective_at) as effective_us \
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
            flags: row.get("flags"),
            reverses: row.get("reverses_id"),
            effective: row.get("effective_us"),
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
    let sql = "select reversed_id, transfer_id from ledger.reversals where ledger_id = $1";
    for row in db.query(sql, &[&ledger_id]).await.unwrap() {
        model.reversals.insert(row.get(0), row.get(1));
    }
    let sql = "select journal_id, seq from ledger.journals where ledger_id = $1";
    for row in db.query(sql, &[&ledger_id]).await.unwrap() {
        model.journals.insert((row.get(0), row.get(1)));
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

/// All that two ledgers say, apart from their own number: the tables in which they differ.
async fn differences(db: &Client, one: i32, other: i32) -> Vec<String> {
    let tables = ["accounts", "transfers", "holds", "failed_transfers", "reversals", "journals"];
    let differ = |table: &str| {
        let side = |ledger| {
            format!(
                "select to_jsonb(x) - 'ledger_id' as row from ledger.{table} x where ledger_id = {ledger}"
            )
        };
        let (a, b) = (side(one), side(other));
        format!(
            "select '{table} of {one}: ' || row::text from ({a} except {b}) d union all \
             select '{table} of {other}: ' || row::text from ({b} except {a}) d"
        )
    };
    let sql: Vec<String> = tables.into_iter().map(differ).collect();
    db.query(&sql.join(" union all "), &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// `audit_transfers` also wants each transfer's command; this test has none.
async fn audits(db: &Client) -> Vec<String> {
    let sql = "select 'accounts ' || a::text from ledger.audit_accounts a \
         union all select 'conservation ' || c::text from ledger.audit_conservation c \
         union all select 'holds ' || h::text from ledger.audit_holds h \
         union all select 'transfers ' || t::text from ledger.audit_transfers t where t.problem <> 'command_missing'";
    db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

const TOGGLE: &str = "update ledger.accounts set closed = not closed \
                      where ledger_id between $1 and $1 + 2 and account_id = $2 and closed_by is null";
const CLOSE_PERIOD: &str = "insert into ledger.periods (ledger_id, ends_at, seq, closed_at) \
   select l, 'epoch'::timestamptz + $2::bigint * interval '1 microsecond', 1, 'epoch'::timestamptz + $3::bigint * interval '1 microsecond' \
     from generate_series($1::integer, $1 + 2) as l";

/// Ledger `ledger_id` posts in the usual way, and is compared with the model after each step; the next two in the other
/// ways, and are compared with the first at the end.
async fn run_case(
    db: &Client,
    ledger_id: i32,
    steps: &[Step],
    seen: &Mutex<BTreeSet<String>>,
) -> Result<(), TestCaseError> {
    for way in 0..3 {
        open_ledger(db, ledger_id + way).await;
    }
    let mut model = Model { accounts: opened(), ..Model::default() };
    // One by one takes longer than all else, so every third case does it.
    let others: &[(usize, i32)] =
        if ledger_id % 9 == 1 { &[(1, ledger_id + 1), (2, ledger_id + 2)] } else { &[(1, ledger_id + 1)] };
    let mut at = START_US;
    for (n, step) in steps.iter().enumerate() {
        match step {
            Step::Toggle(n) => {
                let id = account(*n);
                db.execute(TOGGLE, &[&ledger_id, &id]).await.unwrap();
                let toggled = model.accounts.get_mut(&id).unwrap();
                toggled.closed ^= toggled.closed_by.is_none();
            }
            Step::ClosePeriod(ago_us) => {
                let end = at - ago_us;
                if model.period_end.is_none_or(|before| before < end) {
                    db.execute(CLOSE_PERIOD, &[&ledger_id, &end, &at]).await.unwrap();
                    model.period_end = Some(end);
                }
            }
            Step::Post(advance_us, items) => {
                at += advance_us;
                let seq = i64::try_from(n).unwrap() + 2;
                let command = Command { seq, at, journal: v7(at / 1_000, 0xfff_0000 + n as u128) };
                let before = row_versions(db, ledger_id).await;
                let found = post(db, 0, ledger_id, command, items).await;
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
                prop_assert_eq!(&books.reversals, &model.reversals, "step {}: reversals", n);
                prop_assert_eq!(&books.journals, &model.journals, "step {}: journals", n);
                for (way, its_ledger) in others.iter().copied() {
                    let other = post(db, way, its_ledger, command, items).await;
                    prop_assert_eq!(&other, &expected, "step {}: results of {}", n, WAYS[way]);
                }
                seen.lock().unwrap().extend(found);
            }
        }
    }
    for (way, its_ledger) in others.iter().copied() {
        let found = differences(db, ledger_id, its_ledger).await;
        prop_assert!(found.is_empty(), "{} against {}: {:#?}", WAYS[way], WAYS[0], found);
    }
    Ok(())
}

/// One line an item.
fn told(steps: &[Step]) -> String {
    let mut lines = Vec::new();
    for step in steps {
        if let Step::Post(advance_us, items) = step {
            lines.push(format!("after {advance_us} µs"));
            lines.extend(items.iter().map(|item| format!("  {item:?}")));
        } else {
            lines.push(format!("{step:?}"));
        }
    }
    lines.join("\n")
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
        db.batch_execute(POST_SINGLY).await.unwrap();
        db.batch_execute(
            "set role econ_engine; insert into ledger.assets values (1, 'USD', 6), (2, 'EUR', 2)",
        )
        .await
        .unwrap();
        (test_db, db)
    });
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&from_env("ECON_TEST_SEED", 1).to_le_bytes());
    let config = Config {
        cases: from_env("ECON_TEST_CASES", 110),
        failure_persistence: None,
        max_shrink_time: 40_000,
        ..Config::default()
    };
    let half = config.cases / 2;
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let seen = Mutex::new(BTreeSet::new());
    let next_ledger = AtomicI32::new(1);
    let cases = AtomicU32::new(0);
    let outcome = runner.run(&case(), |steps| {
        let ledger_id = next_ledger.fetch_add(3, Ordering::Relaxed);
        // The first half reads all accounts to find a batch's own; the second looks them up.
        if cases.fetch_add(1, Ordering::Relaxed) == half {
            runtime.block_on(many_accounts(&db, 5_000));
        }
        runtime.block_on(run_case(&db, ledger_id, &steps, &seen))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => panic!("{why}\nminimal steps:\n{}", told(&steps)),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    assert_eq!(runtime.block_on(audits(&db)), Vec::<String>::new(), "the audit views are empty");
    let seen = seen.into_inner().unwrap();
    let unseen: Vec<_> = RESULTS.iter().filter(|result| !seen.contains(**result)).collect();
    assert!(unseen.is_empty(), "the generator never produced {unseen:?}");
    runtime.block_on(test_db.close());
}
