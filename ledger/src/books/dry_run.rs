//! What a batch of transfers would do: the very statements of the real thing, in a transaction that is rolled back.

use proto::ids::{AccountId, AgentId};
use proto::keys::PublicKey;
use proto::v1::{self, command_body::Kind};
use serde_json::Value;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use crate::args;
use crate::error::Error;
use crate::pipeline::RULES_VERSION;
use crate::reader::{get, id, int, time};

/// What `ledger.post_transfers_command` would answer, and which accounts it would leave how.
#[derive(Debug, Clone, PartialEq)]
pub struct DryRun {
    /// `ok` or the code of a refusal.
    pub code: String,
    /// What its receipt would state: `results`, one per item; or the refusal's `message`.
    pub facts: Value,
    /// The accounts whose transfers would be written, by purpose and id.
    pub accounts: Vec<Change>,
}

/// An account before and after. Minor units as signed decimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The account.
    pub account_id: AccountId,
    /// wallet, external …
    pub purpose: String,
    /// Whose it is; `None`: the market's own.
    pub owner_id: Option<AgentId>,
    /// Its asset's code.
    pub asset: String,
    /// Decimal places of the asset.
    pub scale: i16,
    /// Credits less debits, posted.
    pub before: String,
    /// The same afterwards.
    pub after: String,
    /// Reserved to leave, before.
    pub reserved_before: String,
    /// The same afterwards.
    pub reserved_after: String,
}

/// Judges and posts `items` as the operator with key `operator` would at `accepted_at_us`, looks at the result, and takes it
/// all back. `admin` may become econ_engine (the embedded database's superuser, or an external one's login). While it
/// looks it holds the ledger's row, as the pipeline would: commands wait for it. Calls `ledger.post_transfers_command`.
///
/// # Errors
/// `UB103`: the items are not what the contract asks for. `UB401`: there is no such ledger. `UB801`, `UB802`.
pub async fn dry_run_post(
    admin: &mut Client,
    ledger_id: u32,
    operator: &PublicKey,
    accepted_at_us: i64,
    items: Vec<v1::TransferItem>,
) -> Result<DryRun, Error> {
    let body = v1::CommandBody { kind: Some(Kind::PostTransfers(v1::PostTransfers { items })) };
    let (_, arguments) = args::of_body(&body, operator)?;
    let ledger_id = int(ledger_id)?;
    let mut transaction = admin.transaction().await?;
    // The engine's rights are all that a command has. A busy ledger is waited for, but not for ever.
    transaction.batch_execute("set local role econ_engine; set local lock_timeout = '10s'").await?;
    let sql = "select last_seq + 1 as seq, greatest(last_time, $2) as at from base.ledgers where ledger_id = $1 for no key update";
    let row = transaction.query_opt(sql, &[&ledger_id, &time(accepted_at_us)]).await?;
    let row = row.ok_or_else(|| Error::new("UB401", format!("there is no ledger {ledger_id}")))?;
    let (seq, at): (i64, std::time::SystemTime) = (get(&row, "seq")?, get(&row, "at")?);

    let posting = transaction.transaction().await?;
    let sql = "select o.code, o.facts from ledger.post_transfers_command( \
                 row($1, $2, $3, $4, $5, $6, $7, '{}')::base.command_context, $8) o";
    let actor = Uuid::from(AgentId::of_first_key(operator));
    let key_id = operator.id();
    let row = posting
        .query_one(
            sql,
            &[
                &ledger_id,
                &seq,
                &Uuid::now_v7(),
                &actor,
                &key_id.as_bytes().as_slice(),
                &at,
                &RULES_VERSION,
                &arguments,
            ],
        )
        .await?;
    let (code, facts): (String, Value) = (get(&row, "code")?, get(&row, "facts")?);
    // Expiries that the batch makes room with are written by it too, so what it wrote says more than what it was asked.
    let sql = "select array(select debit_account_id from ledger.transfers where ledger_id = $1 and seq = $2 \
                            union select credit_account_id from ledger.transfers where ledger_id = $1 and seq = $2) as ids";
    let touched: Vec<Uuid> = get(&posting.query_one(sql, &[&ledger_id, &seq]).await?, "ids")?;
    let after = accounts(&posting, ledger_id, &touched).await?;
    posting.rollback().await?;
    let mut changes = accounts(&transaction, ledger_id, &touched).await?;
    transaction.rollback().await?;
    for (change, after) in changes.iter_mut().zip(after) {
        change.after = after.after;
        change.reserved_after = after.reserved_after;
    }
    Ok(DryRun { code, facts, accounts: changes })
}

/// The accounts as they are at this moment, both as before and as after.
async fn accounts(transaction: &Transaction<'_>, ledger_id: i32, ids: &[Uuid]) -> Result<Vec<Change>, Error> {
    let sql = "select a.account_id, a.purpose, a.owner_id, s.code, s.scale, \
                      (a.credits_posted - a.debits_posted)::text as balance, a.debits_pending::text as reserved \
                 from ledger.accounts a join ledger.assets s on s.asset_id = a.asset_id \
                where a.ledger_id = $1 and a.account_id = any ($2) order by a.purpose, a.account_id";
    let rows = transaction.query(sql, &[&ledger_id, &ids]).await?;
    rows.iter()
        .map(|row| {
            let (balance, reserved): (String, String) = (get(row, "balance")?, get(row, "reserved")?);
            Ok(Change {
                account_id: id(row, "account_id", AccountId::from_uuid)?,
                purpose: get(row, "purpose")?,
                owner_id: get::<Option<Uuid>>(row, "owner_id")?.map(AgentId::from_uuid),
                asset: get(row, "code")?,
                scale: get(row, "scale")?,
                before: balance.clone(),
                after: balance,
                reserved_before: reserved.clone(),
                reserved_after: reserved,
            })
        })
        .collect()
}
