//! The books over GraphQL: pages, both orders of time, and who sees what.

use proto::v1::KeyPurpose;
use provider_agent::client::{Client, ClientError};
use serde_json::{Value, json};

use crate::support::http::Craft;
use crate::support::http::graphql;
use crate::support::server::Server;

/// Asks with a key and insists on an answer.
async fn asked(client: &Client, query: &str, variables: Value) -> Value {
    client.graphql(query, variables, None).await.unwrap()
}

/// The code of a refusal.
async fn refused(client: &Client, query: &str) -> String {
    match client.graphql(query, json!({}), None).await {
        Err(ClientError::Refused(refusal)) => refusal.code,
        other => panic!("{query}: {other:?}"),
    }
}

/// Every node of a connection, page by page, and no node twice.
async fn paged(client: &Client, query: &str, path: &[&str], mut variables: Value) -> Vec<Value> {
    let mut nodes = Vec::new();
    loop {
        let mut page = asked(client, query, variables.clone()).await;
        for name in path {
            page = page[name].take();
        }
        for edge in page["edges"].as_array().unwrap() {
            nodes.push(edge["node"].clone());
        }
        let last = page["edges"].as_array().unwrap().last().map(|edge| edge["cursor"].clone());
        assert_eq!(page["pageInfo"]["endCursor"], last.unwrap_or_default());
        if page["pageInfo"]["hasNextPage"] == false {
            return nodes;
        }
        variables["after"] = page["pageInfo"]["endCursor"].clone();
    }
}

const STATEMENT: &str = "query($id: UUID!, $by: BookTime!, $first: Int!, $after: String) { account(id: $id) { \
    statement(by: $by, first: $first, after: $after) { edges { cursor node { transferId journalId side amount balance pendingOut \
    eventAtUs } } pageInfo { hasNextPage endCursor } } } }";

fn number(value: &Value) -> i128 {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_operator_reads_all_of_the_books_and_an_agent_its_own() {
    let server = Server::start().await;
    server.market.settled().await;
    server.market.settled().await;
    let operator = server.market.house_party("operator.pem", KeyPurpose::Operator);
    let operator = server.client_of(operator.key);
    let buyer = server.client("buyer");

    let accounts = "query($first: Int!, $after: String, $purpose: String, $owner: UUID) { accounts(first: $first, after: $after, \
        purpose: $purpose, ownerId: $owner) { edges { cursor node { accountId asset scale purpose ownerId refId spendable closed balances { \
        debitsPosted creditsPosted debitsPending creditsPending } } } pageInfo { hasNextPage endCursor } } }";
    let path = ["accounts"];
    let all = paged(&operator, accounts, &path, json!({ "first": 3 })).await;
    let count = server.market.count("select count(*) from ledger.accounts").await;
    assert_eq!(i64::try_from(all.len()).unwrap(), count);
    let own = paged(&buyer, accounts, &path, json!({ "first": 1 })).await;
    let buyer_id = server.market.buyer.id().to_string();
    assert_eq!(own.len(), 3, "a wallet and two orders' escrow: {own:?}");
    assert!(own.iter().all(|account| account["ownerId"] == buyer_id), "{own:?}");
    let own: Vec<Value> = own.into_iter().filter(|account| account["purpose"] == "wallet").collect();
    let wallets = paged(
        &operator,
        accounts,
        &path,
        json!({ "first": 3, "purpose": "wallet", "owner": own[0]["ownerId"] }),
    )
    .await;
    assert_eq!(wallets, own);
    let foreign =
        paged(&server.client("provider"), accounts, &path, json!({ "first": 3, "owner": own[0]["ownerId"] }))
            .await;
    assert_eq!(foreign, Vec::<Value>::new());

    // The statement's first balance is the account's, each next one is that less what moved; both orders agree, since nothing
    // was told late.
    let wallet = own[0]["accountId"].clone();
    let balances = &own[0]["balances"];
    let mut statements = Vec::new();
    for by in ["RECORD", "EVENT"] {
        let variables = json!({ "id": wallet, "by": by, "first": 2 });
        let entries = paged(&buyer, STATEMENT, &["account", "statement"], variables).await;
        let mut balance = number(&balances["creditsPosted"]) - number(&balances["debitsPosted"]);
        for entry in &entries {
            assert_eq!(number(&entry["balance"]), balance, "{entries:#?}");
            balance -= number(&entry["amount"]) * if entry["side"] == "credit" { 1 } else { -1 };
            assert_eq!(entry["pendingOut"].is_null(), by == "EVENT");
        }
        assert_eq!(balance, 0, "the first entry begins at nothing");
        statements.push(entries);
    }
    let ids = |n: usize| statements[n].iter().map(|entry| entry["transferId"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(0), ids(1));
    let at = "query($id: UUID!, $at: Micros!, $by: BookTime!) { account(id: $id) { balanceAt(at: $at, by: $by) { debitsPosted \
        creditsPosted debitsPending } } }";
    let first = statements[0].last().unwrap();
    for by in ["RECORD", "EVENT"] {
        let found = asked(&buyer, at, json!({ "id": wallet, "at": first["eventAtUs"], "by": by })).await;
        let found = &found["account"]["balanceAt"];
        assert_eq!(
            (&found["creditsPosted"], &found["debitsPosted"]),
            (&first["amount"], &"0".into()),
            "{found}"
        );
        assert_eq!(found["debitsPending"].is_null(), by == "EVENT");
    }

    // Every transfer is there for the operator alone; a journal also for whom it concerns.
    let transfers = "query($first: Int!, $after: String) { transfers(first: $first, after: $after) { edges { cursor node { transferId \
        journalId kind amount asset debitAccountId creditAccountId reason flags } } pageInfo { hasNextPage endCursor } } }";
    let all = paged(&operator, transfers, &["transfers"], json!({ "first": 2 })).await;
    let expected: Vec<String> = crate::support::checks::rows(
        &server.market.admin,
        "select transfer_id::text from ledger.transfers order by seq desc, item desc",
    )
    .await;
    assert_eq!(all.iter().map(|row| row["transferId"].as_str().unwrap()).collect::<Vec<_>>(), expected);
    assert_eq!(paged(&buyer, transfers, &["transfers"], json!({ "first": 2 })).await, Vec::<Value>::new());
    let journal = transfers
        .replace("transfers(first", "journal(id: $id, first")
        .replace("query(", "query($id: UUID!, ");
    let id = statements[0][0]["journalId"].clone();
    let of =
        async |client: &Client| paged(client, &journal, &["journal"], json!({ "first": 1, "id": id })).await;
    let whole: Vec<&Value> = all.iter().filter(|row| row["journalId"] == id).collect();
    assert_eq!(of(&operator).await.iter().collect::<Vec<_>>(), whole);
    let seen = of(&buyer).await;
    assert!(
        !seen.is_empty()
            && seen.iter().all(|row| row["debitAccountId"] == wallet || row["creditAccountId"] == wallet),
        "{seen:?}"
    );

    let trial = "query($at: Micros, $by: BookTime = RECORD) { trialBalance(at: $at, by: $by) { asset purpose accounts debits credits debitsPending creditsPending } }";
    for variables in
        [json!({}), json!({ "at": first["eventAtUs"], "by": "EVENT" }), json!({ "at": first["eventAtUs"] })]
    {
        let found = asked(&operator, trial, variables.clone()).await;
        let sum = |column: &str| {
            found["trialBalance"].as_array().unwrap().iter().map(|line| number(&line[column])).sum::<i128>()
        };
        assert!(sum("debits") > 0 && sum("debits") == sum("credits"), "{found}");
        assert_eq!(sum("debitsPending"), sum("creditsPending"), "{found}");
        assert_eq!(asked(&buyer, trial, variables).await["trialBalance"], json!([]));
    }

    // Another's account is not there; without a signature nothing is.
    let account = format!("{{ account(id: {wallet}) {{ purpose }} }}");
    assert_eq!(asked(&operator, &account, json!({})).await["account"]["purpose"], "wallet");
    assert!(asked(&server.client("provider"), &account, json!({})).await["account"].is_null());
    for query in [
        account.as_str(),
        "{ accounts { nodes { purpose } } }",
        "{ transfers { nodes { kind } } }",
        "{ trialBalance { asset } }",
    ] {
        let craft = Craft::new("nobody", "POST", "/graphql")
            .body("application/json", graphql(query, Value::Null))
            .unsigned();
        assert_eq!(server.send(&craft).await.problem().code, "UI201", "{query}");
    }
}

#[tokio::test]
async fn a_cursor_is_of_its_own_list_and_a_moment_one_of_this_age() {
    let server = Server::start().await;
    let buyer = server.client("buyer");
    let found = asked(
        &buyer,
        "{ accounts { nodes { accountId statement(first: 1) { edges { cursor } } } } }",
        json!({}),
    )
    .await;
    let account = &found["accounts"]["nodes"][0];
    let (id, cursor) = (&account["accountId"], &account["statement"]["edges"][0]["cursor"]);
    for wrong in [
        format!("{{ account(id: {id}) {{ statement(by: EVENT, after: {cursor}) {{ nodes {{ seq }} }} }} }}"),
        format!("{{ account(id: {id}) {{ statement(after: \"e.1.1.1\") {{ nodes {{ seq }} }} }} }}"),
        format!("{{ account(id: {id}) {{ statement(after: \"r.1\") {{ nodes {{ seq }} }} }} }}"),
        format!(
            "{{ account(id: {id}) {{ statement(by: EVENT, after: \"e.9223372036854775807.1.1\") {{ nodes {{ seq }} }} }} }}"
        ),
        format!("{{ account(id: {id}) {{ statement(first: 101) {{ nodes {{ seq }} }} }} }}"),
        format!("{{ account(id: {id}) {{ balanceAt(at: 9223372036854775807) {{ debitsPosted }} }} }}"),
        format!("{{ account(id: {id}) {{ balanceAt(at: -9223372036854775808) {{ debitsPosted }} }} }}"),
        "{ trialBalance(at: 9007199254740993) { asset } }".to_owned(),
        "{ accounts(first: 0) { nodes { purpose } } }".to_owned(),
        "{ accounts(after: \"x\") { nodes { purpose } } }".to_owned(),
        "{ transfers(after: \"1\") { nodes { kind } } }".to_owned(),
    ] {
        assert_eq!(refused(&buyer, &wrong).await, "UB103", "{wrong}");
    }
    let far = format!(
        "{{ account(id: {id}) {{ balanceAt(at: -9007199254740992) {{ creditsPosted }} statement(after: \"r.18446744073709551615.1\") {{ nodes {{ side }} }} }} }}"
    );
    let found = asked(&buyer, &far, json!({})).await;
    assert_eq!(found["account"]["balanceAt"]["creditsPosted"], "0");
    assert_eq!(found["account"]["statement"]["nodes"], json!([{ "side": "credit" }]));
    // A page of accounts, each with a page of its statement, is more than one request may ask for.
    let wide = "{ accounts(first: 100) { nodes { statement(first: 100) { nodes { seq } } } } }";
    assert!(buyer.graphql(wide, json!({}), None).await.is_err());
}
