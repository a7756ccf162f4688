//! What a measurement of posting needs around it: ledgers with funded accounts, the bare table to compare with, the pager,
//! and what the database says of sizes. Connects as a superuser; for throwaway databases only.

use std::time::Duration;

use proto::ids::{AccountId, AgentId, TransferId};
use proto::money::Amount;
use tokio_postgres::{Client, Config, NoTls, Statement};
use uuid::Uuid;

use super::columns::Columns;
use super::{NewTransfer, Poster, connect};
use crate::error::Error;

/// What each account is funded with: more than any measurement moves.
const FUNDS: u64 = 1_000_000_000_000_000;
/// Transfers that are filed at a time, as the server's keeper does.
pub const PAGE_TRANSFERS: i32 = 32_768;
/// How long the pager sleeps when there is not enough to file.
const PAGER_TICK: Duration = Duration::from_millis(100);

/// Which limits the accounts have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// Each on one side, in turn: debits at most credits, credits at most debits.
    OneSide,
    /// None.
    None,
}

/// Makes ledger `ledger_id` with `count` accounts of asset 1, funded by ordinary transfers.
pub async fn open_ledger(
    config: &Config,
    ledger_id: i32,
    count: usize,
    limits: Limits,
) -> Result<Vec<AccountId>, Error> {
    let (client, driver) = config.connect(NoTls).await?;
    let driver = tokio::spawn(driver);
    client
        .batch_execute(
            "insert into ledger.assets (asset_id, code, scale) values (1, 'USD', 6) on conflict do nothing",
        )
        .await?;
    client
        .execute(
            "insert into base.ledgers (ledger_id, name, origin) values ($1::integer, 'bench', 'bench/' || $1::integer)",
            &[&ledger_id],
        )
        .await?;
    let mut ids: Vec<Uuid> = (0..=count).map(|_| Uuid::now_v7()).collect();
    // Opened in no order of their ids, as accounts are.
    ids.sort_by_key(|id| blake3::hash(id.as_bytes()).as_bytes().to_owned());
    let limited = limits == Limits::OneSide;
    client
        .execute(
            "insert into ledger.accounts (ledger_id, account_id, asset_id, purpose, owner_id, debits_must_not_exceed_credits, \
             credits_must_not_exceed_debits, seq, opened_at) \
             select $1::integer, a.id, 1, 'equity', a.id, $3::boolean and a.n > 1 and a.n % 2 = 0, $3 and a.n > 1 and a.n % 2 = 1, 0, 'epoch' \
             from unnest($2::uuid[]) with ordinality as a (id, n)",
            &[&ledger_id, &ids, &limited],
        )
        .await?;
    client.batch_execute("analyze ledger.accounts").await?;
    driver.abort();
    let accounts: Vec<AccountId> = ids.into_iter().map(AccountId::from_uuid).collect();
    let Some((bank, accounts)) = accounts.split_first() else { return Ok(Vec::new()) };
    let poster = Poster::start(config.clone(), ledger_id);
    let funds = Amount::from_u64(FUNDS);
    for (chunk, part) in accounts.chunks(4_000).enumerate() {
        let transfers = part.iter().enumerate().map(|(n, account)| {
            // `unnest` counts from 1 and the bank is first, so account 0 has n = 2: its debits are limited.
            let (debit, credit) =
                if (chunk * 4_000 + n) % 2 == 0 { (*bank, *account) } else { (*account, *bank) };
            NewTransfer::plain(TransferId::now_v7(), debit, credit, 1, funds, "funding")
        });
        let results = poster.post(transfers.collect()).await?;
        if let Some(wrong) = results.iter().find(|result| !result.is_posted()) {
            return Err(Error::new("UL901", format!("funding was refused: {}", wrong.0)));
        }
    }
    Ok(accounts.to_vec())
}

/// The baseline: the same rows into the same table with only its primary key, one durable commit per batch.
pub struct Bare {
    client: Client,
    statement: Statement,
}

impl Bare {
    /// Makes the table `bench.bare`, like `ledger.transfers` with its primary key and nothing else.
    pub async fn create(config: &Config) -> Result<Self, Error> {
        let (client, driver) = config.connect(NoTls).await?;
        tokio::spawn(driver);
        client
            .batch_execute(
                "create schema if not exists bench; create table if not exists bench.bare (like ledger.transfers including defaults); \
                 alter table bench.bare drop constraint if exists bare_pk; alter table bench.bare add constraint bare_pk primary key (ledger_id, transfer_id); \
                 set jit = off; set plan_cache_mode = force_generic_plan",
            )
            .await?;
        let statement = client
            .prepare(
                "insert into bench.bare (ledger_id, transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, journal_id, \
                 reason, seq, item, at) \
                 select $1::integer, u.id, u.kind, u.debit, u.credit, u.asset, u.amount, u.id, u.reason, $2::bigint, u.n, 'epoch' \
                 from unnest($3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::integer[], $8::numeric[], $9::text[]) with ordinality \
                   as u (id, kind, debit, credit, asset, amount, reason, n)",
            )
            .await?;
        Ok(Self { client, statement })
    }

    /// Inserts one batch and commits. Futures that are polled together are pipelined on the one connection.
    pub async fn insert(&self, seq: i64, transfers: &[NewTransfer]) -> Result<(), Error> {
        Columns::of(transfers.iter()).insert_bare(&self.client, &self.statement, seq).await?;
        Ok(())
    }
}

/// Files transfers behind the log until it is dropped, as the server's keeper does.
pub struct Pager(tokio::task::JoinHandle<()>);

impl Pager {
    /// Starts one for a ledger.
    pub fn start(config: Config, ledger_id: i32) -> Self {
        Self(tokio::spawn(async move {
            loop {
                if let Err(error) = page_all(&config, ledger_id).await {
                    tracing::warn!(%error, "the pager will try again");
                }
                tokio::time::sleep(PAGER_TICK).await;
            }
        }))
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn page_all(config: &Config, ledger_id: i32) -> Result<(), tokio_postgres::Error> {
    let (client, _) = connect(config).await?;
    client.batch_execute("set application_name = 'econ-paging'").await?;
    loop {
        let row =
            client.query_one("select ledger.page_entries($1, $2)", &[&ledger_id, &PAGE_TRANSFERS]).await?;
        if row.try_get::<_, i32>(0)? == 0 {
            tokio::time::sleep(PAGER_TICK).await;
        }
    }
}

/// How long reads take, and how much there is.
pub struct Probe {
    client: Client,
}

impl Probe {
    /// Connects.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let (client, _) = connect(config).await?;
        client.batch_execute("reset enable_seqscan; reset enable_hashjoin; reset enable_mergejoin").await?;
        Ok(Self { client })
    }

    /// The account's last `limit` entries with their running balance; how many there are.
    pub async fn statement(&self, ledger_id: i32, account: AccountId, limit: i32) -> Result<i64, Error> {
        let sql = "select count(balance) from ledger.statement($1, $2, 'record', null, null, null, $3)";
        Ok(self.client.query_one(sql, &[&ledger_id, &Uuid::from(account), &limit]).await?.try_get(0)?)
    }

    /// The account's balances after command `seq`: credits less debits posted, as text.
    pub async fn balance_at(
        &self,
        ledger_id: i32,
        account: AccountId,
        seq: i64,
    ) -> Result<Option<String>, Error> {
        let sql = "select (b.credits_posted - b.debits_posted)::text from ledger.balance_at($1, $2, $3) as b";
        Ok(self.client.query_one(sql, &[&ledger_id, &Uuid::from(account), &seq]).await?.try_get(0)?)
    }

    /// Newest command, and transfers that are not filed yet.
    pub async fn tail(&self, ledger_id: i32) -> Result<(i64, i64), Error> {
        let sql = "select l.last_seq, (select count(*) from ledger.transfers t where t.ledger_id = $1 and t.seq > \
                   coalesce((select p.through_seq from ledger.paged p where p.ledger_id = $1), 0)) \
                   from base.ledgers l where l.ledger_id = $1";
        let row = self.client.query_one(sql, &[&ledger_id]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Rows of `ledger.transfers`, and bytes on disk of it and of everything that is kept for it, indexes included.
    pub async fn size(&self) -> Result<(i64, i64), Error> {
        let sql = "select (select count(*) from ledger.transfers), pg_total_relation_size('ledger.transfers') \
                   + pg_total_relation_size('ledger.entry_pages') + pg_total_relation_size('ledger.journals') \
                   + pg_total_relation_size('ledger.holds')";
        let row = self.client.query_one(sql, &[]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Process ids of the posting sessions.
    pub async fn posting_pids(&self) -> Result<Vec<i32>, Error> {
        let sql = "select pid from pg_catalog.pg_stat_activity where application_name = 'econ-posting' and pid <> pg_backend_pid() order by pid";
        self.client.query(sql, &[]).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// What the cheap audit says of a ledger: problems, and the first of them.
    pub async fn audit(&self, ledger_id: i32) -> Result<(i64, Option<String>), Error> {
        let sql = "select a.problems, a.first_problem from ledger.audit_advance($1) as a";
        let row = self.client.query_one(sql, &[&ledger_id]).await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// The wallet of an agent.
    pub async fn wallet(&self, ledger_id: i32, asset_id: i32, owner: AgentId) -> Result<AccountId, Error> {
        let sql = "select ledger.account_id($1, $2, 'wallet', $3, null)";
        let row = self.client.query_one(sql, &[&ledger_id, &asset_id, &Uuid::from(owner)]).await?;
        Ok(AccountId::from_uuid(row.try_get(0)?))
    }
}
