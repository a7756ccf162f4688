//! What a loaded database says about itself.

use ledger::testing::TestDb;
use regex::Regex;
use tokio_postgres::Client;

use super::{DOMAINS, READ_SCHEMAS, files, none, object, read};

/// All of our schemas, as a parameter.
fn schemas() -> Vec<String> {
    DOMAINS.iter().chain(&READ_SCHEMAS).map(|name| (*name).to_owned()).collect()
}

/// The rows of a query with one text column, given our schemas as `$1`.
pub(super) async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[&schemas()]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_object_is_commented() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let findings = rows(
        &client,
        "select 'schema ' || n.nspname from pg_namespace n
          where n.nspname = any ($1) and obj_description(n.oid, 'pg_namespace') is null
         union all
         select format('%s %I.%I', case c.relkind when 'r' then 'table' when 'p' then 'table' when 'v' then 'view' else c.relkind::text end,
                       n.nspname, c.relname)
           from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = any ($1) and c.relkind in ('r', 'p', 'v', 'm', 'S') and obj_description(c.oid, 'pg_class') is null
         union all
         select 'type ' || t.oid::regtype from pg_type t join pg_namespace n on n.oid = t.typnamespace
           left join pg_class c on c.oid = t.typrelid
          where n.nspname = any ($1) and t.typtype in ('c', 'e', 'd') and (c.oid is null or c.relkind = 'c')
            and obj_description(t.oid, 'pg_type') is null
         union all
         select 'function ' || p.oid::regprocedure from pg_proc p join pg_namespace n on n.oid = p.pronamespace
          where n.nspname = any ($1) and obj_description(p.oid, 'pg_proc') is null",
    )
    .await;
    none("uncommented objects", &findings);
    db.close().await;
}

#[tokio::test]
async fn constraints_and_indexes_are_named_for_what_they_mean() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let findings = rows(
        &client,
        "select c.conname || ' on ' || c.conrelid::regclass from pg_constraint c join pg_namespace n on n.oid = c.connamespace
          where n.nspname = any ($1) and c.contype in ('p', 'f', 'u', 'c', 'x')
            and c.conname !~ ('_' || case c.contype when 'p' then 'pk' when 'f' then 'fk' when 'u' then 'uq' when 'x' then 'ex' else 'ck' end || '$')
         union all
         select i.relname || ' on ' || x.indrelid::regclass from pg_index x join pg_class i on i.oid = x.indexrelid
           join pg_namespace n on n.oid = i.relnamespace
          where n.nspname = any ($1) and i.relname !~ case when x.indisprimary then '_pk$' when x.indisunique then '_uq$' else '_ix$' end",
    )
    .await;
    none("names", &findings);
    db.close().await;
}

/// The future shard key. Reference data (assets, agents and keys, kinds, moves) is the same on every shard.
#[tokio::test]
async fn ledger_id_leads_every_key_of_a_ledgers_tables() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let findings = rows(
        &client,
        "select i.relname || ' on ' || x.indrelid::regclass
           from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid
           join pg_namespace n on n.oid = t.relnamespace
           join pg_attribute a on a.attrelid = t.oid and a.attname = 'ledger_id' and not a.attisdropped
          where n.nspname = any ($1) and n.nspname <> 'identity' and x.indisunique and x.indkey[0] <> a.attnum
         union all
         select c.conname || ' on ' || c.conrelid::regclass
           from pg_constraint c join pg_namespace n on n.oid = c.connamespace
           join pg_attribute a on a.attrelid = c.conrelid and a.attname = 'ledger_id' and not a.attisdropped
           join pg_attribute f on f.attrelid = c.confrelid and f.attname = 'ledger_id' and not f.attisdropped
          where n.nspname = any ($1) and n.nspname <> 'identity' and c.contype = 'f' and c.conkey[1] <> a.attnum",
    )
    .await;
    none("keys that would not shard", &findings);
    db.close().await;
}

#[tokio::test]
async fn amounts_are_whole_and_bounded() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let findings = rows(
        &client,
        "select format('%s.%I is %s', t.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod))
           from pg_attribute a join pg_class t on t.oid = a.attrelid join pg_namespace n on n.oid = t.relnamespace
          where n.nspname = any ($1) and t.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
            and (a.atttypid in ('float4'::regtype, 'float8'::regtype, 'money'::regtype)
                 -- A rate is a ratio, kept exactly as it was told.
                 or a.atttypid = 'numeric'::regtype and format_type(a.atttypid, a.atttypmod) <> 'numeric(28,0)' and a.attname <> 'rate')
         union all
         -- NaN passes a lower bound, so every amount needs an upper one, or an equation with amounts that have one.
         select format('%s.%I has no CHECK', t.oid::regclass, a.attname)
           from pg_attribute a join pg_class t on t.oid = a.attrelid join pg_namespace n on n.oid = t.relnamespace
          where n.nspname = any ($1) and t.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped and a.atttypid = 'numeric'::regtype
            and not exists (select from pg_constraint c where c.conrelid = t.oid and c.contype = 'c' and a.attnum = any (c.conkey))",
    )
    .await;
    none("amounts", &findings);
    db.close().await;
}

/// A transaction id, a snapshot or a WAL position means something in one incarnation of one cluster only: after a logical
/// restore the same number is another transaction, or none yet, and a fence of them lets everything through or nothing. Today
/// nothing here is fenced so; whoever adds it keeps beside each the incarnation that it counts in, and compares that first.
#[tokio::test]
async fn no_transaction_id_is_kept_or_compared_without_the_incarnation_that_it_counts_in() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let columns = "select format('%s.%I is %s', t.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod))
           from pg_attribute a join pg_class t on t.oid = a.attrelid join pg_namespace n on n.oid = t.relnamespace
          where n.nspname = any ($1) and a.attnum > 0 and not a.attisdropped and t.relkind in ('r', 'p', 'v', 'm', 'c')
            and a.atttypid in ('xid'::regtype, 'xid8'::regtype, 'pg_snapshot'::regtype, 'txid_snapshot'::regtype, 'pg_lsn'::regtype)
            and not exists (select from pg_attribute i where i.attrelid = t.oid and i.attname = 'incarnation' and not i.attisdropped)";
    let mut findings = rows(&client, columns).await;
    let word = Regex::new(
        r"(?i)\b(xmin|xmax|pg_current_xact_id(_if_assigned)?|pg_current_snapshot|txid_[a-z_]+|pg_current_wal_[a-z_]+)\b",
    )
    .unwrap();
    for name in files("sql", ".sql") {
        let text = read(&name);
        if let Some(found) = word.find(&text).filter(|_| !text.contains("incarnation")) {
            findings.push(format!("{name}: {}", found.as_str()));
        }
    }
    none("transaction ids that a restore would falsify", &findings);
    // The question sees what it is about.
    let mut client = client;
    let trial = client.transaction().await.unwrap();
    trial.batch_execute("create table base.fenced (x xid8, p pg_lsn)").await.unwrap();
    let seen = trial.query(columns, &[&schemas()]).await.unwrap();
    assert_eq!(seen.len(), 2);
    trial.batch_execute("alter table base.fenced add incarnation uuid").await.unwrap();
    assert!(trial.query(columns, &[&schemas()]).await.unwrap().is_empty());
    trial.rollback().await.unwrap();
    drop(client);
    db.close().await;
}

#[tokio::test]
async fn what_is_loaded_is_what_the_folder_holds() {
    let db = TestDb::new().await;
    let client = db.admin().await;
    let loaded = rows(
        &client,
        "select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = any ($1)",
    )
    .await;
    let views = rows(
        &client,
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = any ($1) and c.relkind = 'v'",
    )
    .await;
    let mut findings = Vec::new();
    for (folder, there) in [("sql/functions", &loaded), ("sql/views", &views)] {
        for name in files(folder, ".sql") {
            if !there.contains(&object(&name)) {
                findings.push(format!("{name}: {} is not in the database", object(&name)));
            }
        }
    }
    none("files that load nothing of their name", &findings);
    let named: Vec<String> = files("sql/views", ".sql").iter().map(|name| object(name)).collect();
    let unheld: Vec<String> = views.into_iter().filter(|view| !named.contains(view)).collect();
    none("views without a file of their name", &unheld);
    db.close().await;
}
