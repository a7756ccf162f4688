//! Messages that are deep or wide instead of long: each has a limit and a code, and the server stays up.

use crate::support::http::{COMMAND_TYPE, COMMANDS, Craft, graphql};
use crate::support::server::Server;
use provider_agent::client::GraphqlEvent;
use serde_json::{Value, json};

#[tokio::test]
async fn deep_and_wide_messages_are_refused_and_the_server_stays_up() {
    const DEEP: usize = 200_000;
    // Within the length that a document may have.
    const DOCUMENT_DEEP: usize = 5_000;
    let server = Server::start().await;
    let sent = |path: &str, content_type: &str, body: Vec<u8>| {
        Craft::new("buyer", "POST", path).body(content_type, body).command("deep")
    };
    let text = |body: String| sent("/graphql", "application/json", body.into_bytes());
    let query = |query: &str| sent("/graphql", "application/json", graphql(query, Value::Null));
    let nest = |depth: usize, open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let nested = |open: &str, inner: &str, close: &str| nest(DEEP, open, inner, close);
    let in_document = |open: &str, inner: &str, close: &str| nest(DOCUMENT_DEEP, open, inner, close);
    let escaped = |query: String| text(json!({ "query": query }).to_string());
    let wide = (0..2_000).map(|n| format!("a{n}: receipt(seq: 1) {{ seq receiptId }} ")).collect::<String>();
    let aliases =
        (0..100).map(|n| format!("a{n}: receipts(first: 100) {{ nodes {{ seq receiptId prev }} }} "));
    let fragments = "query { ...A } fragment A on Query { ...B } fragment B on Query { ...A }";
    let cases = [
        ("nested JSON arrays", text(nested("[", "", "]")), "UB103"),
        ("nested JSON objects", text(nested("{\"query\":", "1", "}")), "UB103"),
        (
            "nested variables",
            text(format!(
                "{{\"query\":\"{{ me {{ agentId }} }}\",\"variables\":{}}}",
                nested("{\"a\":", "1", "}")
            )),
            "UB103",
        ),
        ("nested selections", escaped(in_document("{ me ", "{ agentId }", "}")), "UB108"),
        (
            "nested lists in a document",
            escaped(format!("{{ receipts(filter: {}) {{ next }} }}", in_document("[", "1", "]"))),
            "UB108",
        ),
        (
            "nested objects in a document",
            escaped(format!("{{ receipts(filter: {}) {{ next }} }}", in_document("{a: ", "1", "}"))),
            "UB108",
        ),
        (
            "nested types in a document",
            escaped(format!("query($a: {}) {{ me {{ agentId }} }}", in_document("[", "Int", "]"))),
            "UB108",
        ),
        ("a giant document", escaped(nested("{ me ", "{ agentId }", "}")), "UB108"),
        ("a document with too many fields", query(&format!("{{ {wide} }}")), "UB108"),
        ("pages beside pages", query(&format!("{{ {} }}", aliases.collect::<String>())), "UB108"),
        ("fragments in a circle", query(fragments), "UB108"),
        ("nested protobuf groups", sent(COMMANDS, COMMAND_TYPE, vec![0x0b; DEEP]), "UB103"),
    ];
    let before = server.every_row().await;
    for (name, craft, code) in cases {
        let reply = server.send(&craft.anew().header("accept", "application/graphql-response+json")).await;
        assert_eq!(
            reply.problem().code,
            code,
            "{name}: {}",
            reply.text().chars().take(300).collect::<String>()
        );
        let asked = craft.body.as_ref().map_or(0, Vec::len);
        assert!(reply.text().len() < asked.max(10_000), "{name}: the answer is longer than the question");
        let health = server.send(&Craft::new("nobody", "GET", "/healthz").unsigned()).await;
        assert_eq!(health.status, 200, "{name}: the server is gone");
    }
    assert_eq!(server.every_row().await, before);
}

#[tokio::test]
async fn a_socket_has_the_same_limits_as_a_post() {
    let server = Server::start().await;
    let nested = |open: &str, close: &str| {
        format!(
            "subscription {{ events(after: {}1{}) {{ cursor }} }}",
            open.repeat(5_000),
            close.repeat(5_000)
        )
    };
    let giant = format!("subscription {{ events {{ cursor }} }} #{}", "x".repeat(70_000));
    for document in [nested("{a: ", "}"), nested("[", "]"), giant] {
        let mut socket = server.client("buyer").graphql_socket().await.unwrap();
        let asked = socket.subscribe(&document, Value::Null).await.unwrap();
        match socket.next().await.unwrap() {
            GraphqlEvent::Failed { id, error } => {
                assert_eq!((id, error.code()), (asked, Some("UB108")), "{error}");
            }
            other => panic!("{other:?}"),
        }
        socket.close().await;
    }
    let health = server.send(&Craft::new("nobody", "GET", "/healthz").unsigned()).await;
    assert_eq!(health.status, 200);
}
