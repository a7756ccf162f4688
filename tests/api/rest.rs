//! What anybody may look at, and that it holds: health, metrics, the description, checkpoints, proofs, receipts.

use proto::dsse;
use proto::ids::{KeyId, ReceiptId};
use proto::keys::PublicKey;
use proto::merkle::{self, TreeHash};
use proto::note::{self, Checkpoint, NoteName};
use proto::prost::Message as _;
use proto::v1;
use serde_json::Value;

use crate::support::http::{Craft, Reply, command};
use crate::support::kinds;
use crate::support::server::Server;

async fn get(server: &Server, path: &str) -> Reply {
    server.send(&Craft::new("nobody", "GET", path).unsigned()).await
}

#[tokio::test]
async fn health_readiness_and_metrics_say_how_it_is() {
    let server = Server::start().await;
    assert_eq!(get(&server, "/healthz").await.json()["status"], "ok");
    let ready = get(&server, "/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &Value::from("ready")));
    let refused = server.send(&command("nobody", "metered", kinds::cancel_rfq(server.market.id()))).await;
    assert_eq!(refused.status, 401);
    let page = get(&server, "/metrics").await;
    assert!(page.content_type().starts_with("text/plain; version=0.0.4"), "{}", page.content_type());
    let text = page.text();
    for line in [
        "econ_unauthenticated_total{reason=\"unknown_key\"}",
        "econ_problems_total{code=\"UI202\"}",
        "econ_http_requests_total{route=\"/v1/ledgers/{ledger_id}/commands\",method=\"POST\",status=\"401\"}",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "no {line} in:\n{text}");
    }
    // Nothing that a stranger writes becomes a label.
    assert_eq!(get(&server, "/no-such-path-7f3a").await.status, 404);
    assert!(!get(&server, "/metrics").await.text().contains("7f3a"));
}

#[tokio::test]
async fn without_its_database_the_server_lives_but_is_not_ready() {
    let server = Server::start().await;
    let name = server.market.db.name();
    server.market.pipeline.shutdown().await;
    let admin = server.market.db.cluster().config("postgres", None);
    let (admin, connection) = admin.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // Closed first, or a pool would be back at once.
    admin.batch_execute(&format!("alter database {name} allow_connections false")).await.unwrap();
    let cut = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
    admin.batch_execute(&cut).await.unwrap();
    let ready = get(&server, "/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (503, &Value::from("not ready")), "{}", ready.text());
    assert_eq!(get(&server, "/healthz").await.status, 200);
    let info = get(&server, "/v1/info").await.problem();
    assert_eq!((info.status, info.code.as_str()), (503, "UB801"));
    admin.batch_execute(&format!("alter database {name} allow_connections true")).await.unwrap();
    assert_eq!(get(&server, "/readyz").await.status, 200);
}

#[tokio::test]
async fn the_description_is_openapi_3_1_and_describes_what_is_there() {
    let server = Server::start().await;
    let document = get(&server, "/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    // Every reference leads somewhere, every operation says how it ends.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 7);
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
            for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let named = |parameter: &Value| parameter["name"] == name && parameter["in"] == "path";
                assert!(
                    operation["parameters"].as_array().unwrap().iter().any(named),
                    "{method} {path}: {name}"
                );
            }
        }
    }
}

/// The house's key for receipts and checkpoints, and the log's name, as the server states them.
async fn trust(server: &Server) -> (PublicKey, NoteName) {
    let info = server.client("buyer").info().await.unwrap();
    let key = PublicKey::from_slice(&hex::decode(&info.receipt_key).unwrap()).unwrap();
    (key, info.ledgers[0].origin.parse().unwrap())
}

async fn checkpoint(server: &Server) -> Checkpoint {
    let (key, origin) = trust(server).await;
    let note = get(server, "/v1/ledgers/1/checkpoint").await;
    assert_eq!((note.status, note.content_type()), (200, "text/plain; charset=utf-8"));
    // Another key's word, or another log's, is none.
    let other = crate::support::http::key_of("nobody");
    assert!(note::parse_and_verify(&note.text(), &origin, other.public()).is_err());
    assert!(note::parse_and_verify(&note.text(), &"other.example/log".parse().unwrap(), &key).is_err());
    note::parse_and_verify(&note.text(), &origin, &key).unwrap()
}

#[tokio::test]
async fn every_receipt_is_proven_by_the_signed_checkpoint() {
    let server = Server::start().await;
    let market = &server.market;
    market.settled().await;
    market.refunded().await;
    // The last checkpoint is written as the pipeline ends; reading goes on.
    market.pipeline.shutdown().await;
    let head = checkpoint(&server).await;
    let count = u64::try_from(market.count("select count(*) from receipts.receipts").await).unwrap();
    assert_eq!(head.size, count);
    let (key, _) = trust(&server).await;
    let operator = proto::keys::KeyPair::load(&market.dir().join("keys/operator.pem")).unwrap();
    let operator = server.client_of(operator);
    for seq in 1..=count {
        let bytes = operator.get(&format!("/v1/receipts/{seq}"), "*/*").await.unwrap();
        let envelope = v1::Envelope::decode(&*bytes).unwrap();
        let of = |id: &KeyId| (*id == key.id()).then_some(key);
        let (receipt, _) = dsse::verify_message::<v1::Receipt>(&envelope, of).unwrap();
        assert_eq!(receipt.seq, seq);
        // By its id it is the same.
        let id = ReceiptId::of(&envelope.payload);
        assert_eq!(operator.get(&format!("/v1/receipts/{id}"), "*/*").await.unwrap(), bytes);
        let proof = get(&server, &format!("/v1/ledgers/1/proof?seq={seq}")).await.json();
        assert_eq!((&proof["leaf_index"], &proof["tree_size"]), (&(seq - 1).into(), &head.size.into()));
        let hashes = proof["hashes"].as_array().unwrap().iter();
        let hash =
            |hash: &Value| TreeHash::from_slice(&hex::decode(hash.as_str().unwrap()).unwrap()).unwrap();
        let hashes: Vec<TreeHash> = hashes.map(hash).collect();
        let leaf = merkle::leaf_hash(&bytes);
        merkle::verify_inclusion(&leaf, seq - 1, head.size, &hashes, &head.root).unwrap();
        // It is in no other place, and nothing else is in its place.
        let next = seq % head.size;
        assert!(merkle::verify_inclusion(&leaf, next, head.size, &hashes, &head.root).is_err());
        let other = merkle::leaf_hash(&envelope.payload);
        assert!(merkle::verify_inclusion(&other, seq - 1, head.size, &hashes, &head.root).is_err());
    }
    for (query, status, code) in [
        (format!("seq={}", count + 1), 404, "UR403"),
        ("seq=0".to_owned(), 400, "UB103"),
        (format!("seq=1&size={}", count + 1), 404, "UR403"),
        ("seq=one".to_owned(), 400, "UB103"),
        ("seq=1&more=1".to_owned(), 400, "UB103"),
    ] {
        let problem = get(&server, &format!("/v1/ledgers/1/proof?{query}")).await.problem();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{query}");
    }
    assert_eq!(get(&server, "/v1/ledgers/77/checkpoint").await.problem().code, "UR402");
}

#[tokio::test]
async fn a_receipt_is_for_its_parties() {
    let server = Server::start().await;
    let market = &server.market;
    let order = market.ordered().await;
    let accepted = format!(
        "select seq from base.commands where kind = 'accept_offer' and subject_id = '{}'",
        order.order
    );
    let path = format!("/v1/receipts/{}", market.count(&accepted).await);
    // Who ordered, who was told: both. Somebody else: there is no such receipt, for all he learns.
    for (who, status) in [("buyer", 200), ("provider", 200), ("payee", 404), ("nobody", 401)] {
        let reply =
            server.send(&Craft::new(who, "GET", path.clone()).header("accept", "application/json")).await;
        assert_eq!(reply.status, status, "{who}: {}", reply.text());
        if status == 200 {
            let receipt = reply.json();
            assert_eq!((&receipt["kind"], &receipt["code"]), (&"accept_offer".into(), &"ok".into()));
            assert_eq!(receipt["facts"]["order_id"], order.order.to_string());
        }
    }
    assert_eq!(get(&server, &path).await.problem().code, "UI201");
    let others = server.send(&Craft::new("payee", "GET", path)).await.text();
    let none = server.send(&Craft::new("payee", "GET", "/v1/receipts/999999")).await.text();
    assert_eq!(others, none);
}

#[tokio::test]
async fn an_agents_public_face_holds_its_keys_and_nothing_personal() {
    let server = Server::start().await;
    let buyer = crate::support::market::id_of(&server.market.buyer);
    let face = get(&server, &format!("/v1/agents/{buyer}")).await.json();
    assert_eq!(face["keys"][0]["public_key"], server.market.buyer.key.public().to_string());
    assert_eq!(
        (&face["keys"][0]["purpose"], &face["keys"][0]["revoked_at_us"]),
        (&"buyer".into(), &Value::Null)
    );
    let none = get(&server, &format!("/v1/agents/{}", uuid::Uuid::nil())).await.problem();
    assert_eq!((none.status, none.code.as_str()), (404, "UI403"));
    assert_eq!(get(&server, "/v1/agents/x").await.problem().status, 400);
}
