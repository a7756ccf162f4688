//! A buyer with nothing but `econ`, from a new key to a settled order and its provider's statement.

use std::process::Stdio;

use serde_json::Value;

use crate::support::program::{Folder, both, econ, ended, interrupt, json, must, open_market, say, until};

#[tokio::test]
async fn a_buyer_needs_no_other_tool() {
    let folder = Folder::new();
    let data_dir = ["--data-dir", folder.text()];
    let (market, url) = open_market(&folder).await;

    // A second server on the same data dir is told who is there.
    let second = say(&[&["up", "--port", "0"], &data_dir[..]].concat()).await;
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{}", both(&second));
    assert!(told.contains("UB503") && told.contains(&format!("process {}", market.id().unwrap())), "{told}");

    let home = folder.file("agent");
    let agent = econ(["agent", "--api", &url, "--home", &home, "--region", "eu-1", "--price-per-unit", "10"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    let key = folder.file("buyer.pem");
    let as_buyer = ["--api", &url, "--key", &key];
    let buyer = |args: &[&str]| -> Vec<String> {
        args.iter().chain(&as_buyer).map(|word| (*word).to_owned()).collect()
    };
    let ask = async |args: &[&str]| -> Value {
        let words = buyer(args);
        json(&words.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let made = json(&["key", "new", &key]).await;
    let id = made["agent_id"].as_str().unwrap().to_owned();
    assert_eq!(json(&["key", "show", &key]).await, made);
    let twice = say(&["key", "new", &key]).await;
    assert!(!twice.status.success(), "a key was replaced: {}", both(&twice));

    ask(&["register"]).await;
    let deposit = [&["deposit", &id, "25", "--reference", "wire-1"], &data_dir[..]].concat();
    assert_eq!(json(&deposit).await["facts"]["amount"], "25000000");
    assert!(must(&deposit).await.contains("nothing was added"));
    assert_eq!(wallet(&ask(&["balance"]).await), "25000000");
    let blank = say(&[&["deposit", &id, "25", "--reference", "wire 1"], &data_dir[..]].concat()).await;
    assert!(both(&blank).contains("UL1") && both(&blank).contains("reference"), "{}", both(&blank));
    // The buyer's own key deposits nothing.
    let own = buyer(&["deposit", &id, "25", "--reference", "wire-2"]);
    let own = say(&own.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(String::from_utf8_lossy(&own.stderr).contains("UI301"), "{}", both(&own));

    until("a provider", async || {
        let asked = ask(&["rfq", "open", "--tokens", "200,3", "--max-price", "1", "--valid-for", "1"]).await;
        (!asked["facts"]["invited"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    let asked = ask(&["rfq", "open", "--tokens", "2000,30", "--max-price", "1"]).await;
    let offers = until("an offer", async || {
        let offers = ask(&["offers", asked["rfqId"].as_str().unwrap(), "--wait", "20"]).await;
        (!offers.as_array().unwrap().is_empty()).then_some(offers)
    })
    .await;
    let offer = &offers[0];
    let price: u64 = offer["price"].as_str().unwrap().parse().unwrap();
    let ordered = ask(&["order", offer["offerId"].as_str().unwrap()]).await;
    let order = ordered["facts"]["order_id"].as_str().unwrap().to_owned();
    let in_state = async |state: &str| {
        until(state, async || {
            let found = ask(&["order", "show", &order]).await;
            (found["state"] == state).then_some(found)
        })
        .await
    };
    in_state("reported").await;
    let output = folder.file("output");
    let checked = ask(&["order", "output", &order, "--out", &output]).await;
    assert_eq!(checked["right"], true, "{checked}");
    let bytes = std::fs::read(&output).unwrap();
    assert_eq!(blake3::hash(&bytes).to_hex().as_str(), checked["outputHash"].as_str().unwrap());
    ask(&["accept", &order]).await;
    // The house settles by itself; whoever asks for it as well is not charged twice.
    ask(&["settle", &order]).await;
    let settled = in_state("settled").await;
    assert_eq!(settled["paid"].as_str().unwrap(), price.to_string());
    assert_eq!(wallet(&ask(&["balance"]).await), (25_000_000 - price).to_string());
    assert_eq!(ask(&["orders"]).await.as_array().unwrap().len(), 1);

    // The provider's statement, by its own key.
    let provider = settled["providerId"].as_str().unwrap();
    let provider_key = format!("{home}/key.pem");
    let statement = must(&["statement", provider, "--csv", "--api", &url, "--key", &provider_key]).await;
    let mut csv = csv::Reader::from_reader(statement.as_bytes());
    let at = |name: &str, csv: &mut csv::Reader<&[u8]>| {
        csv.headers().unwrap().iter().position(|header| header == name).unwrap()
    };
    let (role, amount, of) = (at("role", &mut csv), at("amount", &mut csv), at("order_id", &mut csv));
    let lines: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 1, "{statement}");
    assert_eq!((&lines[0][role], &lines[0][of]), ("provider", order.as_str()));
    let earned: f64 = lines[0][amount].parse().unwrap();
    assert!(earned > 0.0 && earned * 1e6 <= price as f64, "{statement}");
    // Somebody else's is not the buyer's to see.
    let others = buyer(&["statement", provider, "--csv", "--data-dir", "/nowhere"]);
    let others = say(&others.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(!others.status.success(), "{}", both(&others));

    // While it runs, it is proven; and it ends when it is told to.
    assert!(must(&[&["verify"], &data_dir[..]].concat()).await.contains("everything balances and is proven"));
    interrupt(&agent);
    ended(agent).await;
    interrupt(&market);
    let said = ended(market).await;
    assert!(said.status.success(), "{}", both(&said));
    assert!(folder.all_processes().is_empty(), "left running: {:?}", folder.all_processes());
}

/// What the wallet holds, minor units.
fn wallet(balances: &Value) -> String {
    let of = |row: &&Value| row["purpose"] == "wallet";
    let row = balances.as_array().unwrap().iter().find(of);
    row.map_or("0".to_owned(), |row| row["posted"].as_str().unwrap().to_owned())
}
