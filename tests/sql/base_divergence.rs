//! A row that is not what the log gives is named: table, key, column, both values, and the command that touched it last.

use ledger::replay::Until;
use ledger::testing::TestDb;
use ledger::verify::{self, Comparison, Extent, How, LeftOut, TEXT_FORMS};
use proto::v1::command_body::Kind;
use tokio_postgres::Client;

use crate::support::checks::{rows, superuser};
use crate::support::kinds;
use crate::support::market::{Market, id_of};
use crate::support::replays::{BATCHES, again};

/// A market whose guards are off. `None` where nobody may switch them off.
async fn tampering() -> Option<Market> {
    let market = Market::start().await;
    if !superuser(&market.admin).await {
        return None;
    }
    market.settled().await;
    market.disputed().await;
    market.reserved(id_of(&market.provider)).await;
    market.must(&market.buyer, Kind::OpenRfq(kinds::rfq(market.id()))).await;
    market.pipeline.shutdown().await;
    market.admin.batch_execute("set session_replication_role = replica").await.unwrap();
    Some(market)
}

/// The one table that differs after a change, in batches of these sizes; the change is taken back.
async fn found(market: &Market, batches: &[usize], table: &str, change: &str) -> Vec<Comparison> {
    market.admin.batch_execute(&format!("create temp table kept as select * from {table}")).await.unwrap();
    assert!(market.admin.execute(change, &[]).await.unwrap() > 0, "nothing was changed: {change}");
    let mut found = Vec::new();
    for batch in batches {
        let again = again(market, *batch, Until::End).await;
        let differing: Vec<&Comparison> = again.proof.tables.iter().filter(|table| !table.equal()).collect();
        assert_eq!(differing.len(), 1, "batches of {batch}: {differing:?}");
        assert_eq!(differing[0].table, table);
        found.push(differing[0].clone());
        again.drop().await;
    }
    let restore = format!("delete from {table}; insert into {table} select * from kept; drop table kept");
    market.admin.batch_execute(&restore).await.unwrap();
    found
}

/// seq and kind of a command, as a finding names it.
async fn named(market: &Market, condition: &str) -> String {
    let sql = format!(
        "select format('seq %s %s (receipt %s)', seq, kind, encode(receipt_id, 'hex')) from base.commands \
         join receipts.receipts r using (ledger_id, seq) where {condition} order by seq desc limit 1"
    );
    market.text(&sql).await
}

#[tokio::test]
async fn a_changed_value_is_named_with_its_row_column_and_last_command() {
    let Some(market) = tampering().await else { return };
    // What moves a balance last, by kind of account: the escrow of the settled order by its settlement, and so on.
    for (purpose, last) in [
        ("escrow", "kind = 'settle_order'"),
        ("wallet", "kind = 'accept_offer'"),
        ("external", "kind = 'reserve_payout'"),
        ("payable", "kind in ('settle_order', 'reserve_payout')"),
    ] {
        let condition = match purpose {
            "escrow" => "purpose = 'escrow' and credits_posted = debits_posted".to_owned(),
            // The provider's, whose payout is reserved; the payee's was only earned.
            "payable" => format!("purpose = 'payable' and owner_id = '{}'", id_of(&market.provider)),
            _ => format!("purpose = '{purpose}'"),
        };
        let account =
            market.text(&format!("select account_id::text from ledger.accounts where {condition}")).await;
        let held = market
            .text(&format!("select credits_posted::text from ledger.accounts where account_id = '{account}'"))
            .await;
        let change = format!(
            "update ledger.accounts set credits_posted = credits_posted + 1 where account_id = '{account}'"
        );
        let last = named(&market, last).await;
        for comparison in found(&market, &BATCHES, "ledger.accounts", &change).await {
            let problem = comparison.problem().unwrap();
            assert_eq!(problem.place, format!("ledger.accounts (ledger_id 1, account_id {account})"));
            let raised = held.parse::<u64>().unwrap() + 1;
            let said = format!(
                "column credits_posted: the log gives {held}, the table holds {raised}; last command that touched it: {last}"
            );
            assert_eq!(problem.message, said, "{purpose}");
            assert_eq!(
                (comparison.rows_different, comparison.rows_only_stored, comparison.rows_only_replayed),
                (1, 0, 0)
            );
        }
    }
}

#[tokio::test]
async fn the_command_is_named_in_every_kind_of_table() {
    let Some(market) = tampering().await else { return };
    let settled = named(&market, "kind = 'settle_order'").await;
    let last = named(&market, "true").await;
    for (table, change, column, by) in [
        (
            "market.orders",
            "update market.orders set cause = 'crash' where state = 'settled'",
            "cause",
            settled.clone(),
        ),
        ("splits.legs", "update splits.legs set amount = amount + 1 where n = 1", "amount", settled.clone()),
        (
            "identity.agents",
            "update identity.agents set registered_at = registered_at - interval '1 day' where agent_id = (select provider_id from market.presence)",
            "registered_at",
            named(&market, &format!("kind = 'register_agent' and actor_id = '{}'", id_of(&market.provider)))
                .await,
        ),
        (
            "market.presence",
            "update market.presence set reachable = false",
            "reachable",
            named(&market, "kind = 'record_presence'").await,
        ),
        (
            "metering.rows",
            "update metering.rows set work_units = work_units + 1 where row_seq = 1 and attempt_id = (select min(attempt_id::text)::uuid from metering.attempts)",
            "work_units",
            named(&market, "seq = (select min(seq) from base.commands where kind = 'record_metering')").await,
        ),
        ("base.ledgers", "update base.ledgers set name = 'another'", "name", last.clone()),
        (
            "receipts.subject_heads",
            "update receipts.subject_heads set receipt_id = sha256('x') where seq = (select max(seq) from receipts.subject_heads)",
            "receipt_id",
            last.clone(),
        ),
        (
            "base.commands",
            "update base.commands set idempotency_key = 'another' where seq = 5",
            "idempotency_key",
            named(&market, "seq = 5").await,
        ),
    ] {
        for comparison in found(&market, &[7], table, change).await {
            let message = comparison.problem().unwrap().message;
            assert!(message.starts_with(&format!("column {column}: the log gives ")), "{table}: {message}");
            assert!(
                message.ends_with(&format!("; last command that touched it: {by}")),
                "{table}: {message}, not {by}"
            );
        }
    }
}

#[tokio::test]
async fn rows_that_only_one_side_has_are_named_and_counted() {
    let Some(market) = tampering().await else { return };
    let settled = named(&market, "kind = 'settle_order'").await;
    let missing = found(&market, &[8_000], "splits.legs", "delete from splits.legs where n <= 2").await;
    for comparison in missing {
        let problem = comparison.problem().unwrap();
        assert!(problem.place.starts_with("splits.legs (ledger_id 1, order_id "), "{problem:?}");
        assert!(problem.message.starts_with("the table lacks this row: ledger_id 1, "), "{problem:?}");
        assert!(
            problem.message.contains(&format!("last command that touched it: {settled}; 1 more row")),
            "{problem:?}"
        );
        assert_eq!(
            (comparison.rows_different, comparison.rows_only_stored, comparison.rows_only_replayed),
            (0, 0, 2)
        );
    }
    let earned = "insert into payouts.payables select ledger_id, gen_random_uuid(), payee_id, asset_id, 1000000, order_id, 9, seq, at \
                  from payouts.payables limit 1";
    for comparison in found(&market, &[8_000], "payouts.payables", earned).await {
        let problem = comparison.problem().unwrap();
        assert!(problem.message.starts_with("the log gives no such row: "), "{problem:?}");
        assert!(problem.message.ends_with(&format!("; the row names {settled}")), "{problem:?}");
        assert_eq!(
            (comparison.rows_different, comparison.rows_only_stored, comparison.rows_only_replayed),
            (0, 1, 0)
        );
    }
    let permit = "insert into identity.purpose_permits values ('provider', 'settle_order')";
    for comparison in found(&market, &[8_000], "identity.purpose_permits", permit).await {
        let first = comparison.first.unwrap();
        assert!(matches!(first.how, How::OnlyStored(_)) && first.touched.is_none(), "{first:?}");
    }
    let removed = "delete from identity.purpose_permits where (purpose, kind) = ('buyer', 'open_rfq')";
    for comparison in found(&market, &[8_000], "identity.purpose_permits", removed).await {
        let message = comparison.problem().unwrap().message;
        assert!(message.ends_with("no command made this row: it comes with the schema"), "{message}");
    }
}

/// Two databases with a table each, filled in another physical order, and compared.
#[tokio::test]
async fn the_physical_order_and_the_locale_decide_nothing() {
    let words = [
        "a",
        "B",
        "b",
        "A",
        "\u{e4}",
        "z",
        "Z",
        "-",
        "a-b",
        "aB",
        "\\t",
        "tab\there",
        "line\nbreak",
        "1",
        "10",
        "2",
    ];
    let numbers = [5, -1, 300, 7, i64::MAX, 0];
    let mut sides = Vec::new();
    for reverse in [false, true] {
        let made = TestDb::new().await;
        let db = made.admin().await;
        db.batch_execute(TEXT_FORMS).await.unwrap();
        // Under another collation, where there is one, the same text sorts in another order.
        let collation = if reverse && has_icu(&db).await { "collate \"und-x-icu\"" } else { "collate \"C\"" };
        db.batch_execute(&format!(
            "create table base.words (word text {collation}, n bigint, at timestamptz, raw bytea, primary key (word, n, at, raw))"
        ))
        .await
        .unwrap();
        let mut inserts = Vec::new();
        for (i, word) in words.iter().enumerate() {
            for n in numbers {
                inserts.push((
                    *word,
                    n,
                    format!("2026-01-01 00:00:0{}.{}", i % 10, n.rem_euclid(7)),
                    vec![0xff_u8; i % 3],
                ));
            }
        }
        if reverse {
            inserts.reverse();
        }
        for (word, n, at, raw) in &inserts {
            let insert = "insert into base.words values ($1, $2, ($3::text)::timestamptz, $4)";
            db.execute(insert, &[word, n, at, raw]).await.unwrap();
        }
        sides.push((db, made));
    }
    let find = |found: Vec<Comparison>| found.into_iter().find(|one| one.table == "base.words").unwrap();
    let equal = find(verify::compare(&sides[0].0, &sides[1].0, None).await.unwrap());
    assert!(equal.equal(), "{equal:?}");
    assert_eq!(equal.stored, Some(equal.replayed));
    assert_eq!(equal.replayed.rows, (words.len() * numbers.len()) as u64);
    // One row less on one side, another one less on the other: the rest is still matched.
    sides[0].0.execute("delete from base.words where word = 'B' and n = 7", &[]).await.unwrap();
    sides[1].0.execute("delete from base.words where word = 'tab\there' and n = 300", &[]).await.unwrap();
    let differs = find(verify::compare(&sides[0].0, &sides[1].0, None).await.unwrap());
    assert_eq!(
        (differs.rows_different, differs.rows_only_stored, differs.rows_only_replayed),
        (0, 1, 1),
        "{differs:?}"
    );
    assert_ne!(differs.stored, Some(differs.replayed));
    for (db, made) in sides {
        drop(db);
        made.close().await;
    }
}

async fn has_icu(db: &Client) -> bool {
    !rows(db, "select collname::text from pg_collation where collname = 'und-x-icu'").await.is_empty()
}

#[tokio::test]
async fn rows_can_be_left_out_by_a_condition_and_the_rest_counts() {
    let market = Market::start().await;
    market.pipeline.shutdown().await;
    let db = market.db.client("econ_auditor").await;
    db.batch_execute(TEXT_FORMS).await.unwrap();
    let left_out = [
        LeftOut { table: "base.commands", rows: Some("kind = 'genesis'"), reason: "a test" },
        LeftOut { table: "market.presence", rows: None, reason: "a test" },
    ];
    assert_eq!(left_out[0].what(), "base.commands where kind = 'genesis'");
    let all = verify::tables(&db).await.unwrap();
    let fewer = verify::tables_without(&db, &left_out).await.unwrap();
    let named =
        |tables: &[verify::Table], name: &str| tables.iter().find(|table| table.name == name).cloned();
    assert!(named(&all, "market.presence").is_some() && named(&fewer, "market.presence").is_none());
    let (whole, rest) = (named(&all, "base.commands").unwrap(), named(&fewer, "base.commands").unwrap());
    let (whole, rest) =
        (verify::digest(&db, &whole).await.unwrap(), verify::digest(&db, &rest).await.unwrap());
    assert_eq!(rest.rows, whole.rows - 1);
    assert_ne!(rest.hash, whole.hash);
    for table in ["receipts.checkpoints", "ledger.paged"] {
        assert!(named(&all, table).is_none(), "{table} is not the log's");
    }
}

#[tokio::test]
async fn every_table_has_a_key_to_name_its_rows_by() {
    let market = Market::start().await;
    market.settled().await;
    market.pipeline.shutdown().await;
    let keyless = rows(
        &market.admin,
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
          where n.nspname = any (array['base', 'identity', 'ledger', 'receipts', 'market', 'metering', 'splits', 'payouts', 'artifacts']) \
            and c.relkind in ('r', 'p') and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)",
    )
    .await;
    assert!(keyless.is_empty(), "{keyless:?}");
}

/// The log itself is a table too; and what its senders did not sign is not replayed.
#[tokio::test]
async fn a_receipt_that_lies_stops_the_replay_before_its_batch_is_committed() {
    let Some(market) = tampering().await else { return };
    let last = market.count("select last_seq from base.ledgers").await;
    let facts = "update base.commands set code = 'UM604' where seq = 9";
    assert_eq!(market.admin.execute(facts, &[]).await.unwrap(), 1);
    let again = again(&market, 4, Until::End).await;
    // The stored row is another table's business: the receipt came out, the row did not.
    let differing: Vec<&Comparison> = again.proof.tables.iter().filter(|table| !table.equal()).collect();
    assert_eq!(differing.len(), 1, "{differing:?}");
    assert_eq!((differing[0].table.as_str(), &differing[0].extent), ("base.commands", &Extent::Whole));
    assert_eq!(i64::try_from(again.proof.replayed.commands).unwrap(), last);
    again.drop().await;
    // A body that its sender did not sign ends it: what came before is there, and nothing of its own batch.
    let body = "update base.commands set body = body || '\\x00' where seq = 9";
    assert_eq!(market.admin.execute(body, &[]).await.unwrap(), 1);
    let again = crate::support::replays::again(&market, 4, Until::End).await;
    let problem = again.proof.replayed.problem.clone().unwrap();
    assert_eq!(problem.place, "base.commands seq 9", "{problem:?}");
    assert!(again.proof.tables.is_empty() && !again.proof.passed());
    assert_eq!(rows(&again.db, "select max(seq)::text from base.commands").await, ["8"]);
    again.drop().await;
}
