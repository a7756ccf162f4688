//! `econ erase`, on a market that stands still, on one that runs and on one that is killed: what it removes is gone, and the market is proven as
//! before.

use std::process::Stdio;

use serde_json::Value;

use crate::support::checks::rows;
use crate::support::evidence::{Found, read_in_python};
use crate::support::program::{
    Folder, both, econ, ended, interrupt, json, kill_9, must, open_market, say, until,
};

/// Every file of artifacts and their keys.
fn stored(folder: &Folder) -> Vec<String> {
    fn walk(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => walk(&path, found),
                path => found.push(path.to_str().unwrap().to_owned()),
            }
        }
    }
    let mut found = Vec::new();
    for name in ["artifacts", "artifact-keys"] {
        walk(folder.file(name).as_ref(), &mut found);
    }
    found
}

fn actions(said: &Value) -> Vec<(String, String)> {
    let one = |item: &Value| {
        (item["artifactHash"].as_str().unwrap().to_owned(), item["action"].as_str().unwrap().to_owned())
    };
    said["artifacts"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn erasing_works_beside_a_server_and_without_one_and_proofs_and_replay_hold() {
    let folder = Folder::new();
    folder.played(12).await;
    let data_dir = ["--data-dir", folder.text()];
    let books = folder.books().await;
    let sql = "select concat_ws(' ', order_id, buyer_id, encode(input_hash, 'hex'), encode(output_hash, 'hex')) from market.orders \
               where state = 'settled' order by order_id";
    let settled = rows(&books.db, sql).await;
    books.close().await;
    let words: Vec<&str> = settled[0].split(' ').collect();
    let [order, _, input, output] = words[..] else { panic!("{words:?}") };
    // Two more, of two buyers.
    let more: Vec<Vec<&str>> = settled[1..].iter().map(|row| row.split(' ').collect()).collect();
    let (buyer, bought) = (more[0][1], more[0][3]);
    let of_another = more.iter().find(|words| words[1] != buyer).expect("two buyers");
    let before = stored(&folder);
    let there = |hash: &str| stored(&folder).iter().filter(|path| path.contains(hash)).count();
    assert_eq!((there(input), there(output)), (2, 2), "each has its file and its key");

    // Without a server: first what would be done, then it is done, then nothing is left to do.
    let planned = json(&[&["erase", order, "--dry-run"], &data_dir[..]].concat()).await;
    let mut expected = vec![(input.to_owned(), "erase".to_owned()), (output.to_owned(), "erase".to_owned())];
    expected.sort();
    assert_eq!(
        (actions(&planned), &planned["dryRun"], planned["receipts"].as_array().unwrap().len()),
        (expected.clone(), &true.into(), 0)
    );
    assert_eq!(stored(&folder), before);
    let erased = json(&[&["erase", order], &data_dir[..]].concat()).await;
    assert_eq!((actions(&erased), erased["receipts"].as_array().unwrap().len()), (expected, 1));
    assert_eq!((there(input), there(output), stored(&folder).len()), (0, 0, before.len() - 4));
    let again = must(&[&["erase", order], &data_dir[..]].concat()).await;
    assert!(again.contains("nothing of order"), "{again}");
    for proof in [&["verify"][..], &["replay", "--from-empty", "--verify"]] {
        must(&[proof, &data_dir[..]].concat()).await;
    }
    // The order's evidence needs no content, and released judges of it know nothing of erasing.
    let file = folder.file("erased.econ");
    std::fs::write(&file, say(&[&["evidence", order], &data_dir[..]].concat()).await.stdout).unwrap();
    must(&["verify", "bundle", &file]).await;
    if let Some(found) = read_in_python(std::path::Path::new(&file), None) {
        assert_eq!(found, Found::Holds);
    }
    assert!(folder.all_processes().is_empty(), "left running: {:?}", folder.all_processes());

    // Beside a server, once the sweep it starts with is over: what is put in the store below is not the sweep's to remove. Ledger 0,
    // which is none, comes last there, and its highest hashes last of all.
    let last = format!("artifacts/0/ff/{}.sealed", "ff".repeat(32));
    std::fs::create_dir_all(folder.file("artifacts/0/ff")).unwrap();
    std::fs::write(folder.file(&last), b"left behind").unwrap();
    let (market, url) = open_market(&folder).await;
    until("the end of the sweep", async || {
        (!std::path::Path::new(&folder.file(&last)).exists()).then_some(())
    })
    .await;
    // What no row knows goes by its hash; what cannot be removed is said with the receipt of what is done.
    let unknown = "ab".repeat(32);
    let left = folder.file(&format!("artifacts/1/ab/{unknown}.sealed"));
    let erase_unknown = [&["erase", &unknown], &data_dir[..]].concat();
    std::fs::create_dir_all(format!("{left}/in the way")).unwrap();
    let said = say(&erase_unknown).await;
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert!(stderr.contains("UB905") && stderr.contains("done: command "), "{}", both(&said));
    assert_eq!(said.status.code(), Some(1));
    std::fs::remove_dir_all(&left).unwrap();
    std::fs::write(&left, b"left behind").unwrap();
    let planned = json(&[&erase_unknown[..], &["--dry-run"]].concat()).await;
    assert_eq!((actions(&planned), there(&unknown)), (vec![(unknown.clone(), "erase".to_owned())], 1));
    let text = must(&erase_unknown).await;
    assert!(text.contains("1 erased, 0 unlinked, 0 kept (receipt "), "{text}");
    assert_eq!(there(&unknown), 0);
    assert!(must(&erase_unknown).await.contains("nothing of artifact"));
    let text = must(&[&["erase", buyer, "--dry-run"], &data_dir[..]].concat()).await;
    assert!(text.contains("would be erased") && !text.contains(input), "{text}");
    let erased = json(&[&["erase", buyer], &data_dir[..]].concat()).await;
    assert!(
        !actions(&erased).is_empty() && actions(&erased).iter().all(|(_, action)| action == "erase"),
        "{erased}"
    );
    assert!(actions(&erased).iter().any(|(hash, _)| hash == bought), "{erased}");
    for (hash, _) in actions(&erased) {
        assert_eq!(there(&hash), 0, "{hash}");
    }
    assert!(must(&[&["erase", buyer], &data_dir[..]].concat()).await.contains("nothing of agent"));
    // Whoever may judge it is told that it is gone.
    let verifier = proto::keys::KeyPair::load(folder.file("keys/verifier.pem").as_ref()).unwrap();
    let verifier = provider_agent::client::Client::new(&url, verifier.into()).unwrap();
    match verifier.get_artifact(input.parse().unwrap()).await {
        Err(provider_agent::client::ClientError::Refused(refusal)) => assert_eq!(&*refusal.code, "UM410"),
        other => panic!("{other:?}"),
    }
    // Anybody erases what they uploaded themselves, with their own key and no data dir; nobody else's.
    let key = folder.file("own.pem");
    let me = json(&["key", "new", &key]).await["agent_id"].as_str().unwrap().to_owned();
    let own = ["--api", &url, "--key", &key];
    json(&[&["register"], &own[..]].concat()).await;
    let mine = proto::keys::KeyPair::load(key.as_ref()).unwrap();
    let mine = provider_agent::client::Client::new(&url, mine.into()).unwrap();
    let hash = mine.put_artifact(&b"mine alone"[..]).await.unwrap().to_string();
    let planned = json(&[&["erase", "me", "--dry-run"], &own[..]].concat()).await;
    assert_eq!((actions(&planned), there(&hash)), (vec![(hash.clone(), "unlink".to_owned())], 2));
    assert_eq!(planned["subject"]["id"], me);
    let text = must(&[&["erase", "me"], &own[..]].concat()).await;
    assert!(
        text.contains("0 erased, 1 unlinked, 0 kept (receipt ")
            && text.contains("what stays: ids, hashes, amounts"),
        "{text}"
    );
    assert_eq!(there(&hash), 0);
    assert!(must(&[&["erase", "me"], &own[..]].concat()).await.contains("nothing of agent"));
    let nobody = "0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f";
    let said = say(&[&["erase", nobody], &data_dir[..]].concat()).await;
    assert_eq!(said.status.code(), Some(1), "{}", both(&said));
    assert!(String::from_utf8_lossy(&said.stderr).contains("UM403"), "{}", both(&said));
    must(&[&["verify"], &data_dir[..]].concat()).await;
    interrupt(&market);
    let said = ended(market).await;
    assert!(said.status.success(), "{}", both(&said));
    // Killed with the server while files go: whatever was left, the next one finishes.
    let (order, [input, output]) = (of_another[0], [of_another[2], of_another[3]]);
    assert_eq!(there(input), 2, "its buyer is another");
    let (market, _) = open_market(&folder).await;
    let erasing = econ([&["erase", order], &data_dir[..]].concat())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until("the first file that goes", async || (there(input) + there(output) < 4).then_some(())).await;
    kill_9(folder.server().unwrap());
    ended(market).await;
    // It may have heard the answer, or not.
    ended(erasing).await;
    json(&[&["erase", order], &data_dir[..]].concat()).await;
    assert_eq!((there(input), there(output)), (0, 0));
    must(&[&["verify"], &data_dir[..]].concat()).await;
    // Nobody erases in a place where there is no market, and none is made.
    let elsewhere = say(&["erase", nobody, "--data-dir", &folder.file("nowhere")]).await;
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("UI112"), "{}", both(&elsewhere));
    assert!(!std::path::Path::new(&folder.file("nowhere")).exists());
}
