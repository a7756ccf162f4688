//! Accounts: balances, deposits, the operator's own postings.

use async_graphql::connection::Connection;
use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use ledger::books;
use proto::v1;
use proto::v1::command_body::Kind;

use super::command::{carry, coded};
use super::result::CommandResult;
use super::scalars::{AmountText, Count, Id, Micros};
use super::{PAGE_DEFAULT, actor, connection, failed, page_size, state};
use crate::server::problem::Problem;

/// Message Deposit.
#[derive(Debug, InputObject)]
pub struct DepositInput {
    /// Whose wallet is credited.
    agent_id: Id,
    /// In which asset.
    asset_id: u32,
    /// Minor units.
    amount: AmountText,
    /// The bank's or rail's reference; booked once.
    external_reference: String,
}

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum TransferKind {
    /// Moves at once.
    Plain,
    /// Reserves.
    Pending,
    /// Moves all or part of a reserve and releases the rest.
    PostPending,
    /// Releases a reserve.
    VoidPending,
}

/// Message TransferItem.
#[derive(Debug, InputObject)]
pub struct TransferItemInput {
    /// Chosen by the sender: UUIDv7.
    transfer_id: Id,
    /// What it does.
    kind: TransferKind,
    /// From here; left out when a reserve is ended.
    debit_account_id: Option<Id>,
    /// To here; left out when a reserve is ended.
    credit_account_id: Option<Id>,
    /// The asset of both accounts.
    asset_id: u32,
    /// Minor units; POST_PENDING without it posts all, balancing without it moves what can be spared.
    amount: Option<AmountText>,
    /// The reserve that is ended.
    pending_id: Option<Id>,
    /// PENDING: the reserve is free after so long; 0: never.
    #[graphql(default)]
    timeout_ms: u32,
    /// Stands and falls with the next item.
    #[graphql(default)]
    linked: bool,
    /// Moves at most what leaves the debit account at zero or above.
    #[graphql(default)]
    balancing_debit: bool,
    /// Moves at most what leaves the credit account's debits above its credits.
    #[graphql(default)]
    balancing_credit: bool,
    /// PENDING: closes the debit account until this hold is voided.
    #[graphql(default)]
    closing_debit: bool,
    /// PENDING: closes the credit account until this hold is voided.
    #[graphql(default)]
    closing_credit: bool,
    /// PLAIN: the posted transfer that this one takes back.
    reverses_id: Option<Id>,
    /// PLAIN and POST_PENDING: when it happened, if that was before it is told.
    effective_at_us: Option<Micros>,
}

/// Message PostTransfers.
#[derive(Debug, InputObject)]
pub struct PostTransfersInput {
    /// At most 8,190; one receipt for all.
    items: Vec<TransferItemInput>,
}

/// Commands about accounts.
#[derive(Debug, Default)]
pub struct AccountMutation;

#[Object]
impl AccountMutation {
    /// Books money that arrived from outside into a wallet. Operator keys only.
    async fn deposit(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: DepositInput,
    ) -> Result<CommandResult> {
        let deposit = v1::Deposit {
            agent_id: input.agent_id.bytes(),
            asset_id: input.asset_id,
            amount: input.amount.0.to_string(),
            external_reference: input.external_reference,
        };
        carry(ctx, ledger_id, Kind::Deposit(deposit))
    }

    /// The operator's own batch of transfers; facts.results holds one result per item, in order.
    async fn post_transfers(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: PostTransfersInput,
    ) -> Result<CommandResult> {
        if input.items.len() > ledger::args::TRANSFERS_MAX {
            let detail = format!("one command carries at most {} transfers", ledger::args::TRANSFERS_MAX);
            return Err(coded(&Problem::new("UB103", detail)));
        }
        let id = |id: Option<Id>| id.map(Id::bytes).unwrap_or_default();
        let items = input.items.into_iter().map(|item| {
            let kind = match item.kind {
                TransferKind::Plain => v1::TransferKind::Plain,
                TransferKind::Pending => v1::TransferKind::Pending,
                TransferKind::PostPending => v1::TransferKind::PostPending,
                TransferKind::VoidPending => v1::TransferKind::VoidPending,
            };
            v1::TransferItem {
                transfer_id: item.transfer_id.bytes(),
                kind: kind.into(),
                debit_account_id: id(item.debit_account_id),
                credit_account_id: id(item.credit_account_id),
                asset_id: item.asset_id,
                amount: item.amount.map(|amount| amount.0.to_string()).unwrap_or_default(),
                pending_id: id(item.pending_id),
                timeout_ms: item.timeout_ms,
                linked: item.linked,
                balancing_debit: item.balancing_debit,
                balancing_credit: item.balancing_credit,
                closing_debit: item.closing_debit,
                closing_credit: item.closing_credit,
                reverses_id: id(item.reverses_id),
                effective_at_us: item.effective_at_us.map_or(0, |at| at.0),
            }
        });
        carry(ctx, ledger_id, Kind::PostTransfers(v1::PostTransfers { items: items.collect() }))
    }
}

/// What the actor holds of one asset for one purpose.
#[derive(Debug, SimpleObject)]
pub struct Balance {
    /// The asset.
    asset_id: u32,
    /// Its short code.
    asset: String,
    /// Its decimal places.
    scale: i32,
    /// wallet, escrow, payable …
    purpose: String,
    /// Credits less debits, minor units; signed, since the market's own accounts may be below zero.
    posted: String,
    /// Reserved to leave, minor units.
    pending_out: AmountText,
    /// Reserved to arrive, minor units.
    pending_in: AmountText,
    /// posted less pendingOut, expired holds counted as free; signed like posted.
    spendable: String,
}

impl From<books::Balance> for Balance {
    fn from(balance: books::Balance) -> Self {
        Self {
            asset_id: balance.asset_id,
            asset: balance.asset,
            scale: balance.scale.into(),
            purpose: balance.purpose,
            posted: balance.posted,
            pending_out: AmountText(balance.pending_out),
            pending_in: AmountText(balance.pending_in),
            spendable: balance.spendable,
        }
    }
}

/// One transfer as seen from one of the actor's accounts.
#[derive(Debug, SimpleObject)]
pub struct Entry {
    /// seq of the command that posted it.
    seq: Count,
    /// Order within the command.
    item: i32,
    /// Ledger time, Unix microseconds.
    at_us: Micros,
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
    /// Which account.
    account_id: Id,
    /// What the account is for.
    purpose: String,
    /// The order, for escrow.
    ref_id: Option<Id>,
    /// The asset.
    asset_id: u32,
    /// Its short code.
    asset: String,
    /// Its decimal places.
    scale: i32,
    /// debit (it left or was reserved) or credit.
    side: String,
    /// Minor units.
    amount: AmountText,
}

impl From<books::Entry> for Entry {
    fn from(entry: books::Entry) -> Self {
        Self {
            seq: Count(entry.cursor.seq),
            item: entry.cursor.item,
            at_us: Micros(entry.at_us),
            transfer_id: entry.transfer_id.into(),
            journal_id: entry.journal_id.into(),
            kind: entry.kind,
            reason: entry.reason,
            pending_id: entry.pending_id.map(Id::from),
            account_id: entry.account_id.into(),
            purpose: entry.purpose,
            ref_id: entry.ref_id.map(Id::from),
            asset_id: entry.asset_id,
            asset: entry.asset,
            scale: entry.scale.into(),
            side: entry.side,
            amount: AmountText(entry.amount),
        }
    }
}

/// Reads about accounts.
#[derive(Debug, Default)]
pub struct AccountQuery;

#[Object]
impl AccountQuery {
    /// The signed actor's balances.
    async fn balances(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
    ) -> Result<Vec<Balance>> {
        let found = books::read_balances(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id).await;
        Ok(found.map_err(failed)?.into_iter().map(Balance::from).collect())
    }

    /// The signed actor's entries, newest first.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn entries(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        asset_id: Option<u32>,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, Entry>> {
        let rows = page_size(first)?;
        let cursor = after.as_deref().map(read_cursor).transpose()?;
        let found = books::read_entries(
            &state(ctx)?.reader,
            Some(actor(ctx)?),
            ledger_id,
            asset_id,
            cursor,
            rows + 1,
        )
        .await
        .map_err(failed)?;
        // A transfer between two of the actor's own accounts has two entries and one cursor: a page must not part them.
        let found: Vec<Entry> = found.into_iter().map(Entry::from).collect();
        let at = |entry: &Entry| (entry.seq, entry.item);
        let asked = usize::try_from(rows).unwrap_or(usize::MAX);
        let mut end = found.len().min(asked);
        while end > 0 && end < found.len() && at(&found[end - 1]) == at(&found[end]) {
            end += 1;
        }
        let end = u32::try_from(end.max(1)).unwrap_or(rows);
        Ok(connection(found, end, cursor.is_some(), |entry| format!("{}.{}", entry.seq.0, entry.item)))
    }
}

fn read_cursor(after: &str) -> Result<books::EntryCursor> {
    let parsed = after.split_once('.').and_then(|(seq, item)| {
        Some(books::EntryCursor { seq: seq.parse().ok()?, item: item.parse().ok()? })
    });
    let detail = "after is the endCursor of an earlier page, unchanged";
    parsed.ok_or_else(|| coded(&Problem::new("UB103", detail)))
}
