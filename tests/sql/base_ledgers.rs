//! Several ledgers in one database share agents and keys: replay takes them in the order of ledger time.

use std::sync::Arc;

use ledger::clock::Clock;
use ledger::house::House;
use ledger::pipeline::{Pipeline, PipelineOptions};
use ledger::replay::{ReplayOptions, Source, Until, export};
use ledger::testing::TestDb;
use ledger::verify::{self, Expected, TEXT_FORMS, VerifyOptions};
use proto::v1::{self, KeyPurpose, command_body::Kind};
use tempfile::TempDir;

use crate::support::checks::rows;
use crate::support::kinds;
use crate::support::market::id_of;
use crate::support::party::Party;
use crate::support::replays::{BATCHES, options, replayed, tried};

/// When the first command comes; each next one a second later.
const START_US: i64 = 1_795_694_400_000_000;

struct Two {
    pipeline: Pipeline,
    at_us: i64,
    keys: u32,
}

impl Two {
    async fn say(&mut self, party: &Party, ledger_id: u32, kind: Kind) -> String {
        self.at_us += 1_000_000;
        self.pipeline.clock().stand(self.at_us);
        self.keys += 1;
        let submission = party.submission_to(ledger_id, &format!("key-{}", self.keys), kind, None);
        self.pipeline.submit(submission).await.unwrap().code
    }
}

#[tokio::test]
async fn ledgers_that_share_keys_replay_in_the_order_of_time_whatever_the_batch() {
    let db = TestDb::new().await;
    let dir = TempDir::new().unwrap();
    let house = House::load_or_create(&dir.path().join("keys")).unwrap();
    let clock = Clock::real();
    clock.stand(START_US);
    let pipeline = Pipeline::start(PipelineOptions {
        database: db.config("econ_api"),
        house: house.clone(),
        clock,
        ledger_ids: vec![1, 2],
        checkpoint_dir: dir.path().join("checkpoints"),
        batch_max: 64,
    });
    for ledger_id in [1, 2] {
        let origin = format!("econ.test/ledger/{ledger_id}");
        assert_eq!(pipeline.init(ledger_id, &origin, "market").await.unwrap().code, "ok");
    }
    let mut two = Two { pipeline, at_us: START_US, keys: 0 };
    let (first, second) = (Party::new("first", KeyPurpose::Buyer), Party::new("second", KeyPurpose::Buyer));
    let register = |party: &Party| {
        let key =
            v1::Key { public_key: party.key.public().as_bytes().to_vec(), purpose: party.purpose.into() };
        Kind::RegisterAgent(v1::RegisterAgent { key: Some(key), ..Default::default() })
    };
    let revoke = |party: &Party| {
        let key_id = party.key.public().id().as_ref().to_vec();
        Kind::RevokeKey(v1::RevokeKey { key_id, reason: "lost".into() })
    };
    let rfq = |two: &Two, n: u8| {
        let ms = u64::try_from(two.at_us / 1_000).unwrap();
        Kind::OpenRfq(kinds::rfq(uuid::Builder::from_unix_timestamp_millis(ms, &[n; 10]).into_uuid()))
    };
    // Whoever reads one ledger whole before the other gets some of these wrong, whichever is first.
    let mut codes = Vec::new();
    codes.push(two.say(&first, 1, register(&first)).await);
    codes.push(two.say(&second, 2, register(&second)).await);
    for n in 0..3 {
        let (here, there) = (rfq(&two, 2 * n), rfq(&two, 2 * n + 1));
        codes.push(two.say(&first, 2, here).await);
        codes.push(two.say(&second, 1, there).await);
    }
    codes.push(two.say(&first, 1, revoke(&first)).await);
    codes.push(two.say(&second, 2, revoke(&second)).await);
    let (here, there) = (rfq(&two, 20), rfq(&two, 21));
    codes.push(two.say(&first, 2, here).await);
    codes.push(two.say(&second, 1, there).await);
    two.pipeline.shutdown().await;
    let mut expected = vec!["ok"; 10];
    expected.extend(["UI203", "UI203"]);
    assert_eq!(codes, expected);
    assert_ne!(id_of(&first), id_of(&second));

    let report = verify::run(&VerifyOptions {
        database: db.config("econ_auditor"),
        admin: db.cluster().config("postgres", None),
        receipt_key: Some(*house.receipt_key().public()),
        checkpoint_dir: Some(dir.path().join("checkpoints")),
        checkpoints: Vec::new(),
        rederive: Arc::new(|_| Err("no GraphQL here".into())),
        batch: 500,
    })
    .await
    .unwrap();
    assert!(report.passed(), "{report}");

    let client = db.client("econ_auditor").await;
    client.batch_execute(TEXT_FORMS).await.unwrap();
    let path = dir.path().join("log");
    export(&client, &mut std::fs::File::create(&path).unwrap()).await.unwrap();
    let mut held = Expected::default();
    for table in verify::tables(&client).await.unwrap() {
        let digest = verify::digest(&client, &table).await.unwrap();
        held.insert(&table, digest);
    }
    let database = Source::Database(db.config("econ_auditor"));
    for batch in BATCHES {
        for (source, expected) in [(database.clone(), None), (Source::File(path.clone()), Some(held.clone()))]
        {
            let again = replayed(&source, options(batch), expected).await;
            assert!(again.proof.passed(), "batches of {batch}: {:#?}", again.proof.problems());
            assert_eq!(again.proof.replayed.commands, 14);
            again.drop().await;
        }
        // A moment holds for both; a command, and what the other ledger took before it.
        for until in [Until::Time(START_US + 2_500_000), Until::Seq { ledger_id: Some(2), seq: 2 }] {
            let again = replayed(&database, ReplayOptions { until, ..options(batch) }, None).await;
            assert!(again.proof.passed(), "{until:?}: {:#?}", again.proof.problems());
            let ends: Vec<i64> = again.proof.replayed.ledgers.iter().map(|end| end.seq).collect();
            assert_eq!(ends, [2, 2], "{until:?}");
            let agents =
                rows(&again.db, "select ledger_id::text from identity.agents where seq = 2 order by 1").await;
            assert_eq!(agents, ["1", "2"]);
            again.drop().await;
        }
    }
    let unnamed = ReplayOptions { until: Until::Seq { ledger_id: None, seq: 2 }, ..options(7) };
    let refused = tried(&database, unnamed, None).await.err().unwrap();
    assert_eq!(refused.code, "UB132", "{refused}");
    assert!(refused.message.contains("1, 2"), "{refused}");
}
