//! The books at any moment: accounts, statements, transfers, the trial balance.

use proto::ids::{AccountId, AgentId, JournalId, TransferId};
use proto::money::Amount;
use tokio_postgres::Row;
use uuid::Uuid;

use super::EntryCursor;
use crate::error::Error;
use crate::reader::{Reader, amount, amount_or_none, bigint, count, get, id, id_or_none, int, moment, small};

/// By which time the books are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// As they were written: by seq, at ledger time.
    Record,
    /// As things happened: what was told late is where it belongs. Posted movements only.
    Event,
}

impl Axis {
    const fn as_sql(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Event => "event",
        }
    }
}

/// An account's four sums, minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balances {
    /// Reserved to leave; `None` by event time.
    pub debits_pending: Option<Amount>,
    /// Left.
    pub debits_posted: Amount,
    /// Reserved to arrive; `None` by event time.
    pub credits_pending: Option<Amount>,
    /// Arrived.
    pub credits_posted: Amount,
}

impl Balances {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            debits_pending: amount_or_none(row, "debits_pending")?,
            debits_posted: amount(row, "debits_posted")?,
            credits_pending: amount_or_none(row, "credits_pending")?,
            credits_posted: amount(row, "credits_posted")?,
        })
    }
}

/// Which accounts; `None`: any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountFilter {
    /// This one.
    pub account_id: Option<AccountId>,
    /// wallet, escrow, payable …
    pub purpose: Option<String>,
    /// Whose.
    pub owner_id: Option<AgentId>,
}

/// An account and what is in it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub account_id: AccountId,
    /// The asset.
    pub asset_id: u32,
    /// Its short code.
    pub asset: String,
    /// Its decimal places.
    pub scale: i16,
    /// wallet, escrow, payable …
    pub purpose: String,
    /// Whose; `None`: the market's own.
    pub owner_id: Option<AgentId>,
    /// The order, for escrow; the other ledger, for clearing.
    pub ref_id: Option<Uuid>,
    /// As recorded.
    pub balances: Balances,
    /// What it could pay out, minor units, signed: expired holds are free.
    pub spendable: String,
    /// It may not go below zero.
    pub debits_must_not_exceed_credits: bool,
    /// It may not go above zero.
    pub credits_must_not_exceed_debits: bool,
    /// Nothing moves in it but the void of a hold.
    pub closed: bool,
    /// The hold that closed it.
    pub closed_by: Option<TransferId>,
    /// Ledger time, Unix microseconds.
    pub opened_at_us: i64,
}

/// The accounts that the actor may see, by id, at most `limit` of them behind `after`. Calls `ledger.read_accounts`.
pub async fn read_accounts(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    filter: &AccountFilter,
    after: Option<AccountId>,
    limit: u32,
) -> Result<Vec<Account>, Error> {
    let sql = "select account_id, asset_id, asset_code, scale, purpose, owner_id, ref_id, debits_pending::text, \
               debits_posted::text, credits_pending::text, credits_posted::text, spendable::text, \
               debits_must_not_exceed_credits, credits_must_not_exceed_debits, closed, closed_by, \
               (extract(epoch from opened_at) * 1000000)::bigint as opened_at_us \
               from ledger.read_accounts($1, $2, $3, $4, $5, $6, $7)";
    let (actor, owner) = (actor.map(Uuid::from), filter.owner_id.map(Uuid::from));
    let (account, after) = (filter.account_id.map(Uuid::from), after.map(Uuid::from));
    let rows = reader
        .rows(sql, &[&actor, &int(ledger_id)?, &account, &filter.purpose, &owner, &after, &int(limit)?])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Account {
                account_id: id(row, "account_id", AccountId::from_uuid)?,
                asset_id: small(row, "asset_id")?,
                asset: get(row, "asset_code")?,
                scale: get(row, "scale")?,
                purpose: get(row, "purpose")?,
                owner_id: id_or_none(row, "owner_id", AgentId::from_uuid)?,
                ref_id: get(row, "ref_id")?,
                balances: Balances::of(row)?,
                spendable: get(row, "spendable")?,
                debits_must_not_exceed_credits: get(row, "debits_must_not_exceed_credits")?,
                credits_must_not_exceed_debits: get(row, "credits_must_not_exceed_debits")?,
                closed: get(row, "closed")?,
                closed_by: id_or_none(row, "closed_by", TransferId::from_uuid)?,
                opened_at_us: get(row, "opened_at_us")?,
            })
        })
        .collect()
}

/// An account's balances at a moment, Unix microseconds; `None` when it is not the actor's to see. Calls
/// `ledger.read_balance_at`.
pub async fn read_balance_at(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    account_id: AccountId,
    at_us: i64,
    by: Axis,
) -> Result<Option<Balances>, Error> {
    let sql = "select debits_pending::text, debits_posted::text, credits_pending::text, credits_posted::text \
               from ledger.read_balance_at($1, $2, $3, $4, $5)";
    let (actor, account, at) = (actor.map(Uuid::from), Uuid::from(account_id), moment(at_us)?);
    let row = reader.row(sql, &[&actor, &int(ledger_id)?, &account, &at, &by.as_sql()]).await?;
    row.as_ref().map(Balances::of).transpose()
}

/// Where a page of a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementCursor {
    /// Event time, Unix microseconds; what counts only by event time.
    pub event_at_us: i64,
    /// The command and the transfer within it.
    pub entry: EntryCursor,
}

/// One transfer as seen from an account, and what the account held after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementEntry {
    /// Where the next page goes on.
    pub cursor: StatementCursor,
    /// Ledger time, Unix microseconds.
    pub at_us: i64,
    /// The transfer.
    pub transfer_id: TransferId,
    /// Its business event.
    pub journal_id: JournalId,
    /// plain, pending, post_pending, void_pending or expire_pending.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// The hold that it ends.
    pub pending_id: Option<TransferId>,
    /// The transfer that it takes back.
    pub reverses_id: Option<TransferId>,
    /// The other side.
    pub counter_account_id: AccountId,
    /// debit or credit.
    pub side: String,
    /// Minor units.
    pub amount: Amount,
    /// Credits less debits posted after it, minor units, signed.
    pub balance: String,
    /// Reserved to leave after it; `None` by event time.
    pub pending_out: Option<Amount>,
    /// Reserved to arrive after it; `None` by event time.
    pub pending_in: Option<Amount>,
}

/// At most `limit` entries of an account, newest first. Calls `ledger.read_statement`.
pub async fn read_statement(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    account_id: AccountId,
    by: Axis,
    before: Option<StatementCursor>,
    limit: u32,
) -> Result<Vec<StatementEntry>, Error> {
    let sql = "select seq, item, (extract(epoch from at) * 1000000)::bigint as at_us, \
               (extract(epoch from event_at) * 1000000)::bigint as event_at_us, transfer_id, journal_id, kind, reason, \
               pending_id, reverses_id, counter_account_id, side, amount::text, balance::text, pending_out::text, \
               pending_in::text from ledger.read_statement($1, $2, $3, $4, $5, $6, $7, $8)";
    let (actor, account) = (actor.map(Uuid::from), Uuid::from(account_id));
    let at = before.map(|before| moment(before.event_at_us)).transpose()?;
    let (seq, item) = places(before.map(|before| before.entry));
    let rows = reader
        .rows(sql, &[&actor, &int(ledger_id)?, &account, &by.as_sql(), &at, &seq, &item, &int(limit)?])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(StatementEntry {
                cursor: StatementCursor { event_at_us: get(row, "event_at_us")?, entry: place(row)? },
                at_us: get(row, "at_us")?,
                transfer_id: id(row, "transfer_id", TransferId::from_uuid)?,
                journal_id: id(row, "journal_id", JournalId::from_uuid)?,
                kind: get(row, "kind")?,
                reason: get(row, "reason")?,
                pending_id: id_or_none(row, "pending_id", TransferId::from_uuid)?,
                reverses_id: id_or_none(row, "reverses_id", TransferId::from_uuid)?,
                counter_account_id: id(row, "counter_account_id", AccountId::from_uuid)?,
                side: get(row, "side")?,
                amount: amount(row, "amount")?,
                balance: get(row, "balance")?,
                pending_out: amount_or_none(row, "pending_out")?,
                pending_in: amount_or_none(row, "pending_in")?,
            })
        })
        .collect()
}

/// A transfer as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalTransfer {
    /// Where the next page goes on.
    pub cursor: EntryCursor,
    /// Ledger time, Unix microseconds.
    pub at_us: i64,
    /// When it happened, where it was told late.
    pub effective_at_us: Option<i64>,
    /// Its id.
    pub transfer_id: TransferId,
    /// Its business event.
    pub journal_id: JournalId,
    /// plain, pending, post_pending, void_pending or expire_pending.
    pub kind: String,
    /// From here.
    pub debit_account_id: AccountId,
    /// To here.
    pub credit_account_id: AccountId,
    /// The asset.
    pub asset_id: u32,
    /// Its short code.
    pub asset: String,
    /// Its decimal places.
    pub scale: i16,
    /// Minor units.
    pub amount: Amount,
    /// The hold that it ends.
    pub pending_id: Option<TransferId>,
    /// When the hold is free by itself.
    pub timeout_at_us: Option<i64>,
    /// The transfer that it takes back.
    pub reverses_id: Option<TransferId>,
    /// Sum of 1 balancing debit, 2 balancing credit, 4 closing debit, 8 closing credit.
    pub flags: i16,
    /// Why.
    pub reason: String,
}

/// At most `limit` transfers, newest first. `journal_id` `None`: all, which only the operator sees. Calls
/// `ledger.read_transfers`.
pub async fn read_transfers(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    journal_id: Option<JournalId>,
    before: Option<EntryCursor>,
    limit: u32,
) -> Result<Vec<JournalTransfer>, Error> {
    let sql = "select seq, item, (extract(epoch from at) * 1000000)::bigint as at_us, \
               (extract(epoch from effective_at) * 1000000)::bigint as effective_at_us, transfer_id, journal_id, kind, \
               debit_account_id, credit_account_id, asset_id, asset_code, scale, amount::text, pending_id, \
               (extract(epoch from timeout_at) * 1000000)::bigint as timeout_at_us, reverses_id, flags, reason \
               from ledger.read_transfers($1, $2, $3, $4, $5, $6)";
    let (actor, journal) = (actor.map(Uuid::from), journal_id.map(Uuid::from));
    let (seq, item) = places(before);
    let rows = reader.rows(sql, &[&actor, &int(ledger_id)?, &journal, &seq, &item, &int(limit)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(JournalTransfer {
                cursor: place(row)?,
                at_us: get(row, "at_us")?,
                effective_at_us: get(row, "effective_at_us")?,
                transfer_id: id(row, "transfer_id", TransferId::from_uuid)?,
                journal_id: id(row, "journal_id", JournalId::from_uuid)?,
                kind: get(row, "kind")?,
                debit_account_id: id(row, "debit_account_id", AccountId::from_uuid)?,
                credit_account_id: id(row, "credit_account_id", AccountId::from_uuid)?,
                asset_id: small(row, "asset_id")?,
                asset: get(row, "asset_code")?,
                scale: get(row, "scale")?,
                amount: amount(row, "amount")?,
                pending_id: id_or_none(row, "pending_id", TransferId::from_uuid)?,
                timeout_at_us: get(row, "timeout_at_us")?,
                reverses_id: id_or_none(row, "reverses_id", TransferId::from_uuid)?,
                flags: get(row, "flags")?,
                reason: get(row, "reason")?,
            })
        })
        .collect()
}

/// One asset's accounts of one purpose, summed. Minor units as digits: a sum over accounts may need more of them than an
/// amount can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialBalanceLine {
    /// The asset's short code.
    pub asset: String,
    /// Its decimal places.
    pub scale: i16,
    /// wallet, escrow, payable …
    pub purpose: String,
    /// How many accounts.
    pub accounts: u64,
    /// Left, over all of them.
    pub debits: String,
    /// Arrived.
    pub credits: String,
    /// Reserved to leave, as recorded.
    pub debits_pending: String,
    /// Reserved to arrive, as recorded.
    pub credits_pending: String,
}

/// The trial balance at a moment (Unix microseconds; `None`: now), for the operator. Calls `ledger.read_trial_balance`.
pub async fn read_trial_balance(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    at_us: Option<i64>,
    by: Axis,
) -> Result<Vec<TrialBalanceLine>, Error> {
    let sql = "select asset_code, scale, purpose, accounts, debits::text, credits::text, debits_pending::text, \
               credits_pending::text from ledger.read_trial_balance($1, $2, $3, $4)";
    let (actor, at) = (actor.map(Uuid::from), at_us.map(moment).transpose()?);
    let rows = reader.rows(sql, &[&actor, &int(ledger_id)?, &at, &by.as_sql()]).await?;
    rows.iter()
        .map(|row| {
            Ok(TrialBalanceLine {
                asset: get(row, "asset_code")?,
                scale: get(row, "scale")?,
                purpose: get(row, "purpose")?,
                accounts: count(row, "accounts")?,
                debits: get(row, "debits")?,
                credits: get(row, "credits")?,
                debits_pending: get(row, "debits_pending")?,
                credits_pending: get(row, "credits_pending")?,
            })
        })
        .collect()
}

fn place(row: &Row) -> Result<EntryCursor, Error> {
    Ok(EntryCursor { seq: count(row, "seq")?, item: get(row, "item")? })
}

fn places(before: Option<EntryCursor>) -> (Option<i64>, Option<i32>) {
    (before.map(|at| bigint(at.seq)), before.map(|at| at.item))
}
