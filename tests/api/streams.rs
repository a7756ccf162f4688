//! The two live lanes: from any cursor everything behind it comes once and in order, and being there is recorded.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::dsse;
use proto::ids::KeyId;
use proto::keys::PublicKey;
use proto::prost::Message as _;
use proto::v1::agent_frame::Frame;
use proto::v1::{self, KeyPurpose, command_body::Kind};
use provider_agent::client::{AgentSocket, Client, ClientError, GraphqlEvent, GraphqlSocket};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::support::kinds;
use crate::support::market::id_of;
use crate::support::party::{LEDGER, Party};
use crate::support::server::Server;

const EVENTS: &str = "subscription Follow($after: String!) { events(after: $after) { \
                        cursor kind subjectId state cause orderId price paid refunded earned atUs } }";

/// Nothing here waits for longer than a reader polls and a busy machine takes, unless it is broken.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), what).await.expect("it never came")
}

async fn follow(client: &Client, after: &str) -> GraphqlSocket {
    let mut socket = client.graphql_socket().await.unwrap();
    socket.subscribe(EVENTS, json!({ "after": after })).await.unwrap();
    socket
}

async fn event(socket: &mut GraphqlSocket) -> Value {
    match soon(socket.next()).await.unwrap() {
        GraphqlEvent::Next { mut data, .. } => data["events"].take(),
        other => panic!("no event: {other:?}"),
    }
}

async fn events(socket: &mut GraphqlSocket, count: usize) -> Vec<Value> {
    let mut found = Vec::with_capacity(count);
    while found.len() < count {
        found.push(event(socket).await);
    }
    found
}

fn cursor(event: &Value) -> &str {
    event["cursor"].as_str().unwrap()
}

/// What is told of an offer is what it is now: whoever reads later reads a later state. All else is as it was.
fn as_of_then(mut event: Value) -> Value {
    if event["kind"] == "OFFER" {
        event["state"].take();
    }
    event
}

/// How many events the log holds for a party.
async fn logged(server: &Server, party: &Party) -> usize {
    let sql = format!("select count(*) from market.feed_events where agent_id = '{}'", id_of(party));
    usize::try_from(server.market.count(&sql).await).unwrap()
}

#[tokio::test]
async fn a_subscription_goes_on_at_any_cursor_without_gap_or_double() {
    let server = Server::start().await;
    let market = &server.market;
    market.settled().await;
    market.refunded().await;
    let client = server.client("buyer");
    // Once in one go, which goes on while things happen …
    let mut whole = follow(&client, "0").await;
    let first = event(&mut whole).await;
    market.settled().await;
    let count = logged(&server, &market.buyer).await;
    assert!(count > 12, "too little happened: {count}");
    let mut all = vec![first];
    all.extend(events(&mut whole, count - 1).await);
    let all: Vec<Value> = all.into_iter().map(as_of_then).collect();
    whole.close().await;
    // … and once more, reconnecting behind every single event.
    let mut after = "0".to_owned();
    for expected in &all {
        let mut socket = follow(&client, &after).await;
        assert_eq!(&as_of_then(event(&mut socket).await), expected, "behind {after}");
        after = cursor(expected).to_owned();
        socket.close().await;
    }
    let order = |event: &Value| {
        let (seq, n) = cursor(event).split_once('.').unwrap();
        (seq.parse::<u64>().unwrap(), n.parse::<u32>().unwrap())
    };
    assert!(all.windows(2).all(|two| order(&two[0]) < order(&two[1])), "{all:#?}");
    // Behind the last one nothing comes but what happens next.
    let mut socket = follow(&client, &after).await;
    let offered = market.offered().await;
    let next = event(&mut socket).await;
    assert_eq!((&next["kind"], &next["subjectId"]), (&json!("OFFER"), &json!(offered.offer)));
    socket.close().await;
}

/// Reads on until it is dropped, and keeps what it was told.
fn reading(mut socket: GraphqlSocket) -> (Arc<Mutex<Vec<Value>>>, AbortOnDropHandle<()>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    let task = tokio::spawn(async move {
        loop {
            let event = event(&mut socket).await;
            into.lock().push(as_of_then(event));
        }
    });
    (told, AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn many_readers_at_once_are_told_the_same_whenever_they_came() {
    let server = Server::start().await;
    let market = &server.market;
    let client = server.client("buyer");
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(reading(follow(&client, "0").await));
    }
    // Others come while much is committed at once.
    let happening = async {
        for _ in 0..5 {
            futures_util::future::join_all((0..4).map(|_| market.settled())).await;
        }
    };
    let coming = async {
        let mut late = Vec::new();
        for _ in 0..8 {
            late.push(reading(follow(&client, "0").await));
        }
        late
    };
    let ((), late) = tokio::join!(happening, coming);
    readers.extend(late);
    // The last thing happens at another server: nobody here is told of it, and sees it all the same.
    let (asked, offer) = (market.asked().await, market.id());
    let elsewhere = market.second_pipeline();
    let offered = Kind::SubmitOffer(kinds::offer(offer, asked.rfq));
    market.provider.must(&elsewhere, &market.key(), offered).await;
    elsewhere.shutdown().await;
    let count = logged(&server, &market.buyer).await;
    assert!(count > 100, "too little happened: {count}");
    let mut straight = follow(&client, "0").await;
    let straight: Vec<Value> = events(&mut straight, count).await.into_iter().map(as_of_then).collect();
    for (n, (told, _reading)) in readers.iter().enumerate() {
        soon(async {
            while told.lock().len() < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(*told.lock(), straight, "reader {n}");
    }
}

#[tokio::test]
async fn an_orders_status_is_told_step_by_step_and_ends_with_the_order() {
    let server = Server::start().await;
    let market = &server.market;
    let order = market.ordered().await;
    let query = "subscription S($id: UUID!, $after: String) { orderStatus(orderId: $id, after: $after) { cursor state cause } }";
    let client = server.client("buyer");
    let mut socket = client.graphql_socket().await.unwrap();
    socket.subscribe(query, json!({ "id": order.order })).await.unwrap();
    let mut next = async || match soon(socket.next()).await.unwrap() {
        GraphqlEvent::Next { mut data, .. } => Some(data["orderStatus"].take()),
        GraphqlEvent::Complete { .. } => None,
        GraphqlEvent::Failed { error, .. } => panic!("{error}"),
    };
    let now = next().await.unwrap();
    assert_eq!(now["state"], "ordered");
    let attempt = market.id();
    market.must(&market.provider, kinds::start(order.ticket, attempt)).await;
    assert_eq!(next().await.unwrap()["state"], "running");
    market.must(&market.provider, kinds::fail(order.ticket, attempt, "crash")).await;
    let last = next().await.unwrap();
    assert_eq!((&last["state"], &last["cause"]), (&json!("refunded"), &json!("crash")));
    assert_eq!(next().await, None);
    socket.close().await;
    // The same again from the first cursor.
    let mut socket = client.graphql_socket().await.unwrap();
    socket.subscribe(query, json!({ "id": order.order, "after": now["cursor"] })).await.unwrap();
    let mut states = Vec::new();
    while let GraphqlEvent::Next { data, .. } = soon(socket.next()).await.unwrap() {
        states.push(data["orderStatus"]["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["running", "refunded"]);
    // Somebody else's order is none.
    let mut socket = server.client("payee").graphql_socket().await.unwrap();
    socket.subscribe(query, json!({ "id": order.order })).await.unwrap();
    match soon(socket.next()).await.unwrap() {
        GraphqlEvent::Failed { error, .. } => assert_eq!(error.code(), Some("UM403"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_live_connection_ends_when_its_key_is_revoked() {
    let server = Server::start().await;
    let market = &server.market;
    let buyer = Party::new("brief", KeyPurpose::Buyer);
    buyer.register(&market.pipeline).await;
    let provider = market.another_provider("brief provider", kinds::ad()).await;
    let mut events = follow(&server.client("brief"), "0").await;
    let mut frames = server.client("brief provider").agent_socket(LEDGER, 0).await.unwrap();
    up_to_now(&mut frames).await;
    for party in [&buyer, &provider] {
        let revoke = v1::RevokeKey { key_id: party.key.id().into(), reason: "compromised".into() };
        market.must(party, Kind::RevokeKey(revoke)).await;
    }
    match soon(events.next()).await.unwrap() {
        GraphqlEvent::Failed { error, .. } => assert_eq!(error.code(), Some("UI203"), "{error}"),
        other => panic!("{other:?}"),
    }
    match soon(frames.next()).await.unwrap() {
        Frame::Problem(problem) => assert_eq!(problem.code, "UI203"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(soon(frames.next()).await, Err(ClientError::Unreachable(_))));
}

/// Frames with a cursor up to CaughtUp, and the cursor that it says.
async fn up_to_now(socket: &mut AgentSocket) -> (Vec<(u64, Frame)>, u64) {
    let mut found = Vec::new();
    assert!(matches!(soon(socket.next()).await.unwrap(), Frame::Welcome(_)));
    loop {
        match soon(socket.next()).await.unwrap() {
            Frame::CaughtUp(caught_up) => return (found, caught_up.cursor),
            frame => found.push((cursor_of(&frame), frame)),
        }
    }
}

fn cursor_of(frame: &Frame) -> u64 {
    match frame {
        Frame::Rfq(rfq) => rfq.cursor,
        Frame::Ticket(ticket) => ticket.cursor,
        Frame::Closed(closed) => closed.cursor,
        other => panic!("no cursor in {other:?}"),
    }
}

#[tokio::test]
async fn an_agent_is_told_everything_behind_its_cursor_once_and_alike() {
    let server = Server::start().await;
    let market = &server.market;
    market.refunded().await;
    let asked = market.asked().await;
    let ordered = market.ordered().await;
    let client = server.client("provider");
    let mut socket = client.agent_socket(LEDGER, 0).await.unwrap();
    let (mut all, caught_up) = up_to_now(&mut socket).await;
    assert!(all.is_sorted_by_key(|(cursor, _)| *cursor), "{all:?}");
    assert!(all.iter().all(|(cursor, _)| *cursor <= caught_up));
    assert!(
        all.iter()
            .any(|(_, frame)| matches!(frame, Frame::Rfq(rfq) if rfq.rfq_id == kinds::bytes(asked.rfq)))
    );
    // Live from here.
    let next = market.asked().await;
    let frame = soon(socket.next()).await.unwrap();
    assert!(matches!(&frame, Frame::Rfq(rfq) if rfq.rfq_id == kinds::bytes(next.rfq)), "{frame:?}");
    assert!(cursor_of(&frame) > caught_up);
    all.push((cursor_of(&frame), frame));
    socket.close().await;
    // Reconnecting behind each frame brings the rest, bit for bit: a signed ticket is the same bytes each time.
    for (n, (cursor, _)) in all.iter().enumerate() {
        let mut socket = client.agent_socket(LEDGER, *cursor).await.unwrap();
        assert_eq!(up_to_now(&mut socket).await.0, all[n + 1..], "behind {cursor}");
        socket.close().await;
    }
    // The end of an order that was told comes; its ticket is not worth telling any more.
    let attempt = market.id();
    market.must(&market.provider, kinds::start(ordered.ticket, attempt)).await;
    market.must(&market.provider, kinds::fail(ordered.ticket, attempt, "crash")).await;
    let mut socket = client.agent_socket(LEDGER, 0).await.unwrap();
    let frames = up_to_now(&mut socket).await.0;
    assert!(!frames.iter().any(|(_, frame)| matches!(frame, Frame::Ticket(_))), "{frames:?}");
    let Some((_, Frame::Closed(closed))) = frames.last() else { panic!("{frames:?}") };
    assert_eq!(closed.order_id, kinds::bytes(ordered.order));
    assert_eq!((&*closed.state, &*closed.cause, &*closed.earned), ("refunded", "crash", "0"));
}

#[tokio::test]
async fn a_run_ticket_verifies_offline_and_says_what_was_ordered() {
    let server = Server::start().await;
    let market = &server.market;
    let order = market.ordered().await;
    let info = server.client("provider").info().await.unwrap();
    let service = PublicKey::from_slice(&hex::decode(&info.service_key).unwrap()).unwrap();
    let mut socket = server.client("provider").agent_socket(LEDGER, 0).await.unwrap();
    let frames = up_to_now(&mut socket).await.0;
    let issued = frames.iter().find_map(|(_, frame)| match frame {
        Frame::Ticket(ticket) => Some(ticket),
        _ => None,
    });
    let envelope = v1::Envelope::decode(&*issued.unwrap().ticket_envelope).unwrap();
    let of = |id: &KeyId| (*id == service.id()).then_some(service);
    let (ticket, signer) = dsse::verify_message::<v1::RunTicket>(&envelope, of).unwrap();
    assert_eq!(signer, service.id());
    assert_eq!(ticket.run_ticket_id, kinds::bytes(order.ticket));
    assert_eq!(ticket.order_id, kinds::bytes(order.order));
    assert_eq!(ticket.provider_id, kinds::bytes(id_of(&market.provider)));
    assert_eq!(ticket.provider_key_id, market.provider.key.id().as_bytes());
    assert_eq!((ticket.max_work_units, &*ticket.max_spend, ticket.ledger_id), (kinds::UNITS, "3700", LEDGER));
    assert_eq!((ticket.input_hash, &*ticket.work_class), (vec![7; 32], kinds::WORK_CLASS));
    assert!(ticket.expires_at_us > ticket.issued_at_us && ticket.nonce.len() == 16);
    // One bit less, and it is nobody's.
    let mut forged = envelope;
    forged.payload[20] ^= 1;
    assert!(dsse::verify_message::<v1::RunTicket>(&forged, of).is_err());
}

#[tokio::test]
async fn being_there_is_recorded_when_a_connection_comes_and_when_it_goes() {
    let mut server = Server::start_with_house().await;
    let provider = id_of(&server.market.provider);
    // The connection on record was an earlier server's: it is gone with it.
    let reachable = format!("select reachable from market.presence where provider_id = '{provider}'");
    let gone = format!("select not reachable from market.presence where provider_id = '{provider}'");
    server.until("the old connection is forgotten", &gone).await;
    let client = server.client("provider");
    let mut first = client.agent_socket(LEDGER, 0).await.unwrap();
    up_to_now(&mut first).await;
    // Recorded before the agent is told anything.
    assert_eq!(server.market.text(&format!("select ({reachable})::text")).await, "true");
    // A second connection takes over: the end of the first does not hide it.
    let mut second = client.agent_socket(LEDGER, 0).await.unwrap();
    up_to_now(&mut second).await;
    first.close().await;
    let stale = "select exists (select from base.commands where kind = 'record_presence' and facts like '%\"stale\": true%')";
    server.until("the end of the first connection is recorded", stale).await;
    assert_eq!(server.market.text(&format!("select ({reachable})::text")).await, "true");
    second.close().await;
    server.until("the end of the second is recorded", &gone).await;
    // The server's own end is the end of every connection.
    let mut third = client.agent_socket(LEDGER, 0).await.unwrap();
    up_to_now(&mut third).await;
    server.stop().await;
    assert_eq!(server.market.text(&format!("select ({reachable})::text")).await, "false");
    let history = format!("select count(*) from market.presence_events where provider_id = '{provider}'");
    assert_eq!(server.market.count(&history).await, 7, "there and gone for each, but for the one taken over");
}

#[tokio::test]
async fn an_agent_that_says_anything_but_hello_is_shown_the_door() {
    let server = Server::start().await;
    // A cursor of the future is no way to miss something: what comes later than it is told, what came before is not.
    let mut socket = server.client("provider").agent_socket(LEDGER, 1_000_000).await.unwrap();
    let (frames, _) = up_to_now(&mut socket).await;
    assert!(frames.is_empty(), "{frames:?}");
    // Another ledger than there is.
    let mut socket = server.client("provider").agent_socket(77, 0).await.unwrap();
    match soon(socket.next()).await.unwrap() {
        Frame::Problem(problem) => assert_eq!(problem.code, "UB401"),
        other => panic!("{other:?}"),
    }
}
