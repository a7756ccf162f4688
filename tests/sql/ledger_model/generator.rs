//! What random cases are made of: accounts with tight limits and rich ones, items mostly right, and what follows them.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::model::{
    AMOUNT_MAX, Account, BALANCING_CREDIT, BALANCING_DEBIT, CLOSING_CREDIT, CLOSING_DEBIT, Item,
};

/// Ledger time at the start of every case: 2026-01-01, Unix microseconds.
pub(crate) const START_US: i64 = 1_767_225_600_000_000;
const HOUR_MS: i64 = 3_600_000;
const ACCOUNTS: usize = 14;
/// From here on accounts have no limit or are funded well beyond what most batches move.
const FIRST_RICH: usize = 9;

#[derive(Debug, Clone)]
pub(crate) enum Step {
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

pub(crate) fn account(n: usize) -> Uuid {
    Uuid::from_u128(0xacc0_0000_0000_8000_8000_0000_0000_0000 | n as u128)
}

/// The n-th transfer id. Every third is 20 hours later and every fifth 40, so that time leaves some behind and reaches others.
fn transfer(n: u32) -> Uuid {
    let hours = if n % 5 == 4 { 40 } else { i64::from(n % 3 == 2) * 20 };
    v7(START_US / 1_000 + hours * HOUR_MS, u128::from(n))
}

pub(crate) fn v7(unix_ms: i64, n: u128) -> Uuid {
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
        linked: turn.is_multiple_of(8),
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
        32 => Item { debit: Some(account(5)), ..end("void_pending") },
        33 => Item { credit: Some(account(5)), ..end("post_pending") },
        31 => Item { effective: Some(START_US), ..bare("post_pending") },
        _ => retry,
    }
}

/// Amounts of which two or three are one too many, between accounts without limit.
fn huge() -> BoxedStrategy<Item> {
    let unlimited = || proptest::sample::select(vec![0_usize, 5, 10]).prop_map(account);
    let kind = prop_oneof![Just("plain"), Just("pending")];
    (0..60_u32, kind, unlimited(), unlimited(), 1..=3_i128)
        .prop_map(|(n, kind, debit, credit, more)| Item {
            id: Some(transfer(n)),
            kind,
            debit: Some(debit),
            credit: Some(credit),
            asset: Some(1),
            amount: Some((AMOUNT_MAX / 5 * 2 + more).to_string()),
            pending: None,
            timeout_ms: None,
            linked: false,
            reason: Some("trade"),
            flags: 0,
            reverses: None,
            effective: None,
        })
        .boxed()
}

/// A few items; more than the dozen beyond which a set settles what it can; more than the 64 beyond which slots are found by
/// joins; and a few hundred, most of them clean.
fn batch() -> BoxedStrategy<Vec<Item>> {
    let mostly_clean = prop_oneof![15 => clean(), 1 => item()];
    prop_oneof![
        120 => vec(item(), 1..8),
        10 => vec(huge(), 3..8),
        50 => vec(item(), 12..40),
        15 => vec(item(), 65..100),
        20 => vec(mostly_clean.clone(), 12..100),
        2 => vec(mostly_clean, 200..400),
    ]
    .boxed()
}

fn draft() -> BoxedStrategy<Draft> {
    let advance_us = prop_oneof![20 => (0..4_i64).prop_map(|n| n * 500_000), 3 => 1..2_000_i64, 1 => Just(18 * HOUR_MS * 1_000)];
    let follow_ups = vec((any::<proptest::sample::Index>(), (0..60_u32).prop_map(transfer), 0..38_u32), 0..8);
    prop_oneof![
        40 => (advance_us, batch(), follow_ups).prop_map(|(us, items, more)| Draft::Post(us, items, more)),
        2 => (0..ACCOUNTS).prop_map(|n| Draft::Other(Step::Toggle(n))),
        1 => (0..6_i64).prop_map(|n| Draft::Other(Step::ClosePeriod(n * 500_000))),
    ]
    .boxed()
}

/// The accounts are funded, then come the drafts, with what follows one of the last few items before it.
pub(crate) fn case() -> BoxedStrategy<Vec<Step>> {
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
                            // The same once more under another id: a second post or void, a second reversal; or the
                            // first in a chain that is broken, so that the second is the only one.
                            let twice = [9, 13, 14, 15].contains(&turn);
                            let broken = [10, 12, 16, 17].contains(&turn);
                            let other_id = Uuid::from_u128(id.as_u128() + 0x1_0000);
                            let second = Item { id: Some(other_id), linked: false, ..next.clone() };
                            let breaking = Item { id: None, linked: false, ..next.clone() };
                            let first = Item { linked: next.linked || broken, ..next };
                            for item in
                                [Some(first), broken.then_some(breaking), (twice || broken).then_some(second)]
                                    .into_iter()
                                    .flatten()
                            {
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
pub(crate) fn opened() -> BTreeMap<Uuid, Account> {
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
