//! Books without a market: a ledger that has no command log, and batches posted to it as columns.

use tokio_postgres::{Client, Error};
use uuid::Uuid;

/// Ledger time at which these books begin: 2026-01-01, Unix microseconds.
pub const START_US: i64 = 1_767_225_600_000_000;

/// One item of a batch; whatever is `None` is NULL in its column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    pub id: Option<Uuid>,
    pub kind: Option<&'static str>,
    pub debit: Option<Uuid>,
    pub credit: Option<Uuid>,
    pub asset: Option<i32>,
    /// A numeric as text.
    pub amount: Option<String>,
    pub reason: Option<&'static str>,
    pub pending: Option<Uuid>,
    pub timeout_ms: Option<i64>,
    pub linked: Option<bool>,
    pub flags: Option<i16>,
    pub reverses: Option<Uuid>,
    pub effective_us: Option<i64>,
    pub journal: Option<Uuid>,
}

impl Item {
    /// Moves `amount` from one account to another, in a journal of its own.
    pub fn plain(id: Uuid, debit: u32, credit: u32, amount: impl ToString) -> Item {
        Item {
            id: Some(id),
            kind: Some("plain"),
            debit: Some(account(debit)),
            credit: Some(account(credit)),
            asset: Some(1),
            amount: Some(amount.to_string()),
            reason: Some("trade"),
            journal: Some(id),
            ..Item::default()
        }
    }

    /// Reserves it.
    pub fn pending(id: Uuid, debit: u32, credit: u32, amount: impl ToString) -> Item {
        Item { kind: Some("pending"), ..Item::plain(id, debit, credit, amount) }
    }

    /// Ends a hold: `post_pending` or `void_pending`.
    pub fn end(id: Uuid, kind: &'static str, of: Uuid) -> Item {
        Item { id: Some(id), kind: Some(kind), pending: Some(of), journal: Some(id), ..Item::default() }
    }

    pub fn linked(self) -> Item {
        Item { linked: Some(true), ..self }
    }
}

pub fn account(n: u32) -> Uuid {
    Uuid::from_u128(0xacc0_0000_0000_8000_8000_0000_0000_0000 | u128::from(n))
}

/// The `n`-th id of a millisecond.
pub fn id_at(unix_ms: i64, n: u128) -> Uuid {
    let unix_ms = u128::try_from(unix_ms).unwrap();
    Uuid::from_u128(unix_ms << 80 | 7 << 76 | 2 << 62 | n)
}

/// The `n`-th id of the beginning.
pub fn id(n: u128) -> Uuid {
    id_at(START_US / 1_000, n)
}

/// Opens a ledger with accounts 0 to `unlimited` - 1 without limit, and as many again from 100 on whose debits must not
/// exceed their credits. Needs the database's owner.
pub async fn open_ledger(db: &Client, ledger_id: i32, unlimited: u32) {
    let ledger = "insert into base.ledgers (ledger_id, name, origin, last_time) values ($1, 'books', 'books', '2026-01-01')";
    db.execute(ledger, &[&ledger_id]).await.unwrap();
    let asset = "insert into ledger.assets values (1, 'USD', 6) on conflict do nothing";
    db.execute(asset, &[]).await.unwrap();
    let open = "insert into ledger.accounts (ledger_id, account_id, asset_id, purpose, owner_id, \
                debits_must_not_exceed_credits, credits_must_not_exceed_debits, seq, opened_at) \
                values ($1, $2, 1, 'equity', $2, $3, false, 1, '2026-01-01')";
    for n in 0..unlimited {
        for (n, limited) in [(n, false), (n + 100, true)] {
            db.execute(open, &[&ledger_id, &account(n), &limited]).await.unwrap();
        }
    }
}

/// Opens so many accounts in a ledger of their own and has the planner's statistics know of them: batches find their accounts
/// by lookups then, instead of reading all. Needs the database's owner; leaves the session with the engine's rights.
pub async fn many_accounts(db: &Client, count: i32) {
    let sql = format!(
        "reset role; insert into ledger.accounts (ledger_id, account_id, asset_id, purpose, owner_id, \
           debits_must_not_exceed_credits, credits_must_not_exceed_debits, seq, opened_at) \
         select 1000000000, x.id, 1, 'equity', x.id, false, false, 1, 'epoch' \
           from (select lpad(to_hex(n), 32, '0')::uuid as id from generate_series(1, {count}) as n) as x; \
         analyze ledger.accounts; set role econ_engine"
    );
    db.batch_execute(&sql).await.unwrap();
}

const DIRECT: &str = "ledger.post_direct($1, c.at, $3, $4, $5, $6, $7, $8, $9::text[]::numeric[], $10, $11, $12, $13, $14, $15, c.effective)";
/// As the next command of the ledger, however few the items are.
const BATCH: &str = "ledger.post_batch(row($1, c.seq, base.derive_id('019b76da-a800-7000-8000-000000000000', 'batch', c.seq::integer), \
   null, '', c.at, 1, '{}')::base.command_context, '019b76da-a800-7000-8000-0000000000ba', \
   $3, $4, $5, $6, $7, $8, $9::text[]::numeric[], $10, $11, $12, $13, $14, $15, c.effective, null)";

/// Posts by `ledger.post_direct`.
pub async fn post(db: &Client, ledger_id: i32, at_us: i64, items: &[Item]) -> Result<Vec<String>, Error> {
    call(db, DIRECT, ledger_id, at_us, items).await
}

/// Posts by `ledger.post_batch`, and insists that it answers.
pub async fn post_batch(db: &Client, ledger_id: i32, at_us: i64, items: &[Item]) -> Vec<String> {
    let last = "update base.ledgers set last_seq = last_seq + 1 where ledger_id = $1";
    db.execute(last, &[&ledger_id]).await.unwrap();
    call(db, BATCH, ledger_id, at_us, items)
        .await
        .unwrap_or_else(|error| panic!("post_batch raised: {:?}", error.as_db_error()))
}

async fn call(
    db: &Client,
    what: &str,
    ledger_id: i32,
    at_us: i64,
    items: &[Item],
) -> Result<Vec<String>, Error> {
    let sql = format!(
        "select {what} from (select 'epoch'::timestamptz + $2::bigint * interval '1 microsecond' as at, \
           (select l.last_seq from base.ledgers l where l.ledger_id = $1::integer) as seq, \
           array(select 'epoch'::timestamptz + u.e * interval '1 microsecond' \
                   from unnest($16::bigint[]) with ordinality as u (e, n) order by u.n) as effective) as c"
    );
    fn column<T>(items: &[Item], of: impl Fn(&Item) -> T) -> Vec<T> {
        items.iter().map(of).collect()
    }
    let row = db
        .query_one(
            &sql,
            &[
                &ledger_id,
                &at_us,
                &column(items, |i| i.journal),
                &column(items, |i| i.id),
                &column(items, |i| i.kind),
                &column(items, |i| i.debit),
                &column(items, |i| i.credit),
                &column(items, |i| i.asset),
                &column(items, |i| i.amount.clone()),
                &column(items, |i| i.reason),
                &column(items, |i| i.pending),
                &column(items, |i| i.timeout_ms),
                &column(items, |i| i.linked),
                &column(items, |i| i.flags),
                &column(items, |i| i.reverses),
                &column(items, |i| i.effective_us),
            ],
        )
        .await?;
    Ok(row.get(0))
}

/// What the books' own audit finds wrong. `audit_transfers` also wants each transfer's command; these books have none.
pub async fn audit(db: &Client) -> Vec<String> {
    let sql = "select 'accounts ' || a::text from ledger.audit_accounts a \
         union all select 'conservation ' || c::text from ledger.audit_conservation c \
         union all select 'holds ' || h::text from ledger.audit_holds h \
         union all select 'transfers ' || t::text from ledger.audit_transfers t where t.problem <> 'command_missing'";
    super::checks::rows(db, sql).await
}
