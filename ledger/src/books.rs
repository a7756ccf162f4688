//! Mirror of the SQL domain `ledger`: balances and entries.

mod dry_run;
mod history;
mod upkeep;

use proto::ids::{AccountId, AgentId, JournalId, TransferId};
use proto::money::Amount;
use uuid::Uuid;

pub use dry_run::{Change, DryRun, dry_run_post};
pub use history::{
    Account, AccountFilter, Axis, Balances, JournalTransfer, StatementCursor, StatementEntry,
    TrialBalanceLine, read_accounts, read_balance_at, read_statement, read_transfers, read_trial_balance,
};
pub use upkeep::{Audit, audit_advance, page_entries};

use crate::error::Error;
use crate::reader::{Reader, amount, bigint, count, get, id, id_or_none, int, small};

/// What an agent holds of one asset for one purpose, minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// The asset.
    pub asset_id: u32,
    /// Its short code.
    pub asset: String,
    /// Its decimal places.
    pub scale: i16,
    /// wallet, escrow, payable …
    pub purpose: String,
    /// Credits less debits as signed decimal digits: an `external` or `equity` account may be below zero.
    pub posted: String,
    /// Reserved to leave.
    pub pending_out: Amount,
    /// Reserved to arrive.
    pub pending_in: Amount,
    /// `posted` less `pending_out`, expired holds counted as free; signed like `posted`.
    pub spendable: String,
}

/// The actor's balances. Calls `ledger.read_balances`.
pub async fn read_balances(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
) -> Result<Vec<Balance>, Error> {
    let sql = "select asset_id, asset_code, scale, purpose, posted::text, pending_out::text, pending_in::text, \
               spendable::text from ledger.read_balances($1, $2)";
    let rows = reader.rows(sql, &[&actor.map(Uuid::from), &int(ledger_id)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(Balance {
                asset_id: small(row, "asset_id")?,
                asset: get(row, "asset_code")?,
                scale: get(row, "scale")?,
                purpose: get(row, "purpose")?,
                posted: get(row, "posted")?,
                pending_out: amount(row, "pending_out")?,
                pending_in: amount(row, "pending_in")?,
                spendable: get(row, "spendable")?,
            })
        })
        .collect()
}

/// Where a page of entries ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryCursor {
    /// The command.
    pub seq: u64,
    /// The transfer within it.
    pub item: i32,
}

/// One transfer as seen from one of the actor's accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the next page goes on.
    pub cursor: EntryCursor,
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
    /// Which account.
    pub account_id: AccountId,
    /// What the account is for.
    pub purpose: String,
    /// The order, for escrow.
    pub ref_id: Option<Uuid>,
    /// The asset.
    pub asset_id: u32,
    /// Its short code.
    pub asset: String,
    /// Its decimal places.
    pub scale: i16,
    /// debit or credit.
    pub side: String,
    /// Minor units.
    pub amount: Amount,
}

/// The actor's entries, newest first: those of at most `limit` transfers, two where both sides are the actor's.
/// `asset_id` `None`: every asset. Calls `ledger.read_entries`.
pub async fn read_entries(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    asset_id: Option<u32>,
    after: Option<EntryCursor>,
    limit: u32,
) -> Result<Vec<Entry>, Error> {
    let sql = "select seq, item, (extract(epoch from at) * 1000000)::bigint as at_us, transfer_id, journal_id, kind, reason, \
               pending_id, account_id, purpose, ref_id, asset_id, asset_code, scale, side, amount::text \
               from ledger.read_entries($1, $2, $3, $4, $5, $6)";
    let asset_id = asset_id.map(int).transpose()?;
    let (after_seq, after_item) = (after.map(|at| bigint(at.seq)), after.map(|at| at.item));
    let actor = actor.map(Uuid::from);
    let rows = reader
        .rows(sql, &[&actor, &int(ledger_id)?, &asset_id, &after_seq, &after_item, &int(limit)?])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Entry {
                cursor: EntryCursor { seq: count(row, "seq")?, item: get(row, "item")? },
                at_us: get(row, "at_us")?,
                transfer_id: id(row, "transfer_id", TransferId::from_uuid)?,
                journal_id: id(row, "journal_id", JournalId::from_uuid)?,
                kind: get(row, "kind")?,
                reason: get(row, "reason")?,
                pending_id: id_or_none(row, "pending_id", TransferId::from_uuid)?,
                account_id: id(row, "account_id", AccountId::from_uuid)?,
                purpose: get(row, "purpose")?,
                ref_id: get(row, "ref_id")?,
                asset_id: small(row, "asset_id")?,
                asset: get(row, "asset_code")?,
                scale: get(row, "scale")?,
                side: get(row, "side")?,
                amount: amount(row, "amount")?,
            })
        })
        .collect()
}

/// A unit of account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// Its number.
    pub asset_id: u32,
    /// Its short code, for example USD.
    pub code: String,
    /// Decimal places: 6 means that 1 unit is 1,000,000 minor units.
    pub scale: i16,
}

/// Every asset. Calls `ledger.read_assets`.
pub async fn read_assets(reader: &Reader) -> Result<Vec<Asset>, Error> {
    let rows = reader.rows("select asset_id, code, scale from ledger.read_assets()", &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Asset {
                asset_id: small(row, "asset_id")?,
                code: get(row, "code")?,
                scale: get(row, "scale")?,
            })
        })
        .collect()
}

/// What an account is called: code of its asset, purpose, owner (`None`: the market's own).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountName {
    /// USD …
    pub asset: String,
    /// wallet, external …
    pub purpose: String,
    /// Whose.
    pub owner_id: Option<AgentId>,
}

/// The accounts that have these names and belong to nothing further (no order's escrow), `None` where there is none. Reads
/// `finance.balances`.
pub async fn named_accounts(
    reader: &Reader,
    ledger_id: u32,
    names: &[AccountName],
) -> Result<Vec<Option<AccountId>>, Error> {
    // One hash join, however many names there are: equality of owners needs a value for "none".
    let sql = "select b.account_id \
                 from unnest($2::text[], $3::text[], $4::uuid[]) with ordinality as n (asset, purpose, owner_id, n) \
                 left join finance.balances b on b.ledger_id = $1 and b.ref_id is null and b.asset = n.asset and b.purpose = n.purpose \
                  and coalesce(b.owner_id, '00000000-0000-0000-0000-000000000000') = coalesce(n.owner_id, '00000000-0000-0000-0000-000000000000') \
                order by n.n";
    let assets: Vec<&str> = names.iter().map(|name| name.asset.as_str()).collect();
    let purposes: Vec<&str> = names.iter().map(|name| name.purpose.as_str()).collect();
    let owners: Vec<Option<Uuid>> = names.iter().map(|name| name.owner_id.map(Uuid::from)).collect();
    let rows = reader.rows(sql, &[&int(ledger_id)?, &assets, &purposes, &owners]).await?;
    rows.iter().map(|row| id_or_none(row, "account_id", AccountId::from_uuid)).collect()
}
