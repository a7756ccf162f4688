//! The log as the world sees it: proofs between sizes, the promise of a time, the forest over all ledgers.

use std::time::Duration;

use ledger::pipeline::checkpoint_path;
use ledger::testing::TestDb;
use proto::merkle::{Frontier, Tree, TreeHash, leaf_hash, verify_consistency, verify_inclusion};
use proto::note::{
    BreachError, Checkpoint, NoteName, breach, include_by_us, parse_timed, sign_timed_checkpoint,
};
use proto::prost::Message as _;
use proto::v1;
use tokio_postgres::Client;

use crate::support::checks::{superuser, verified, verify, verify_with};
use crate::support::kinds;
use crate::support::market::Market;
use crate::support::party::LEDGER;

/// A log of so many leaves without any command: its tiles as they would be.
async fn bare_log(db: &Client, ledger_id: i32, size: u64) -> Tree {
    let mut tree = Tree::new();
    let mut hashes: Vec<TreeHash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    hashes.iter().for_each(|leaf| tree.append(*leaf));
    let put = "insert into receipts.tiles (ledger_id, level, tile_index, hashes) values ($1, $2, $3, $4)";
    for level in 0_i16.. {
        for (index, tile) in (0_i64..).zip(hashes.chunks(256)) {
            let bytes: Vec<u8> = tile.iter().flat_map(|hash| hash.0).collect();
            db.execute(put, &[&ledger_id, &level, &index, &bytes]).await.unwrap();
        }
        let root = |tile: &[TreeHash]| {
            let mut frontier = Frontier::new();
            tile.iter().for_each(|hash| frontier.append(*hash));
            frontier.root()
        };
        hashes = hashes.chunks_exact(256).map(root).collect();
        if hashes.is_empty() {
            break;
        }
    }
    let put = "insert into receipts.logs (ledger_id, size, root) values ($1, $2, $3)";
    let (count, root) = (i64::try_from(size).unwrap(), tree.root().0.to_vec());
    db.execute(put, &[&ledger_id, &count, &root]).await.unwrap();
    tree
}

async fn hashes(db: &Client, call: &str, one: u64, two: u64) -> Option<Vec<TreeHash>> {
    let sql = format!("select receipts.{call}(7, $1, $2)");
    let (one, two) = (i64::try_from(one).unwrap(), i64::try_from(two).unwrap());
    let found: Option<Vec<Vec<u8>>> = db.query_one(&sql, &[&one, &two]).await.unwrap().get(0);
    found.map(|found| found.iter().map(|hash| TreeHash::from_slice(hash).unwrap()).collect())
}

#[tokio::test]
async fn proofs_from_tiles_are_those_of_the_tree_for_all_small_and_many_large_sizes() {
    const SIZE: u64 = 66_000;
    let db = TestDb::new().await;
    let client = db.admin().await;
    let tree = bare_log(&client, 7, SIZE).await;
    let mut pairs: Vec<(u64, u64)> = (1..=33).flat_map(|new| (1..=new).map(move |old| (old, new))).collect();
    // A fixed walk through large sizes, and the borders of tiles.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % SIZE + 1
    };
    pairs.extend((0..150).map(|_| (next(), next())).map(|(a, b)| (a.min(b), a.max(b))));
    let borders = [255, 256, 257, 512, 65_535, 65_536, 65_537, SIZE];
    pairs.extend(borders.iter().flat_map(|a| borders.iter().map(move |b| (*a, *b))).filter(|(a, b)| a <= b));
    for (old, new) in pairs {
        let proof = hashes(&client, "consistency_proof", old, new).await.unwrap();
        assert_eq!(proof, tree.consistency_proof(old, new).unwrap(), "{old} to {new}");
        let (old_root, new_root) = (tree.root_at(old).unwrap(), tree.root_at(new).unwrap());
        verify_consistency(old, new, &proof, &old_root, &new_root).unwrap();
        let proof = hashes(&client, "inclusion_proof", old - 1, new).await.unwrap();
        let leaf = leaf_hash(&(old - 1).to_be_bytes());
        verify_inclusion(&leaf, old - 1, new, &proof, &new_root).unwrap();
    }
    assert_eq!(hashes(&client, "consistency_proof", 0, 9).await, Some(Vec::new()));
    for (old, new) in [(9, 8), (1, SIZE + 1), (SIZE + 1, SIZE + 1)] {
        assert_eq!(hashes(&client, "consistency_proof", old, new).await, None, "{old} to {new}");
    }
    db.close().await;
}

/// Two ledgers that exist, and nothing in them.
async fn two_ledgers(db: &Client) {
    db.batch_execute(
        "insert into base.ledgers (ledger_id, name, origin) values (1, 'one', 'econ.test/ledger/1'), (2, 'two', 'econ.test/ledger/2')",
    )
    .await
    .unwrap();
}

async fn stated(db: &Client, ledger_id: i32, size: i64) {
    let root = vec![u8::try_from(size % 251).unwrap(); 32];
    let put = "insert into receipts.checkpoints (ledger_id, size, root, note) values ($1, $2, $3, '')";
    db.execute(put, &[&ledger_id, &size, &root]).await.unwrap();
}

async fn append(db: &Client) -> (i64, Vec<u8>, i32) {
    let sql = "select size, root, appended from receipts.append_forest('econ.test/forest')";
    let row = db.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn the_forest_holds_each_ledgers_newest_checkpoint_once() {
    let db = TestDb::new().await;
    let (admin, api) = (db.admin().await, db.client("econ_api").await);
    two_ledgers(&admin).await;
    assert_eq!(append(&api).await.2, 0);
    let mut tree = Tree::new();
    for round in 1..=300_i64 {
        stated(&admin, 1, round * 2).await;
        if round % 3 == 0 {
            // Two since the last time: the older one is covered by the newer.
            stated(&admin, 2, round - 1).await;
            stated(&admin, 2, round).await;
        }
        let expected = if round % 3 == 0 { vec![(1, round * 2), (2, round)] } else { vec![(1, round * 2)] };
        for (ledger_id, size) in &expected {
            let root = TreeHash([u8::try_from(size % 251).unwrap(); 32]);
            let origin: NoteName = format!("econ.test/ledger/{ledger_id}").parse().unwrap();
            let leaf = Checkpoint { origin, size: u64::try_from(*size).unwrap(), root };
            tree.append(leaf_hash(leaf.text().as_bytes()));
        }
        let (size, root, appended) = append(&api).await;
        assert_eq!(usize::try_from(appended).unwrap(), expected.len());
        assert_eq!((u64::try_from(size).unwrap(), root), (tree.size(), tree.root().0.to_vec()));
        assert_eq!(append(&api).await.2, 0, "the same once more");
    }
    // Beyond a full tile, every proof is one of the tree.
    for (old, new) in [(1_i64, 400_i64), (256, 400), (257, 300), (255, 256)] {
        let sql = "select receipts.consistency_proof(0, $1, $2)";
        let found: Vec<Vec<u8>> = api.query_one(sql, &[&old, &new]).await.unwrap().get(0);
        let (old, new) = (u64::try_from(old).unwrap(), u64::try_from(new).unwrap());
        let expected: Vec<Vec<u8>> =
            tree.consistency_proof(old, new).unwrap().iter().map(|hash| hash.0.to_vec()).collect();
        assert_eq!(found, expected);
    }
    drop((admin, api));
    db.close().await;
}

#[tokio::test]
async fn servers_that_keep_one_forest_come_one_after_the_other_and_a_broken_off_one_leaves_nothing() {
    let db = TestDb::new().await;
    let (admin, first, second) = (db.admin().await, db.client("econ_api").await, db.client("econ_api").await);
    two_ledgers(&admin).await;
    stated(&admin, 1, 5).await;
    first.batch_execute("begin").await.unwrap();
    assert_eq!(append(&first).await.2, 1);
    let pid: i32 = second.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let other = async {
        let blocked = "select cardinality(pg_blocking_pids($1)) > 0";
        while !admin.query_one(blocked, &[&pid]).await.unwrap().get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
        first.batch_execute("rollback").await.unwrap();
    };
    let (found, ()) = tokio::join!(append(&second), other);
    assert_eq!((found.0, found.2), (1, 1), "the second one found nothing of the first");
    assert_eq!(append(&first).await.2, 0);
    let count = "select count(*) from receipts.forest_entries";
    assert_eq!(admin.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);
    drop((admin, first, second));
    db.close().await;
}

async fn change(market: &Market, sql: &str) {
    let changed = market.admin.execute(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert!(changed > 0, "nothing was changed: {sql}");
}

#[tokio::test]
async fn each_change_of_the_forest_is_found() {
    let market = Market::start().await;
    market.settled().await;
    market.pipeline.shutdown().await;
    verified(&market).await;
    let entries = market.count("select count(*) from receipts.forest_entries").await;
    assert!(
        entries > 0 && market.count("select size from receipts.logs where ledger_id = 0").await == entries
    );
    if !superuser(&market.admin).await {
        return;
    }
    market.admin.batch_execute("set session_replication_role = replica").await.unwrap();
    market
        .admin
        .batch_execute("create temp table entries as select * from receipts.forest_entries")
        .await
        .unwrap();
    for (spoil, mend, check, place) in [
        (
            "update receipts.forest_entries set root = sha256('x') where entry_index = 0",
            "update receipts.forest_entries e set root = k.root from entries k where k.entry_index = e.entry_index",
            "checkpoints",
            "receipts.forest_entries index 0",
        ),
        (
            "update receipts.tiles set hashes = set_byte(hashes, 3, get_byte(hashes, 3) # 1) where ledger_id = 0",
            "update receipts.tiles set hashes = set_byte(hashes, 3, get_byte(hashes, 3) # 1) where ledger_id = 0",
            "forest",
            "receipts.tiles level 0 tile 0 of the forest",
        ),
        (
            "update receipts.logs set size = size + 1 where ledger_id = 0",
            "update receipts.logs set size = size - 1 where ledger_id = 0",
            "forest",
            "receipts.logs ledger 0",
        ),
        (
            "update receipts.checkpoints set note = note || note where ledger_id = 0",
            "update receipts.checkpoints set note = substring(note for length(note) / 2) where ledger_id = 0",
            "forest",
            "receipts.checkpoints of the forest size",
        ),
    ] {
        change(&market, spoil).await;
        let report = verify(&market).await;
        let (name, problem) = report.first_problem().unwrap_or_else(|| panic!("{spoil} was not found"));
        assert_eq!(name, check, "{report}");
        assert!(problem.place.starts_with(place), "{report}");
        change(&market, mend).await;
        verified(&market).await;
    }
    // Cut off with everything inside: what is kept outside still says so.
    for table in ["receipts.forest_entries", "receipts.forests"] {
        change(&market, &format!("delete from {table}")).await;
    }
    for table in ["receipts.logs", "receipts.tiles", "receipts.checkpoints"] {
        change(&market, &format!("delete from {table} where ledger_id = 0")).await;
    }
    let report = verify(&market).await;
    assert_eq!(report.first_problem().map(|(name, _)| name), Some("forest"), "{report}");
    assert_eq!(market.pipeline.check_checkpoints().await.unwrap_err().code, "UR903");
}

/// The newest receipt, as its envelope.
async fn newest(market: &Market) -> (v1::Envelope, v1::Receipt) {
    let row = market.admin.query_one("select envelope from receipts.receipts order by seq desc limit 1", &[]);
    let envelope = v1::Envelope::decode(row.await.unwrap().get::<_, Vec<u8>>(0).as_slice()).unwrap();
    let receipt = v1::Receipt::decode(envelope.payload.as_slice()).unwrap();
    (envelope, receipt)
}

#[tokio::test]
async fn a_receipt_says_by_when_it_is_in_a_checkpoint_and_who_breaks_that_is_proven() {
    let market = Market::start().await;
    market.settled().await;
    market.pipeline.shutdown().await;
    let (envelope, receipt) = newest(&market).await;
    assert_eq!((receipt.rules_version, receipt.include_by_us), (3, include_by_us(receipt.accepted_at_us)));
    let house = market.pipeline.house().receipt_key().clone();
    let origin: NoteName = "econ.test/ledger/1".parse().unwrap();
    let kept = std::fs::read_to_string(checkpoint_path(&market.dir().join("checkpoints"), LEDGER)).unwrap();
    let timed = parse_timed(&kept, &origin, house.public()).unwrap();
    assert_eq!(timed.checkpoint.size, receipt.seq);
    let seq = receipt.seq;
    assert_eq!(
        breach(&envelope, &kept, &origin, house.public()),
        Err(BreachError::Covered { size: seq, seq })
    );
    // The house shows somebody a checkpoint of the time that was promised, without this receipt.
    let before = i64::try_from(seq - 1).unwrap();
    let row = market.admin.query_one("select receipts.root_at(1, $1)", &[&before]).await.unwrap();
    let root = TreeHash::from_slice(&row.get::<_, Vec<u8>>(0)).unwrap();
    let due_s = u64::try_from(receipt.include_by_us / 1_000_000).unwrap() + 1;
    let withheld = Checkpoint { origin: origin.clone(), size: seq - 1, root };
    let early = sign_timed_checkpoint(&withheld, &house, due_s - 2);
    assert_eq!(breach(&envelope, &early, &origin, house.public()), Err(BreachError::NotYetDue));
    assert!(verify_with(&market, vec![("early".into(), early)]).await.passed());
    let late = sign_timed_checkpoint(&withheld, &house, due_s);
    assert_eq!(breach(&envelope, &late, &origin, house.public()).unwrap().seq, seq);
    let report = verify_with(&market, vec![("a client's checkpoint".into(), late)]).await;
    let (name, problem) = report.first_problem().unwrap();
    assert_eq!(
        (name, problem.place.as_str()),
        ("checkpoints.deadlines", "a client's checkpoint"),
        "{report}"
    );
}

#[tokio::test]
async fn a_checkpoint_from_outside_must_be_of_a_log_that_is_here_signed_by_the_house() {
    let market = Market::start().await;
    market.pipeline.shutdown().await;
    let kept = std::fs::read_to_string(checkpoint_path(&market.dir().join("checkpoints"), LEDGER)).unwrap();
    assert!(verify_with(&market, vec![("kept".into(), kept.clone())]).await.passed());
    let house = market.pipeline.house().receipt_key().clone();
    let stranger = proto::keys::KeyPair::from_seed(&[66; 32]);
    let origin: NoteName = "econ.test/ledger/1".parse().unwrap();
    let real = parse_timed(&kept, &origin, house.public()).unwrap().checkpoint;
    let other_name = Checkpoint { origin: "econ.test/ledger/2".parse().unwrap(), ..real.clone() };
    let larger = Checkpoint { size: real.size + 1, ..real.clone() };
    let size = format!("\n{}\n", real.size);
    for (why, note, check) in [
        ("another key", sign_timed_checkpoint(&real, &stranger, 1), "checkpoints"),
        ("another log", sign_timed_checkpoint(&other_name, &house, 1), "checkpoints.given"),
        ("another size", kept.replacen(&size, &format!("\n{}\n", real.size - 1), 1), "checkpoints"),
        ("more leaves", sign_timed_checkpoint(&larger, &house, 1), "checkpoints"),
        ("no note", "nonsense".to_owned(), "checkpoints.given"),
    ] {
        let report = verify_with(&market, vec![(why.into(), note)]).await;
        let (name, problem) = report.first_problem().unwrap_or_else(|| panic!("{why} was not found"));
        assert_eq!((name, problem.place.as_str()), (check, why), "{report}");
    }
}

#[tokio::test]
async fn a_command_that_waited_half_its_time_is_accepted_anew() {
    let market = Market::start().await;
    let came = market.pipeline.now_us();
    let holder = market.db.admin().await;
    holder.batch_execute("begin; select from base.ledgers for update").await.unwrap();
    let waiting = async {
        let blocked = "select exists (select from pg_stat_activity where datname = current_database() \
             and application_name = 'econ-pipeline' and wait_event_type = 'Lock')";
        while !market.admin.query_one(blocked, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
        market.advance(Duration::from_secs(45));
        holder.batch_execute("commit").await.unwrap();
    };
    let (answer, ()) = tokio::join!(market.send(&market.buyer, kinds::cancel_rfq(market.id())), waiting);
    assert_eq!(answer.code, "UM401");
    market.pipeline.shutdown().await;
    let (_, receipt) = newest(&market).await;
    assert_eq!(receipt.seq, answer.seq);
    assert!(receipt.accepted_at_us >= came + 45_000_000, "{} after {came}", receipt.accepted_at_us);
    verified(&market).await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_breaks_no_promise() {
    let market = Market::start().await;
    market.advance(Duration::from_secs(3_600));
    market.asked().await;
    let seq = market.count("select max(seq) from receipts.receipts").await;
    let signed = format!("select count(*) from receipts.checkpoints where ledger_id = 1 and size >= {seq}");
    while market.count(&signed).await == 0 {
        tokio::task::yield_now().await;
    }
    market.pipeline.clock().simulate(0);
    let answer = market.send(&market.buyer, kinds::cancel_rfq(market.id())).await;
    market.pipeline.shutdown().await;
    let (_, receipt) = newest(&market).await;
    assert_eq!(receipt.seq, answer.seq);
    // Within the minute before what was signed, not an hour.
    assert!(receipt.accepted_at_us > ledger::clock::system_now_us() + 3_000_000_000);
    verified(&market).await;
}
