//! GraphQL over HTTP: what a signed document does, and what its signer sees.

use proto::prost::Message as _;
use proto::v1::CommandBody;
use serde_json::{Value, json};

use crate::support::http::{Craft, graphql, mutation};
use crate::support::kinds;
use crate::support::party::USD;
use crate::support::server::Server;

const OPEN: &str = "mutation Open($input: OpenRfqInput!) { openRfq(input: $input) { code seq replayed receiptId facts subjectKind } }";

fn ask(signer: &'static str, query: &str, variables: Value) -> Craft {
    Craft::new(signer, "POST", "/graphql").body("application/json", graphql(query, variables))
}

#[tokio::test]
async fn a_signed_mutation_is_a_command_that_can_be_derived_again_from_the_signed_json() {
    let server = Server::start().await;
    let input = json!({
        "rfqId": server.market.id().to_string(), "workClass": kinds::WORK_CLASS, "inputHash": "07".repeat(32),
        "workUnits": 37, "assetId": USD, "maxPrice": "10000", "validForMs": 60_000, "maxDurationMs": 60_000,
    });
    let craft = mutation("buyer", "open", OPEN, json!({ "input": input }));
    let first = server.send(&craft).await.json();
    let opened = &first["data"]["openRfq"];
    assert_eq!((opened["code"].as_str(), opened["replayed"].as_bool()), (Some("ok"), Some(false)), "{first}");
    let again = server.send(&craft.anew()).await.json();
    assert_eq!(again["data"]["openRfq"]["replayed"], true);
    assert_eq!(again["data"]["openRfq"]["receiptId"], opened["receiptId"]);

    let sql = "select signed_body, body, content_type from base.commands where seq = $1";
    let row = server.market.admin.query_one(sql, &[&opened["seq"].as_i64().unwrap()]).await.unwrap();
    let (signed, body, content_type): (Vec<u8>, Vec<u8>, String) = (row.get(0), row.get(1), row.get(2));
    let (ledger_id, command) = api::graphql::command_of(&signed).unwrap();
    assert_eq!(
        (ledger_id, command.encode_to_vec(), content_type.as_str()),
        (1, body.clone(), "application/json")
    );
    assert_eq!(CommandBody::decode(body.as_slice()).unwrap(), command);
    server.verified().await;
}

#[tokio::test]
async fn private_data_needs_a_signature_and_shows_the_signer_its_own() {
    let server = Server::start().await;
    let order = server.market.settled().await;
    let private = format!(
        "{{ balances {{ purpose posted spendable }} orders(first: 5) {{ nodes {{ orderId state paid earned }} pageInfo {{ hasNextPage endCursor }} }} \
           order(id: \"{id}\") {{ state held }} rfq(id: \"{rfq}\") {{ state offers }} offers(rfqId: \"{rfq}\") {{ state price }} \
           settlement(orderId: \"{id}\") {{ paid refunded legs {{ role amount }} }} meteringRows(orderId: \"{id}\") {{ rowSeq workUnits }} \
           statement {{ nodes {{ role amount payoutState }} }} payouts {{ nodes {{ state }} }} entries(first: 3) {{ nodes {{ side amount }} }} \
           rfqs {{ nodes {{ state }} }} me {{ keys {{ purpose }} }} receipt(seq: 1) {{ seq }} }}",
        id = order.order,
        rfq = order.rfq
    );
    let nobody = server.send(&ask("nobody", &private, Value::Null).unsigned()).await.json();
    assert_eq!(nobody["data"], json!({ "me": null }));
    assert!(nobody["errors"].as_array().unwrap().iter().all(|error| error["extensions"]["code"] == "UI201"));

    let asked = async |who| server.send(&ask(who, &private, Value::Null)).await.json();
    let buyer = asked("buyer").await;
    assert!(buyer["errors"].is_null(), "{buyer}");
    let data = &buyer["data"];
    assert_eq!(data["order"]["state"], "settled");
    assert_eq!(data["orders"]["nodes"][0]["orderId"], order.order.to_string());
    assert_eq!(
        (data["rfq"]["offers"].as_i64(), data["offers"][0]["state"].as_str()),
        (Some(1), Some("accepted"))
    );
    let legs = data["settlement"]["legs"].as_array().unwrap();
    let sum: u64 = legs.iter().map(|leg| leg["amount"].as_str().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(data["settlement"]["paid"], sum.to_string());
    assert_eq!(data["me"]["keys"][0]["purpose"], "buyer");
    assert_eq!(data["statement"]["nodes"], json!([]));
    assert!(data["receipt"].is_null(), "genesis is not the buyer's to see");
    assert_eq!(data["meteringRows"].as_array().unwrap().len(), 2);

    let provider = asked("provider").await["data"].clone();
    assert_eq!(provider["statement"]["nodes"][0]["role"], "provider");
    assert!(provider["rfq"]["offers"].is_null(), "how many offered is the buyer's to know");
    assert_eq!(provider["orders"]["nodes"][0]["earned"], provider["statement"]["nodes"][0]["amount"]);

    let payee = asked("payee").await["data"].clone();
    assert!(payee["order"].is_null() && payee["rfq"].is_null(), "{payee}");
    assert_eq!((payee["offers"].clone(), payee["orders"]["nodes"].clone()), (json!([]), json!([])));
    assert_eq!(payee["settlement"]["legs"].as_array().unwrap().len(), 1, "its own leg only");
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_double() {
    let server = Server::start().await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(server.market.ordered().await.order.to_string());
    }
    expected.sort();
    expected.reverse();
    let query = "query($after: String) { orders(first: 2, after: $after) { nodes { orderId } pageInfo { hasNextPage endCursor } } }";
    let mut seen: Vec<String> = Vec::new();
    let mut after = Value::Null;
    loop {
        let page =
            server.send(&ask("buyer", query, json!({ "after": after }))).await.json()["data"]["orders"]
                .clone();
        let nodes = page["nodes"].as_array().unwrap();
        seen.extend(nodes.iter().map(|node| node["orderId"].as_str().unwrap().to_owned()));
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(seen, expected);
    for wrong in [
        "{ orders(first: 101) { nodes { orderId } } }",
        "{ orders(first: 0) { nodes { orderId } } }",
        "{ orders(after: \"x\") { nodes { orderId } } }",
    ] {
        assert_eq!(server.send(&ask("buyer", wrong, Value::Null)).await.problem().code, "UB103", "{wrong}");
    }
}

#[tokio::test]
async fn what_the_market_did_is_public() {
    let server = Server::start().await;
    server.market.settled().await;
    server.market.refunded().await;
    let query = "{ info ads { workClass reachable } ledger { lastSeq settings { maxProviders } } transparency { outcomes { state orders } \
        latencySegments { segment } fillRate { fillRate } volumeByDay { paid } uniqueEarners { asset } payoutHhi { hhi } \
        conservation { asset difference } } }";
    let found = server.send(&ask("nobody", query, Value::Null).unsigned()).await.json();
    assert!(found["errors"].is_null(), "{found}");
    let shown = &found["data"]["transparency"];
    assert_eq!(shown["conservation"][0]["difference"], "0");
    assert_eq!(
        (shown["outcomes"].as_array().unwrap().len(), shown["latencySegments"].as_array().unwrap().len()),
        (2, 6)
    );
    assert_eq!(found["data"]["ads"][0]["reachable"], true);
}
