//! Receipts from the command line: listed, shown, and checked on this side of the wire.

use serde_json::Value;

use crate::support::program::{Folder, both, ended, interrupt, json, must, open_market, say, until};

#[tokio::test]
async fn receipts_are_listed_shown_and_checked_by_whoever_asks() {
    let folder = Folder::new();
    let (market, url) = open_market(&folder).await;
    let key = folder.file("buyer.pem");
    let made = json(&["key", "new", &key]).await;
    let buyer = made["agent_id"].as_str().unwrap().to_owned();
    let own = ["--api", &url, "--key", &key];
    json(&[&["register"], &own[..]].concat()).await;
    json(&["deposit", &buyer, "1.25", "--reference", "a", "--data-dir", folder.text()]).await;
    let operator_key = folder.file("keys/operator.pem");
    let operator = ["--api", &url, "--key", &operator_key];

    let listed = json(&[&["receipts"], &own[..]].concat()).await;
    let mine = listed["receipts"].as_array().unwrap();
    assert_eq!((mine.len(), &mine[0]["kind"], &listed["next"]), (1, &"register_agent".into(), &Value::Null));
    let all = json(&[&["receipts", "--oldest"], &operator[..]].concat()).await;
    let seqs: Vec<u64> =
        all["receipts"].as_array().unwrap().iter().map(|one| one["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let page = json(&[&["receipts", "--limit", "1", "--kind", "deposit"], &operator[..]].concat()).await;
    assert_eq!(page["receipts"][0]["facts"]["amount"], "1250000", "{page}");
    let table = must(&[&["receipts"], &own[..]].concat()).await;
    assert!(table.contains("register_agent") && table.contains("1 receipts, each signed by"), "{table}");
    let none = must(&[&["receipts", "--since", "2100-01-01T00:00:00Z"], &own[..]].concat()).await;
    assert!(none.contains("no receipts that this key may see"), "{none}");

    // Its place under the signed root comes with the next checkpoint.
    let seq = mine[0]["seq"].to_string();
    let shown = until("the receipt under a checkpoint", async || {
        let shown = json(&[&["receipt", &seq], &own[..]].concat()).await;
        (shown["included"] == true).then_some(shown)
    })
    .await;
    assert_eq!(shown["receipt_id"], mine[0]["receipt_id"]);
    let id = shown["receipt_id"].as_str().unwrap();
    let signer = shown["signed_by"].as_str().unwrap();
    let text = must(&[&["receipt", id, "--receipt-key", signer], &own[..]].concat()).await;
    assert!(
        text.contains("under the signed root") && text.contains(&format!("signed by {signer}")),
        "{text}"
    );

    for (args, hint) in [
        // Somebody else's key: then this is no receipt, whatever the server says of itself.
        (vec!["receipt", &seq, "--receipt-key", &"cd".repeat(32)], "--receipt-key"),
        (vec!["receipt", &seq, "--receipt-key", made["public_key"].as_str().unwrap()], "UR911"),
        (vec!["receipts", "--receipt-key", made["public_key"].as_str().unwrap()], "UR911"),
        (vec!["receipt", "1"], "UR401"),
        (vec!["receipt", "first"], "seq"),
        (vec!["receipts", "--order", "x"], "--order"),
    ] {
        let said = say(&[&args[..], &own[..]].concat()).await;
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
