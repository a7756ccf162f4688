//! Who may do what at the door: nothing changes without a registered key, agents spend nothing, buyers meter nothing, and
//! live data has two lanes, both WebSocket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proto::dsse;
use proto::keys::PublicKey;
use proto::prost::Message as _;
use proto::v1::{self, KeyPurpose, command_body::Kind};
use regex::Regex;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::checks::verified;
use crate::support::http::{
    COMMAND_TYPE, COMMANDS, Craft, command, graphql, head_of_answer, key_of, mutation,
};
use crate::support::kinds::{self, OUTPUT, UNITS};
use crate::support::market::{Order, id_of};
use crate::support::party::Party;
use crate::support::server::Server;

const ID: &str = "0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f";

/// What a schema says about a type, as far as an example of it needs.
type Types = BTreeMap<String, Value>;

/// The schema's types by name, read as any client would.
async fn types(server: &Server) -> Types {
    let query = "{ __schema { mutationType { name } types { name kind enumValues { name } \
                   fields { name args { name type { ...T } } } inputFields { name type { ...T } } } } } \
                 fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
    let ask = Craft::new("nobody", "POST", "/graphql").unsigned();
    let ask = ask.body("application/json", graphql(query, Value::Null));
    let found = server.send(&ask).await.json();
    let all = found["data"]["__schema"]["types"].as_array().unwrap_or_else(|| panic!("{found}"));
    all.iter().map(|of| (of["name"].as_str().unwrap().to_owned(), of.clone())).collect()
}

/// Some value of an input type, everything filled in.
fn example(types: &Types, of: &Value) -> Value {
    match of["kind"].as_str().unwrap() {
        "NON_NULL" => example(types, &of["ofType"]),
        "LIST" => json!([example(types, &of["ofType"])]),
        "ENUM" => types[of["name"].as_str().unwrap()]["enumValues"][0]["name"].clone(),
        "INPUT_OBJECT" => {
            let fields = types[of["name"].as_str().unwrap()]["inputFields"].as_array().unwrap();
            let field =
                |field: &Value| (field["name"].as_str().unwrap().to_owned(), example(types, &field["type"]));
            Value::Object(fields.iter().map(field).collect())
        }
        "SCALAR" => match of["name"].as_str().unwrap() {
            "UUID" => json!(ID),
            "Amount" => json!("1"),
            // A public key too, where one is asked for.
            "Hash" => json!(key_of("payee").public().to_string()),
            "Int" | "Count" | "Micros" => json!(1),
            "String" => json!("x"),
            "Boolean" => json!(true),
            other => panic!("no example of {other}"),
        },
        other => panic!("no example of a {other}"),
    }
}

/// Every mutation of the schema: its name, a document that asks for it, and its variables.
fn every_mutation(types: &Types) -> Vec<(String, String, Value)> {
    let fields = types["Mutation"]["fields"].as_array().unwrap();
    let one = |field: &Value| {
        let name = field["name"].as_str().unwrap().to_owned();
        let input = field["args"].as_array().unwrap().iter().find(|arg| arg["name"] == "input").unwrap();
        let kind = input["type"]["ofType"]["name"].as_str().unwrap();
        let query = format!("mutation M($input: {kind}!) {{ {name}(input: $input) {{ seq }} }}");
        (name, query, json!({ "input": example(types, &input["type"]) }))
    };
    fields.iter().map(one).collect()
}

/// The ways of a stranger, with the answer to each. What is spoiled is a request that a registered key could send.
fn strangers(craft: &dyn Fn(&'static str) -> Craft) -> Vec<(&'static str, Craft, u16, &'static str)> {
    let mut without_a_key = craft("buyer").unsigned();
    without_a_key.left_out.push("idempotency-key");
    vec![
        ("as a plain request", without_a_key, 400, "UB102"),
        ("unsigned", craft("buyer").unsigned(), 401, "UI201"),
        ("by nobody", craft("nobody"), 401, "UI202"),
        ("forged", Craft { signer: "nobody", ..craft("buyer") }, 401, "UI210"),
    ]
}

#[tokio::test]
async fn no_mutation_of_the_schema_works_without_a_registered_key() {
    let server = Server::start().await;
    let mutations = every_mutation(&types(&server).await);
    assert!(mutations.len() >= 18, "the walk has gone blind: {mutations:?}");
    // The examples are good ones: signed by somebody registered, each gets as far as being judged.
    for (name, query, variables) in &mutations {
        let problem = server.send(&mutation("payee", name.clone(), query, variables.clone())).await.problem();
        assert!(problem.seq.is_some(), "{name} was not judged: {problem:?}");
    }
    let before = server.every_row().await;
    for (name, query, variables) in &mutations {
        for (how, craft, status, code) in strangers(&|who| mutation(who, "s", query, variables.clone())) {
            let reply = server.send(&craft).await;
            let problem = reply.problem();
            assert_eq!(
                (reply.status, problem.code.as_str()),
                (status, code),
                "{name} {how}: {}",
                reply.text()
            );
            assert_eq!(server.every_row().await, before, "{name} {how}");
        }
    }
}

#[tokio::test]
async fn no_kind_of_command_works_without_a_registered_key() {
    let server = Server::start().await;
    let set = prost_types::FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let messages = set.file.iter().flat_map(|file| &file.message_type);
    let body = messages.into_iter().find(|message| message.name() == "CommandBody").unwrap();
    let before = server.every_row().await;
    assert!(body.field.len() >= 24);
    for field in &body.field {
        // The kind's tag with nothing in it: enough for the door, which judges the sender first.
        let tag = (field.number() << 3) | 2;
        let mut bytes = Vec::new();
        proto::prost::encoding::encode_varint(u64::try_from(tag).unwrap(), &mut bytes);
        bytes.push(0);
        let craft = |who| Craft::new(who, "POST", COMMANDS).body(COMMAND_TYPE, bytes.clone()).command("s");
        for (how, craft, status, code) in strangers(&craft) {
            let reply = server.send(&craft).await;
            let problem = reply.problem();
            let name = field.name();
            assert_eq!(
                (reply.status, problem.code.as_str()),
                (status, code),
                "{name} {how}: {}",
                reply.text()
            );
        }
    }
    assert_eq!(server.every_row().await, before);
}

#[tokio::test]
async fn nobody_registers_a_key_that_he_does_not_hold() {
    let server = Server::start().await;
    let before = server.every_row().await;
    let victim = v1::Key {
        public_key: key_of("victim").public().as_bytes().to_vec(),
        purpose: KeyPurpose::Buyer.into(),
    };
    let register = Kind::RegisterAgent(v1::RegisterAgent { key: Some(victim), ..Default::default() });
    let stranger = command("nobody", "register", register.clone());
    let problem = server.send(&stranger).await.problem();
    assert_eq!((problem.status, problem.code.as_str()), (401, "UI202"));
    let forged = Craft { signer: "nobody", ..command("victim", "register", register.clone()) };
    let problem = server.send(&forged).await.problem();
    assert_eq!((problem.status, problem.code.as_str()), (401, "UI210"));
    assert_eq!(server.every_row().await, before);
    // Its holder does, at the same door.
    assert_eq!(server.send(&command("victim", "register", register)).await.status, 200);
}

/// Whatever spends, orders or judges money. `order` is one that the sender is the provider of.
fn spending(server: &Server, order: &Order) -> Vec<Kind> {
    let market = &server.market;
    let provider = id_of(&market.provider);
    let transfer = v1::TransferItem {
        transfer_id: kinds::bytes(market.id()),
        kind: v1::TransferKind::Plain.into(),
        debit_account_id: kinds::bytes(provider),
        credit_account_id: kinds::bytes(provider),
        asset_id: 1,
        amount: "1".into(),
        ..Default::default()
    };
    vec![
        Kind::OpenRfq(kinds::rfq(market.id())),
        kinds::cancel_rfq(order.rfq),
        kinds::accept_offer(order.offer, "10000"),
        kinds::accept_output(order.order, OUTPUT),
        kinds::reject_output(order.order, OUTPUT, "wrong_output"),
        kinds::settle(order.order),
        kinds::judge(order.order, "valid"),
        kinds::expire_order(order.order),
        Kind::Deposit(kinds::deposit(provider, "1000000", "to-myself")),
        Kind::PostTransfers(v1::PostTransfers { items: vec![transfer] }),
        kinds::reserve(provider, "1"),
        kinds::confirm(market.id(), "by-myself"),
        kinds::fail_payout(market.id(), "no"),
    ]
}

/// Whatever says that work was done. `order` is one that the sender pays.
fn working(server: &Server, order: &Order, by: &Party) -> Vec<Kind> {
    let market = &server.market;
    vec![
        kinds::publish(kinds::ad()),
        Kind::SubmitOffer(kinds::offer(market.id(), order.rfq)),
        kinds::start(order.ticket, order.attempt),
        kinds::metering(order.ticket, order.attempt, &by.key, &[UNITS]),
        kinds::report(order.ticket, order.attempt, OUTPUT),
        kinds::fail(order.ticket, order.attempt, "crash"),
        kinds::presence(id_of(&market.provider), false, Uuid::from_bytes([5; 16])),
    ]
}

#[tokio::test]
async fn an_agent_key_spends_nothing_a_buyer_key_meters_nothing_and_each_try_has_its_receipt() {
    let mut server = Server::start().await;
    let order = server.market.running().await;
    let spending = spending(&server, &order).into_iter().map(|kind| ("provider", kind));
    let working = working(&server, &order, &server.market.buyer).into_iter().map(|kind| ("buyer", kind));
    let info = server.client("buyer").info().await.unwrap();
    let receipt_key = PublicKey::from_slice(&hex::decode(&info.receipt_key).unwrap()).unwrap();
    for (n, (who, kind)) in spending.chain(working).enumerate() {
        let problem = server.refused(&command(who, format!("try-{n}"), kind), 403, "UI301").await;
        // The sender gets the receipt, and can hold it against the house.
        let path = format!("/v1/receipts/{}", problem.receipt_id.unwrap());
        let bytes = server.client(who).get(&path, "*/*").await.unwrap();
        let envelope = v1::Envelope::decode(bytes).unwrap();
        let of = |id: &proto::ids::KeyId| (*id == receipt_key.id()).then_some(receipt_key);
        let (receipt, _) = dsse::verify_message::<v1::Receipt>(&envelope, of).unwrap();
        assert_eq!((receipt.code.as_str(), Some(receipt.seq)), ("UI301", problem.seq));
    }
    assert_eq!(server.market.state(&order).await, "running");
    server.stop().await;
    server.market.pipeline.shutdown().await;
    verified(&server.market).await;
}

/// Every path that a source file of the server routes, tests left out.
fn routes(folder: &Path, found: &mut BTreeSet<String>) {
    let route = Regex::new(r#"\.route\(\s*"([^"]+)""#).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            routes(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            found.extend(route.captures_iter(code).map(|found| found[1].to_owned()));
        }
    }
}

#[tokio::test]
async fn live_data_travels_over_two_websockets_and_nothing_else() {
    let server = Server::start().await;
    let mut paths = BTreeSet::new();
    routes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    let described: Value = server.send(&Craft::new("nobody", "GET", "/openapi.json").unsigned()).await.json();
    for path in described["paths"].as_object().unwrap().keys() {
        // What holds slashes itself has a mark in the router that OpenAPI does not know.
        let routed = paths.contains(path) || paths.contains(&path.replace("{tile}", "{*tile}"));
        assert!(routed, "{path} is described and not routed");
    }
    assert!(paths.len() >= 16, "the walk has gone blind: {paths:?}");
    let mut upgraded = BTreeSet::new();
    let parameter = Regex::new(r"\{([^}]+)\}").unwrap();
    for path in &paths {
        let of = |name: &str| match name {
            "ledger_id" | "receipt" => "1".to_owned(),
            "hash" => "07".repeat(32),
            "agent_id" | "order_id" => ID.to_owned(),
            "*name" => "econ.css".to_owned(),
            "*tile" => "0/000".to_owned(),
            other => panic!("no example of {other} in {path}"),
        };
        let concrete = parameter.replace_all(path, |found: &regex::Captures<'_>| of(&found[1])).into_owned();
        // Asked for a stream of events, it answers once and in another type.
        let craft = Craft::new("provider", "GET", concrete.clone()).header("accept", "text/event-stream");
        let patience = std::time::Duration::from_secs(120);
        let reply = tokio::time::timeout(patience, server.send(&craft)).await;
        let reply = reply.unwrap_or_else(|_| panic!("{path} does not end"));
        assert!(!reply.content_type().contains("event-stream"), "{path}: {}", reply.content_type());
        // Asked to upgrade, by somebody who may.
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n";
        let head = Craft::new("provider", "GET", concrete).head(server.address, upgrade);
        if head_of_answer(server.address, &head).await.starts_with("HTTP/1.1 101") {
            upgraded.insert(path.as_str());
        }
    }
    assert_eq!(upgraded, BTreeSet::from(["/graphql/ws", "/v1/agent/ws"]));
}

#[tokio::test]
async fn the_agents_lane_opens_for_provider_keys_and_the_other_shows_a_stranger_nothing() {
    let server = Server::start().await;
    for (who, status, code) in [("nobody", 401, "UI202"), ("buyer", 403, "UI304"), ("payee", 403, "UI304")] {
        match server.client(who).agent_socket(1, 0).await {
            Err(provider_agent::client::ClientError::Refused(refusal)) => {
                assert_eq!((refusal.status, refusal.code.as_str()), (status, code), "{who}");
            }
            other => panic!("{who}: {other:?}"),
        }
    }
    let stranger = provider_agent::client::Client::anonymous(&server.url).unwrap();
    let mut socket = stranger.graphql_socket().await.unwrap();
    let queries = ["events { cursor }".to_owned(), format!("orderStatus(orderId: \"{ID}\") {{ state }}")];
    for query in queries {
        socket.subscribe(&format!("subscription {{ {query} }}"), Value::Null).await.unwrap();
        match socket.next().await.unwrap() {
            provider_agent::client::GraphqlEvent::Failed { error, .. } => {
                assert_eq!(error.code(), Some("UI201"), "{error}");
            }
            other => panic!("{query}: {other:?}"),
        }
        // Its end is told as well.
        socket.next().await.unwrap();
    }
    socket.close().await;
}
