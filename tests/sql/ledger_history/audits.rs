//! Somebody with the superuser's rights changes what is filed or written: the audits name it, and the minute's audit stays
//! where it was.

use ledger::testing::TestDb;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{START_US, books, post};
use crate::support::checks::{rows, superuser};

/// What the two audits say, a line each: the page's account or the subject, and the problem.
pub async fn wrong(db: &Client) -> Vec<String> {
    rows(
        db,
        "select 'page of account ' || account_id || ': ' || problem from ledger.audit_pages \
         union all select subject || ': ' || problem from ledger.audit_recent order by 1",
    )
    .await
}

/// Calls `ledger.audit_advance`.
pub async fn advance(db: &Client, ledger_id: i32) -> (i64, i64, Option<String>) {
    let row = db.query_one("select * from ledger.audit_advance($1)", &[&ledger_id]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

/// Four commands of five transfers, filed in pages of ten and audited; then three holds, and two of them ended, in the tail.
/// `None`, and the test names itself as skipped, where nobody can switch the guards off.
async fn filed() -> Option<(TestDb, Client)> {
    let (test_db, db) = books().await;
    if !superuser(&db).await {
        return None;
    }
    let plain = |command: i64, n: i64| {
        let id = format!("t{command}/{n}");
        json!({ "id": id, "journal": id, "kind": "plain", "debit": 0, "credit": 3 + n % 2, "amount": 1 + n })
    };
    for command in 0..4 {
        let items: Vec<Value> = (0..5).map(|n| plain(command, n)).collect();
        post(&db, 1, START_US + command, &items).await;
    }
    let filed: i32 = db.query_one("select ledger.page_entries(1, 10)", &[]).await.unwrap().get(0);
    assert_eq!(filed, 10);
    assert_eq!(db.query_one("select ledger.page_entries(1, 10)", &[]).await.unwrap().get::<_, i32>(0), 10);
    db.batch_execute("reset role").await.unwrap();
    let (through, problems, first) = advance(&db, 1).await;
    assert_eq!((through, problems, first), (4, 0, None));
    db.batch_execute("set role econ_engine").await.unwrap();
    let hold = |n: i64| json!({ "id": format!("h{n}"), "journal": "h", "kind": "pending", "debit": 0, "credit": 5, "amount": 9 });
    post(&db, 1, START_US + 9, &[plain(5, 1), hold(1), hold(2), hold(3)]).await;
    let end =
        |id: &str, kind: &str, of: &str| json!({ "id": id, "journal": "h", "kind": kind, "pending": of });
    let results = post(
        &db,
        1,
        START_US + 10,
        &[end("e1", "post_pending", "h1"), end("e2", "void_pending", "h2"), plain(6, 1)],
    )
    .await;
    assert_eq!(results, ["ok", "ok", "ok"]);
    db.batch_execute("reset role; set session_replication_role = replica").await.unwrap();
    assert_eq!(wrong(&db).await, Vec::<String>::new());
    Some((test_db, db))
}

#[tokio::test]
async fn the_audits_name_what_was_tampered_with() {
    let Some((_test_db, db)) = filed().await else { return };
    let newest = "(account_id, last_seq) = (select p.account_id, p.last_seq from ledger.entry_pages p \
        where p.account_id = t.account(0) order by p.last_seq desc limit 1)";
    // What is done, what the audits say of it, and whether the minute's audit sees it: what it proved once, and what is
    // filed, it takes from the pages, which the other audit proves.
    for (tamper, expected, at_once) in [
        (
            format!("update ledger.entry_pages set transfer_ids = transfer_ids[2:2] || transfer_ids[1:1] || transfer_ids[3:] where {newest}"),
            &["page of account ACCOUNT0: out_of_order"][..],
            false,
        ),
        (
            format!("update ledger.entry_pages set transfer_ids = array[t.id('nothing')] || transfer_ids[2:] where {newest}"),
            &["page of account ACCOUNT0: transfer_missing"],
            false,
        ),
        (
            "update ledger.entry_pages set transfer_ids = array[t.id('t0/0')] || transfer_ids[2:] where account_id = t.account(4) and last_seq = 2".to_owned(),
            &["page of account ACCOUNT4: transfer_of_another_account"],
            false,
        ),
        (
            format!("update ledger.entry_pages set transfer_ids = transfer_ids[2:], entries = entries - 1 where {newest}"),
            &["page of account ACCOUNT0: closing_balances_differ", "page of account ACCOUNT0: 19 entries filed of 20"],
            false,
        ),
        (
            format!("delete from ledger.entry_pages where {newest}"),
            &["page of account ACCOUNT0: 10 entries filed of 20", "account ACCOUNT0: has "],
            true,
        ),
        (
            format!("update ledger.entry_pages set debits_posted = debits_posted + 1 where {newest}"),
            &["page of account ACCOUNT0: closing_balances_differ", "account ACCOUNT0: has "],
            true,
        ),
        (
            format!("update ledger.entry_pages set last_item = last_item + 1 where {newest}"),
            &["page of account ACCOUNT0: last_entry_differs"],
            false,
        ),
        (
            "update ledger.accounts set credits_pending = credits_pending + 1 where account_id = t.account(7) and ledger_id = 1".to_owned(),
            &["account ACCOUNT7: has 0/0 1/0, its transfers say 0/0 0/0"],
            true,
        ),
        (
            "update ledger.transfers set amount = amount + 1 where transfer_id = t.id('t2/1')".to_owned(),
            &["page of account ACCOUNT0: closing_balances_differ", "page of account ACCOUNT4: closing_balances_differ"],
            false,
        ),
        (
            "update ledger.transfers set amount = amount + 1 where transfer_id = t.id('t6/1')".to_owned(),
            &["account ACCOUNT0: has ", "account ACCOUNT4: has "],
            true,
        ),
        (
            "update ledger.transfers set amount = amount + 1 where transfer_id = t.id('e1')".to_owned(),
            &["account ACCOUNT0: has ", "account ACCOUNT5: has ", "transfer e1: moved more than its hold"],
            true,
        ),
        (
            "update ledger.transfers set credit_account_id = t.id('nowhere') where transfer_id = t.id('t5/1')".to_owned(),
            &["account nowhere: does not exist, and transfers name it", "transfer t5/1: is not of its accounts' asset"],
            true,
        ),
        (
            "delete from ledger.transfers where transfer_id = t.id('t1/0')".to_owned(),
            &["page of account ACCOUNT0: transfer_missing", "page of account ACCOUNT3: transfer_missing"],
            false,
        ),
        (
            "update ledger.holds set ended_by = t.id('e2') where transfer_id = t.id('h1')".to_owned(),
            &["transfer e1: did not end the hold that it names"],
            true,
        ),
        (
            "update ledger.holds set amount = 8 where transfer_id = t.id('h3')".to_owned(),
            &["transfer h3: differs from its hold"],
            true,
        ),
        ("delete from ledger.holds where transfer_id = t.id('h3')".to_owned(), &["transfer h3: has no hold"], true),
    ] {
        db.batch_execute(&format!("begin; {tamper}")).await.unwrap();
        let found = named(&db).await;
        for line in expected {
            assert!(found.iter().any(|found| found.starts_with(line)), "{tamper}: {line} is not among {found:#?}");
        }
        let (through, problems, first) = advance(&db, 1).await;
        if at_once {
            assert_eq!(through, 4, "{tamper}: audited in spite of {found:?}");
            assert!(problems > 0 && first.is_some(), "{tamper}");
        } else {
            assert_eq!(problems, 0, "{tamper}: {first:?}");
        }
        db.batch_execute("rollback").await.unwrap();
    }
    assert_eq!(wrong(&db).await, Vec::<String>::new());
    assert_eq!(advance(&db, 1).await, (6, 0, None));
}

/// The same with names for the ids.
async fn named(db: &Client) -> Vec<String> {
    let names = "select n, t.id(n)::text from unnest(array['nowhere', 'e1', 'e2', 'h1', 'h3', 't5/1']) n \
                 union all select 'ACCOUNT' || n, t.account(n)::text from generate_series(0, 7) n";
    let names: Vec<(String, String)> =
        db.query(names, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    let name = |line: String| names.iter().fold(line, |line, (name, id)| line.replace(id, name));
    wrong(db).await.into_iter().map(name).collect()
}
