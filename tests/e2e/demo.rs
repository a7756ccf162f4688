//! One command, one market, everything proven; and once more, the same told again.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::checks::{healthy, rows};
use crate::support::program::{Folder, both, json, say};

const ORDERS: u32 = 40;

#[tokio::test]
async fn a_demo_ends_every_order_proves_it_and_tells_it_again() {
    let folder = Folder::new();
    let first = folder.played(ORDERS).await;
    let books = folder.books().await;
    let asked_and_moved =
        "select concat_ws(' ', (select count(*) from market.rfqs), (select count(*) from ledger.transfers))";
    let happened = rows(&books.db, asked_and_moved).await;
    books.close().await;
    // Every kind of fault happened, was found, and was refunded.
    let orders = &first["orders"];
    let planned = orders["faults_planned"].as_object().unwrap();
    assert_eq!(
        planned.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        BTreeSet::from(["crash", "timeout", "wrong_output", "over_report", "vanished"])
    );
    for (fault, count) in planned {
        assert!(count.as_u64().unwrap() > 0, "no {fault}: {orders}");
        assert_eq!(&orders["refunded_by_cause"][fault], count, "{fault}: {orders}");
    }
    assert!(orders["settled"].as_u64().unwrap() > 0);
    // What was held is what was paid and what went back; what was paid is what the split gave and what was paid out.
    let minor = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}")).parse::<u128>().unwrap();
    let value = &first["value_minor"];
    assert_eq!(minor(&value["held"]), minor(&value["paid"]) + minor(&value["refunded"]));
    let roles = value["by_role"].as_array().unwrap();
    assert_eq!(roles.iter().map(|role| minor(&role["amount_minor"])).sum::<u128>(), minor(&value["paid"]));
    assert_eq!(minor(&first["payouts"]["amount_minor"]), minor(&value["paid"]));
    assert!(folder.all_processes().is_empty(), "left running: {:?}", folder.all_processes());

    // Told again: nothing is ordered, moved or metered once more.
    let again = folder.played(ORDERS).await;
    for part in ["orders", "value_minor", "payouts", "latency_ms", "time_metered", "earners", "settings"] {
        assert_eq!(first[part], again[part], "{part}");
    }
    let books = folder.books().await;
    assert_eq!(rows(&books.db, asked_and_moved).await, happened);
    healthy(&books.db).await;
    books.close().await;
    let data_dir = ["--data-dir", folder.text()];
    let replayed = json(&[&["replay"], &data_dir[..]].concat()).await;
    assert_eq!(replayed["passed"], true, "{replayed}");

    // A demo is not another one: other settings on the same data dir are refused, and change nothing.
    let other = say(&[&["demo", "--orders", "41", "--json", "--port", "0"], &data_dir[..]].concat()).await;
    assert!(!other.status.success(), "{}", both(&other));

    tampered(&folder).await;
}

/// Somebody with the keys of the house raises a payment: `econ verify` says where.
async fn tampered(folder: &Folder) {
    let books = folder.books().await;
    books.db.batch_execute("set session_replication_role = replica").await.unwrap();
    let raise = "update ledger.transfers set amount = amount + 1 where transfer_id = \
                   (select transfer_id from ledger.transfers order by amount desc, transfer_id limit 1) \
                 returning transfer_id::text";
    let raised = books.db.query_one(raise, &[]).await.unwrap();
    let transfer: String = raised.get(0);
    books.close().await;
    let said = say(&["verify", "--json", "--data-dir", folder.text()]).await;
    assert_eq!(said.status.code(), Some(1), "{}", both(&said));
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(report["passed"], false);
    let places: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|check| check["problem"]["place"].as_str())
        .collect();
    assert!(!places.is_empty(), "{report}");
    let named = both(&said);
    assert!(
        named.contains(&transfer) || places.iter().any(|place| place.contains("transfers")),
        "{places:?}"
    );
}

#[tokio::test]
async fn a_broken_line_of_a_trace_is_named_before_anything_starts() {
    let folder = Folder::new();
    let trace = folder.file("trace.csv");
    let data_dir = folder.file("data");
    let header = "TIMESTAMP,ContextTokens,GeneratedTokens";
    let good = "2023-11-16 18:17:03.9799600,4808,10";
    for (line, broken) in
        [(2, "yesterday,1,1"), (3, "2023-11-16 18:17:04,many,1"), (4, "2023-11-16 18:17:05,1")]
    {
        let mut lines = vec![header];
        lines.extend(vec![good; line - 2]);
        lines.extend([broken, good]);
        std::fs::write(&trace, lines.join("\n")).unwrap();
        let said = say(&["demo", "--trace", &trace, "--json", "--port", "0", "--data-dir", &data_dir]).await;
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(2), "{}", both(&said));
        assert!(told.contains(&format!("line {line}")) && told.contains("trace.csv"), "{told}");
        assert!(!std::path::Path::new(&data_dir).join("pg").exists(), "a database was made");
        assert!(!std::path::Path::new(&data_dir).join("keys").exists(), "keys were made");
    }
}
