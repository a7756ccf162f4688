//! `econ backup` and `econ restore`: what is restored is proven, what is missing is said, what is damaged or by half is refused.

use std::path::Path;

use serde_json::Value;

use crate::support::copies::{
    Buyer, Copies, below, copy_tree, flip, last_seq, lose, lost_promises, refused, restored, size, spawn,
    stands_still, verified,
};
use crate::support::program::{Folder, both, ended, interrupt, must, open_market, say, summary, until};

const ORDERS: u32 = 20;

#[tokio::test]
async fn a_market_that_is_gone_comes_back_proven_and_goes_on() {
    let (market, copies) = (Folder::new(), Copies::new());
    market.played(ORDERS).await;
    let made = copies.make(&market, &["--artifacts"]).await;
    assert_eq!(
        (&made["signed"], made["manifest"]["wal"]["stretch"].is_null()),
        (&true.into(), true),
        "{made}"
    );
    let artifacts = below(Path::new(&market.file("artifacts/1"))).len();
    assert!(artifacts > 0);
    lose(&market);

    let back = copies.restored(&market, &[]).await;
    assert_eq!(size(&back), made["manifest"]["ledgers"][0]["size"].as_u64().unwrap());
    assert_eq!(back["losses"], Value::Array(vec![]), "{back}");
    assert_eq!(below(Path::new(&market.file("artifacts/1"))).len(), artifacts);
    assert_eq!(verified(&market).await, 0);
    assert_eq!(below(Path::new(&market.file("restores"))).len(), 1, "what was decided is written down");

    // A restore never overwrites.
    let marker = std::fs::read(market.file("pg/global/pg_control")).unwrap();
    let twice = copies.restore(&market, &["--accept-loss"]).await;
    assert!(!twice.status.success() && both(&twice).contains("UB504"), "{}", both(&twice));
    assert_eq!(std::fs::read(market.file("pg/global/pg_control")).unwrap(), marker);

    let (server, url) = open_market(&market).await;
    let buyer = Buyer::register(&market, &url).await;
    assert_eq!(last_seq(&market).await, size(&back) + 1, "the next command has the next number");
    buyer.deposit(&market, 5, "after").await;
    assert_eq!(buyer.wallet(&url).await, 5_000_000);
    interrupt(&server);
    assert!(ended(server).await.status.success());
    assert_eq!(verified(&market).await, 0);
}

#[tokio::test]
async fn a_copy_of_a_busy_market_is_whole_and_what_came_after_it_is_missed_and_given_up_only_by_word() {
    let (market, copies) = (Folder::new(), Copies::new());
    let mut demo = market.demo(2 * ORDERS).spawn().unwrap();
    market.until_commands(60, &mut demo).await;
    let made = copies.make(&market, &[]).await;
    let seen = made["manifest"]["ledgers"][0]["size"].as_u64().unwrap();
    summary(&ended(demo).await, 2 * ORDERS);
    // However late the copy was made, something came after it.
    let (server, url) = open_market(&market).await;
    Buyer::register(&market, &url).await.deposit(&market, 5, "after-the-copy").await;
    interrupt(&server);
    assert!(ended(server).await.status.success());
    let outside = market.file("checkpoints/ledger-1.checkpoint");
    let promised: u64 = std::fs::read_to_string(&outside).unwrap().lines().nth(1).unwrap().parse().unwrap();
    assert!((60..promised).contains(&seen), "{seen} of {promised}");

    // Where nobody kept a later checkpoint, nothing can be missed.
    let innocent = Folder::new();
    let kept = size(&copies.restored(&innocent, &[]).await);
    assert!((seen..promised).contains(&kept), "{kept}");

    // Where somebody did, it is said what would be lost.
    let back = Folder::new();
    let with = ["--checkpoint", outside.as_str()];
    let asked = copies.refused(&back, "UR601", &with).await;
    for said in
        [format!("ends at seq {kept}"), format!("says {promised}"), format!("{} to {promised}", kept + 1)]
    {
        assert!(asked.contains(&said) && asked.contains("--accept-loss"), "{said}: {asked}");
    }
    // A server does not make a new market in its place.
    let up = say(&["up", "--port", "0", "--data-dir", back.text()]).await;
    assert!(!up.status.success() && both(&up).contains("UB604"), "{}", both(&up));

    let back_again = copies.restored(&back, &[&with[..], &["--accept-loss"]].concat()).await;
    assert_eq!(back_again["losses"][0]["promised"].as_u64(), Some(promised), "{back_again}");
    // The old promise is kept as evidence, and the new checkpoint states what became of it.
    let mut kept_promises = lost_promises(&back, promised);
    let (Some(lost), true) = (kept_promises.pop(), kept_promises.is_empty()) else { panic!("{promised}") };
    assert_eq!(lost, std::fs::read_to_string(&outside).unwrap());
    let root = lost.lines().nth(2).unwrap().to_owned();
    let statement = format!("restored {kept} {promised} {root}");
    let current = || std::fs::read_to_string(back.file("checkpoints/ledger-1.checkpoint")).unwrap();
    assert!(current().lines().any(|line| line == statement), "{}", current());

    // It serves, and every checkpoint from then on says the same.
    let (server, url) = open_market(&back).await;
    let buyer = Buyer::register(&back, &url).await;
    buyer.deposit(&back, 5, "after").await;
    interrupt(&server);
    assert!(ended(server).await.status.success());
    assert!(current().lines().nth(1).unwrap().parse::<u64>().unwrap() >= kept + 2, "{}", current());
    assert!(current().lines().any(|line| line == statement), "{}", current());
    assert_eq!(verified(&back).await, 1);
    // Also when the file outside is lost: the database's own checkpoints say it.
    std::fs::remove_file(back.file("checkpoints/ledger-1.checkpoint")).unwrap();
    let (server, _) = open_market(&back).await;
    buyer.deposit(&back, 5, "later").await;
    interrupt(&server);
    assert!(ended(server).await.status.success());
    assert!(current().lines().any(|line| line == statement), "{}", current());

    // Whoever holds the old promise can still tell: the log is another one at that size, or ends before it.
    let books = back.books().await;
    let sizes = "select note not like '%restored %' from receipts.checkpoints where size > $1";
    let rows = books.db.query(sizes, &[&i64::try_from(kept).unwrap()]).await.unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| !row.get::<_, bool>(0)), "a checkpoint leaves it out");
    books.close().await;
}

#[tokio::test]
async fn whatever_was_changed_in_a_set_is_noticed_before_anything_runs_on_it() {
    let (market, copies) = (Folder::new(), Copies::new());
    market.played(1).await;
    copies.make(&market, &[]).await;
    let set = copies.sets().remove(0);
    let whole = Folder::new();
    let copy = Path::new(&whole.file("set")).to_owned();
    let fresh = || copy_tree(&set, &copy);
    let back = Folder::new();
    let check = async |what: &str, code: &str| {
        let said = copies.restore_from(copy.to_str().unwrap(), &back, &[]).await;
        let message = refused(&said, &back, code);
        assert!(!Path::new(&back.file("restore.new/pg")).exists(), "{what}: {message}");
    };
    for (file, code) in [
        ("pg/global/pg_control", "UB605"),
        ("pg/postgresql.conf", "UB605"),
        ("pg/backup_label", "UB605"),
        ("checkpoints/ledger-1.checkpoint", "UB605"),
        ("files.b3", "UB605"),
        ("manifest.note", "UB606"),
    ] {
        fresh();
        flip(&copy.join(file), 1, 2);
        check(file, code).await;
    }
    fresh();
    let manifest = std::fs::read_to_string(copy.join("manifest.json")).unwrap();
    std::fs::write(
        copy.join("manifest.json"),
        manifest.replace("\"artifacts\": false", "\"artifacts\": true"),
    )
    .unwrap();
    check("another manifest", "UB606").await;
    fresh();
    std::fs::write(copy.join("pg/postgresql.auto.conf.d"), "more").unwrap();
    check("one file more", "UB605").await;
    fresh();
    std::fs::remove_file(copy.join("pg/PG_VERSION")).unwrap();
    check("one file fewer", "UB605").await;
    fresh();
    std::fs::remove_file(copy.join("pg/PG_VERSION")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", copy.join("pg/PG_VERSION")).unwrap();
    check("a link", "UB605").await;
    fresh();
    std::fs::remove_file(copy.join("manifest.note")).unwrap();
    check("no signature", "UB606").await;

    // Another house's set is nobody's here, however whole.
    let (stranger, theirs) = (Folder::new(), Copies::new());
    stranger.played(1).await;
    theirs.make(&stranger, &[]).await;
    let said = copies.restore_from(theirs.sets()[0].to_str().unwrap(), &back, &[]).await;
    refused(&said, &back, "UB606");
    let said = copies.restore_from(&theirs.backups(), &back, &[]).await;
    refused(&said, &back, "UB413");
    // Nor is anybody's, where the keys are not.
    let bare = Folder::new();
    let said = say(&["restore", "--json", "--from", &copies.backups(), "--data-dir", bare.text()]).await;
    refused(&said, &bare, "UB606");

    // The operator's word for a set that lost its signature: it still has to prove itself.
    fresh();
    std::fs::remove_file(copy.join("manifest.note")).unwrap();
    restored(&copies.restore_from(copy.to_str().unwrap(), &back, &["--unsigned"]).await);
}

#[tokio::test]
async fn a_killed_backup_leaves_nothing_that_looks_whole() {
    let (market, copies) = (Folder::new(), Copies::new());
    market.played(1).await;
    copies.make(&market, &[]).await;
    let sets = Path::new(&copies.backups()).join("sets");
    let unfinished = || {
        below(&sets).into_iter().find(|set| set.file_name().unwrap().to_str().unwrap().starts_with(".new-"))
    };
    // At its beginning, in the middle of the copy, and at its end.
    for file in ["checkpoints", "pg/PG_VERSION", "files.b3"] {
        let to = copies.backups();
        let mut killed = spawn(&["backup", "--data-dir", market.text(), "--to", &to]);
        until(file, async || {
            let status = killed.try_wait().unwrap();
            let done = copies.sets().len() > 1;
            assert!(done || status.is_none(), "{file}: it ended by itself: {status:?}");
            (done || unfinished().is_some_and(|set| set.join(file).exists())).then_some(())
        })
        .await;
        // It stands still while we look how far it is: it may have ended meanwhile.
        let caught = stands_still(&killed).await && copies.sets().len() == 1;
        let _ = killed.start_kill();
        ended(killed).await;
        if caught {
            assert_eq!(copies.sets().len(), 1, "{file}");
        }
        for more in copies.sets().split_off(1) {
            // It was faster than the kill: a whole set, then.
            std::fs::remove_dir_all(more).unwrap();
        }
    }
    copies.make(&market, &[]).await;
    assert_eq!((copies.sets().len(), unfinished()), (2, None), "the next one cleans up");
    copies.restored(&Folder::new(), &[]).await;
}

#[tokio::test]
async fn a_killed_restore_leaves_nothing_that_looks_whole_and_the_next_one_finishes_it() {
    let (market, copies) = (Folder::new(), Copies::new());
    market.played(ORDERS).await;
    copies.make(&market, &[]).await;
    let back = Folder::new();
    let (from, keys) = (copies.backups(), copies.keys());
    // While it copies, while Postgres recovers, while it is proven.
    for file in ["pg/PG_VERSION", "pg/postmaster.pid", "checkpoints/ledger-1.checkpoint"] {
        let mut killed = spawn(&["restore", "--from", &from, "--data-dir", back.text(), "--keys", &keys]);
        let staged = back.file(&format!("restore.new/{file}"));
        until(file, async || Path::new(&staged).exists().then_some(())).await;
        killed.start_kill().unwrap();
        ended(killed).await;
        assert!(!Path::new(&back.file("pg")).exists(), "{file}");
        let up = say(&["up", "--port", "0", "--data-dir", back.text()]).await;
        assert!(!up.status.success() && both(&up).contains("UB604"), "{file}: {}", both(&up));
        assert!(!Path::new(&back.file("pg")).exists(), "{file}: a new market was made");
    }
    copies.restored(&back, &[]).await;
    assert!(back.all_processes().is_empty(), "left running: {:?}", back.all_processes());

    // Killed between the decision and its last step, wherever: nothing is decided again.
    let record = below(Path::new(&back.file("restores"))).remove(0);
    let decided: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let note = std::fs::read_to_string(back.file("checkpoints/ledger-1.checkpoint")).unwrap();
    let decision = serde_json::json!({
        "restored": decided, "lost": {}, "checkpoints": { "ledger-1.checkpoint": note },
    });
    for step in ["before the database was put in place", "after", "with nothing left but the folder"] {
        let staging = back.file("restore.new");
        std::fs::create_dir(&staging).unwrap();
        if step != "with nothing left but the folder" {
            std::fs::write(format!("{staging}/decision.json"), decision.to_string()).unwrap();
            std::fs::remove_file(back.file("checkpoints/ledger-1.checkpoint")).unwrap();
        }
        if step.starts_with("before") {
            std::fs::rename(back.file("pg"), format!("{staging}/pg")).unwrap();
        }
        let up = say(&["up", "--port", "0", "--data-dir", back.text()]).await;
        assert!(both(&up).contains("UB604"), "{step}: {}", both(&up));
        let again = copies.restore(&back, &[]).await;
        // With nothing left to do, it finds a database and leaves it alone.
        let expected = if step.starts_with("with") { "UB504" } else { decided["set"].as_str().unwrap() };
        assert!(both(&again).contains(expected), "{step}: {}", both(&again));
        assert!(!Path::new(&staging).exists(), "{step}");
        assert_eq!(
            std::fs::read_to_string(back.file("checkpoints/ledger-1.checkpoint")).unwrap(),
            note,
            "{step}"
        );
    }
    assert_eq!(verified(&back).await, 0);
}

#[tokio::test]
async fn a_folder_for_backups_in_the_data_dir_is_refused_and_so_are_keys_beside_backups() {
    let (market, copies) = (Folder::new(), Copies::new());
    market.played(1).await;
    let inside = market.file("backups");
    let said = say(&["backup", "--data-dir", market.text(), "--to", &inside]).await;
    assert!(said.status.code() == Some(2) && both(&said).contains("UB125"), "{}", both(&said));
    let (to, keys) = (copies.backups(), format!("{}/keys", copies.backups()));
    let said = say(&["backup", "--data-dir", market.text(), "--to", &to, "--keys-to", &keys]).await;
    assert!(said.status.code() == Some(2) && both(&said).contains("UB125"), "{}", both(&said));
    let inside = market.file("keys-too");
    let said = say(&["backup", "--data-dir", market.text(), "--to", &to, "--keys-to", &inside]).await;
    assert!(said.status.code() == Some(2) && both(&said).contains("UB125"), "{}", both(&said));
    assert!(copies.sets().is_empty());
    // Keys that are there and cannot be used are no reason for a set that nobody vouches for.
    let secret_key = std::path::PathBuf::from(market.file("keys/operator.pem"));
    let mode = |mode| {
        std::fs::set_permissions(&secret_key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let said = say(&["backup", "--data-dir", market.text(), "--to", &to]).await;
    assert!(said.status.code() == Some(2) && both(&said).contains("UI111"), "{}", both(&said));
    mode(0o600);
    assert!(copies.sets().is_empty());
    // No private key is in a set.
    must(&["backup", "--data-dir", market.text(), "--to", &to]).await;
    let key = std::fs::read_to_string(market.file("keys/receipt.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    let found = std::process::Command::new("grep").args(["-raF", secret, &to]).output().unwrap();
    assert_eq!(found.status.code(), Some(1), "a private key is in the backup");
}
