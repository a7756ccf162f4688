//! The command log as a file: everything comes out of it again without the database that wrote it, and it says of itself
//! whether it is whole.

use std::io::Write as _;
use std::path::PathBuf;

use ledger::replay::{FileLog, Source, Until, export};
use ledger::verify::{self, Expected, Extent, TEXT_FORMS};
use proto::keys::KeyPair;
use tempfile::TempDir;

use super::base_replay::busy;
use crate::support::checks::superuser;
use crate::support::market::Market;
use crate::support::replays::{BATCHES, options, replayed};

/// A market's log in a file, and what its tables hold.
async fn exported(market: &Market, dir: &TempDir) -> (PathBuf, Expected) {
    let client = market.db.client("econ_auditor").await;
    client.batch_execute(TEXT_FORMS).await.unwrap();
    let path = dir.path().join("log");
    let mut file = std::fs::File::create(&path).unwrap();
    let written = export(&client, &mut file).await.unwrap();
    file.flush().unwrap();
    assert_eq!(
        i64::try_from(written.commands).unwrap(),
        market.count("select last_seq from base.ledgers").await
    );
    assert_eq!(
        i64::try_from(written.checkpoints).unwrap(),
        market.count("select count(*) from receipts.checkpoints where ledger_id > 0").await
    );
    assert_eq!(written.bytes, std::fs::metadata(&path).unwrap().len());
    let mut expected = Expected::default();
    for table in verify::tables(&client).await.unwrap() {
        let digest = verify::digest(&client, &table).await.unwrap();
        expected.insert(&table, digest);
    }
    (path, expected)
}

#[tokio::test]
async fn everything_comes_out_of_an_exported_log_without_its_database() {
    let market = busy().await;
    let dir = TempDir::new().unwrap();
    let (path, expected) = exported(&market, &dir).await;
    let once = std::fs::read(&path).unwrap();
    exported(&market, &dir).await;
    assert!(once == std::fs::read(&path).unwrap(), "two exports of one log differ");
    let last = market.count("select last_seq from base.ledgers").await;
    market.db.close().await;
    for batch in BATCHES {
        let again = replayed(&Source::File(path.clone()), options(batch), Some(expected.clone())).await;
        assert!(again.proof.passed(), "batches of {batch}: {:#?}", again.proof.problems());
        assert_eq!(i64::try_from(again.proof.replayed.commands).unwrap(), last);
        // But for those that the schema itself fills.
        let compared = again.proof.tables.iter().filter(|table| table.extent == Extent::Whole);
        assert!(
            compared.clone().count() > 35
                && compared.clone().all(|table| table.stored == Some(table.replayed))
        );
        assert!(again.proof.replayed.ledgers[0].checkpoints > 0);
        again.drop().await;
    }
    // An end can be asked for there as well, and what it should hold is not believed but compared.
    let until =
        ledger::replay::ReplayOptions { until: Until::Seq { ledger_id: None, seq: 20 }, ..options(7) };
    let again = replayed(&Source::File(path.clone()), until, Some(expected)).await;
    assert_eq!(again.proof.replayed.commands, 20);
    assert!(again.proof.replayed.ledgers[0].checkpoint_after.is_some());
    let problems = again.proof.problems();
    let problem = problems.iter().find(|problem| problem.place == "base.commands").unwrap();
    assert!(
        problem.message.contains("20 rows") && problem.message.contains(&format!("{last} rows")),
        "{problem:?}"
    );
    again.drop().await;
    // A receipt key that is known from elsewhere is the one that must have signed.
    let other = ledger::replay::ReplayOptions {
        receipt_key: Some(*KeyPair::from_seed(&[66; 32]).public()),
        ..options(50)
    };
    let again = replayed(&Source::File(path), other, None).await;
    assert_eq!(again.proof.replayed.unsigned.clone().unwrap().place, "receipts.receipts seq 1");
    assert!(!again.proof.passed());
    again.drop().await;
}

#[tokio::test]
async fn a_file_that_was_cut_off_changed_or_lengthened_is_refused_before_anything_is_replayed() {
    let market = Market::start().await;
    market.pipeline.shutdown().await;
    let dir = TempDir::new().unwrap();
    let (path, _) = exported(&market, &dir).await;
    let whole = std::fs::read(&path).unwrap();
    let open = async |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        FileLog::open(&path).await.err().map(|error| error.code.to_string())
    };
    assert_eq!(open(&whole).await, None);
    for length in 0..8 {
        assert_eq!(open(&whole[..length]).await.as_deref(), Some("UR131"), "{length} bytes");
    }
    // Each place once, the borders of records among them.
    for length in (8..whole.len()).step_by(97).chain(whole.len() - 45..whole.len()) {
        assert_eq!(open(&whole[..length]).await.as_deref(), Some("UR132"), "{length} bytes");
    }
    for place in (8..whole.len()).step_by(101) {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        assert_eq!(open(&changed).await.as_deref(), Some("UR132"), "byte {place}");
    }
    assert_eq!(open(&[whole.as_slice(), b"\n"].concat()).await.as_deref(), Some("UR132"));
    assert_eq!(open(b"#!/bin/sh\n").await.as_deref(), Some("UR131"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(FileLog::open(&path).await.err().unwrap().code, "UR132");
}

#[tokio::test]
async fn a_log_whose_rows_are_not_what_its_receipts_say_is_not_exported() {
    let market = Market::start().await;
    if !superuser(&market.admin).await {
        return;
    }
    market.settled().await;
    market.pipeline.shutdown().await;
    market
        .admin
        .batch_execute(
            "set session_replication_role = replica; create temp table kept as select * from base.commands",
        )
        .await
        .unwrap();
    let client = market.db.client("econ_auditor").await;
    for (column, value) in [
        ("command_id", "gen_random_uuid()"),
        ("actor_id", "gen_random_uuid()"),
        ("kind", "'deposit'"),
        ("code", "'UM604'"),
        ("facts", "facts || ' '"),
        ("subject_id", "gen_random_uuid()"),
        ("accepted_at", "accepted_at - interval '1 second'"),
        ("at", "at + interval '1 second'"),
        ("simulated", "not simulated"),
        ("rules_version", "rules_version - 1"),
        ("request_digest", "sha256('x')"),
    ] {
        let change = format!("update base.commands set {column} = {value} where seq = 7");
        assert_eq!(market.admin.execute(&change, &[]).await.unwrap(), 1);
        let refused = export(&client, &mut std::io::sink()).await.unwrap_err();
        assert_eq!(refused.code, "UR931", "{column}: {refused}");
        assert!(refused.message.contains("base.commands seq 7"), "{column}: {refused}");
        let restore = "delete from base.commands; insert into base.commands select * from kept";
        market.admin.batch_execute(restore).await.unwrap();
    }
    market.admin.batch_execute("delete from receipts.receipts where seq = 7").await.unwrap();
    let refused = export(&client, &mut std::io::sink()).await.unwrap_err();
    assert_eq!(refused.code, "UR931", "{refused}");
}
