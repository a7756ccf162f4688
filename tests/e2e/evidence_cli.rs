//! `econ evidence` and `econ verify bundle`, as a buyer and somebody on another machine type them.

use std::process::Stdio;

use proto::evidence::Trust;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::support::evidence::{Found, judged, judged_with, read_in_python};
use crate::support::program::{Folder, both, econ, say};

/// As on a machine with nothing of ours: no data dir, no home, no Postgres in reach.
async fn elsewhere(folder: &Folder, args: &[&str], stdin: Option<&[u8]>) -> std::process::Output {
    let bare = folder.file("elsewhere");
    std::fs::create_dir_all(&bare).unwrap();
    let mut command = econ(args);
    command.env_clear().env("PATH", &bare).env("HOME", &bare).current_dir(&bare);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(stdin.unwrap_or_default()).await.unwrap();
    drop(input);
    child.wait_with_output().await.unwrap()
}

#[tokio::test]
async fn an_orders_evidence_leaves_the_house_and_is_judged_where_nothing_of_ours_is() {
    let folder = Folder::new();
    folder.played(40).await;
    let books = folder.books().await;
    let id = "select (array_agg(order_id::text order by order_id))[1] from market.orders where state = $1";
    let settled: String = books.db.query_one(id, &[&"settled"]).await.unwrap().get(0);
    let refunded: String = books.db.query_one(id, &[&"refunded"]).await.unwrap().get(0);
    let key = "select encode(public_key, 'hex') from identity.keys where purpose = 'receipt'";
    let key: String = books.db.query_one(key, &[]).await.unwrap().get(0);
    books.close().await;

    for (order, state) in [(&settled, "settled"), (&refunded, "refunded")] {
        let said = say(&["evidence", order, "--data-dir", folder.text()]).await;
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let file = folder.file(&format!("{state}.econ"));
        std::fs::write(&file, &said.stdout).unwrap();
        let judged = elsewhere(&folder, &["verify", "bundle", &file, "--key", &key, "--json"], None).await;
        assert_eq!(judged.status.code(), Some(0), "{}", both(&judged));
        let report: Value = serde_json::from_slice(&judged.stdout).unwrap();
        assert_eq!((&report["passed"], &report["state"]), (&true.into(), &state.into()), "{report}");
        assert_eq!(report["order_id"], order.as_str());
        let checks = report["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 17, "{report}");
        assert!(checks.iter().all(|check| check["problem"].is_null() && check["what"].is_string()));
        for list in ["timeline", "proven", "claimed", "missing"] {
            assert!(!report[list].as_array().unwrap().is_empty(), "{list}: {report}");
        }
        let proven = |step: &Value| step["proven"] == true && step["seq"].is_u64() && step["who"].is_string();
        assert!(report["timeline"].as_array().unwrap().iter().all(proven), "{report}");
        let judged = elsewhere(&folder, &["verify", "bundle", "-", "--key", &key], Some(&said.stdout)).await;
        assert_eq!(judged.status.code(), Some(0), "{}", both(&judged));
        assert!(both(&judged).contains("The evidence holds."), "{}", both(&judged));
        let trusted = key.parse().unwrap();
        if let Some(found) = read_in_python(std::path::Path::new(&file), Some(trusted)) {
            assert_eq!(found, Found::Holds);
        }
    }

    let file = folder.file("settled.econ");
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes.windows(9).rposition(|window| window == b"\"settled\"").unwrap();
    bytes[place + 1] = b'S';
    std::fs::write(&file, &bytes).unwrap();
    let judged = elsewhere(&folder, &["verify", "bundle", &file], None).await;
    assert_eq!(judged.status.code(), Some(1), "{}", both(&judged));
    let told = both(&judged);
    assert!(
        told.contains("BROKEN  bundle.receipts") && told.contains("The evidence does NOT hold."),
        "{told}"
    );

    std::fs::write(&file, b"garbage").unwrap();
    let judged = elsewhere(&folder, &["verify", "bundle", &file], None).await;
    assert!(!judged.status.success() && both(&judged).contains("UR151"), "{}", both(&judged));
    let unknown =
        say(&["evidence", "01a21757-4406-74d4-984c-49b3d1b53ca0", "--data-dir", folder.text()]).await;
    assert!(!unknown.status.success() && both(&unknown).contains("UM403"), "{}", both(&unknown));
}

#[test]
fn the_bundle_in_the_documents_holds_for_both_readers() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/evidence/settled.econ");
    let bytes = std::fs::read(file).unwrap();
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/evidence/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let key = readme.split('`').find_map(|word| word.parse().ok()).expect("the receipt key");
    for key in [Some(key), None] {
        assert_eq!(judged(&bytes, key), Found::Holds);
        if let Some(found) = read_in_python(std::path::Path::new(file), key) {
            assert_eq!(found, Found::Holds);
        }
    }
}

#[test]
fn whatever_byte_changes_both_readers_say_the_same() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/evidence/settled.econ");
    let good = std::fs::read(file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bent.econ");
    let mut held = 0;
    for n in 0..100_u32 {
        let random = blake3::hash(&n.to_be_bytes());
        let place = random.as_bytes()[..4].iter().fold(0, |place, byte| place << 8 | usize::from(*byte));
        let mut bytes = good.clone();
        bytes[place % good.len()] ^= 1 << (random.as_bytes()[4] % 8);
        std::fs::write(&file, &bytes).unwrap();
        let here = judged_with(&bytes, &Trust::default());
        held += u32::from(here == Found::Holds);
        let Some(there) = read_in_python(&file, None) else { return };
        let same = match (&here, &there) {
            (Found::Broken(..), Found::Broken(..)) | (Found::NoBundle(_), Found::NoBundle(_)) => true,
            (here, there) => here == there,
        };
        assert!(same, "{n}: {here:?} here, {there:?} in Python");
    }
    // What a key in `keys` is said to be for is a remark; everything else is covered.
    assert!(held < 3, "{held}");
}
