//! The books at any moment: accounts with their statements, transfers, journals, the trial balance.

use async_graphql::connection::Connection;
use async_graphql::{ComplexObject, Context, Enum, Object, Result, SimpleObject};
use ledger::books::{self, AccountFilter, Axis, EntryCursor, StatementCursor};
use proto::ids::{AccountId, AgentId, JournalId};

use super::command::coded;
use super::scalars::{AmountText, Count, Id, Micros};
use super::{PAGE_DEFAULT, actor, actor_or_none, connection, cursor_id, failed, page_size, state};
use crate::server::problem::Problem;

/// By which time the books are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub enum BookTime {
    /// As they were written.
    #[default]
    Record,
    /// As things happened: what was told late is where it belongs. Posted movements only.
    Event,
}

impl From<BookTime> for Axis {
    fn from(by: BookTime) -> Self {
        match by {
            BookTime::Record => Self::Record,
            BookTime::Event => Self::Event,
        }
    }
}

/// An account's four sums, minor units.
#[derive(Debug, SimpleObject)]
pub struct AccountBalances {
    /// Reserved to leave; null by event time.
    debits_pending: Option<AmountText>,
    /// Left.
    debits_posted: AmountText,
    /// Reserved to arrive; null by event time.
    credits_pending: Option<AmountText>,
    /// Arrived.
    credits_posted: AmountText,
}

impl From<books::Balances> for AccountBalances {
    fn from(balances: books::Balances) -> Self {
        Self {
            debits_pending: balances.debits_pending.map(AmountText),
            debits_posted: AmountText(balances.debits_posted),
            credits_pending: balances.credits_pending.map(AmountText),
            credits_posted: AmountText(balances.credits_posted),
        }
    }
}

/// An account.
#[derive(Debug, SimpleObject)]
#[graphql(complex)]
pub struct Account {
    #[graphql(skip)]
    ledger_id: u32,
    /// Its id.
    account_id: Id,
    /// The asset.
    asset_id: u32,
    /// Its short code.
    asset: String,
    /// Its decimal places.
    scale: i32,
    /// wallet, escrow, payable …
    purpose: String,
    /// Whose; null: the market's own.
    owner_id: Option<Id>,
    /// The order, for escrow; the other ledger, for clearing.
    ref_id: Option<Id>,
    /// What is in it now.
    balances: AccountBalances,
    /// What it could pay out, minor units, signed: expired holds are free.
    spendable: String,
    /// It may not go below zero.
    debits_must_not_exceed_credits: bool,
    /// It may not go above zero.
    credits_must_not_exceed_debits: bool,
    /// Nothing moves in it but the void of a hold.
    closed: bool,
    /// The hold that closed it.
    closed_by: Option<Id>,
    /// Ledger time, Unix microseconds.
    opened_at_us: Micros,
}

impl Account {
    fn of(ledger_id: u32, account: books::Account) -> Self {
        Self {
            ledger_id,
            account_id: account.account_id.into(),
            asset_id: account.asset_id,
            asset: account.asset,
            scale: account.scale.into(),
            purpose: account.purpose,
            owner_id: account.owner_id.map(Id::from),
            ref_id: account.ref_id.map(Id::from),
            balances: account.balances.into(),
            spendable: account.spendable,
            debits_must_not_exceed_credits: account.debits_must_not_exceed_credits,
            credits_must_not_exceed_debits: account.credits_must_not_exceed_debits,
            closed: account.closed,
            closed_by: account.closed_by.map(Id::from),
            opened_at_us: Micros(account.opened_at_us),
        }
    }

    fn id(&self) -> AccountId {
        AccountId::from_uuid(self.account_id.0)
    }
}

#[ComplexObject]
impl Account {
    /// What was in it at a moment (Unix microseconds).
    #[graphql(complexity = "10 + child_complexity")]
    async fn balance_at(
        &self,
        ctx: &Context<'_>,
        at: Micros,
        #[graphql(default)] by: BookTime,
    ) -> Result<Option<AccountBalances>> {
        let reader = &state(ctx)?.reader;
        let found =
            books::read_balance_at(reader, actor_or_none(ctx), self.ledger_id, self.id(), at.0, by.into())
                .await;
        Ok(found.map_err(failed)?.map(AccountBalances::from))
    }

    /// What moved in it, newest first, with the balance after each entry.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 10")]
    async fn statement(
        &self,
        ctx: &Context<'_>,
        #[graphql(default)] by: BookTime,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, StatementEntry>> {
        let rows = page_size(first)?;
        let before = after.as_deref().map(|after| read_place(by, after)).transpose()?;
        let reader = &state(ctx)?.reader;
        let (ledger_id, account_id) = (self.ledger_id, self.id());
        let found = books::read_statement(
            reader,
            actor_or_none(ctx),
            ledger_id,
            account_id,
            by.into(),
            before,
            rows + 1,
        )
        .await
        .map_err(failed)?;
        let found = found.into_iter().map(StatementEntry::from).collect();
        Ok(connection(found, rows, before.is_some(), |entry: &StatementEntry| entry.place(by)))
    }
}

/// One transfer as seen from an account, and what the account held after it.
#[derive(Debug, SimpleObject)]
pub struct StatementEntry {
    /// seq of the command that posted it.
    seq: Count,
    /// Order within the command.
    item: i32,
    /// Ledger time, Unix microseconds.
    at_us: Micros,
    /// When it happened; later told than that where it differs from atUs.
    event_at_us: Micros,
    /// The transfer.
    transfer_id: Id,
    /// Its business event.
    journal_id: Id,
    /// plain, pending, post_pending, void_pending or expire_pending.
    kind: String,
    /// Why.
    reason: String,
    /// The hold that it ends.
    pending_id: Option<Id>,
    /// The transfer that it takes back.
    reverses_id: Option<Id>,
    /// The other side.
    counter_account_id: Id,
    /// debit (it left or was reserved) or credit.
    side: String,
    /// Minor units.
    amount: AmountText,
    /// Credits less debits posted after this entry, minor units, signed.
    balance: String,
    /// Reserved to leave after this entry; null by event time.
    pending_out: Option<AmountText>,
    /// Reserved to arrive after this entry; null by event time.
    pending_in: Option<AmountText>,
}

impl From<books::StatementEntry> for StatementEntry {
    fn from(entry: books::StatementEntry) -> Self {
        Self {
            seq: Count(entry.cursor.entry.seq),
            item: entry.cursor.entry.item,
            at_us: Micros(entry.at_us),
            event_at_us: Micros(entry.cursor.event_at_us),
            transfer_id: entry.transfer_id.into(),
            journal_id: entry.journal_id.into(),
            kind: entry.kind,
            reason: entry.reason,
            pending_id: entry.pending_id.map(Id::from),
            reverses_id: entry.reverses_id.map(Id::from),
            counter_account_id: entry.counter_account_id.into(),
            side: entry.side,
            amount: AmountText(entry.amount),
            balance: entry.balance,
            pending_out: entry.pending_out.map(AmountText),
            pending_in: entry.pending_in.map(AmountText),
        }
    }
}

impl StatementEntry {
    /// Its cursor: of one order of time, and refused in the other.
    fn place(&self, by: BookTime) -> String {
        let (seq, item) = (self.seq.0, self.item);
        match by {
            BookTime::Record => format!("r.{seq}.{item}"),
            BookTime::Event => format!("e.{}.{seq}.{item}", self.event_at_us.0),
        }
    }
}

fn read_place(by: BookTime, after: &str) -> Result<StatementCursor> {
    let parsed = || {
        let (event_at_us, entry) = match by {
            BookTime::Record => (0, after.strip_prefix("r.")?),
            BookTime::Event => {
                let (at, entry) = after.strip_prefix("e.")?.split_once('.')?;
                (at.parse().ok()?, entry)
            }
        };
        Some(StatementCursor { event_at_us, entry: parse_entry(entry)? })
    };
    parsed().ok_or_else(not_a_cursor)
}

fn parse_entry(text: &str) -> Option<EntryCursor> {
    let (seq, item) = text.split_once('.')?;
    Some(EntryCursor { seq: seq.parse().ok()?, item: item.parse().ok()? })
}

fn not_a_cursor() -> async_graphql::Error {
    let detail = "after is the endCursor of an earlier page of the same list, unchanged";
    coded(&Problem::new("UB103", detail))
}

/// A transfer as it is written.
#[derive(Debug, SimpleObject)]
pub struct Transfer {
    /// seq of the command that posted it.
    seq: Count,
    /// Order within the command.
    item: i32,
    /// Ledger time, Unix microseconds.
    at_us: Micros,
    /// When it happened, where it was told late.
    effective_at_us: Option<Micros>,
    /// Its id.
    transfer_id: Id,
    /// Its business event.
    journal_id: Id,
    /// plain, pending, post_pending, void_pending or expire_pending.
    kind: String,
    /// From here.
    debit_account_id: Id,
    /// To here.
    credit_account_id: Id,
    /// The asset.
    asset_id: u32,
    /// Its short code.
    asset: String,
    /// Its decimal places.
    scale: i32,
    /// Minor units.
    amount: AmountText,
    /// The hold that it ends.
    pending_id: Option<Id>,
    /// When the hold is free by itself.
    timeout_at_us: Option<Micros>,
    /// The transfer that it takes back.
    reverses_id: Option<Id>,
    /// Sum of 1 balancing debit, 2 balancing credit, 4 closing debit, 8 closing credit.
    flags: i32,
    /// Why.
    reason: String,
}

impl From<books::JournalTransfer> for Transfer {
    fn from(transfer: books::JournalTransfer) -> Self {
        Self {
            seq: Count(transfer.cursor.seq),
            item: transfer.cursor.item,
            at_us: Micros(transfer.at_us),
            effective_at_us: transfer.effective_at_us.map(Micros),
            transfer_id: transfer.transfer_id.into(),
            journal_id: transfer.journal_id.into(),
            kind: transfer.kind,
            debit_account_id: transfer.debit_account_id.into(),
            credit_account_id: transfer.credit_account_id.into(),
            asset_id: transfer.asset_id,
            asset: transfer.asset,
            scale: transfer.scale.into(),
            amount: AmountText(transfer.amount),
            pending_id: transfer.pending_id.map(Id::from),
            timeout_at_us: transfer.timeout_at_us.map(Micros),
            reverses_id: transfer.reverses_id.map(Id::from),
            flags: transfer.flags.into(),
            reason: transfer.reason,
        }
    }
}

/// One asset's accounts of one purpose, summed: minor units as digits, which may be more than an Amount has.
#[derive(Debug, SimpleObject)]
pub struct TrialBalanceLine {
    /// The asset's short code.
    asset: String,
    /// Its decimal places.
    scale: i32,
    /// wallet, escrow, payable …
    purpose: String,
    /// How many accounts.
    accounts: Count,
    /// Left, over all of them.
    debits: String,
    /// Arrived.
    credits: String,
    /// Reserved to leave, as recorded.
    debits_pending: String,
    /// Reserved to arrive, as recorded.
    credits_pending: String,
}

impl From<books::TrialBalanceLine> for TrialBalanceLine {
    fn from(line: books::TrialBalanceLine) -> Self {
        Self {
            asset: line.asset,
            scale: line.scale.into(),
            purpose: line.purpose,
            accounts: Count(line.accounts),
            debits: line.debits,
            credits: line.credits,
            debits_pending: line.debits_pending,
            credits_pending: line.credits_pending,
        }
    }
}

/// Reads of the books at any moment.
#[derive(Debug, Default)]
pub struct HistoryQuery;

#[Object]
impl HistoryQuery {
    /// The accounts that the signed actor may see, by id: its own; the operator's key sees all.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn accounts(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        purpose: Option<String>,
        owner_id: Option<Id>,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, Account>> {
        let rows = page_size(first)?;
        let after = cursor_id::<AccountId>(after)?;
        let owner_id = owner_id.map(|id| AgentId::from_uuid(id.0));
        let filter = AccountFilter { account_id: None, purpose, owner_id };
        let reader = &state(ctx)?.reader;
        let found = books::read_accounts(reader, Some(actor(ctx)?), ledger_id, &filter, after, rows + 1);
        let found = found.await.map_err(failed)?;
        let found = found.into_iter().map(|account| Account::of(ledger_id, account)).collect();
        Ok(connection(found, rows, after.is_some(), |account: &Account| account.account_id.0.to_string()))
    }

    /// One account; null: there is none of this id that the signed actor may see.
    async fn account(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        id: Id,
    ) -> Result<Option<Account>> {
        let account_id = Some(AccountId::from_uuid(id.0));
        let filter = AccountFilter { account_id, ..AccountFilter::default() };
        let reader = &state(ctx)?.reader;
        let found = books::read_accounts(reader, Some(actor(ctx)?), ledger_id, &filter, None, 1);
        Ok(found.await.map_err(failed)?.pop().map(|account| Account::of(ledger_id, account)))
    }

    /// Every transfer, newest first, for the operator's key; nobody else sees any here.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn transfers(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, Transfer>> {
        transfers(ctx, ledger_id, None, first, after).await
    }

    /// The transfers of one business event that the signed actor may see, newest first.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn journal(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        id: Id,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, Transfer>> {
        transfers(ctx, ledger_id, Some(JournalId::from_uuid(id.0)), first, after).await
    }

    /// Debits and credits per asset and purpose of account, at a moment (Unix microseconds; left out: now), for the operator's
    /// key; nobody else sees any line. Over one asset they are equal.
    #[graphql(complexity = "100 + child_complexity")]
    async fn trial_balance(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        at: Option<Micros>,
        #[graphql(default)] by: BookTime,
    ) -> Result<Vec<TrialBalanceLine>> {
        let reader = &state(ctx)?.reader;
        let at_us = at.map(|at| at.0);
        let found = books::read_trial_balance(reader, Some(actor(ctx)?), ledger_id, at_us, by.into()).await;
        Ok(found.map_err(failed)?.into_iter().map(TrialBalanceLine::from).collect())
    }
}

async fn transfers(
    ctx: &Context<'_>,
    ledger_id: u32,
    journal_id: Option<JournalId>,
    first: Option<u32>,
    after: Option<String>,
) -> Result<Connection<String, Transfer>> {
    let rows = page_size(first)?;
    let before = after.map(|after| parse_entry(&after).ok_or_else(not_a_cursor)).transpose()?;
    let reader = &state(ctx)?.reader;
    let found =
        books::read_transfers(reader, Some(actor(ctx)?), ledger_id, journal_id, before, rows + 1).await;
    let found = found.map_err(failed)?.into_iter().map(Transfer::from).collect();
    Ok(connection(found, rows, before.is_some(), |row: &Transfer| format!("{}.{}", row.seq.0, row.item)))
}
