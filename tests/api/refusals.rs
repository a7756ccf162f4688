//! Bad input is refused with a code and a hint and changes nothing; what nobody vouches for leaves no row at all.

use proto::v1::{self, KeyPurpose, command_body::Kind};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::checks::{changed, domain_digest, verified};
use crate::support::http::{
    COMMAND, COMMAND_TYPE, COMMANDS, Craft, Problem, Reply, command, exchange, graphql, key_of, mutation,
    now_s, read_reply,
};
use crate::support::kinds;
use crate::support::market::{Market, id_of};
use crate::support::party::Party;
use crate::support::server::Server;

const OPEN_RFQ: &str =
    "mutation Open($input: OpenRfqInput!) { openRfq(input: $input) { seq receiptId replayed facts } }";
const CANCEL: &str = "cancelRfq(input: { rfqId: \"0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f\" }) { seq }";

/// The two doors of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Rest,
    Graphql,
}

/// A good request by `signer` to open an RFQ, through either door.
fn open_rfq(market: &Market, door: Door, signer: &'static str, idempotency_key: &str) -> Craft {
    let rfq = kinds::rfq(market.id());
    match door {
        Door::Rest => command(signer, idempotency_key, Kind::OpenRfq(rfq)),
        Door::Graphql => {
            let id = uuid::Uuid::from_slice(&rfq.rfq_id).unwrap();
            let input = json!({
                "rfqId": id, "workClass": rfq.work_class, "inputHash": "07".repeat(32), "workUnits": rfq.work_units,
                "assetId": rfq.asset_id, "maxPrice": rfq.max_price, "validForMs": rfq.valid_for_ms,
                "maxDurationMs": rfq.max_duration_ms,
            });
            mutation(signer, idempotency_key, OPEN_RFQ, json!({ "input": input }))
        }
    }
}

/// What is wrong with a request, and the answer to it.
type Case = (&'static str, fn(&mut Craft), u16, &'static str);

/// In the order in which the server finds out.
const UNAUTHENTICATED: &[Case] = &[
    ("idempotency key missing", |craft| craft.left_out.push("idempotency-key"), 400, "UB102"),
    ("another host", |craft| craft.more_headers.push(("host", "market.example".into())), 401, "UI207"),
    ("no signature", |craft| craft.left_out.extend(["signature", "signature-input"]), 401, "UI201"),
    ("a signature without its input", |craft| craft.left_out.push("signature-input"), 401, "UI201"),
    ("an input without its signature", |craft| craft.left_out.push("signature"), 401, "UI201"),
    ("wrong tag", |craft| craft.tag = "other", 401, "UI201"),
    ("signed twice", signed_twice, 401, "UI206"),
    ("method not covered", |craft| uncover(craft, "@method"), 401, "UI207"),
    ("target not covered", |craft| uncover(craft, "@target-uri"), 401, "UI207"),
    ("content type not covered", |craft| uncover(craft, "content-type"), 401, "UI207"),
    ("digest not covered", |craft| uncover(craft, "content-digest"), 401, "UI207"),
    ("idempotency key not covered", |craft| uncover(craft, "idempotency-key"), 401, "UI207"),
    ("a component that nobody checks", |craft| craft.components.push("date"), 401, "UI207"),
    ("digest missing", |craft| craft.left_out.push("content-digest"), 401, "UI206"),
    ("another algorithm", |craft| craft.more_params = ";alg=\"rsa-pss-sha512\"", 401, "UI206"),
    ("nonce too short", |craft| craft.nonce = "1".into(), 401, "UI206"),
    ("idempotency key too long", |craft| craft.idempotency_key = Some("k".repeat(256)), 400, "UB104"),
    ("idempotency key empty", |craft| craft.idempotency_key = Some(String::new()), 400, "UB104"),
    ("from the future", |craft| dated(craft, 120, 180), 401, "UI208"),
    ("expired", |craft| dated(craft, -200, -100), 401, "UI208"),
    ("stale, though not expired by its own word", |craft| dated(craft, -400, 60), 401, "UI208"),
    ("unknown key", |craft| sign_as(craft, "nobody"), 401, "UI202"),
    ("wrong signature", |craft| craft.spoiled = true, 401, "UI210"),
    ("signed by another than it says", |craft| craft.signer = "payee", 401, "UI210"),
    ("signed for another method", |craft| craft.signed_method = Some("PUT"), 401, "UI210"),
    (
        "signed for another market",
        |craft| craft.signed_target = Some(format!("http://market.example{}", craft.path)),
        401,
        "UI210",
    ),
    ("revoked key", |craft| sign_as(craft, "revoked"), 401, "UI203"),
    ("another body", |craft| craft.sent_body = Some(another_body(craft)), 401, "UI209"),
];

fn uncover(craft: &mut Craft, component: &str) {
    craft.components.retain(|name| *name != component);
}

fn dated(craft: &mut Craft, created: i64, expires: i64) {
    (craft.created, craft.expires) = (now_s() + created, now_s() + expires);
}

fn sign_as(craft: &mut Craft, signer: &'static str) {
    craft.signer = signer;
    craft.key_id = key_of(signer).id().to_string();
}

/// A second signature with our tag beside the first.
fn signed_twice(craft: &mut Craft) {
    let all = craft.anew().headers("http://elsewhere.example");
    for name in ["signature-input", "signature"] {
        let (_, value) = all.iter().find(|(found, _)| *found == name).unwrap();
        craft.more_headers.push((name, value.replacen("econ=", "again=", 1)));
    }
}

/// Still a good request of its kind, for a hundred times the price: only the digest can tell.
fn another_body(craft: &Craft) -> Vec<u8> {
    let mut body = craft.body.clone().unwrap();
    let price = body.windows(5).position(|five| five == b"10000").unwrap();
    body[price] = b'9';
    body
}

async fn revoked(market: &Market, name: &str) {
    let party = Party::new(name, KeyPurpose::Buyer);
    party.register(&market.pipeline).await;
    let revoke = v1::RevokeKey { key_id: party.key.id().into(), reason: "lost".into() };
    market.must(&party, Kind::RevokeKey(revoke)).await;
}

#[tokio::test]
async fn a_request_that_nobody_vouches_for_leaves_no_row() {
    let server = Server::start().await;
    revoked(&server.market, "revoked").await;
    for door in [Door::Rest, Door::Graphql] {
        // The request is good until it is spoiled, or the table would prove nothing.
        let good = open_rfq(&server.market, door, "buyer", &format!("good-{door:?}"));
        let reply = server.send(&good).await;
        assert!(reply.status == 200 && !reply.text().contains("errors"), "{door:?}: {}", reply.text());
        let before = server.every_row().await;
        for (name, spoil, status, code) in UNAUTHENTICATED {
            let mut craft = open_rfq(&server.market, door, "buyer", "spoiled");
            spoil(&mut craft);
            let reply = server.send(&craft).await;
            let problem = reply.problem();
            let found = (reply.status, problem.status, problem.code.as_str());
            assert_eq!(found, (*status, *status, *code), "{door:?}, {name}: {}", reply.text());
            assert_eq!(problem.seq, None, "{door:?}, {name}: it was logged");
            assert_eq!(reply.headers.contains_key("www-authenticate"), *status == 401, "{door:?}, {name}");
            assert_eq!(server.every_row().await, before, "{door:?}, {name}");
        }
    }
    // Not even the idempotency key was spent.
    let reply = server.send(&open_rfq(&server.market, Door::Rest, "buyer", "spoiled")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn what_cannot_be_read_or_goes_the_wrong_way_leaves_no_row() {
    let server = Server::start().await;
    let sent = |path: &str, content_type: &str, body: &[u8]| {
        Craft::new("buyer", "POST", path).body(content_type, body.to_vec()).command("unreadable")
    };
    let rest = |body: &[u8]| sent(COMMANDS, COMMAND_TYPE, body);
    let json = |body: &[u8]| sent("/graphql", "application/json", body);
    let document = |query: &str| json(&graphql(query, Value::Null));
    let typed = |door, content_type: &str| {
        let good = open_rfq(&server.market, door, "buyer", "astray");
        sent(&good.path, content_type, &good.body.unwrap())
    };
    let moved = |method, path: &str| {
        let good = open_rfq(&server.market, Door::Rest, "buyer", "astray");
        Craft { method, path: path.into(), ..good }
    };
    let in_a_fragment = format!("mutation {{ ...F }} fragment F on Mutation {{ {CANCEL} }}");
    let cases = [
        ("malformed JSON", json(b"{\"query\":"), 400, "UB103"),
        ("JSON that is no request", json(b"[1]"), 400, "UB103"),
        ("bytes that are no text", json(b"\xff\xfe"), 400, "UB103"),
        ("no document", document(""), 400, "UB108"),
        ("half a document", document("mutation {"), 400, "UB108"),
        ("an unknown mutation", document("mutation { mint { seq } }"), 400, "UB108"),
        ("two mutation fields", document(&format!("mutation {{ a: {CANCEL} b: {CANCEL} }}")), 400, "UB108"),
        ("a mutation in a fragment", document(&in_a_fragment), 400, "UB108"),
        ("a subscription by POST", document("subscription { events { cursor } }"), 400, "UB109"),
        ("malformed protobuf", rest(b"\x3a\xff\xff\xff\xff\x0f"), 400, "UB103"),
        ("protobuf without a kind", rest(b"\xfa\x01\x00"), 400, "UB103"),
        ("an id of one byte", rest(&[0x42, 0x03, 0x0a, 0x01, 0x01]), 400, "UB103"),
        ("GraphQL as plain text", typed(Door::Graphql, "text/plain"), 415, "UB106"),
        ("GraphQL as a form", typed(Door::Graphql, "application/x-www-form-urlencoded"), 415, "UB106"),
        ("a command as JSON", typed(Door::Rest, "application/json"), 415, "UB106"),
        ("unknown ledger", moved("POST", "/v1/ledgers/77/commands"), 404, "UB401"),
        ("a ledger that is no number", moved("POST", "/v1/ledgers/x/commands"), 400, "UB103"),
        ("a path that is none", moved("POST", "/v1/commands"), 404, "UB402"),
        ("a command by PUT", moved("PUT", COMMANDS), 405, "UB112"),
        ("a command by DELETE", moved("DELETE", COMMANDS), 405, "UB112"),
    ];
    let before = server.every_row().await;
    for (name, craft, status, code) in cases {
        // Who knows GraphQL's newer media type gets a status of 400 for a request that is none.
        let reply = server.send(&craft.header("accept", "application/graphql-response+json")).await;
        let problem = reply.problem();
        assert_eq!((reply.status, problem.code.as_str()), (status, code), "{name}: {}", reply.text());
        assert_eq!(problem.seq, None, "{name}: it was logged");
        assert_eq!(server.every_row().await, before, "{name}");
    }
}

#[tokio::test]
async fn an_oversized_body_is_refused_without_being_read_to_its_end() {
    let server = Server::start().await;
    let before = server.every_row().await;
    for path in [COMMANDS, "/graphql"] {
        let content_type = if path == "/graphql" { "application/json" } else { COMMAND_TYPE };
        let craft = Craft::new("buyer", "POST", path).body(content_type, b"{}".to_vec()).command("large");
        // Announced: refused by its head, before any of it is sent.
        let size = (4 << 20) + 1;
        let head = craft.head(server.address, &format!("content-length: {size}\r\n"));
        let problem = exchange(server.address, &[head.as_bytes()]).await.problem();
        assert_eq!((problem.status, problem.code.as_str()), (413, "UB107"));
        // Not announced: refused at the first byte too many.
        let head = craft.head(server.address, "transfer-encoding: chunked\r\nconnection: close\r\n");
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let chunk = [format!("{size:x}\r\n").into_bytes(), vec![b' '; size]].concat();
        stream.write_all(&[head.as_bytes(), &chunk].concat()).await.unwrap();
        let problem = read_reply(stream).await.problem();
        assert_eq!((problem.status, problem.code.as_str()), (413, "UB107"));
    }
    assert_eq!(server.every_row().await, before);
}

#[tokio::test]
async fn a_mutation_travels_by_post_and_in_no_other_way() {
    let server = Server::start().await;
    let before = server.every_row().await;
    let query = format!("mutation {{ {CANCEL} }}");
    // By GET: the page of GraphiQL, whatever the query says, signed or not.
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let get = Craft::new("buyer", "GET", format!("/graphql?query={encoded}")).command("by-get");
    let get = Craft { components: COMMAND[..2].to_vec(), ..get };
    for craft in [get.clone(), get.unsigned()] {
        let reply = server.send(&craft.header("accept", "application/json")).await;
        assert!(reply.status == 200 && reply.content_type().starts_with("text/html"), "{}", reply.text());
    }
    // Over the WebSocket, by somebody who may cancel RFQs.
    let mut socket = server.client("buyer").graphql_socket().await.unwrap();
    let asked = socket.subscribe(&query, Value::Null).await.unwrap();
    match socket.next().await.unwrap() {
        provider_agent::client::GraphqlEvent::Failed { id, error } => {
            assert_eq!((id, error.code()), (asked, Some("UB109")), "{error}");
        }
        other => panic!("a mutation over WebSocket: {other:?}"),
    }
    socket.close().await;
    for method in ["PUT", "DELETE", "PATCH"] {
        let craft = Craft::new("buyer", method, "/graphql");
        let craft = craft.body("application/json", graphql(&query, Value::Null)).command("another-method");
        let problem = server.send(&craft).await.problem();
        assert_eq!((problem.status, problem.code.as_str()), (405, "UB112"), "{method}");
    }
    assert_eq!(server.every_row().await, before);
}

#[tokio::test]
async fn a_used_key_a_used_nonce_and_a_lately_revoked_key_change_nothing() {
    let mut server = Server::start().await;
    let market = &server.market;
    for door in [Door::Rest, Door::Graphql] {
        let key = format!("used-{door:?}");
        let first = open_rfq(market, door, "buyer", &key);
        assert_eq!(server.send(&first).await.status, 200);
        // The same idempotency key for another request.
        server.refused(&open_rfq(market, door, "buyer", &key), 422, "UB601").await;
        // The nonce of an earlier request under a new key.
        let again = open_rfq(market, door, "buyer", &format!("new-{door:?}"));
        let again = Craft { nonce: first.nonce.clone(), ..again };
        server.refused(&again, 401, "UI205").await;
    }
    // A key that was good a moment ago: the server may still remember it as that, the database does not.
    let late = Party::new("late", KeyPurpose::Buyer);
    late.register(&market.pipeline).await;
    assert_eq!(server.send(&open_rfq(market, Door::Rest, "late", "in-time")).await.status, 200);
    let revoke = v1::RevokeKey { key_id: late.key.id().into(), reason: "lost".into() };
    market.must(&late, Kind::RevokeKey(revoke)).await;
    let before = domain_digest(&market.admin).await;
    let problem = server.send(&open_rfq(market, Door::Rest, "late", "too-late")).await.problem();
    assert_eq!((problem.status, problem.code.as_str()), (401, "UI203"));
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());

    server.stop().await;
    server.market.pipeline.shutdown().await;
    server.verified().await;
}

#[tokio::test]
async fn an_amount_that_is_none_is_refused_wherever_money_is_named() {
    let server = Server::start().await;
    let market = &server.market;
    let offered = market.offered().await;
    let asked = market.asked().await;
    let buyer = id_of(&market.buyer);
    // Every mutation that takes an amount: what it is called, who may send it, its input, and what zero is refused as.
    let places = |amount: &Value| {
        [
            (
                "deposit",
                "operator",
                json!({ "agentId": buyer, "assetId": 1, "amount": amount, "externalReference": "bad" }),
                "UL101",
            ),
            (
                "openRfq",
                "buyer",
                json!({
                    "rfqId": market.id(), "workClass": "gemm.int8", "inputHash": "07".repeat(32), "workUnits": 1,
                    "assetId": 1, "maxPrice": amount, "validForMs": 1000, "maxDurationMs": 1000,
                }),
                "UM101",
            ),
            ("acceptOffer", "buyer", json!({ "offerId": offered.offer, "spendCap": amount }), "UM101"),
            (
                "submitOffer",
                "provider",
                json!({
                    "offerId": market.id(), "rfqId": asked.rfq, "pricePerUnit": amount, "validForMs": 1000,
                }),
                "UM101",
            ),
            (
                "publishCapability",
                "provider",
                json!({
                    "workClass": "gemm.int8", "region": "eu-1", "deviceCount": 1, "deviceKind": "cpu",
                    "assetId": 1, "pricePerUnit": amount, "maxConcurrency": 1, "maxWorkUnits": 1,
                }),
                "UM101",
            ),
        ]
    };
    let no_amounts = [
        json!("-1"),
        json!("+1"),
        json!("1.5"),
        json!("1."),
        json!("1e3"),
        json!("NaN"),
        json!("Infinity"),
        json!(""),
        json!(" 1"),
        json!("1_000"),
        json!("0x10"),
        json!("\u{0661}"),
        json!("9".repeat(29)),
        json!("9".repeat(4_000)),
        json!(5),
        json!(-5),
        json!(1.5),
        json!(true),
        json!(null),
        json!(["1"]),
    ];
    let before = server.every_row().await;
    for amount in &no_amounts {
        for (field, signer, input, _) in places(amount) {
            let problem = send_as(&server, signer, "bad-amount", field, input).await.problem();
            assert_eq!((problem.status, problem.seq), (400, None), "{field} {amount}: {problem:?}");
            // What does not even fit the schema is found before a value is read.
            assert!(["UB103", "UB108"].contains(&problem.code.as_str()), "{field} {amount}: {problem:?}");
        }
    }
    assert_eq!(server.every_row().await, before);

    for (field, signer, input, code) in places(&json!("0")) {
        let before = domain_digest(&market.admin).await;
        let key = format!("zero-{field}");
        let problem = send_as(&server, signer, &key, field, input).await.problem();
        assert_eq!((problem.status, problem.code.as_str()), (400, code), "{field}: {problem:?}");
        assert!(problem.seq.is_some(), "{field}: zero is a number, so it is judged, with a receipt");
        assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new(), "{field}");
    }
}

/// A signed mutation by a party, or by the operator, whose key is not made of a name.
async fn send_as(server: &Server, signer: &'static str, key: &str, field: &str, input: Value) -> Reply {
    let (first, rest) = field.split_at(1);
    let kind = if field == "publishCapability" { "CapabilityAd".into() } else { first.to_uppercase() + rest };
    let query = format!("mutation M($input: {kind}Input!) {{ {field}(input: $input) {{ seq }} }}");
    let variables = json!({ "input": input });
    if signer != "operator" {
        return server.send(&mutation(signer, key, &query, variables)).await;
    }
    let operator = server.market.house_party("operator.pem", KeyPurpose::Operator);
    let body = graphql(&query, variables);
    let request = proto::httpsig::RequestToSign {
        method: "POST",
        target_uri: &format!("{}/graphql", server.url),
        content_type: Some("application/json"),
        body: Some(proto::httpsig::BodyDigest::of(&body)),
        idempotency_key: Some(key),
    };
    let validity = proto::httpsig::Validity::from_now(now_s(), 60).unwrap();
    let signed = proto::httpsig::sign_request(&operator.key, &request, &validity).unwrap();
    let mut craft = Craft { body: Some(body), ..Craft::new("operator", "POST", "/graphql") }.unsigned();
    craft.left_out.push("content-digest");
    craft.more_headers = signed.headers().map(|(name, value)| (name, value.to_owned())).collect();
    server.send(&craft).await
}

#[tokio::test]
async fn an_expired_offer_an_exceeded_cap_and_an_empty_wallet_are_refused() {
    let mut server = Server::start().await;
    let market = &server.market;
    let accept = |signer, key: &str, offer, cap: &str| command(signer, key, kinds::accept_offer(offer, cap));
    let offered = market.offered().await;
    server.refused(&accept("buyer", "cap", offered.offer, "3699"), 429, "UM701").await;
    server.refused(&accept("provider", "thief", offered.offer, "10000"), 403, "UI301").await;
    server.refused(&accept("buyer", "none", market.id(), "10000"), 404, "UM402").await;

    let poor = Party::new("poor", KeyPurpose::Buyer);
    poor.register(&market.pipeline).await;
    let (rfq, offer) = (market.id(), market.id());
    market.must(&poor, Kind::OpenRfq(kinds::rfq(rfq))).await;
    market.must(&market.provider, Kind::SubmitOffer(kinds::offer(offer, rfq))).await;
    server.refused(&accept("poor", "poor", offer, "10000"), 429, "UM702").await;
    server.refused(&accept("buyer", "another's", offer, "10000"), 403, "UM301").await;

    let asked = market.asked().await;
    let short = market.id();
    let soon = v1::SubmitOffer { valid_for_ms: 1_000, ..kinds::offer(short, asked.rfq) };
    market.must(&market.provider, Kind::SubmitOffer(soon)).await;
    market.advance(std::time::Duration::from_secs(2));
    server.refused(&accept("buyer", "late", short, "10000"), 422, "UM602").await;

    server.stop().await;
    server.market.pipeline.shutdown().await;
    verified(&server.market).await;
}

#[tokio::test]
async fn an_honest_retry_gets_the_stored_answer_over_either_door() {
    let server = Server::start().await;
    let market = &server.market;
    for door in [Door::Rest, Door::Graphql] {
        let craft = open_rfq(market, door, "buyer", &format!("again-{door:?}"));
        let craft = craft.header("accept", "application/json");
        let answer = |reply: Reply| {
            assert_eq!(reply.status, 200, "{}", reply.text());
            let mut answer = reply.json();
            if door == Door::Graphql {
                answer = answer["data"]["openRfq"].take();
            }
            let replayed = answer["replayed"].take();
            (replayed.as_bool().unwrap(), answer)
        };
        let (replayed, first) = answer(server.send(&craft).await);
        assert!(!replayed && first["seq"].is_u64(), "{first}");
        let before = server.every_row().await;
        for retry in [craft.clone(), craft.anew(), Craft { created: craft.created - 1, ..craft.anew() }] {
            assert_eq!(answer(server.send(&retry).await), (true, first.clone()), "{door:?}");
        }
        assert_eq!(server.every_row().await, before, "a retry leaves no row");

        // A refusal is stored as well.
        let none = command("buyer", format!("none-{door:?}"), kinds::cancel_rfq(market.id()));
        let first = server.send(&none).await.problem();
        let again = server.send(&none.anew()).await.problem();
        assert_eq!((first.code.as_str(), first.replayed), ("UM401", Some(false)));
        assert_eq!(again, Problem { replayed: Some(true), ..first });
    }
}
