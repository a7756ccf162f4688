//! What a restore must not hide: older sets, repeated restores, places where one was refused.

use std::path::Path;

use crate::support::copies::{Buyer, Copies, lose, lost_promises, refused, size, verified};
use crate::support::program::{Folder, both, ended, interrupt, open_market, say};

/// Something more happens in the market.
async fn goes_on(market: &Folder) {
    let (server, url) = open_market(market).await;
    let _ = std::fs::remove_file(market.file("buyer.pem"));
    Buyer::register(market, &url).await;
    interrupt(&server);
    assert!(ended(server).await.status.success());
}

#[tokio::test]
async fn an_older_set_is_no_newest_one_and_a_loss_is_given_up_once_and_stated_for_ever() {
    let (market, copies) = (Folder::new(), Copies::new());
    market.played(1).await;
    let made = copies.make(&market, &[]).await;
    let kept = made["manifest"]["ledgers"][0]["size"].as_u64().unwrap();
    goes_on(&market).await;
    let made = copies.make(&market, &["--logical"]).await;
    let promised = made["manifest"]["ledgers"][0]["size"].as_u64().unwrap();
    assert!(kept < promised);
    lose(&market);
    // A dump is newer than the base that goes further as a rule; and so it is missed when a part of it is gone.
    for broken in [false, true] {
        if broken {
            std::fs::remove_file(copies.sets()[1].join("database.dump")).unwrap();
        }
        let asked = copies.refused(&Folder::new(), "UR601", &[]).await;
        assert!(
            asked.contains(&format!("ends at seq {kept}")) && asked.contains(&format!("says {promised}")),
            "{asked}"
        );
    }
    let back = copies.restored(&market, &["--accept-loss"]).await;
    assert_eq!((size(&back), back["losses"][0]["promised"].as_u64()), (kept, Some(promised)), "{back}");
    let current = || std::fs::read_to_string(market.file("checkpoints/ledger-1.checkpoint")).unwrap();
    let stated = format!("restored {kept} {promised} ");
    assert!(current().contains(&stated), "{}", current());
    assert_eq!(lost_promises(&market, promised).len(), 1);

    // The same once more, before anything happened: nothing is missed that was not given up, and it is stated still.
    std::fs::rename(market.file("pg"), market.file("pg.broken")).unwrap();
    let again = copies.restored(&market, &[]).await;
    assert_eq!((size(&again), again["losses"].as_array().unwrap().len()), (kept, 0), "{again}");
    assert!(current().contains(&stated), "{}", current());
    assert_eq!(verified(&market).await, 1);

    // What happens after it is promised anew, at the same size as what was lost, and kept beside it when it is lost as well.
    while current().lines().nth(1).unwrap().parse::<u64>().unwrap() < promised {
        goes_on(&market).await;
    }
    let size_now: u64 = current().lines().nth(1).unwrap().parse().unwrap();
    std::fs::remove_dir_all(market.file("pg")).unwrap();
    copies.refused(&market, "UR601", &[]).await;
    copies.restored(&market, &["--accept-loss"]).await;
    let both_lost = lost_promises(&market, promised).len() + lost_promises(&market, size_now).len();
    assert!(both_lost >= if size_now == promised { 4 } else { 2 }, "{both_lost}");
    assert_eq!(verified(&market).await, 2);
}

#[tokio::test]
async fn where_a_restore_was_refused_no_market_is_made_and_no_key_of_another_house_stays() {
    let (market, copies) = (Folder::new(), Copies::new());
    market.played(1).await;
    copies.make(&market, &[]).await;
    let (stranger, theirs) = (Folder::new(), Copies::new());
    stranger.played(1).await;
    theirs.make(&stranger, &[]).await;
    let back = Folder::new();
    for (from, keys) in [(back.file("nowhere"), copies.keys()), (copies.backups(), theirs.keys())] {
        let said =
            say(&["restore", "--json", "--from", &from, "--data-dir", back.text(), "--keys", &keys]).await;
        refused(&said, &back, "UB413");
        let up = say(&["up", "--port", "0", "--data-dir", back.text()]).await;
        assert!(!up.status.success() && both(&up).contains("UB604"), "{}", both(&up));
        assert!(!Path::new(&back.file("keys/receipt.pem")).exists(), "{from}");
    }
    copies.restored(&back, &[]).await;
    assert_eq!(verified(&back).await, 0);
}
