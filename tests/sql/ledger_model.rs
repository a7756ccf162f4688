//! `ledger.post_transfers` against a model of its semantics: random batches over few accounts with tight limits, colliding
//! ids, chains, timeouts, balancing, closing and reversing transfers, event times, and advancing time. After each batch every
//! result, balance, transfer, hold, reversal, journal and spent id is compared. The same steps are also given to
//! `ledger.post_batch` directly and, chain by chain, to `ledger.judge`: where one batch ends must not matter.
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

use model::{
    AMOUNT_MAX, Account, BALANCING_CREDIT, BALANCING_DEBIT, CLOSING_CREDIT, CLOSING_DEBIT, Command, Item,
    Model, Transfer,
};

/// Ledger time at the start of every case: 2026-01-01, Unix microseconds.
const START_US: i64 = 1_767_225_600_000_000;
const HOUR_MS: i64 = 3_600_000;
const ACCOUNTS: usize = 14;
/// From here on accounts have no limit or are funded well beyond what most batches move.
const FIRST_RICH: usize = 9;

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

#[derive(Debug, Clone)]
enum Step {
    /// Posts a batch after so many microseconds.
    Post(i64, Vec<Item>),
    /// The operator closes an account, or opens it again.
    Toggle(usize),
    /// Closes the period that ended so many microseconds ago.
    ClosePeriod(i64),
}

/// What follows an item, near or long ago: how far back, under which id, and what (`follow_up`).
type FollowUp = (proptest::sample::Index, Uuid, u32);

/// A step whose batch still lacks what follows earlier items.
#[derive(Debug, Clone)]
enum Draft {
    Post(i64, Vec<Item>, Vec<FollowUp>),
    Other(Step),
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
        9 => (1..=3_i128).prop_map(|n| Some((AMOUNT_MAX / 5 * 2 + n).to_string())),
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

fn flags() -> BoxedStrategy<i16> {
    prop_oneof![
        70 => Just(0),
        6 => Just(BALANCING_DEBIT),
        6 => Just(BALANCING_CREDIT),
        2 => Just(BALANCING_DEBIT | BALANCING_CREDIT),
        1 => Just(CLOSING_DEBIT),
        1 => Just(CLOSING_CREDIT),
        2 => proptest::sample::select(vec![-1, 5, 6, 9, 10, 12, 13, 15, 16, 32]),
    ]
    .boxed()
}

/// Of the time that cases usually cover, and a bit more on both sides.
fn effective() -> BoxedStrategy<Option<i64>> {
    prop_oneof![9 => Just(None), 1 => (-4..24_i64).prop_map(|n| Some(START_US + n * 500_000))].boxed()
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
    (head, tail, flags(), effective())
        .prop_map(|(head, tail, flags, effective)| {
            let (id, kind, debit, credit, amount) = head;
            let (asset, pending, timeout_ms, linked, reason, dice) = tail;
            let ends = matches!(kind, "post_pending" | "void_pending");
            // The fields that a kind does not use are filled in a few times, to be refused.
            let given = dice < 8;
            let named = match dice {
                90 => None,
                91 => Some(Uuid::max()),
                92 => id,
                _ => (ends || dice == 93).then_some(pending),
            };
            // What closes has no timeout, and only what balances or closes may go without an amount: mostly.
            let closes = flags & (CLOSING_DEBIT | CLOSING_CREDIT) != 0 && dice % 4 > 0;
            let without = if ends || flags != 0 { dice % 3 == 0 } else { false };
            Item {
                id,
                kind: if closes && dice % 4 > 1 { "pending" } else { kind },
                debit: debit.filter(|_| !ends || closes || given),
                credit: credit.filter(|_| !ends || closes || given),
                asset: asset.filter(|_| !ends || closes || given),
                amount: amount.filter(|_| !without),
                pending: named.filter(|_| !closes),
                timeout_ms: timeout_ms.filter(|_| (kind == "pending" && !closes) || dice == 94),
                linked,
                reason: reason.filter(|_| !ends || closes || dice % 2 > 0),
                flags: if ends && !closes && dice > 2 { 0 } else { flags },
                reverses: (dice == 95 || dice == 96).then_some(pending),
                effective: effective.filter(|_| matches!(kind, "plain" | "post_pending") || dice > 50),
            }
        })
        .boxed()
}

/// What most traffic is: well formed, between accounts that can bear it, its id its own.
fn clean() -> BoxedStrategy<Item> {
    let rich = || prop_oneof![60 => FIRST_RICH..ACCOUNTS, 1 => 0..FIRST_RICH].prop_map(account);
    let kind = prop_oneof![3 => Just("plain"), 1 => Just("pending")];
    let timeout_ms = prop_oneof![3 => Just(None), 1 => (1..4_i64).prop_map(|n| Some(n * 500))];
    (1_000..40_000_u32, kind, rich(), rich(), 1..60_i128, timeout_ms, proptest::bool::weighted(0.05))
        .prop_map(|(n, kind, debit, credit, amount, timeout_ms, linked)| Item {
            id: Some(transfer(n * 5)),
            kind,
            debit: Some(debit),
            credit: Some(credit),
            asset: Some(1),
            amount: Some(amount.to_string()),
            pending: None,
            timeout_ms: timeout_ms.filter(|_| kind == "pending"),
            linked,
            reason: Some("trade"),
            flags: 0,
            reverses: None,
            effective: None,
        })
        .boxed()
}

/// What follows an item: its retry, alike or with one field changed, an end of the hold it made, or its reversal.
fn follow_up(pool: &[Item], of: &Item, id: Uuid, turn: u32) -> Item {
    let retry = Item { linked: false, ..of.clone() };
    // An end of an end is another end of the same hold.
    let end = |kind| Item {
        id: Some(id),
        kind,
        pending: of.pending.or(of.id),
        timeout_ms: None,
        flags: 0,
        reverses: None,
        effective: None,
        ..retry.clone()
    };
    let bare =
        |kind| Item { debit: None, credit: None, asset: None, amount: None, reason: None, ..end(kind) };
    // What an end moved is written in its hold.
    let hold = of.pending.and_then(|hold| pool.iter().find(|item| item.id == Some(hold))).unwrap_or(of);
    let reversal = Item {
        id: Some(id),
        kind: "plain",
        debit: hold.credit,
        credit: hold.debit,
        asset: hold.asset,
        amount: of.amount.clone().or_else(|| hold.amount.clone()),
        pending: None,
        timeout_ms: None,
        linked: turn % 8 == 0,
        reason: Some("reversal"),
        flags: 0,
        reverses: of.id,
        effective: None,
    };
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
        11..=13 => bare("void_pending"),
        14..=18 => reversal,
        19 => Item { amount: Some("61".to_owned()), ..reversal },
        20 => Item { debit: reversal.credit, credit: reversal.debit, ..reversal },
        21 => Item { flags: BALANCING_DEBIT, ..reversal },
        22 => Item { kind: "pending", ..reversal },
        23 => Item { reverses: reversal.id, ..reversal },
        24 => Item { reverses: Some(transfer(1)), ..end("post_pending") },
        25 => Item { reverses: Some(transfer(1)), ..retry },
        26 => Item { effective: Some(START_US - 1), ..retry },
        27 => Item { flags: retry.flags ^ BALANCING_DEBIT, ..retry },
        28 => Item { amount: None, ..retry },
        29 => Item { amount: Some("NaN".to_owned()), ..retry },
        30 => Item { amount: Some(AMOUNT_MAX.to_string()), ..retry },
        31 => Item { effective: Some(START_US), ..bare("post_pending") },
        _ => retry,
    }
}

/// A few items; more than the dozen beyond which a set settles what it can; more than the 64 beyond which slots are found by
/// joins; and a few hundred, most of them clean.
fn batch() -> BoxedStrategy<Vec<Item>> {
    let mostly_clean = prop_oneof![15 => clean(), 1 => item()];
    prop_oneof![
        120 => vec(item(), 1..8),
        50 => vec(item(), 12..40),
        15 => vec(item(), 65..100),
        20 => vec(mostly_clean.clone(), 12..100),
        2 => vec(mostly_clean, 200..400),
    ]
    .boxed()
}

fn draft() -> BoxedStrategy<Draft> {
    let advance_us = prop_oneof![20 => (0..4_i64).prop_map(|n| n * 500_000), 3 => 1..2_000_i64, 1 => Just(18 * HOUR_MS * 1_000)];
    let follow_ups = vec((any::<proptest::sample::Index>(), (0..60_u32).prop_map(transfer), 0..36_u32), 0..8);
    prop_oneof![
        40 => (advance_us, batch(), follow_ups).prop_map(|(us, items, more)| Draft::Post(us, items, more)),
        2 => (0..ACCOUNTS).prop_map(|n| Draft::Other(Step::Toggle(n))),
        1 => (0..6_i64).prop_map(|n| Draft::Other(Step::ClosePeriod(n * 500_000))),
    ]
    .boxed()
}

/// The accounts are funded, then come the drafts, with what follows one of the last few items before it.
fn case() -> BoxedStrategy<Vec<Step>> {
    vec(draft(), 1..24)
        .prop_map(|drafts| {
            let mut pool = Vec::new();
            let mut steps = vec![Step::Post(0, funding())];
            for draft in drafts {
                steps.push(match draft {
                    Draft::Other(step) => step,
                    Draft::Post(advance_us, mut items, follow_ups) => {
                        pool.extend(items.iter().cloned());
                        for (of, id, turn) in follow_ups {
                            let near: &[Item] = &pool[pool.len().saturating_sub(60)..];
                            let next = follow_up(near, of.get(near), id, turn);
                            // The same once more under another id: a second void, a second reversal.
                            let twice = (13..=15).contains(&turn);
                            let other_id = Uuid::from_u128(id.as_u128() + 0x1_0000);
                            let second = Item { id: Some(other_id), linked: false, ..next.clone() };
                            for item in [Some(next), twice.then_some(second)].into_iter().flatten() {
                                pool.push(item.clone());
                                items.push(item);
                            }
                        }
                        Step::Post(advance_us, items)
                    }
                });
            }
            steps
        })
        .boxed()
}

fn funding() -> Vec<Item> {
    let fund = |n, debit, credit, amount: &str| Item {
        id: Some(transfer(n)),
        kind: "plain",
        debit: Some(account(debit)),
        credit: Some(account(credit)),
        asset: Some(1),
        amount: Some(amount.to_owned()),
        pending: None,
        timeout_ms: None,
        linked: false,
        reason: Some("funding"),
        flags: 0,
        reverses: None,
        effective: None,
    };
    vec![fund(900, 9, 11, "1000000"), fund(901, 9, 12, "1000"), fund(903, 13, 10, "1000")]
}

/// What each account is: asset, limited debits, limited credits, closed.
fn opened() -> BTreeMap<Uuid, Account> {
    let of = |asset, debits_limited, credits_limited, closed| Account {
        asset,
        debits_limited,
        credits_limited,
        closed,
        closed_by: None,
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
        of(1, false, false, false),
        of(1, false, false, false),
        of(1, true, false, false),
        of(1, true, false, false),
        of(1, false, true, false),
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

/// The ways to post. Each has a ledger of its own, and all must come to the same.
const WAYS: [&str; 3] = [
    "ledger.post_transfers(c.ctx, $3, c.items)",
    "ledger.post_batch(c.ctx, $3, null, $5, $6, $7, $8, $9, $10::text[]::numeric[], $14, $11, $12, $13, $15, $16, \
       array(select 'epoch'::timestamptz + u.e * interval '1 microsecond' from unnest($17::bigint[]) with ordinality as u (e, n) order by u.n))",
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
                for way in [1, 2] {
                    let other = post(db, way, ledger_id + i32::try_from(way).unwrap(), command, items).await;
                    prop_assert_eq!(&other, &expected, "step {}: results of {}", n, WAYS[way]);
                }
                seen.lock().unwrap().extend(found);
            }
        }
    }
    for way in [1, 2] {
        let found = differences(db, ledger_id, ledger_id + way).await;
        prop_assert!(
            found.is_empty(),
            "{} against {}: {:#?}",
            WAYS[usize::try_from(way).unwrap()],
            WAYS[0],
            found
        );
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
        cases: from_env("ECON_TEST_CASES", 80),
        failure_persistence: None,
        max_shrink_time: 40_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let seen = Mutex::new(BTreeSet::new());
    let next_ledger = AtomicI32::new(1);
    let outcome = runner.run(&case(), |steps| {
        let ledger_id = next_ledger.fetch_add(3, Ordering::Relaxed);
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
