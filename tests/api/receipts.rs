//! Lists of receipts: everybody sees what it may read one by one and nothing else, whatever it filters by and however it pages.

use std::collections::BTreeSet;

use ledger::house::Hand;
use proto::keys::{KeyPair, PublicKey};
use proto::receipt::{self, Checked};
use proto::v1::{KeyPurpose, command_body::Kind};
use provider_agent::client::{Client, ClientError};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::kinds;
use crate::support::market::id_of;
use crate::support::party::{LEDGER, Party};
use crate::support::server::Server;

/// Whether a filter lets a receipt through.
type Holds<'a> = Box<dyn Fn(&Checked) -> bool + 'a>;

/// A page over REST: its receipts, each checked against the receipt key, and where to go on.
async fn page(server: &Server, client: &Client, query: &str) -> (Vec<Checked>, Option<u64>) {
    let path = format!("/v1/ledgers/{LEDGER}/receipts?{query}");
    let body: Value = serde_json::from_slice(&client.get(&path, "application/json").await.unwrap()).unwrap();
    let key: PublicKey = *server.market.pipeline.house().receipt_key().public();
    let receipts = body["receipts"].as_array().unwrap().iter().map(|one| {
        let checked = receipt::check(&hex::decode(one["envelope"].as_str().unwrap()).unwrap(), &key).unwrap();
        assert_eq!(one["seq"], checked.receipt.seq);
        assert_eq!(one["receipt_id"], checked.receipt_id.to_string());
        checked
    });
    (receipts.collect(), body["next"].as_u64())
}

/// Every page of a list.
async fn all(server: &Server, client: &Client, query: &str) -> Vec<Checked> {
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let (receipts, next) = page(server, client, &format!("{query}{after}")).await;
        found.extend(receipts);
        let Some(next) = next else { return found };
        after = format!("&after={next}");
    }
}

fn seqs(found: &[Checked]) -> Vec<u64> {
    found.iter().map(|one| one.receipt.seq).collect()
}

async fn refused(client: &Client, query: &str) -> String {
    let path = format!("/v1/ledgers/{LEDGER}/receipts?{query}");
    match client.get(&path, "application/json").await {
        Err(ClientError::Refused(refusal)) => refusal.code,
        other => panic!("{query}: {other:?}"),
    }
}

/// What `receipts.read_receipt` shows to an agent, one by one, by rising seq.
async fn one_by_one(server: &Server, agent: Uuid) -> Vec<u64> {
    let api = server.market.db.client("econ_api").await;
    let size = server.market.count("select last_seq from base.ledgers").await;
    let mut found = Vec::new();
    for seq in 1..=size {
        let row =
            api.query_opt("select seq from receipts.read_receipt($1, 1, $2)", &[&agent, &seq]).await.unwrap();
        found.extend(row.map(|row| u64::try_from(row.get::<_, i64>(0)).unwrap()));
    }
    found
}

/// A market in which something happened, and somebody who had no part in it.
async fn busy() -> (Server, Vec<(&'static str, Client, Uuid)>) {
    let server = Server::start().await;
    let market = &server.market;
    market.settled().await;
    market.settled().await;
    assert_eq!(market.send(&market.buyer, kinds::cancel_rfq(market.id())).await.code, "UM401");
    let stranger = Party::new("stranger", KeyPurpose::Buyer);
    stranger.register(&market.pipeline).await;
    let house = |file: &str, purpose| market.house_party(file, purpose);
    let (operator, verifier) =
        (house("operator.pem", KeyPurpose::Operator), house("verifier.pem", KeyPurpose::Verifier));
    let mut readers = Vec::new();
    for (name, agent) in [
        ("buyer", id_of(&market.buyer)),
        ("provider", id_of(&market.provider)),
        ("payee", id_of(&market.payee)),
        ("stranger", id_of(&stranger)),
    ] {
        readers.push((name, server.client(name), agent));
    }
    for (name, party) in [("operator", operator), ("verifier", verifier)] {
        let agent = id_of(&party);
        readers.push((name, server.client_of(party.key), agent));
    }
    (server, readers)
}

#[tokio::test]
async fn a_list_holds_what_its_reader_may_read_one_by_one() {
    let (server, readers) = busy().await;
    let size = server.market.count("select last_seq from base.ledgers").await;
    for (name, client, agent) in &readers {
        let expected = one_by_one(&server, *agent).await;
        for first in [1, 3, 100] {
            let oldest = all(&server, client, &format!("order=oldest&first={first}")).await;
            assert_eq!(seqs(&oldest), expected, "{name}, oldest first, {first} to a page");
            let mut newest = seqs(&all(&server, client, &format!("first={first}")).await);
            newest.reverse();
            assert_eq!(newest, expected, "{name}, newest first, {first} to a page");
        }
        match *name {
            "stranger" | "payee" => assert_eq!(expected.len(), 1, "{name}: its registration"),
            "operator" | "verifier" => assert_eq!(i64::try_from(expected.len()).unwrap(), size, "{name}"),
            _ => assert!(expected.len() > 1 && i64::try_from(expected.len()).unwrap() < size, "{name}"),
        }
    }
    let nobody = Client::anonymous(&server.url).unwrap();
    assert_eq!(refused(&nobody, "").await, "UI201");
    let unknown = server.client_of(KeyPair::from_seed(&[77; 32]));
    assert_eq!(refused(&unknown, "").await, "UI202");
}

#[tokio::test]
async fn a_filtered_list_is_the_whole_list_filtered() {
    let (server, readers) = busy().await;
    let market = &server.market;
    let text = |sql: &'static str| market.text(sql);
    let order = text("select order_id::text from market.orders order by 1 limit 1").await;
    let rfq = text("select rfq_id::text from market.rfqs order by 1 limit 1").await;
    let journal = text("select journal_id::text from ledger.journals order by seq desc limit 1").await;
    let command =
        text("select command_id::text from base.commands where kind = 'accept_offer' limit 1").await;
    let buyer = id_of(&market.buyer).to_string();
    let of_journal: BTreeSet<u64> = {
        let sql = format!(
            "select distinct seq from ledger.transfers where journal_id = '{journal}' or transfer_id = '{journal}' and journal_id = '{journal}'"
        );
        let rows = market.admin.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| u64::try_from(row.get::<_, i64>(0)).unwrap()).collect()
    };
    assert!(!of_journal.is_empty());
    let (_, operator, _) = readers.iter().find(|(name, ..)| *name == "operator").unwrap();
    let times: Vec<i64> =
        all(&server, operator, "order=oldest").await.iter().map(|c| c.receipt.ledger_time_us).collect();
    let (since, until) = (times[times.len() / 3], times[2 * times.len() / 3]);
    let is = |bytes: &[u8], id: &str| Uuid::from_slice(bytes).unwrap().to_string() == id;
    let filters: Vec<(String, Holds<'_>)> = vec![
        (format!("subject={order}"), Box::new(|c| is(&c.receipt.subject_id, &order))),
        (format!("subject={rfq}"), Box::new(|c| is(&c.receipt.subject_id, &rfq))),
        (format!("subject={buyer}"), Box::new(|c| is(&c.receipt.subject_id, &buyer))),
        (format!("actor={buyer}"), Box::new(|c| is(&c.receipt.actor_id, &buyer))),
        ("kind=accept_offer".into(), Box::new(|c| c.receipt.kind == "accept_offer")),
        ("code=UM401".into(), Box::new(|c| c.receipt.code == "UM401")),
        (format!("since={since}"), Box::new(|c| c.receipt.ledger_time_us >= since)),
        (format!("until={until}"), Box::new(|c| c.receipt.ledger_time_us < until)),
        (
            format!("since={since}&until={until}&code=ok"),
            Box::new(|c| (since..until).contains(&c.receipt.ledger_time_us) && c.receipt.code == "ok"),
        ),
        (format!("journal={journal}"), Box::new(|c| of_journal.contains(&c.receipt.seq))),
        (format!("command={command}"), Box::new(|c| is(&c.receipt.command_id, &command))),
        (
            format!("subject={order}&kind=accept_output&actor={buyer}"),
            Box::new(|c| is(&c.receipt.subject_id, &order) && c.receipt.kind == "accept_output"),
        ),
    ];
    for (name, client, _) in &readers {
        let whole = all(&server, client, "order=oldest").await;
        for (query, holds) in &filters {
            let expected: Vec<u64> = whole.iter().filter(|c| holds(c)).map(|c| c.receipt.seq).collect();
            let found = all(&server, client, &format!("order=oldest&first=2&{query}")).await;
            assert_eq!(seqs(&found), expected, "{name}: {query}, oldest first");
            let mut found = seqs(&all(&server, client, &format!("first=2&{query}")).await);
            found.reverse();
            assert_eq!(found, expected, "{name}: {query}, newest first");
            assert!(*name != "operator" || !expected.is_empty(), "{query} finds nothing at all");
        }
    }
}

#[tokio::test]
async fn no_filter_tells_a_stranger_that_there_is_anything() {
    let (server, readers) = busy().await;
    let market = &server.market;
    let (_, stranger, agent) = readers.iter().find(|(name, ..)| *name == "stranger").unwrap();
    let mut queries =
        vec![format!("actor={}", id_of(&market.buyer)), "kind=accept_offer".into(), "code=UM401".into()];
    for (name, sql) in [
        ("subject", "select order_id::text from market.orders limit 1"),
        ("subject", "select rfq_id::text from market.rfqs limit 1"),
        ("journal", "select journal_id::text from ledger.journals limit 1"),
        ("command", "select command_id::text from base.commands where kind = 'accept_offer' limit 1"),
    ] {
        queries.push(format!("{name}={}", market.text(sql).await));
    }
    for query in queries {
        for order in ["newest", "oldest"] {
            let found = page(&server, stranger, &format!("order={order}&{query}")).await;
            assert_eq!(found, (Vec::new(), None), "{query}");
        }
    }
    let sql = "select count(*) from receipts.read_receipts($1, 1, null, null, null, null, null, null, null, null, true, null, 1000)";
    let api = market.db.client("econ_api").await;
    let count = async |actor: Option<Uuid>| api.query_one(sql, &[&actor]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count(None).await, 0, "without an actor there is nothing to see");
    assert_eq!(count(Some(*agent)).await, 1);
}

#[tokio::test]
async fn pages_have_neither_gap_nor_double_while_the_log_grows() {
    let (server, readers) = busy().await;
    let market = &server.market;
    for name in ["operator", "buyer"] {
        let (_, client, agent) = readers.iter().find(|(reader, ..)| *reader == name).unwrap();
        let before = one_by_one(&server, *agent).await;
        for order in ["newest", "oldest"] {
            let mut found = Vec::new();
            let mut after = String::new();
            let mut grown = 0;
            loop {
                let (receipts, next) = page(&server, client, &format!("order={order}&first=2{after}")).await;
                found.extend(seqs(&receipts));
                let Some(next) = next else { break };
                after = format!("&after={next}");
                if grown < 6 {
                    grown += 1;
                    // Somebody's command, and one of the reader's own, between any two pages.
                    market.send(&market.buyer, kinds::cancel_rfq(market.id())).await;
                    let funds = kinds::deposit(id_of(&market.payee), "5", &market.key());
                    market.hand_must(Hand::Operator, Kind::Deposit(funds)).await;
                }
            }
            assert_eq!(grown, 6, "{name}: the list was over before the log grew");
            if order == "newest" {
                found.reverse();
                let known: Vec<u64> = found.iter().copied().filter(|seq| before.contains(seq)).collect();
                assert_eq!(known, before, "{name}, {order}");
            } else {
                assert_eq!(found, one_by_one(&server, *agent).await, "{name}, {order}");
            }
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{name}, {order}: {found:?}");
        }
    }
}

#[tokio::test]
async fn a_page_that_meets_nothing_still_says_where_to_go_on() {
    let server = Server::start().await;
    let market = &server.market;
    // More log than a page looks at, written past the commands: who reads everything walks over it by place.
    market.pipeline.shutdown().await;
    let grown = "update base.ledgers set last_seq = last_seq + 2500";
    assert_eq!(market.admin.execute(grown, &[]).await.unwrap(), 1);
    let operator = market.house_party("operator.pem", KeyPurpose::Operator);
    let client = server.client_of(operator.key);
    let (receipts, next) = page(&server, &client, "first=5").await;
    assert!(receipts.is_empty() && next.is_some());
    assert_eq!(all(&server, &client, "first=5").await, {
        let mut oldest = all(&server, &client, "first=5&order=oldest").await;
        oldest.reverse();
        oldest
    });
}

#[tokio::test]
async fn filters_are_values_and_pages_have_a_size() {
    let (server, readers) = busy().await;
    let (_, operator, _) = readers.iter().find(|(name, ..)| *name == "operator").unwrap();
    let before = server.every_row().await;
    for text in [
        "x%27%20or%20%271%27%3D%271",
        "ok%27%3B%20drop%20table%20receipts.receipts%3B%20--",
        "%5C%27%3B%20select%20pg_sleep(10)%3B--",
        "%24%24%20or%20true%20--",
    ] {
        for name in ["kind", "code"] {
            assert_eq!(
                page(&server, operator, &format!("{name}={text}")).await.0,
                Vec::new(),
                "{name}={text}"
            );
        }
        for name in ["subject", "actor", "journal", "command", "since", "after", "order", "first"] {
            assert_eq!(refused(operator, &format!("{name}={text}")).await, "UB103", "{name}={text}");
        }
    }
    for query in [
        "kind=a%00b",
        "code=%00",
        "first=0",
        "first=101",
        "first=4294967295",
        "after=-1",
        "since=9223372036854775807",
        "kinds=a",
    ] {
        assert_eq!(refused(operator, query).await, "UB103", "{query}");
    }
    assert_eq!(server.every_row().await, before);
}

#[tokio::test]
async fn graphql_lists_what_rest_lists() {
    let (server, readers) = busy().await;
    let query = "query($filter: ReceiptFilter!, $order: ReceiptOrder!, $after: String) { receipts(filter: $filter, order: $order, \
        first: 3, after: $after) { next edges { cursor node { seq receiptId envelope } } pageInfo { hasNextPage } } }";
    for (name, client, _) in &readers {
        for (order, named) in [("NEWEST_FIRST", "newest"), ("OLDEST_FIRST", "oldest")] {
            let expected = seqs(&all(&server, client, &format!("code=ok&order={named}")).await);
            let mut found = Vec::new();
            let mut after = Value::Null;
            loop {
                let variables = json!({ "filter": { "code": "ok" }, "order": order, "after": after });
                let data = client.graphql(query, variables, None).await.unwrap();
                let list = &data["receipts"];
                for edge in list["edges"].as_array().unwrap() {
                    assert_eq!(edge["cursor"], edge["node"]["seq"].to_string());
                    found.push(edge["node"]["seq"].as_u64().unwrap());
                }
                assert_eq!(list["pageInfo"]["hasNextPage"], !list["next"].is_null());
                after = list["next"].clone();
                if after.is_null() {
                    break;
                }
            }
            assert_eq!(found, expected, "{name}, {order}");
        }
    }
    let (_, operator, _) = readers.iter().find(|(name, ..)| *name == "operator").unwrap();
    for (query, code) in [
        ("{ receipts(first: 101) { next } }", "UB103"),
        ("{ receipts(first: 0) { next } }", "UB103"),
        ("{ receipts(after: \"x\") { next } }", "UB103"),
        ("{ receipts(filter: { kind: \"a\\u0000b\" }) { next } }", "UB103"),
    ] {
        match operator.graphql(query, json!({}), None).await {
            Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, code, "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
}
