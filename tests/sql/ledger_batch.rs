//! `ledger.post_batch` given what it should not get, and what lies just at a border.

use ledger::testing::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::direct::{
    Item, START_US, account, audit, id, id_at, many_accounts, open_ledger, post_batch,
};

const DAY_MS: i64 = 86_400_000;
const START_MS: i64 = START_US / 1_000;
const AMOUNT_MAX: &str = "9999999999999999999999999999";

/// A ledger in which account 100 has `funds`, as the engine sees it.
async fn books(funds: u32) -> (TestDb, Client) {
    let test_db = TestDb::new().await;
    let db = test_db.admin().await;
    open_ledger(&db, 1, 5).await;
    db.batch_execute("set role econ_engine").await.unwrap();
    if funds > 0 {
        assert_eq!(post_batch(&db, 1, START_US, &[Item::plain(id(1), 0, 100, funds)]).await, ["ok"]);
    }
    (test_db, db)
}

async fn healthy(db: &Client) {
    assert_eq!(audit(db).await, Vec::<String>::new());
    // Each (journal, command) that posted, but for transfers that are a journal of their own.
    let wrong = "with t as (select distinct ledger_id, journal_id, seq from ledger.transfers where journal_id <> transfer_id) \
       select count(*) from (select * from t except select * from ledger.journals union all \
                             (select * from ledger.journals except select * from t)) x";
    assert_eq!(db.query_one(wrong, &[]).await.unwrap().get::<_, i64>(0), 0, "ledger.journals");
}

fn clean(n: u128) -> Item {
    Item::plain(id(n), 1, 2, 1)
}

/// Of an account: debits_pending, debits_posted, credits_pending, credits_posted.
async fn balances(db: &Client, n: u32) -> String {
    let sql = "select concat_ws(' ', debits_pending, debits_posted, credits_pending, credits_posted) \
               from ledger.accounts where ledger_id = 1 and account_id = $1";
    db.query_one(sql, &[&account(n)]).await.unwrap().get(0)
}

fn counted(results: &[String], result: &str) -> usize {
    results.iter().filter(|found| *found == result).count()
}

#[tokio::test]
async fn a_null_in_any_column_is_that_items_result_and_nobody_elses() {
    let (_test_db, db) = books(0).await;
    type Spoil = fn(Item) -> Item;
    let cases: [(&str, Spoil, &str); 12] = [
        ("id", |i| Item { id: None, ..i }, "id_must_not_be_zero"),
        ("kind", |i| Item { kind: None, ..i }, "reserved_flag"),
        ("debit", |i| Item { debit: None, ..i }, "debit_account_id_must_not_be_zero"),
        ("credit", |i| Item { credit: None, ..i }, "credit_account_id_must_not_be_zero"),
        ("asset", |i| Item { asset: None, ..i }, "asset_must_not_be_zero"),
        ("amount", |i| Item { amount: None, ..i }, "amount_must_not_be_zero"),
        ("reason", |i| Item { reason: None, ..i }, "reason_must_not_be_empty"),
        ("journal", |i| Item { journal: None, ..i }, "ok"),
        ("timeout", |i| Item { timeout_ms: None, ..i }, "ok"),
        ("linked", |i| Item { linked: None, ..i }, "ok"),
        ("flags", |i| Item { flags: None, ..i }, "ok"),
        ("effective", |i| Item { effective_us: None, ..i }, "ok"),
    ];
    let full = |n| Item { timeout_ms: Some(0), linked: Some(false), flags: Some(0), ..clean(n) };
    for (round, around) in (1_u128..).zip([0, 1, 20]) {
        for (k, (column, spoil, expected)) in (0_u128..).zip(cases) {
            let first = round * 10_000 + k * 100;
            let mut items: Vec<Item> = (first..first + around).map(full).collect();
            let at = items.len() / 2;
            items.insert(at, spoil(full(first + 50)));
            let results = post_batch(&db, 1, START_US, &items).await;
            assert_eq!(results[at], expected, "{column} among {around}");
            let others = counted(&results, "ok") - usize::from(expected == "ok");
            assert_eq!(others, items.len() - 1, "{column} among {around}: {results:?}");
        }
    }
    // All of a row, and a row of an end.
    let nothing = [
        Item::default(),
        clean(9_000),
        Item { kind: Some("post_pending"), id: Some(id(9_001)), ..Item::default() },
    ];
    assert_eq!(
        post_batch(&db, 1, START_US, &nothing).await,
        ["reserved_flag", "ok", "pending_id_must_not_be_zero"]
    );
    healthy(&db).await;
}

#[tokio::test]
async fn what_is_no_amount_is_refused_before_a_cast_could_round_it() {
    let (_test_db, db) = books(100).await;
    for (k, (amount, expected)) in (1_u128..).zip([
        ("NaN", "amount_must_be_whole"),
        ("Infinity", "overflows_amount"),
        ("-Infinity", "amount_must_not_be_negative"),
        ("0.4", "amount_must_be_whole"),
        ("0.5", "amount_must_be_whole"),
        ("9999999999999999999999999999.4", "amount_must_be_whole"),
        ("10000000000000000000000000000", "overflows_amount"),
        ("1e400", "overflows_amount"),
        ("-1", "amount_must_not_be_negative"),
        ("0", "amount_must_not_be_zero"),
        ("-0", "amount_must_not_be_zero"),
        ("0.000", "amount_must_not_be_zero"),
        ("3.000", "ok"),
        ("3e0", "ok"),
    ]) {
        for (debit, credit) in [(1, 2), (100, 2)] {
            let first = k * 1_000 + u128::from(debit);
            let mut items: Vec<Item> =
                (0..15).map(|n| Item::plain(id(first + 200 + n), debit, credit, 1)).collect();
            items[7].amount = Some(amount.to_owned());
            items[8].amount = Some(amount.to_owned());
            items[8].kind = Some("pending");
            let results = post_batch(&db, 1, START_US, &items).await;
            if debit == 1 {
                assert_eq!(results[7..9], [expected, expected], "{amount}");
                assert!(counted(&results, "ok") >= 13, "{amount}: {results:?}");
            } else {
                assert!(expected == "ok" || results[7..9] == [expected, expected], "{amount}: {results:?}");
            }
            healthy(&db).await;
        }
    }
    let whole = "select count(*) from ledger.transfers where amount not in (1, 3, 100)";
    assert_eq!(db.query_one(whole, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_sum_beyond_28_digits_refuses_the_items_that_reach_it_and_no_others() {
    let (_test_db, db) = books(0).await;
    let mut items: Vec<Item> = (100..120).map(clean).collect();
    items[3] = Item::plain(id(1_001), 3, 4, AMOUNT_MAX);
    items[9] = Item::plain(id(1_002), 3, 4, AMOUNT_MAX);
    items[15] = Item::plain(id(1_003), 4, 3, AMOUNT_MAX);
    let results = post_batch(&db, 1, START_US, &items).await;
    assert_eq!([&results[3], &results[9], &results[15]], ["ok", "overflows_debits_posted", "ok"]);
    assert_eq!(counted(&results, "ok"), 19, "{results:?}");
    assert_eq!(balances(&db, 3).await, format!("0 {AMOUNT_MAX} 0 {AMOUNT_MAX}"));
    // Exactly to the brim.
    let brim = [
        Item::plain(id(1_004), 0, 1, "4999999999999999999999999999"),
        Item::pending(id(1_005), 0, 2, "4999999999999999999999999999"),
        Item::plain(id(1_006), 0, 2, "1"),
        Item::plain(id(1_007), 0, 2, "1"),
    ];
    assert_eq!(post_batch(&db, 1, START_US, &brim).await, ["ok", "ok", "ok", "overflows_debits"]);
    healthy(&db).await;
}

#[tokio::test]
async fn ids_are_taken_to_the_millisecond_of_both_edges_of_the_window() {
    let (_test_db, db) = books(0).await;
    let edges = |salt: u128| -> Vec<Item> {
        [-DAY_MS - 1, -DAY_MS, 0, DAY_MS, DAY_MS + 1]
            .into_iter()
            .map(|ms| Item::plain(id_at(START_MS + ms, salt), 1, 2, 1))
            .collect()
    };
    let expected = ["id_time_out_of_range", "ok", "ok", "ok", "id_time_out_of_range"];
    assert_eq!(post_batch(&db, 1, START_US, &edges(1)).await, expected);
    // With chains of other versions and variants among them.
    let mut odd = edges(2);
    odd.push(Item::plain(Uuid::from_u128(id(77).as_u128() ^ (3 << 76)), 1, 2, 1));
    odd.push(Item::plain(Uuid::from_u128(id(78).as_u128() ^ (1 << 63)), 1, 2, 1));
    let results = post_batch(&db, 1, START_US, &odd).await;
    assert_eq!(results[..5], expected);
    assert_eq!(results[5..], ["id_time_out_of_range", "id_time_out_of_range"]);
    // An id of the far end of the window does not hide the ones below it, new or old.
    let results = post_batch(&db, 1, START_US, &(200..230).map(clean).collect::<Vec<_>>()).await;
    assert_eq!(counted(&results, "ok"), 30);
    let results = post_batch(&db, 1, START_US, &(220..250).map(clean).collect::<Vec<_>>()).await;
    assert_eq!((counted(&results, "exists"), counted(&results, "ok")), (10, 20), "{results:?}");
    healthy(&db).await;
}

#[tokio::test]
async fn an_id_that_occurs_twice_in_a_batch_is_posted_once() {
    let (_test_db, db) = books(0).await;
    let mut items: Vec<Item> = (100..130).map(clean).collect();
    items[20] = items[4].clone();
    items[25] = Item { amount: Some("2".into()), ..items[4].clone() };
    items[29] = Item { kind: Some("pending"), ..items[5].clone() };
    let results = post_batch(&db, 1, START_US, &items).await;
    assert_eq!(
        [&results[4], &results[20], &results[25], &results[29]],
        ["ok", "exists", "exists_with_different_amount", "exists_with_different_flags"]
    );
    assert_eq!(counted(&results, "ok"), 27);
    assert_eq!(balances(&db, 1).await, "0 27 0 0");
    healthy(&db).await;
}

#[tokio::test]
async fn the_largest_batch_is_posted_whole_and_its_retry_exists_whole() {
    let (_test_db, db) = books(8_190).await;
    let items: Vec<Item> =
        (0..8_190).map(|n| Item::plain(id(1_000 + n), 100, 1 + (n % 4) as u32, 1)).collect();
    let results = post_batch(&db, 1, START_US, &items).await;
    assert_eq!(counted(&results, "ok"), 8_190);
    assert_eq!(balances(&db, 100).await, "0 8190 0 8190");
    let results = post_batch(&db, 1, START_US, &items).await;
    assert_eq!(counted(&results, "exists"), 8_190);
    healthy(&db).await;
}

#[tokio::test]
async fn an_account_funded_for_exactly_the_batch_bears_all_of_it_and_with_one_less_refuses_one() {
    for (funds, refused, crowded) in
        [(300, 0, false), (299, 1, false), (0, 300, false), (300, 0, true), (299, 1, true), (0, 300, true)]
    {
        let (_test_db, db) = books(funds).await;
        if crowded {
            many_accounts(&db, 10_000).await;
        }
        // Others between them, so that not all of the batch is judged one by one.
        let items: Vec<Item> = (0..600)
            .map(|n| if n % 2 == 0 { Item::plain(id(1_000 + n), 100, 3, 1) } else { clean(1_000 + n) })
            .collect();
        let results = post_batch(&db, 1, START_US, &items).await;
        assert_eq!(counted(&results, "exceeds_credits"), refused, "{funds}");
        assert_eq!(counted(&results, "ok"), 600 - refused, "{funds}");
        if refused == 1 {
            assert_eq!(results[598], "exceeds_credits", "the last one finds nothing left");
        }
        let retried = post_batch(&db, 1, START_US, &items).await;
        assert_eq!(counted(&retried, "id_already_failed"), refused);
        assert_eq!(counted(&retried, "exists"), 600 - refused);
        healthy(&db).await;
    }
}

#[tokio::test]
async fn money_that_comes_in_the_same_batch_is_there_for_what_follows_and_not_for_what_precedes() {
    let (_test_db, db) = books(0).await;
    let mut items: Vec<Item> = (100..120).map(clean).collect();
    items[2] = Item::plain(id(1_001), 101, 3, 5);
    items[5] = Item::plain(id(1_002), 0, 101, 5);
    items[9] = Item::plain(id(1_003), 101, 3, 5);
    items[12] = Item::plain(id(1_004), 101, 3, 1);
    let results = post_batch(&db, 1, START_US, &items).await;
    assert_eq!(
        [&results[2], &results[5], &results[9], &results[12]],
        ["exceeds_credits", "ok", "ok", "exceeds_credits"]
    );
    healthy(&db).await;
}

#[tokio::test]
async fn a_hold_may_be_posted_and_another_voided_in_the_batch_that_makes_them() {
    let (_test_db, db) = books(10).await;
    let mut items: Vec<Item> = (100..120).map(clean).collect();
    items[3] = Item::pending(id(1_001), 100, 3, 6);
    items[4] = Item::pending(id(1_002), 100, 3, 4);
    items[5] = Item::plain(id(1_003), 100, 3, 1);
    items[8] = Item { amount: Some("5".into()), ..Item::end(id(1_004), "post_pending", id(1_001)) };
    items[9] = Item::end(id(1_005), "void_pending", id(1_002));
    items[10] = Item::end(id(1_006), "void_pending", id(1_001));
    items[11] = Item::plain(id(1_007), 100, 3, 5);
    // Before the hold that it names.
    items[1] = Item::end(id(1_008), "post_pending", id(1_009));
    items[15] = Item::pending(id(1_009), 1, 3, 1);
    let results = post_batch(&db, 1, START_US, &items).await;
    let of = |n: usize| results[n].as_str();
    assert_eq!([of(3), of(4), of(5)], ["ok", "ok", "exceeds_credits"]);
    assert_eq!([of(8), of(9), of(10), of(11)], ["ok", "ok", "pending_transfer_already_posted", "ok"]);
    assert_eq!([of(1), of(15)], ["pending_transfer_not_found", "ok"]);
    assert_eq!(balances(&db, 100).await, "0 10 0 10");
    healthy(&db).await;
}

#[tokio::test]
async fn a_chain_across_certain_and_uncertain_accounts_fails_as_one() {
    for crowded in [false, true] {
        let (_test_db, db) = books(10).await;
        if crowded {
            many_accounts(&db, 1_000).await;
        }
        fails_as_one(&db).await;
        healthy(&db).await;
    }
}

async fn fails_as_one(db: &Client) {
    let mut items: Vec<Item> = (100..130).map(clean).collect();
    // Certain, uncertain, certain: the one in the middle cannot be borne.
    items[3] = Item::plain(id(1_001), 1, 2, 7).linked();
    items[4] = Item::plain(id(1_002), 100, 2, 11).linked();
    items[5] = Item::plain(id(1_003), 2, 3, 7);
    // The same with what can.
    items[10] = Item::plain(id(1_004), 1, 2, 7).linked();
    items[11] = Item::plain(id(1_005), 100, 2, 10).linked();
    items[12] = Item::plain(id(1_006), 2, 3, 7);
    // A chain all of which is certain stays with the set.
    items[20] = Item::plain(id(1_007), 1, 2, 7).linked();
    items[21] = Item::plain(id(1_008), 2, 1, 7);
    let results = post_batch(db, 1, START_US, &items).await;
    assert_eq!(results[3..6], ["linked_event_failed", "exceeds_credits", "linked_event_failed"]);
    assert_eq!(counted(&results, "ok"), 27, "{results:?}");
    assert_eq!(balances(db, 3).await, "0 0 0 7");
}

#[tokio::test]
async fn a_chain_that_is_open_at_the_end_takes_only_itself_back() {
    let (_test_db, db) = books(10).await;
    for (k, length) in (1_u128..).zip([1_usize, 2, 14]) {
        let mut items: Vec<Item> = (0..30).map(|n| clean(k * 1_000 + n)).collect();
        let start = items.len() - length;
        for item in &mut items[start..] {
            item.linked = Some(true);
        }
        let results = post_batch(&db, 1, START_US, &items).await;
        assert_eq!(counted(&results, "ok"), start);
        assert_eq!(counted(&results, "linked_event_failed"), length - 1);
        assert_eq!(results[29], "linked_event_chain_open");
        healthy(&db).await;
    }
}
