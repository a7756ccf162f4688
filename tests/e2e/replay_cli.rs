//! `econ replay`, `econ kept` and `econ export log`: a market proven from its log, looked at as it was, and rebuilt from a file.

use std::path::Path;

use ledger::cluster::Cluster;
use serde_json::Value;
use tokio_postgres::NoTls;

use crate::support::checks::rows;
use crate::support::program::{Folder, both, ended, interrupt, json, must, open_market, say};

/// Orders of the demo whose log is replayed.
const ORDERS: u32 = 6;

/// The answer to `--json`, whatever the verdict.
async fn verdict(args: &[&str]) -> (Option<i32>, Value) {
    let said = say(&[args, &["--json"]].concat()).await;
    let answer = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", both(&said)));
    (said.status.code(), answer)
}

/// How it fails: exit status and code.
async fn refused(args: &[&str]) -> (Option<i32>, String) {
    let (status, answer) = verdict(args).await;
    (status, answer["error"]["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
}

#[tokio::test]
async fn a_market_is_proven_from_its_log_and_looked_at_as_it_was() {
    let folder = Folder::new();
    folder.played(ORDERS).await;
    let data_dir = ["--data-dir", folder.text()];
    fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [args, more].concat()
    }
    let words = |args: &[&'static str]| -> Vec<&str> { with(args, &data_dir) };

    let told = must(&words(&["replay", "--from-empty", "--verify"])).await;
    for expected in [
        "gave every receipt again, byte for byte",
        "replay: every table is what the log gives",
        "not compared: receipts.checkpoints (made by time",
        "receipts agrees",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    let lines: Vec<&str> = told.lines().filter(|line| line.trim_end().ends_with(" equal")).collect();
    assert!(lines.len() > 40, "{told}");
    let accounts = lines.iter().find(|line| line.trim_start().starts_with("ledger.accounts ")).unwrap();
    let accounts: Vec<&str> = accounts.split_whitespace().collect();
    assert_eq!((accounts.len(), accounts[2]), (5, accounts[3]), "{accounts:?}");

    // The command line without words does the same; batches do not matter.
    let whole = json(&words(&["replay"])).await;
    let small = json(&words(&["replay", "--from-empty", "--verify", "--batch", "1"])).await;
    assert_eq!((&whole["passed"], &whole["tables"]), (&Value::from(true), &small["tables"]));
    let commands = whole["commands"].as_i64().unwrap();
    assert_eq!(whole["ledgers"][0]["seq"], commands);
    assert!(whole["tables"].as_array().unwrap().iter().all(|table| table["equal"] == true), "{whole}");

    // Half of it, kept.
    let half = (commands / 2).to_string();
    let kept = verdict(&with(&["replay", "--until", &half, "--keep", "half"], &data_dir)).await;
    assert_eq!(
        (kept.0, &kept.1["passed"], &kept.1["commands"]),
        (Some(0), &true.into(), &Value::from(commands / 2)),
        "{}",
        kept.1
    );
    assert_eq!(kept.1["left"]["kept"], "half");
    let psql = |sql: &'static str| {
        let words = words(&["psql", "--kept", "half", "--role", "auditor"]);
        async move { say(&[&words[..], &["--", "-Atqc", sql]].concat()).await }
    };
    let seen = psql("select max(seq) from base.commands").await;
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), half, "{}", both(&seen));
    let seen = psql("select count(*) from transparency.outcomes").await;
    assert!(seen.status.success(), "{}", both(&seen));
    let changed = psql("set default_transaction_read_only = off; create table public.x (y int)").await;
    assert!(!changed.status.success(), "an auditor may change nothing: {}", both(&changed));
    let again = words(&["replay", "--keep", "half"]);
    assert_eq!(refused(&again).await, (Some(1), "UB531".into()));
    assert_eq!(refused(&words(&["replay", "--keep", "No-Name"])).await, (Some(2), "UB131".into()));
    assert_eq!(refused(&words(&["replay", "--until", "1000000"])).await, (Some(1), "UB432".into()));
    assert_eq!(refused(&words(&["replay", "--until", "2001-01-01"])).await, (Some(1), "UB432".into()));

    let listed = json(&words(&["kept", "list"])).await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &"half".into()));
    assert_eq!(listed[0]["about"]["ledgers"][0]["seq"], commands / 2);
    assert!(must(&words(&["kept", "list"])).await.contains("half"));
    must(&words(&["kept", "drop", "half"])).await;
    assert_eq!(json(&words(&["kept", "list"])).await, Value::Array(Vec::new()));
    assert_eq!(refused(&words(&["kept", "drop", "half"])).await, (Some(1), "UB431".into()));
    assert!(!psql("select 1").await.status.success());

    tampered(&folder).await;
}

/// What is wrong is said in one line that names all there is to know, and in JSON.
async fn tampered(folder: &Folder) {
    let books = folder.books().await;
    books.db.batch_execute("set session_replication_role = replica").await.unwrap();
    let raise = "update ledger.accounts set credits_posted = credits_posted + 100 where account_id = \
                   (select account_id from ledger.accounts where purpose = 'escrow' order by account_id limit 1) \
                 returning account_id::text, (select 'seq ' || max(t.seq) from ledger.transfers t where account_id in (t.debit_account_id, t.credit_account_id))";
    let row = books.db.query_one(raise, &[]).await.unwrap();
    let (account, last): (String, String) = (row.get(0), row.get(1));
    books.close().await;
    let said = say(&["replay", "--data-dir", folder.text()]).await;
    let told = both(&said);
    assert_eq!(said.status.code(), Some(1), "{told}");
    let line =
        told.lines().find(|line| line.starts_with("at ledger.accounts")).unwrap_or_else(|| panic!("{told}"));
    assert!(
        line.starts_with(&format!(
            "at ledger.accounts (ledger_id 1, account_id {account}): column credits_posted: the log gives "
        )),
        "{line}"
    );
    assert!(line.contains(&format!("; last command that touched it: {last} ")), "{line}, not {last}");
    assert!(told.contains("DIFFERENT") && told.contains("replay: FAILED at ledger.accounts"), "{told}");
    let (status, answer) = verdict(&["replay", "--data-dir", folder.text()]).await;
    assert_eq!((status, &answer["passed"]), (Some(1), &false.into()));
    let table = answer["tables"].as_array().unwrap().iter().find(|table| table["equal"] == false).unwrap();
    let first = &table["first_difference"];
    assert_eq!(
        (&first["column"], &first["key"]["account_id"]),
        (&"credits_posted".into(), &account.as_str().into())
    );
    assert_eq!(format!("seq {}", first["command"]["seq"]), last);
    assert_eq!(first["command"]["receipt_id"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_log_leaves_a_running_market_as_a_file_and_becomes_a_database_anywhere() {
    let folder = Folder::new();
    folder.played(ORDERS).await;
    let (market, _) = open_market(&folder).await;
    let elsewhere = Folder::new();
    let (log, digests) = (elsewhere.file("log"), elsewhere.file("digests"));
    let told = must(&["export", "log", &log, "--digests", &digests, "--data-dir", folder.text()]).await;
    assert!(told.contains(" commands with their receipts and "), "{told}");
    assert!(json(&["replay", "--data-dir", folder.text()]).await["passed"].as_bool().unwrap());

    // On the other side there is a file, and nothing else: no ledger, no Postgres that runs.
    let nowhere = elsewhere.file("nowhere");
    let replay = ["replay", "--log", &log, "--data-dir", &nowhere];
    let again = json(&[&replay[..], &["--digests", &digests]].concat()).await;
    assert_eq!(again["passed"], true, "{again}");
    assert!(again["tables"].as_array().unwrap().iter().filter(|table| table["equal"] == true).count() > 25);
    assert!(!Path::new(&nowhere).exists(), "a replay of a file made a data dir");
    let told = must(&replay).await;
    assert!(told.contains("nothing to compare with") && told.contains("give --receipt-key"), "{told}");
    let shown = json(&["key", "show", &folder.file("keys/receipt.pem")]).await;
    let key = shown["public_key"].as_str().unwrap();
    assert_eq!(json(&[&replay[..], &["--receipt-key", key]].concat()).await["passed"], true);
    let other = json(&["key", "show", &folder.file("keys/service.pem")]).await;
    let (status, answer) =
        verdict(&[&replay[..], &["--receipt-key", other["public_key"].as_str().unwrap()]].concat()).await;
    assert_eq!((status, &answer["problem"]["place"]), (Some(1), &"receipts.receipts seq 1".into()));
    assert_eq!(refused(&[&replay[..], &["--keep", "x"]].concat()).await, (Some(1), "UB301".into()));
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 100]).unwrap();
    assert_eq!(refused(&replay).await, (Some(2), "UR132".into()));
    std::fs::write(&log, &bytes).unwrap();

    // Into a database that somebody made: on the market's own server, because there is one.
    let cluster = Cluster::attach(Path::new(folder.text())).await.unwrap();
    let admin = cluster.config("postgres", cluster.superuser());
    let (client, connection) = admin.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("create database mine template template0 encoding 'UTF8'").await.unwrap();
    let row = client
        .query_one(
            "select split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')",
            &[],
        )
        .await
        .unwrap();
    let (socket, port): (String, String) = (row.get(0), row.get(1));
    let url = format!("postgres:///mine?host={socket}&port={port}&user={}", cluster.superuser());
    let into = ["replay", "--log", &log, "--into", &url, "--data-dir", &nowhere];
    let told = must(&into).await;
    assert!(told.contains("it is in database mine on "), "{told}");
    assert_eq!(refused(&into).await, (Some(1), "UB532".into()));
    let (mine, connection) = cluster.config("mine", cluster.superuser()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let orders = rows(&mine, "select count(*)::text from market.orders").await;
    assert_eq!(orders, [ORDERS.to_string()]);
    drop((mine, client));
    interrupt(&market);
    let said = ended(market).await;
    assert!(said.status.success(), "{}", both(&said));
}
