use std::collections::HashMap;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{self, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method as HttpMethod, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use proto::httpsig::{Coverage, ParsedSignature, parse};
use proto::v1::agent_frame::Frame;
use proto::v1::{AgentFrame, CaughtUp, Welcome};
use serde_json::json;

use super::*;

/// A stand-in for the house: it checks every signature and answers from a script.
#[derive(Default)]
struct Fake {
    /// Statuses to refuse the next requests with, in order; then everything succeeds.
    script: Mutex<Vec<u16>>,
    /// What came: signature and body.
    seen: Mutex<Vec<(ParsedSignature, Bytes)>>,
    artifacts: Mutex<HashMap<String, Bytes>>,
}

fn key() -> KeyPair {
    KeyPair::from_seed(&[42; 32])
}

fn retry() -> Retry {
    Retry { tries_max: 4, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(2) }
}

fn checked(method: &HttpMethod, uri: &Uri, headers: &HeaderMap, coverage: Coverage) -> ParsedSignature {
    let target = format!("http://{}{}", headers["host"].to_str().unwrap(), uri);
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let parsed = parse(method.as_str(), &target, pairs, coverage).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    parsed.check_window(now.try_into().unwrap(), 60, 300).unwrap();
    parsed.verify(key().public()).unwrap();
    parsed
}

/// As the house answers: busy before it has logged anything (503, 409), or with a logged refusal.
fn problem(status: u16) -> Response {
    let (code, seq) = match status {
        503 => ("UB801", None),
        409 => ("UB501", None),
        _ => ("UM702", Some(7)),
    };
    let body = json!({ "code": code, "status": status, "title": "no", "detail": "not today", "seq": seq });
    Response::builder()
        .status(status)
        .header("content-type", "application/problem+json")
        .header("retry-after", "1")
        .body(Body::from(body.to_string()))
        .unwrap()
}

async fn command(
    State(fake): State<Arc<Fake>>,
    method: HttpMethod,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parsed = checked(&method, &uri, &headers, Coverage::Command);
    parsed.check_body(&body).unwrap();
    assert_eq!(headers["content-type"], COMMAND_CONTENT_TYPE);
    fake.seen.lock().unwrap().push((parsed, body));
    if let Some(status) = fake.script.lock().unwrap().pop() {
        return problem(status);
    }
    let answer = CommandAnswer {
        ledger_id: 1,
        seq: 9,
        command_id: vec![1; 16],
        code: "ok".to_owned(),
        facts_json: r#"{"order_id":"x"}"#.to_owned(),
        receipt_id: vec![2; 32],
        replayed: false,
    };
    answer.encode_to_vec().into_response()
}

async fn artifact(
    State(fake): State<Arc<Fake>>,
    Path(hash): Path<String>,
    method: HttpMethod,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method == HttpMethod::PUT {
        checked(&method, &uri, &headers, Coverage::Upload).check_body(&body).unwrap();
        fake.artifacts.lock().unwrap().insert(hash, body);
        return ().into_response();
    }
    let _ = checked(&method, &uri, &headers, Coverage::Read);
    match fake.artifacts.lock().unwrap().get(&hash) {
        Some(bytes) => bytes.clone().into_response(),
        None => problem(404),
    }
}

async fn graphql(body: Bytes) -> String {
    let request: serde_json::Value = serde_json::from_slice(&body).unwrap();
    match request["query"].as_str().unwrap() {
        "good" => json!({ "data": { "echo": request["variables"] } }),
        "refused" => json!({ "data": null, "errors": [{ "message": "too dear",
            "extensions": { "code": "UM701", "status": 429, "seq": 3, "hint": "raise the cap" } }] }),
        _ => json!({ "errors": [{ "message": "syntax" }] }),
    }
    .to_string()
}

async fn agent_socket(method: HttpMethod, uri: Uri, headers: HeaderMap, up: WebSocketUpgrade) -> Response {
    let _ = checked(&method, &uri, &headers, Coverage::Read);
    up.on_upgrade(|mut socket| async move {
        let Some(Ok(ws::Message::Binary(hello))) = socket.recv().await else { panic!("no hello") };
        let Some(Frame::Hello(hello)) = AgentFrame::decode(hello).unwrap().frame else { panic!("no hello") };
        let welcome = Frame::Welcome(Welcome { agent_id: vec![1; 16], connection_id: vec![2; 16] });
        let caught_up = Frame::CaughtUp(CaughtUp { cursor: hello.after_cursor + 1 });
        for frame in [Some(welcome), None, Some(caught_up)] {
            let bytes = AgentFrame { frame }.encode_to_vec();
            socket.send(ws::Message::Ping(Bytes::new())).await.unwrap();
            socket.send(ws::Message::Binary(bytes.into())).await.unwrap();
        }
        socket.send(ws::Message::Close(None)).await.unwrap();
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

async fn graphql_socket(up: WebSocketUpgrade) -> Response {
    up.protocols(["graphql-transport-ws"]).on_upgrade(|mut socket| async move {
        let mut subscription = None;
        while let Some(Ok(ws::Message::Text(text))) = socket.recv().await {
            let message: serde_json::Value = serde_json::from_str(&text).unwrap();
            let answers = match message["type"].as_str().unwrap() {
                "connection_init" => vec![json!({ "type": "ping" }), json!({ "type": "connection_ack" })],
                "subscribe" => {
                    subscription = Some(message["id"].clone());
                    vec![
                        json!({ "type": "ping" }),
                        json!({ "id": message["id"], "type": "next", "payload": { "data": { "n": 1 } } }),
                    ]
                }
                "complete" => vec![
                    json!({ "id": subscription, "type": "error", "payload":
                        [{ "message": "gone", "extensions": { "code": "UB404", "status": 404 } }] }),
                    json!({ "id": subscription, "type": "complete" }),
                ],
                "pong" => vec![],
                other => panic!("{other}"),
            };
            for answer in answers {
                socket.send(ws::Message::Text(answer.to_string().into())).await.unwrap();
            }
        }
    })
}

/// The fake house, listening, and a client of it.
async fn house(script: &[u16]) -> (Arc<Fake>, Client) {
    let fake = Arc::new(Fake::default());
    fake.script.lock().unwrap().extend(script.iter().rev());
    let routes = Router::new()
        .route("/v1/ledgers/{ledger_id}/commands", post(command))
        .route("/v1/artifacts/{hash}", any(artifact))
        .route("/v1/agent/ws", get(agent_socket))
        .route("/graphql", post(graphql))
        .route("/graphql/ws", get(graphql_socket))
        .with_state(fake.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (fake, Client::new(&url, Arc::new(key())).unwrap().with_retry(retry()))
}

fn refusal(error: ClientError) -> Refusal {
    match error {
        ClientError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_busy_house_is_asked_again_with_the_same_key_and_body_and_another_nonce() {
    let (fake, client) = house(&[503, 409]).await;
    let body = CommandBody { kind: None };
    let answer = client.command(1, "order-1", &body).await.unwrap();
    assert_eq!((answer.seq, &answer.facts["order_id"]), (9, &json!("x")));
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    for (parsed, bytes) in seen.iter() {
        assert_eq!(parsed.request.idempotency_key.as_deref(), Some("order-1"));
        assert_eq!(*bytes, seen[0].1);
    }
    assert_ne!(seen[0].0.request.nonce, seen[1].0.request.nonce);
    assert_ne!(seen[1].0.request.nonce, seen[2].0.request.nonce);
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_is_not_asked_again() {
    let (fake, client) = house(&[429]).await;
    let error = client.command(1, "order-1", &CommandBody { kind: None }).await.unwrap_err();
    assert!(!error.is_passing());
    assert_eq!(error.to_string(), "UM702: not today");
    let refusal = refusal(error);
    assert_eq!((refusal.status, refusal.seq, refusal.replayed), (429, Some(7), false));
    assert_eq!(fake.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn patience_ends() {
    let (fake, client) = house(&[503; 10]).await;
    let error = client.command(1, "order-1", &CommandBody { kind: None }).await.unwrap_err();
    assert!(error.is_passing());
    assert_eq!(refusal(error).code, "UB801");
    assert_eq!(fake.seen.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn nobody_listening_is_unreachable_and_a_missing_key_is_said_before_sending() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&url, Arc::new(key())).unwrap().with_retry(retry());
    let error = client.command(1, "k", &CommandBody { kind: None }).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
    assert!(error.is_passing());
    assert!(matches!(client.agent_socket(1, 0).await, Err(ClientError::Unreachable(_))));
    let anonymous = Client::anonymous(&url).unwrap();
    let error = anonymous.command(1, "k", &CommandBody { kind: None }).await.unwrap_err();
    assert_eq!(error.to_string(), "this needs a key to sign with");
}

#[tokio::test]
async fn an_artifact_comes_back_only_if_it_is_the_one() {
    let (fake, client) = house(&[]).await;
    let hash = client.put_artifact(&b"bytes"[..]).await.unwrap();
    assert_eq!(client.get_artifact(hash).await.unwrap(), "bytes");
    fake.artifacts.lock().unwrap().insert(hash.to_string(), Bytes::from_static(b"others"));
    let error = client.get_artifact(hash).await.unwrap_err();
    assert!(matches!(error, ClientError::WrongArtifact { asked, .. } if asked == hash), "{error}");
    let unknown = ArtifactHash::of(b"unknown");
    assert_eq!(refusal(client.get_artifact(unknown).await.unwrap_err()).status, 404);
}

#[tokio::test]
async fn graphql_gives_data_or_the_house_s_code_or_our_own_mistake() {
    let (_, client) = house(&[]).await;
    let data = client.graphql("good", json!({ "a": 1 }), Some("k")).await.unwrap();
    assert_eq!(data, json!({ "echo": { "a": 1 } }));
    let refused = refusal(client.graphql("refused", json!({}), Some("k")).await.unwrap_err());
    assert_eq!((refused.code.as_str(), refused.status, refused.seq), ("UM701", 429, Some(3)));
    assert_eq!(refused.detail, "too dear (raise the cap)");
    let error = client.graphql("{", json!({}), None).await.unwrap_err();
    assert_eq!(error, ClientError::Unintelligible("GraphQL: syntax".to_owned()));
}

#[tokio::test]
async fn the_agents_socket_says_hello_and_passes_over_pings_and_unknown_frames() {
    let (_, client) = house(&[]).await;
    let mut socket = client.agent_socket(1, 41).await.unwrap();
    assert!(matches!(socket.next().await.unwrap(), Frame::Welcome(_)));
    assert_eq!(socket.next().await.unwrap(), Frame::CaughtUp(CaughtUp { cursor: 42 }));
    assert!(matches!(socket.next().await, Err(ClientError::Unreachable(_))));
}

#[tokio::test]
async fn the_graphql_socket_subscribes_and_ends_as_the_protocol_says() {
    let (_, client) = house(&[]).await;
    let mut socket = client.graphql_socket().await.unwrap();
    let id = socket.subscribe("subscription { n }", json!({})).await.unwrap();
    assert_eq!(socket.next().await.unwrap(), GraphqlEvent::Next { id, data: json!({ "n": 1 }) });
    socket.unsubscribe(id).await.unwrap();
    match socket.next().await.unwrap() {
        GraphqlEvent::Failed { id: failed, error } => {
            assert_eq!((failed, error.code()), (id, Some("UB404")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(socket.next().await.unwrap(), GraphqlEvent::Complete { id });
    socket.close().await;
}

#[test]
fn pauses_double_up_to_the_longest_and_vary_by_half_at_most() {
    let retry = Retry::default();
    for (tried, full_ms) in [(1, 50), (2, 100), (3, 200), (5, 800), (6, 1000), (60, 1000)] {
        let pause = retry.pause_after(tried);
        let full = Duration::from_millis(full_ms);
        assert!(pause <= full && pause >= full / 2, "{tried}: {pause:?}");
    }
}

#[test]
fn a_proxy_s_gateway_error_counts_as_unreachable_and_other_pages_do_not() {
    assert!(matches!(error::refusal_of(502, None, b"<html>"), ClientError::Unreachable(_)));
    assert!(matches!(error::refusal_of(404, None, b"<html>"), ClientError::Unintelligible(_)));
}
