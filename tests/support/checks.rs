//! Questions that every market must answer well, whatever happened in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::verify::{self, Report, VerifyOptions};
use proto::keys::PublicKey;
use tokio_postgres::{Client, Config};

use super::market::Market;

/// What the keeper of the books derives behind the log, when it likes.
pub const DERIVED: &str = "'ledger.entry_pages', 'ledger.paged', 'ledger.audited'";

/// Digest of each table that holds domain state: not the log of commands and receipts itself, which a refusal does extend,
/// and not what is derived behind it.
pub async fn domain_digest(db: &Client) -> BTreeMap<String, String> {
    let tables = rows(
        db,
        &format!("select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
          where c.relkind in ('r', 'p') and (n.nspname in ('identity', 'ledger', 'market', 'metering', 'splits', 'payouts', 'artifacts') \
             or (n.nspname = 'base' and c.relname in ('transitions', 'state_moves', 'rules_versions', 'command_kinds'))) \
            and n.nspname || '.' || c.relname not in ({DERIVED}) order by 1"),
    )
    .await;
    assert!(tables.len() > 25, "the digest has gone blind: {tables:?}");
    let one = |table: &String| {
        format!(
            "select '{table}', md5(coalesce(string_agg(t::text, E'\\n' order by t::text collate \"C\"), '')) from {table} t"
        )
    };
    let all: Vec<String> = tables.iter().map(one).collect();
    let digests = db.query(&all.join(" union all "), &[]).await.unwrap();
    digests.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The tables in which two digests differ.
pub fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    after
        .iter()
        .filter(|(table, digest)| before.get(*table) != Some(digest))
        .map(|(t, _)| t.clone())
        .collect()
}

/// Every audit view is empty, and money is neither made nor lost.
pub async fn healthy(db: &Client) {
    let views = rows(
        db,
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
          where c.relkind = 'v' and c.relname like 'audit\\_%' order by 1",
    )
    .await;
    assert!(views.len() > 8, "the audit has gone blind: {views:?}");
    let one = |view: &String| format!("(select '{view}: ' || to_jsonb(v)::text from {view} v limit 1)");
    let all: Vec<String> = views.iter().map(one).collect();
    let found = rows(db, &all.join(" union all ")).await;
    assert!(found.is_empty(), "{found:#?}");
    // Said once more in other words than the views': debits equal credits; whatever came in is in somebody's account or has
    // left; an open order's escrow holds what it holds, a closed one's nothing.
    let leaks = rows(
        db,
        "with a as (select asset_id, purpose, sum(credits_posted - debits_posted) as balance from ledger.accounts group by 1, 2),
              d as (select asset_id, sum(amount) as amount from ledger.deposits group by 1),
              p as (select asset_id, sum(amount) as amount from payouts.payouts where state = 'confirmed' group by 1)
         select 'asset ' || asset_id || ' sums to ' || sum(balance) from a group by asset_id having sum(balance) <> 0
         union all
         select 'inside ' || sum(a.balance) || ', came in ' || max(coalesce(d.amount, 0)) || ', left ' || max(coalesce(p.amount, 0))
           from a left join d using (asset_id) left join p using (asset_id)
          where a.purpose in ('wallet', 'escrow', 'payable') group by a.asset_id
         having sum(a.balance) <> max(coalesce(d.amount, 0)) - max(coalesce(p.amount, 0))
         union all
         select 'escrow of ' || o.order_id || ' holds ' || (e.credits_posted - e.debits_posted)
           from market.orders o join ledger.accounts e on e.account_id = o.escrow_account_id
          where e.credits_posted - e.debits_posted <> case when o.closed_at is null then o.held else 0 end",
    )
    .await;
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// Runs `econ verify`'s checks with what a market's operator keeps outside the database.
pub async fn verify(market: &Market) -> Report {
    verify_with(market, Vec::new()).await
}

/// The same with checkpoints that somebody else kept.
pub async fn verify_with(market: &Market, checkpoints: Vec<(String, String)>) -> Report {
    let receipt_key = *market.pipeline.house().receipt_key().public();
    run(market, market.db.config("econ_auditor"), Some(receipt_key), checkpoints).await
}

/// The same on another database of the server, trusting another receipt key.
pub async fn verify_database(market: &Market, database: Config, receipt_key: Option<PublicKey>) -> Report {
    run(market, database, receipt_key, Vec::new()).await
}

async fn run(
    market: &Market,
    database: Config,
    receipt_key: Option<PublicKey>,
    checkpoints: Vec<(String, String)>,
) -> Report {
    verify::run(&VerifyOptions {
        database,
        admin: market.db.cluster().config("postgres", None),
        receipt_key,
        checkpoint_dir: Some(market.dir().join("checkpoints")),
        checkpoints,
        rederive: Arc::new(|_| Err("no command of these tests came as GraphQL".into())),
        batch: 500,
    })
    .await
    .unwrap()
}

/// Insists that `verify` passes.
pub async fn verified(market: &Market) {
    let report = verify(market).await;
    assert!(report.passed(), "{report}");
}

/// The first column of each row.
pub async fn rows(db: &Client, sql: &str) -> Vec<String> {
    let rows = db.query(sql, &[]).await;
    let rows = rows.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()));
    rows.iter().map(|row| row.get(0)).collect()
}

/// Whether this session may switch the guards off; names the running test as skipped when not (an external database by
/// URL gives its owner, not its superuser).
pub async fn superuser(db: &Client) -> bool {
    let row = db.query_one("select rolsuper from pg_roles where rolname = session_user", &[]).await.unwrap();
    let is: bool = row.get(0);
    if !is {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("SKIPPED {test}: tampering needs a superuser, and this Postgres gives none");
    }
    is
}
