//! The logs over HTTP: tiles that are enough by themselves, consistency, the forest, and a witness beside the server.

use api::witness::{self, Witness, WitnessOptions, submit};
use proto::keys::PublicKey;
use proto::merkle::{Tree, TreeHash, leaf_hash, verify_consistency, verify_inclusion};
use proto::note::{
    Checkpoint, NoteName, VerifierKey, parse_and_verify, sign_timed_checkpoint, verify_cosignatures,
};
use proto::tiles::tiles_of;
use serde_json::Value;

use crate::support::http::{Craft, Reply};
use crate::support::kinds;
use crate::support::server::Server;

async fn get(server: &Server, path: &str) -> Reply {
    server.send(&Craft::new("nobody", "GET", path).unsigned()).await
}

fn key(server: &Server) -> PublicKey {
    *server.market.pipeline.house().receipt_key().public()
}

fn name(text: &str) -> NoteName {
    text.parse().unwrap()
}

async fn checkpoint(server: &Server, path: &str, origin: &str) -> Checkpoint {
    let note = get(server, path).await;
    assert_eq!((note.status, note.content_type()), (200, "text/plain; charset=utf-8"), "{}", note.text());
    parse_and_verify(&note.text(), &name(origin), &key(server)).unwrap()
}

fn hashes(json: &Value) -> Vec<TreeHash> {
    let hash = |hash: &Value| hash.as_str().unwrap().parse().unwrap();
    json["hashes"].as_array().unwrap().iter().map(hash).collect()
}

/// A log of more than a full tile: refusals have receipts too.
async fn long_log(server: &Server) {
    for _ in 0..270 {
        server.market.send(&server.market.buyer, kinds::cancel_rfq(server.market.id())).await;
    }
    server.market.pipeline.shutdown().await;
}

#[tokio::test]
async fn who_knows_only_tiles_and_the_checkpoint_proves_every_receipt() {
    let server = Server::start().await;
    long_log(&server).await;
    let head = checkpoint(&server, "/v1/ledgers/1/log/checkpoint", "econ.test/ledger/1").await;
    assert!(head.size > 256 && head.size < 512);
    let mut tree = Tree::new();
    for tile in tiles_of(head.size) {
        let path = format!("/v1/ledgers/1/log/tile/{tile}");
        let reply = get(&server, &path).await;
        assert_eq!((reply.status, reply.content_type()), (200, "application/octet-stream"), "{path}");
        assert_eq!(reply.body.len(), usize::from(tile.width) * 32, "{path}");
        let cache = reply.headers["cache-control"].to_str().unwrap().to_owned();
        assert_eq!(cache.contains("immutable"), tile.width == 256, "{path}: {cache}");
        let found = reply.body.chunks(32).map(|hash| TreeHash::from_slice(hash).unwrap());
        if tile.level == 0 {
            found.for_each(|leaf| tree.append(leaf));
        } else {
            assert_eq!(found.collect::<Vec<_>>(), [tree.root_at(256).unwrap()]);
        }
    }
    assert_eq!((tree.size(), tree.root()), (head.size, head.root));
    for seq in [1, 256, 257, head.size] {
        let proof = get(&server, &format!("/v1/ledgers/1/proof?seq={seq}")).await.json();
        assert_eq!(hashes(&proof), tree.inclusion_proof(seq - 1, head.size).unwrap());
    }
    for (old, new) in [(1, head.size), (256, head.size), (200, 256), (7, 7)] {
        let proof = get(&server, &format!("/v1/ledgers/1/consistency?old={old}&new={new}")).await.json();
        let (old_root, new_root) = (tree.root_at(old).unwrap(), tree.root_at(new).unwrap());
        verify_consistency(old, new, &hashes(&proof), &old_root, &new_root).unwrap();
    }
    assert_eq!(get(&server, "/v1/ledgers/1/consistency?old=9").await.json()["new"], head.size);
    let rest = head.size - 256;
    for (path, status, code) in [
        ("/v1/ledgers/1/log/tile/0/001".to_owned(), 404, "UR404"),
        (format!("/v1/ledgers/1/log/tile/0/001.p/{}", rest + 1), 404, "UR404"),
        ("/v1/ledgers/1/log/tile/0/x001/000".to_owned(), 404, "UR404"),
        ("/v1/ledgers/1/log/tile/2/000".to_owned(), 404, "UR404"),
        ("/v1/ledgers/1/log/tile/0/1".to_owned(), 404, "UB402"),
        ("/v1/ledgers/1/log/tile/entries/000".to_owned(), 403, "UR301"),
        ("/v1/ledgers/0/log/tile/0/000".to_owned(), 404, "UB401"),
        ("/v1/ledgers/77/log/tile/0/000".to_owned(), 404, "UR404"),
        (format!("/v1/ledgers/1/consistency?old=2&new={}", head.size + 1), 404, "UR404"),
        ("/v1/ledgers/1/consistency?old=3&new=2".to_owned(), 404, "UR404"),
        ("/v1/ledgers/1/consistency?old=0&new=2".to_owned(), 404, "UR404"),
    ] {
        let problem = get(&server, &path).await.problem();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{path}");
    }
}

#[tokio::test]
async fn the_forest_proves_a_ledgers_checkpoint_to_everybody() {
    let server = Server::start().await;
    server.market.settled().await;
    server.market.pipeline.shutdown().await;
    let ledger = checkpoint(&server, "/v1/ledgers/1/checkpoint", "econ.test/ledger/1").await;
    let forest = checkpoint(&server, "/v1/forest/checkpoint", "econ.test/forest").await;
    assert_eq!(checkpoint(&server, "/v1/forest/log/checkpoint", "econ.test/forest").await, forest);
    let proof = get(&server, &format!("/v1/forest/proof?ledger=1&size={}", ledger.size)).await.json();
    assert_eq!(proof["leaf"], ledger.text());
    let leaf = leaf_hash(ledger.text().as_bytes());
    let index = proof["leaf_index"].as_u64().unwrap();
    verify_inclusion(&leaf, index, forest.size, &hashes(&proof), &forest.root).unwrap();
    assert_eq!(get(&server, "/v1/forest/proof?ledger=1").await.json(), proof);
    // Its entries are public: each is a checkpoint, and together they give the root.
    let mut tree = Tree::new();
    for tile in tiles_of(forest.size).filter(|tile| tile.level == 0) {
        let path = format!("/v1/forest/log/tile/{tile}").replacen("tile/0/", "tile/entries/", 1);
        let bundle = get(&server, &path).await;
        let mut rest = &bundle.body[..];
        while let Some((length, tail)) = rest.split_first_chunk::<2>() {
            let (entry, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
            assert!(entry.starts_with(b"econ.test/ledger/1\n"));
            tree.append(leaf_hash(entry));
            rest = tail;
        }
        assert_eq!(get(&server, &format!("/v1/forest/log/tile/{tile}")).await.status, 200);
    }
    assert_eq!((tree.size(), tree.root()), (forest.size, forest.root));
    let path = format!("/v1/forest/consistency?old=1&new={}", forest.size);
    let from_first = hashes(&get(&server, &path).await.json());
    verify_consistency(1, forest.size, &from_first, &tree.root_at(1).unwrap(), &forest.root).unwrap();
    for (path, code) in [
        ("/v1/forest/proof?ledger=2", "UR405"),
        ("/v1/forest/proof?ledger=1&size=1000000", "UR405"),
        ("/v1/forest/proof?ledger=1&forest_size=1000000", "UR405"),
        ("/v1/forest/log/tile/entries/009", "UR404"),
        ("/v1/forest/checkpoint?witnessed=true", "UR402"),
    ] {
        assert_eq!(get(&server, path).await.problem().code, code, "{path}");
    }
}

/// A witness on a port of its own, until the test ends.
async fn witness_of(dir: &std::path::Path, logs: Vec<VerifierKey>) -> (submit::Peer, VerifierKey) {
    let witness = Witness::open(&WitnessOptions { dir: dir.to_owned(), logs, name: None }).unwrap();
    let key = witness.verifier_key();
    let (listener, address) = witness::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    tokio::spawn(witness::serve(witness, listener, std::future::pending()));
    (submit::Peer { url: format!("http://{address}"), key: key.clone() }, key)
}

/// The keys of the logs, as the server tells them.
async fn log_keys(server: &Server) -> Vec<VerifierKey> {
    server.until("the forest is there", "select count(*) > 0 from receipts.forests").await;
    let info = get(server, "/v1/info").await.json();
    [&info["ledgers"][0]["log_key"], &info["forest_key"]]
        .map(|key| key.as_str().unwrap().parse().unwrap())
        .to_vec()
}

#[tokio::test]
async fn a_witness_cosigns_each_log_and_the_newest_cosigned_checkpoint_is_served() {
    let server = Server::start().await;
    server.market.settled().await;
    let dir = tempfile::tempdir().unwrap();
    let (peer, witness) = witness_of(dir.path(), log_keys(&server).await).await;
    submit::start(&server.state, vec![peer]);
    let cosigned = "select count(distinct ledger_id) = 2 from receipts.cosignatures";
    server.until("both logs are cosigned", cosigned).await;
    // It goes on from there, with a proof of consistency.
    let before = server.market.count("select max(size) from receipts.cosignatures where ledger_id = 1").await;
    server.market.settled().await;
    let more = format!("select max(size) > {before} from receipts.cosignatures where ledger_id = 1");
    server.until("the longer log is cosigned", &more).await;
    for (path, origin) in [
        ("/v1/ledgers/1/checkpoint?witnessed=true", "econ.test/ledger/1"),
        ("/v1/forest/checkpoint?witnessed=true", "econ.test/forest"),
    ] {
        checkpoint(&server, path, origin).await;
        let note = get(&server, path).await.text();
        assert_eq!(verify_cosignatures(&note, &witness.name, &witness.key).unwrap().len(), 1, "{note}");
    }
    server.market.pipeline.shutdown().await;
    server.verified().await;
}

#[tokio::test]
async fn a_witness_that_has_seen_another_log_is_an_alarm_and_cosigns_nothing() {
    let server = Server::start().await;
    server.market.settled().await;
    let keys = log_keys(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let (peer, _) = witness_of(dir.path(), keys).await;
    // The house showed the witness a longer log than the one that it serves.
    let root = leaf_hash(b"another log");
    let fork = Checkpoint { origin: name("econ.test/ledger/1"), size: 1_000_000, root };
    let note = sign_timed_checkpoint(&fork, server.market.pipeline.house().receipt_key(), 1_795_000_000);
    let answer =
        reqwest::Client::new().post(format!("{}/add-checkpoint", peer.url)).body(format!("old 0\n\n{note}"));
    assert_eq!(answer.send().await.unwrap().status(), 200);
    let gauge = format!("econ_witness_contradicts{{witness=\"{}\",ledger=\"1\"}} 1", peer.key.name);
    submit::start(&server.state, vec![peer]);
    let alarmed = async {
        while !get(&server, "/metrics").await.text().contains(&gauge) {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(120);
    assert!(tokio::time::timeout(patience, alarmed).await.is_ok(), "no alarm");
    let of_ledger = "select count(*) from receipts.cosignatures where ledger_id = 1";
    assert_eq!(server.market.count(of_ledger).await, 0);
    // Nobody was held up.
    server.market.settled().await;
}
