//! The log that `receipts.seal` keeps is, whatever the batches were, the tree of RFC 6962: root, peaks, tiles and proofs are
//! those that `proto` computes leaf by leaf.

use std::collections::BTreeMap;

use ledger::testing::TestDb;
use proto::ids::ReceiptId;
use proto::merkle::{Frontier, Tree, TreeHash, leaf_hash, verify_inclusion};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_postgres::Client;
use uuid::Uuid;

const LEDGER: i32 = 1;
const TILE: usize = 256;

type Tiles = BTreeMap<(i16, i64), Vec<u8>>;

/// What the database must hold after these leaves.
fn expected(leaves: &[TreeHash]) -> (Frontier, Tiles) {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.append(*leaf));
    let mut tiles = Tiles::new();
    let mut nodes = leaves.to_vec();
    for level in 0_i16.. {
        for (index, tile) in (0_i64..).zip(nodes.chunks(TILE)) {
            tiles.insert((level, index), tile.iter().flat_map(|hash| hash.0).collect());
        }
        nodes = nodes.chunks_exact(TILE).map(root_of).collect();
        if nodes.is_empty() {
            break;
        }
    }
    (frontier, tiles)
}

fn root_of(nodes: &[TreeHash]) -> TreeHash {
    let mut frontier = Frontier::new();
    nodes.iter().for_each(|node| frontier.append(*node));
    frontier.root()
}

fn envelope(index: usize) -> Vec<u8> {
    format!("envelope {index}").into_bytes()
}

struct Log {
    db: TestDb,
    admin: Client,
    /// As the server seals.
    api: Client,
    leaves: Vec<TreeHash>,
}

impl Log {
    /// A log that holds so many leaves already: written as it must be, not sealed.
    async fn of_size(size: usize) -> Log {
        let db = TestDb::new().await;
        let (admin, api) = (db.admin().await, db.client("econ_api").await);
        let leaves: Vec<TreeHash> = (0..size).map(|index| leaf_hash(&envelope(index))).collect();
        let (frontier, tiles) = expected(&leaves);
        admin
            .execute("insert into base.ledgers (ledger_id, name, origin) values ($1, 'a', 'a/1')", &[&LEDGER])
            .await
            .unwrap();
        let peaks: Vec<&[u8]> = frontier.peaks().iter().map(|peak| peak.0.as_slice()).collect();
        admin
            .execute(
                "insert into receipts.logs (ledger_id, size, root, peaks) values ($1, $2, $3, $4)",
                &[&LEDGER, &i64::try_from(size).unwrap(), &frontier.root().0.as_slice(), &peaks],
            )
            .await
            .unwrap();
        for ((level, index), hashes) in &tiles {
            admin
                .execute(
                    "insert into receipts.tiles values ($1, $2, $3, $4)",
                    &[&LEDGER, level, index, hashes],
                )
                .await
                .unwrap();
        }
        Log { db, admin, api, leaves }
    }

    async fn seal(&mut self, count: usize) {
        let from = self.leaves.len();
        let envelopes: Vec<Vec<u8>> = (from..from + count).map(envelope).collect();
        let seqs: Vec<i64> = (from..from + count).map(|index| i64::try_from(index).unwrap() + 1).collect();
        let ids: Vec<Vec<u8>> =
            envelopes.iter().map(|bytes| ReceiptId::of(bytes).as_ref().to_vec()).collect();
        // Subjects that come again, within a batch and across batches.
        let subjects: Vec<Uuid> =
            (from..from + count).map(|index| Uuid::from_u128(index as u128 % 97)).collect();
        let prevs: Vec<Option<Vec<u8>>> = vec![None; count];
        self.api
            .query_one(
                "select size, root from receipts.seal($1, $2, $3, $4, $5, $6)",
                &[&LEDGER, &seqs, &ids, &subjects, &prevs, &envelopes],
            )
            .await
            .unwrap();
        self.leaves.extend(envelopes.iter().map(|bytes| leaf_hash(bytes)));
    }

    async fn check(&self, what: &str) {
        let (frontier, tiles) = expected(&self.leaves);
        let row = self.admin.query_one("select size, root, peaks from receipts.logs", &[]).await.unwrap();
        assert_eq!(u64::try_from(row.get::<_, i64>(0)).unwrap(), frontier.size(), "{what}");
        assert_eq!(row.get::<_, Vec<u8>>(1), frontier.root().0, "{what}: root");
        let peaks: Vec<Vec<u8>> = frontier.peaks().iter().map(|peak| peak.0.to_vec()).collect();
        assert_eq!(row.get::<_, Vec<Vec<u8>>>(2), peaks, "{what}: peaks");
        let rows =
            self.admin.query("select level, tile_index, hashes from receipts.tiles", &[]).await.unwrap();
        let stored: Tiles = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        assert!(stored.keys().eq(tiles.keys()), "{what}: which tiles there are");
        for (place, hashes) in &tiles {
            assert!(stored[place] == *hashes, "{what}: tile {place:?}");
        }
    }

    async fn proof(&self, index: u64, size: u64) -> Option<Vec<TreeHash>> {
        let (index, size) = (i64::try_from(index).unwrap(), i64::try_from(size).unwrap());
        let sql = "select receipts.inclusion_proof($1, $2, $3)";
        let row = self.api.query_one(sql, &[&LEDGER, &index, &size]).await.unwrap();
        let hashes: Option<Vec<Vec<u8>>> = row.get(0);
        hashes.map(|hashes| hashes.iter().map(|hash| TreeHash::from_slice(hash).unwrap()).collect())
    }
}

#[tokio::test]
async fn every_batch_leaves_the_tree_that_leaf_by_leaf_would() {
    let borders: [(usize, &[usize]); 9] = [
        (0, &[1, 1, 1, 253, 1, 1]),
        (0, &[8_000]),
        (1, &[64, 65]),
        (255, &[1, 256, 257]),
        (256, &[255, 2]),
        (65_279, &[256, 1, 1]),
        (65_535, &[1, 1]),
        (65_536, &[1, 8_000]),
        (65_000, &[537]),
    ];
    for (start, batches) in borders {
        let mut log = Log::of_size(start).await;
        for count in batches {
            log.seal(*count).await;
            log.check(&format!("from {start}, batches {batches:?}, after the one of {count}")).await;
        }
        log.db.close().await;
    }
}

#[tokio::test]
async fn random_batches_from_random_sizes_leave_the_same_tree() {
    let seed = std::env::var("ECON_TEST_SEED").map_or(0, |seed| {
        u64::from_le_bytes(blake3::hash(seed.as_bytes()).as_bytes()[..8].try_into().unwrap())
    });
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..6 {
        let start = match random.random_range(0..3) {
            0 => random.random_range(0..3),
            1 => random.random_range(0..3_000),
            _ => 65_536 - random.random_range(0..2_000),
        };
        let mut batches: Vec<usize> = Vec::new();
        for _ in 0..8 {
            let most = 1 << random.random_range(0..12);
            batches.push(random.random_range(1..=most));
        }
        let mut log = Log::of_size(start).await;
        for count in &batches {
            log.seal(*count).await;
        }
        log.check(&format!("seed {seed}, from {start}, batches {batches:?}")).await;
        log.db.close().await;
    }
}

#[tokio::test]
async fn a_batch_that_does_not_continue_the_log_is_refused() {
    let log = Log::of_size(3).await;
    for seq in [1_i64, 3, 5] {
        let refused = log
            .api
            .query_one(
                "select size from receipts.seal($1, array[$2::bigint], array[sha256('a')], array[gen_random_uuid()], \
                 array[null::bytea], array['x'::bytea])",
                &[&LEDGER, &seq],
            )
            .await
            .unwrap_err();
        assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("UR901"), "seq {seq}");
    }
    log.check("after the refusals").await;
}

/// The proofs of `proto`'s tree, at sizes and places around the borders of tiles, and at random ones.
#[tokio::test]
async fn proofs_from_tiles_are_those_of_the_whole_tree() {
    const SIZE: usize = 66_100;
    let log = Log::of_size(SIZE).await;
    let mut tree = Tree::new();
    log.leaves.iter().for_each(|leaf| tree.append(*leaf));
    let mut random = StdRng::seed_from_u64(7);
    let mut sizes: Vec<u64> = vec![1, 2, 3, 255, 256, 257, 511, 65_535, 65_536, 65_537, 65_792, 66_100];
    sizes.extend((0..60).map(|_| random.random_range(1..=SIZE as u64)));
    for size in sizes {
        let root = tree.root_at(size).unwrap();
        let edges = [0, size - 1, size / 2, size.saturating_sub(2), (size - 1) & !255];
        for index in edges.into_iter().chain((0..3).map(|_| random.random_range(0..size))) {
            let found = log.proof(index, size).await.unwrap();
            assert_eq!(found, tree.inclusion_proof(index, size).unwrap(), "leaf {index} of {size}");
            let leaf = log.leaves[usize::try_from(index).unwrap()];
            assert_eq!(verify_inclusion(&leaf, index, size, &found, &root), Ok(()), "leaf {index} of {size}");
        }
    }
    for (index, size) in [(0, 0), (5, 5), (0, SIZE as u64 + 1)] {
        assert_eq!(log.proof(index, size).await, None, "leaf {index} of {size}");
    }
}
