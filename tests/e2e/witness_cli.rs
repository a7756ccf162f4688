//! A witness beside a market, as an operator runs them: two processes, a checkpoint that both signed, a log on disk.

use std::process::Stdio;

use proto::merkle::{Tree, TreeHash};
use proto::note::{VerifierKey, parse_and_verify, verify_cosignatures};
use proto::tiles::tiles_of;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::support::program::{Folder, both, econ, ended, interrupt, json, must, open_market, say, until};

/// The first line of what a program says, as JSON.
async fn ready(args: &[&str]) -> (Child, Value) {
    let spawned = econ(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap();
    (child, serde_json::from_str(&line.unwrap()).unwrap())
}

async fn get(url: &str) -> Option<String> {
    reqwest::get(url).await.ok()?.error_for_status().ok()?.text().await.ok()
}

#[tokio::test]
async fn a_market_and_its_witness_sign_one_log_that_any_web_server_can_show() {
    let folder = Folder::new();
    let data_dir = ["--data-dir", folder.text()];
    let (market, url) = open_market(&folder).await;
    let info = until("the forest is named", async || {
        let info: Value = serde_json::from_str(&get(&format!("{url}/v1/info")).await?).ok()?;
        info["forest_key"].is_string().then_some(info)
    })
    .await;
    interrupt(&market);
    ended(market).await;
    let log_key = info["ledgers"][0]["log_key"].as_str().unwrap();
    let forest_key = info["forest_key"].as_str().unwrap();
    let dir = folder.file("witness");
    let logs = ["--log", log_key, "--log", forest_key];
    let start = ["witness", "--listen", "127.0.0.1:0", "--dir", &dir, "--name", "w.example", "--ready-json"];
    let (witness, told) = ready(&[&start[..], &logs[..]].concat()).await;
    let key = told["key"].as_str().unwrap();
    let at = told["url"].as_str().unwrap();
    assert_eq!(get(at).await.unwrap(), format!("{key}\n"));
    let second = say(&[&start[..], &logs[..]].concat()).await;
    assert!(
        !second.status.success() && both(&second).contains("another witness uses it"),
        "{}",
        both(&second)
    );
    let wrong = say(&["witness", "--dir", &dir, "--log", key]).await;
    assert_eq!(wrong.status.code(), Some(2), "{}", both(&wrong));

    let peer = format!("{at}={key}");
    let up = ["up", "--port", "0", "--witness", &peer, "--ready-json"];
    let (market, told) = ready(&[&up[..], &data_dir[..]].concat()).await;
    let url = told["url"].as_str().unwrap();
    let path = format!("{url}/v1/ledgers/1/checkpoint?witnessed=true");
    let note = until("the witness cosigns", async || get(&path).await).await;
    let (log, witness_key): (VerifierKey, VerifierKey) = (log_key.parse().unwrap(), key.parse().unwrap());
    parse_and_verify(&note, &log.name, &log.key).unwrap();
    assert_eq!(verify_cosignatures(&note, &witness_key.name, &witness_key.key).unwrap().len(), 1);

    let out = folder.file("log");
    let written = json(&[&["export", "tiles", "-o", &out], &data_dir[..]].concat()).await;
    assert!(written["tiles_written"].as_u64().unwrap() > 0, "{written}");
    let read = |name: &str| std::fs::read(std::path::Path::new(&out).join(name)).unwrap();
    let exported = String::from_utf8(read("checkpoint")).unwrap();
    let head = parse_and_verify(&exported, &log.name, &log.key).unwrap();
    let mut tree = Tree::new();
    for tile in tiles_of(head.size).filter(|tile| tile.level == 0) {
        let hashes = read(&format!("tile/{tile}"));
        hashes.chunks(32).for_each(|hash| tree.append(TreeHash::from_slice(hash).unwrap()));
    }
    assert_eq!((tree.size(), tree.root()), (head.size, head.root));
    // What was cut short is gone on with: only what is missing is written.
    std::fs::remove_file(std::path::Path::new(&out).join("checkpoint")).unwrap();
    let again = json(&[&["export", "tiles", "-o", &out], &data_dir[..]].concat()).await;
    assert_eq!((&again["size"], read("checkpoint").is_empty()), (&written["size"], false), "{again}");
    assert_eq!(again["tiles_written"], 0);
    let forest = folder.file("forest");
    must(&[&["export", "tiles", "--ledger", "0", "-o", &forest], &data_dir[..]].concat()).await;
    assert!(std::path::Path::new(&forest).join("tile/entries").is_dir());

    let file = folder.file("witnessed.checkpoint");
    std::fs::write(&file, &note).unwrap();
    let report = json(&[&["verify", "--checkpoint", &file], &data_dir[..]].concat()).await;
    assert_eq!(report["passed"], true, "{report}");
    std::fs::write(&file, note.replacen('\n', "\n1", 1)).unwrap();
    let forged = say(&[&["verify", "--checkpoint", &file], &data_dir[..]].concat()).await;
    assert!(
        forged.status.code() == Some(1) && both(&forged).contains("witnessed.checkpoint"),
        "{}",
        both(&forged)
    );
    for child in [market, witness] {
        interrupt(&child);
        assert!(ended(child).await.status.success());
    }
}
