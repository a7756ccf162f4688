//! The books read from the command line: accounts, transfers, a statement, the trial balance.

use serde_json::Value;

use crate::support::program::{Folder, both, ended, interrupt, json, must, open_market, say};

/// The values of one column of comma-separated values.
fn column(csv: &str, name: &str) -> Vec<String> {
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let at = csv.headers().unwrap().iter().position(|header| header == name).unwrap();
    csv.records().map(|record| record.unwrap()[at].to_owned()).collect()
}

#[tokio::test]
async fn the_operator_reads_the_books_and_a_buyer_its_part_of_them() {
    let folder = Folder::new();
    let data_dir = ["--data-dir", folder.text()];
    let (market, url) = open_market(&folder).await;
    let key = folder.file("buyer.pem");
    let buyer = json(&["key", "new", &key]).await["agent_id"].as_str().unwrap().to_owned();
    json(&["register", "--api", &url, "--key", &key]).await;
    for (amount, reference) in [("1.25", "a"), ("1000000", "b"), ("0.000001", "c")] {
        json(&[&["deposit", &buyer, amount, "--reference", reference], &data_dir[..]].concat()).await;
    }
    let words = |args: &[&'static str]| -> Vec<String> {
        [&["ledger"], args, &data_dir[..]].concat().into_iter().map(str::to_owned).collect()
    };
    let told = async |args: &[&str]| must(&[&["ledger"], args, &data_dir[..]].concat()).await;
    let asked = async |args: &[&str]| -> Value { json(&[&["ledger"], args, &data_dir[..]].concat()).await };
    let name = format!("wallet:{buyer}");

    let accounts = told(&["accounts"]).await;
    assert!(accounts.contains("1,000,001.250001") && accounts.contains("-1,000,001.250001"), "{accounts}");
    let wallets = asked(&["accounts", "--purpose", "wallet"]).await;
    assert_eq!((wallets.as_array().unwrap().len(), &wallets[0]["ownerId"]), (1, &buyer.as_str().into()));
    let id = wallets[0]["accountId"].as_str().unwrap();
    assert_eq!(column(&told(&["accounts", "--csv", "--owner", &buyer]).await, "balance"), ["1000001.250001"]);

    let transfers = told(&["transfers", "--csv"]).await;
    assert_eq!(column(&transfers, "amount"), ["0.000001", "1000000.000000", "1.250000"]);
    let newest = asked(&["transfers", "--limit", "1"]).await;
    let journal = newest[0]["journalId"].as_str().unwrap();
    assert_eq!(asked(&["transfers", "--journal", journal]).await, newest);

    let statement = asked(&["statement", &name, "--limit", "2"]).await;
    let entries = statement["entries"].as_array().unwrap();
    assert_eq!(
        (entries.len(), &entries[0]["balance"], &entries[1]["balance"]),
        (2, &"1000001250001".into(), &"1000001250000".into())
    );
    let before = statement["before"].as_str().unwrap();
    let shown = told(&["statement", &name, "--limit", "2"]).await;
    assert!(shown.contains("1,000,001.25") && shown.contains(&format!("--before {before}")), "{shown}");
    let rest = told(&["statement", id, "--before", before, "--csv"]).await;
    assert_eq!(column(&rest, "balance"), ["1.250000"]);
    let by_event = told(&["statement", id, "--by", "event", "--csv"]).await;
    assert_eq!(column(&by_event, "balance"), ["1000001.250001", "1000001.250000", "1.250000"]);
    let external = told(&["statement", "external", "--csv"]).await;
    assert_eq!(column(&external, "balance"), ["-1000001.250001", "-1000001.250000", "-1.250000"]);

    let now = told(&["trial-balance"]).await;
    assert!(now.contains("TOTAL, equal") && now.contains("Debits equal credits in every asset."), "{now}");
    assert!(now.contains("1,000,001.250001"), "{now}");
    let at = column(&transfers, "at")[1].clone();
    let then = told(&["trial-balance", "--at", &at, "--by", "event", "--csv"]).await;
    assert_eq!(column(&then, "debits"), ["1000001.250000", "0.000000"]);
    assert!(told(&["trial-balance", "--at", "2020-01-01T00:00:00Z"]).await.contains("nothing was posted"));

    // The buyer's key shows the buyer's own.
    let own = ["--api", &url, "--key", &key];
    let mine = json(&[&["ledger", "accounts"], &own[..]].concat()).await;
    assert_eq!((mine.as_array().unwrap().len(), &mine[0]["accountId"]), (1, &id.into()));
    assert!(must(&[&["ledger", "trial-balance"], &own[..]].concat()).await.contains("the operator's may"));
    let other = say(&[&["ledger", "statement", "external"], &own[..]].concat()).await;
    assert_eq!(other.status.code(), Some(1), "{}", both(&other));

    for (args, hint) in [
        (&["statement", "wallet"][..], "wallet:AGENT-ID"),
        (&["statement", "Wallet:1"], "an account is named"),
        (&["statement", "equity"], "econ ledger accounts"),
        (&["statement", "external", "--before", "e.1.1.1"], "UB103"),
        (&["statement", "external", "--asset", "XYZ"], "UB123"),
        (&["trial-balance", "--at", "yesterday"], "2026-11-20T09:30:00Z"),
        (&["transfers", "--journal", "x"], "--journal"),
    ] {
        let args = words(args);
        let said = say(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert!(
            !said.status.success() && String::from_utf8_lossy(&said.stderr).contains(hint),
            "{args:?}: {}",
            both(&said)
        );
    }
    interrupt(&market);
    let said = ended(market).await;
    assert!(said.status.success(), "{}", both(&said));
}
