//! Guards that hold whoever asks: no commit without a receipt, no change of what was written, no table for the server.

use ledger::house::Hand;
use proto::v1::ErasureSubject;

use crate::support::books::books;
use crate::support::checks::rows;
use crate::support::kinds;
use crate::support::market::Market;

/// Tables whose rows nobody may change.
const GUARDED: &str = "select c.oid::regclass::text from pg_class c
    where exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgfoid = 'base.refuse_change'::regproc) order by 1";

/// A market in which every table has rows.
async fn busy() -> Market {
    let market = Market::start().await;
    let order = market.running().await;
    // Over-reported: something for the quarantine.
    market.meter(&order, &[1, 1_000]).await;
    market.settled().await;
    market.reserved(crate::support::market::id_of(&market.payee)).await;
    books(&market).await;
    let erased = kinds::erase(ErasureSubject::Artifact, None, &[([77; 32], None)]);
    market.hand_must(Hand::Operator, erased).await;
    market.pipeline.shutdown().await;
    // Derived behind the log, perhaps not yet.
    market
        .admin
        .batch_execute(
            "insert into ledger.entry_pages (ledger_id, account_id, last_seq, last_item, entries, transfer_ids, debits_pending, \
               debits_posted, credits_pending, credits_posted) \
             values (1, gen_random_uuid(), 1, 1, 1, array[gen_random_uuid()], 0, 0, 0, 0)",
        )
        .await
        .unwrap();
    market
}

#[tokio::test]
async fn nothing_commits_without_its_receipt_not_even_as_superuser_or_owner() {
    let market = busy().await;
    let last = market.count("select last_seq from base.ledgers").await;
    let command = "insert into base.commands select c.ledger_id, c.seq + 1, gen_random_uuid(), c.actor_id, c.key_id, 'unreceipted', \
        null, c.kind, c.request_digest, c.body, c.signature_base, c.signature, c.content_type, c.signed_body, c.accepted_at, c.at, \
        c.simulated, c.rules_version, c.recorded, c.forced_code, c.code, c.subject_kind, c.subject_id, c.facts \
        from base.commands c order by c.seq desc limit 1";
    let transition = "insert into base.transitions select t.ledger_id, (select last_seq + 1 from base.ledgers), 1, t.machine, \
        t.subject_id, t.from_state, t.event, t.to_state, t.at from base.transitions t order by t.seq desc limit 1";
    for role in ["reset role", "set role econ_owner", "set role econ_engine"] {
        for (statement, constraint) in
            [(command, "commands_receipt_fk"), (transition, "transitions_receipt_fk")]
        {
            market.admin.batch_execute(role).await.unwrap();
            market.admin.batch_execute("begin").await.unwrap();
            market.admin.batch_execute(statement).await.unwrap();
            let refused = market.admin.batch_execute("commit").await.unwrap_err();
            let refused = refused.as_db_error().unwrap();
            assert_eq!(
                (refused.code().code(), refused.constraint()),
                ("23503", Some(constraint)),
                "{role}: {}",
                refused.message()
            );
        }
    }
    market.admin.batch_execute("reset role").await.unwrap();
    assert_eq!(market.count("select max(seq) from base.commands").await, last);
}

#[tokio::test]
async fn a_decision_that_is_not_sealed_does_not_commit() {
    let market = busy().await;
    let before = market.text("select md5(string_agg(c::text, '' order by seq)) from base.commands c").await;
    let api = market.db.client("econ_api").await;
    api.batch_execute("begin").await.unwrap();
    // The server's own call, with the server's own rights, and COMMIT instead of receipts.seal.
    let decided = api
        .query_one(
            "select code from base.decide(1, 1, array[gen_random_uuid()], array[gen_random_uuid()], array[sha256('key')], array['k'], \
             array['n'], array['settle_order'], array['{}'], array[sha256('request')], array['\\x00'::bytea], array['\\x00'::bytea], \
             array[sha256('a') || sha256('b')], array['t'], array[null::bytea], array[now()], array[false], array['{}'], array[null])",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(decided.get::<_, String>(0), "UI202");
    let refused = api.batch_execute("commit").await.unwrap_err();
    assert_eq!(refused.as_db_error().unwrap().constraint(), Some("commands_receipt_fk"));
    let after = market.text("select md5(string_agg(c::text, '' order by seq)) from base.commands c").await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn append_only_rows_refuse_update_and_delete_from_superuser_and_owner() {
    let market = busy().await;
    // No witness looks at this market.
    let cosigned = "insert into receipts.cosignatures select ledger_id, size, 'w', 1, 'line' || chr(10) from receipts.checkpoints limit 1";
    assert_eq!(market.admin.execute(cosigned, &[]).await.unwrap(), 1);
    let guarded = rows(&market.admin, GUARDED).await;
    assert!(guarded.len() >= 10, "{guarded:?}");
    let mut empty = Vec::new();
    for table in &guarded {
        if market.count(&format!("select count(*) from {table}")).await == 0 {
            empty.push(table.as_str());
            continue;
        }
        let column = market
            .text(&format!(
                "select attname::text from pg_attribute where attrelid = '{table}'::regclass and attnum = 1"
            ))
            .await;
        for role in ["reset role", "set role econ_owner"] {
            for statement in
                [format!("update {table} set {column} = {column}"), format!("delete from {table}")]
            {
                market.admin.batch_execute(role).await.unwrap();
                let result = market.admin.batch_execute(&statement).await;
                let code = result.unwrap_err().code().map(|code| code.code().to_owned());
                assert_eq!(code.as_deref(), Some("UB901"), "{role}: {statement}");
            }
        }
        market.admin.batch_execute("reset role").await.unwrap();
    }
    assert!(empty.is_empty(), "a row-level guard is only seen at a row: {empty:?}");
}

#[tokio::test]
async fn the_server_can_touch_no_table_and_nobody_makes_temporary_ones() {
    let market = busy().await;
    let api = market.db.client("econ_api").await;
    let tables = rows(
        &market.admin,
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') \
         and n.nspname in ('base', 'identity', 'ledger', 'receipts', 'market', 'metering', 'splits', 'payouts', 'artifacts') order by 1",
    )
    .await;
    assert!(tables.len() > 30, "{tables:?}");
    for table in &tables {
        for statement in [
            format!("select from {table}"),
            format!("insert into {table} default values"),
            format!("delete from {table}"),
            format!("truncate {table}"),
            format!("drop table {table}"),
        ] {
            let error = api.batch_execute(&statement).await.unwrap_err();
            let code = error.code().map(|code| code.code());
            assert_eq!(code, Some("42501"), "{statement}: {error}");
        }
    }
    for role in ["econ_api", "econ_analyst", "econ_finance", "econ_auditor"] {
        let session = market.db.client(role).await;
        for statement in ["create temp table t (x integer)", "create table public.t (x integer)"] {
            let error = session.batch_execute(statement).await.unwrap_err();
            assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{role}: {statement}: {error}");
        }
    }
}
