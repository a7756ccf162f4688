//! Artifacts in backups: they come back, and what was erased does not, however old the set.

use std::path::Path;

use proto::keys::KeyPair;
use provider_agent::client::{Client, ClientError};

use crate::support::checks::rows;
use crate::support::copies::{Copies, below, lose, restored};
use crate::support::program::{Folder, ended, interrupt, must, open_market};

/// Names of the files below a folder, without their folders.
fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in below(folder) {
        match path.is_dir() {
            true => found.extend(names(&path)),
            false => found.push(path.file_name().unwrap().to_str().unwrap().to_owned()),
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_is_erased_opens_from_no_set_after_the_next_backup_and_everything_else_comes_back() {
    let (market, copies) = (Folder::new(), Copies::new());
    market.played(8).await;
    let books = market.books().await;
    let sql = "select concat_ws(' ', order_id, encode(output_hash, 'hex')) from market.orders where state = 'settled' order by 1";
    let settled = rows(&books.db, sql).await;
    books.close().await;
    let [(order, erased), (_, kept)] = [0, 1].map(|n: usize| settled[n].split_once(' ').unwrap());
    assert_ne!(erased, kept);
    let own = Path::new(&market.file("artifact-keys")).to_owned();
    let mirror = Path::new(&copies.backups()).join("artifact-keys");

    copies.make(&market, &["--artifacts"]).await;
    let before = names(&mirror);
    assert_eq!((before.len(), &before), (names(Path::new(&market.file("artifacts"))).len(), &names(&own)));
    // A broken key takes no good one's place, what is arriving stays away, and what is not sealed is in no set.
    let key = own.join("1").join(&kept[..2]).join(kept);
    let whole = std::fs::read(&key).unwrap();
    let plain = Path::new(&market.file("artifacts/1")).join(&kept[..2]).join("not-sealed");
    let arriving = own.join("incoming/arriving");
    for (path, bytes) in [(&key, &b""[..]), (&plain, b"plain"), (&arriving, b"key")] {
        std::fs::write(path, bytes).unwrap();
    }
    copies.make(&market, &["--artifacts"]).await;
    assert_eq!(std::fs::read(mirror.join("1").join(&kept[..2]).join(kept)).unwrap(), whole);
    assert_eq!(names(&mirror), before);
    assert_eq!(names(&copies.sets().pop().unwrap().join("artifacts")).len(), before.len());
    std::fs::write(&key, &whole).unwrap();
    for gone in [plain, arriving] {
        std::fs::remove_file(gone).unwrap();
    }

    must(&["erase", order, "--data-dir", market.text()]).await;
    copies.make(&market, &[]).await;
    let after = names(&mirror);
    assert_eq!((&after, before.len() - after.len()), (&names(&own), 2), "input and output");
    // A data dir that has lost its keys does not take those of the mirror along.
    std::fs::remove_dir_all(&own).unwrap();
    copies.make(&market, &["--artifacts"]).await;
    assert_eq!(names(&mirror), after);

    // The first set, which knows of no erasing.
    lose(&market);
    let first = copies.sets()[0].to_str().unwrap().to_owned();
    let back = restored(&copies.restore_from(&first, &market, &["--accept-loss"]).await);
    assert_eq!(back["unreadable"], 2, "{back}");
    assert_eq!(names(&own), after);
    let (server, url) = open_market(&market).await;
    let verifier = KeyPair::load(market.file("keys/verifier.pem").as_ref()).unwrap();
    let verifier = Client::new(&url, verifier.into()).unwrap();
    // Which compares the bytes with the hash.
    verifier.get_artifact(kept.parse().unwrap()).await.unwrap();
    match verifier.get_artifact(erased.parse().unwrap()).await {
        Err(ClientError::Refused(refusal)) => assert_eq!(&*refusal.code, "UB403"),
        other => panic!("{other:?}"),
    }
    interrupt(&server);
    assert!(ended(server).await.status.success());
}
