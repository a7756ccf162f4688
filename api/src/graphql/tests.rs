//! `command_of`, the limits and the scalars, without a server.

use proto::ids::{OfferId, RfqId};
use proto::v1::command_body::Kind;
use serde_json::{Value, json};

use super::{command_of, schema};

const RFQ: &str = "0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f";

fn of(request: &Value) -> Result<(u32, Kind), (&'static str, String)> {
    let body = serde_json::to_vec(request).unwrap();
    let found = command_of(&body).map(|(ledger_id, body)| (ledger_id, body.kind.unwrap()));
    found.map_err(|error| (error.code(), error.to_string()))
}

fn refused(query: &str) -> (&'static str, String) {
    of(&json!({ "query": query })).unwrap_err()
}

#[test]
fn a_mutation_becomes_the_command_that_it_names() {
    let query =
        r#"mutation Open($input: OpenRfqInput!) { rfq: openRfq(ledgerId: 3, input: $input) { seq facts } }"#;
    let input = json!({
        "rfqId": RFQ, "workClass": "gemm.int8", "inputHash": "ab".repeat(32), "workUnits": 42, "assetId": 1,
        "maxPrice": "9999999999999999999999999999", "validForMs": 1000, "maxDurationMs": 2000,
    });
    let (ledger_id, kind) = of(&json!({ "query": query, "variables": { "input": input } })).unwrap();
    let Kind::OpenRfq(open) = kind else { panic!("another kind") };
    assert_eq!(ledger_id, 3);
    assert_eq!(open.rfq_id, RFQ.parse::<RfqId>().unwrap().to_bytes());
    assert_eq!((open.work_class.as_str(), open.region.as_str(), open.work_units), ("gemm.int8", "", 42));
    assert_eq!((open.input_hash, open.max_price.as_str()), (vec![0xab; 32], "9999999999999999999999999999"));
    assert_eq!((open.max_providers, open.creator_id.len()), (0, 0));
}

#[test]
fn the_same_bytes_give_the_same_command() {
    let query =
        format!(r#"mutation {{ acceptOffer(input: {{ offerId: "{RFQ}", spendCap: "70" }}) {{ code }} }}"#);
    let body = serde_json::to_vec(&json!({ "query": query })).unwrap();
    let first = command_of(&body).unwrap();
    assert_eq!(first, command_of(&body).unwrap());
    let Some(Kind::AcceptOffer(accept)) = first.1.kind else { panic!("another kind") };
    assert_eq!((first.0, accept.spend_cap.as_str()), (1, "70"));
    assert_eq!(OfferId::from_slice(&accept.offer_id).unwrap().to_string(), RFQ);
}

#[test]
fn operation_name_chooses_among_several() {
    let query = format!(
        "query Look {{ me {{ agentId }} }} mutation Cancel {{ cancelRfq(input: {{ rfqId: \"{RFQ}\" }}) {{ seq }} }}"
    );
    let named = |name: Value| of(&json!({ "query": query, "operationName": name }));
    assert!(matches!(named(json!("Cancel")), Ok((1, Kind::CancelRfq(_)))));
    for name in [json!("Look"), json!("Other"), Value::Null] {
        assert_eq!(named(name).unwrap_err().0, "UB108");
    }
}

#[test]
fn only_one_field_written_out_is_one_command() {
    let cancel = format!("cancelRfq(input: {{ rfqId: \"{RFQ}\" }}) {{ seq }}");
    for query in [
        format!("mutation {{ a: {cancel} b: {cancel} }}"),
        format!("mutation {{ __typename {cancel} }}"),
        format!("mutation {{ ...F }} fragment F on Mutation {{ {cancel} }}"),
        format!("mutation {{ ... on Mutation {{ {cancel} }} }}"),
        "mutation { cancelRfq(input: { rfqId: \"x\" }) @skip(if: true) { seq } }".to_owned(),
        "mutation { cancelRfq(input: { rfqId: \"x\" }) @include(if: true) { seq } }".to_owned(),
        "{ me { agentId } }".to_owned(),
        "subscription { events { cursor } }".to_owned(),
        "mutation { nothing }".to_owned(),
        "mutation {".to_owned(),
        String::new(),
    ] {
        assert_eq!(refused(&query).0, "UB108", "{query}");
    }
}

#[test]
fn a_malformed_value_is_refused_with_a_code_before_it_is_a_command() {
    let accept = |cap: &str| {
        format!("mutation {{ acceptOffer(input: {{ offerId: \"{RFQ}\", spendCap: {cap} }}) {{ seq }} }}")
    };
    for cap in ["\"-1\"", "\"1.5\"", "\"NaN\"", "\"1e3\"", "\"\"", "5", "\"99999999999999999999999999999\""] {
        assert_eq!(refused(&accept(cap)).0, "UB103", "{cap}");
    }
    assert!(
        of(&json!({ "query": accept("\"0\"") })).is_ok(),
        "zero is a number; SQL refuses it with a receipt"
    );
    let id = "mutation { cancelRfq(input: { rfqId: \"0190A6C5\" }) { seq } }";
    assert_eq!(refused(id).0, "UB103");
}

#[test]
fn what_is_no_request_is_refused_as_such() {
    for body in
        [&b""[..], b"[]", b"[{\"query\":\"{ me { agentId } }\"}]", b"null", b"{}", b"{\"query\":1}", b"\xff"]
    {
        assert_eq!(command_of(body).unwrap_err().code(), "UB103");
    }
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(
        command_of(format!("{{\"query\":\"\",\"variables\":{{\"a\":{deep}}}}}").as_bytes())
            .unwrap_err()
            .code(),
        "UB103"
    );
    assert_eq!(refused(&" ".repeat(70_000)).0, "UB108");
}

#[tokio::test]
async fn depth_and_size_of_a_query_are_limited() {
    let errors = async |query: String| schema().execute(query).await.errors;
    let deep = format!("{{ {} name {} }}", "__schema { types { ofType { ".repeat(12), "} } }".repeat(12));
    assert!(!errors(deep).await.is_empty());
    let wide: String =
        (0..100).map(|i| format!("a{i}: orders(first: 100) {{ nodes {{ orderId state }} }} ")).collect();
    let found = errors(format!("{{ {wide} }}")).await;
    assert!(found[0].message.contains("complex"), "{found:?}");
    let nested = format!("{}{}", "{ a ".repeat(500), "}".repeat(500));
    assert!(!errors(nested).await.is_empty());
}

#[test]
fn every_client_command_has_its_mutation() {
    let sdl = schema().sdl();
    for mutation in [
        "registerAgent",
        "revokeKey",
        "deposit",
        "publishCapability",
        "openRfq",
        "cancelRfq",
        "submitOffer",
        "acceptOffer",
        "startAttempt",
        "reportOutput",
        "failAttempt",
        "acceptOutput",
        "rejectOutput",
        "settleOrder",
        "reservePayout",
        "confirmPayout",
        "failPayout",
        "postTransfers",
        "exchange",
        "closePeriod",
        "sendAcross",
        "receiveAcross",
    ] {
        assert!(sdl.contains(&format!("{mutation}(ledgerId: Int! = 1, input:")), "{mutation}");
    }
}

#[tokio::test]
async fn a_mutation_outside_a_request_that_was_decided_is_refused() {
    let query = format!("mutation {{ cancelRfq(input: {{ rfqId: \"{RFQ}\" }}) {{ seq }} }}");
    let answer = schema().execute(query).await;
    let error = serde_json::to_value(&answer.errors[0]).unwrap();
    assert_eq!(error["extensions"]["code"], "UB109");
}
