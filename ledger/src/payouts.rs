//! Mirror of the SQL domain `payouts`: what is owed, what is on its way, what was paid.

use proto::ids::{AgentId, OrderId, PayableId, PayoutId};
use proto::money::Amount;
use uuid::Uuid;

use crate::error::Error;
use crate::reader::{Reader, amount, get, id, id_or_none, int, small};

/// What the payout scheduler can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// A payee has open payables.
    Reserve {
        /// Who.
        payee_id: AgentId,
        /// In which asset.
        asset_id: u32,
        /// Their sum, minor units.
        amount: Amount,
    },
    /// A reserved payout waits for its rail.
    Confirm {
        /// Which.
        payout_id: PayoutId,
    },
}

/// Up to `limit` of each kind. Calls `payouts.due`.
pub async fn due(reader: &Reader, ledger_id: u32, limit: u32) -> Result<Vec<Due>, Error> {
    let sql = "select action, payee_id, asset_id, amount::text, payout_id from payouts.due($1, $2)";
    let rows = reader.rows(sql, &[&int(ledger_id)?, &int(limit)?]).await?;
    rows.iter()
        .map(|row| {
            let action: &str = get(row, "action")?;
            Ok(match action {
                "reserve" => Due::Reserve {
                    payee_id: id(row, "payee_id", AgentId::from_uuid)?,
                    asset_id: small(row, "asset_id")?,
                    amount: amount(row, "amount")?,
                },
                "confirm" => Due::Confirm { payout_id: id(row, "payout_id", PayoutId::from_uuid)? },
                other => {
                    return Err(Error::new("UB900", format!("payouts.due names an unknown action {other}")));
                }
            })
        })
        .collect()
}

/// A payout. Times are ledger time in Unix microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// Its id.
    pub payout_id: PayoutId,
    /// The asset.
    pub asset_id: u32,
    /// Minor units.
    pub amount: Amount,
    /// internal.
    pub rail: String,
    /// reserved, confirmed or failed.
    pub state: String,
    /// When its money was reserved.
    pub reserved_at_us: i64,
    /// When it was confirmed or failed.
    pub closed_at_us: Option<i64>,
    /// The rail's own reference.
    pub rail_reference: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
    /// Payables that it pays.
    pub payables: i32,
}

/// The actor's payouts, newest id first; `after`: the last of the page before. Calls `payouts.read_payouts`.
pub async fn read_payouts(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    after: Option<PayoutId>,
    limit: u32,
) -> Result<Vec<Payout>, Error> {
    let sql = "select payout_id, asset_id, amount::text, rail, state, \
               (extract(epoch from reserved_at) * 1000000)::bigint as reserved_at_us, \
               (extract(epoch from closed_at) * 1000000)::bigint as closed_at_us, rail_reference, failure, payables \
               from payouts.read_payouts($1, $2, $3, $4)";
    let (actor, after) = (actor.map(Uuid::from), after.map(Uuid::from));
    let rows = reader.rows(sql, &[&actor, &int(ledger_id)?, &after, &int(limit)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(Payout {
                payout_id: id(row, "payout_id", PayoutId::from_uuid)?,
                asset_id: small(row, "asset_id")?,
                amount: amount(row, "amount")?,
                rail: get(row, "rail")?,
                state: get(row, "state")?,
                reserved_at_us: get(row, "reserved_at_us")?,
                closed_at_us: get(row, "closed_at_us")?,
                rail_reference: get(row, "rail_reference")?,
                failure: get(row, "failure")?,
                payables: get(row, "payables")?,
            })
        })
        .collect()
}

/// A line of a payee's statement: one payable, and the payout that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementLine {
    /// The payable.
    pub payable_id: PayableId,
    /// Ledger time, Unix microseconds.
    pub earned_at_us: i64,
    /// The order it was earned from.
    pub order_id: OrderId,
    /// creator, provider, operator or referrer.
    pub role: String,
    /// The asset.
    pub asset_id: u32,
    /// Its short code.
    pub asset: String,
    /// Its decimal places.
    pub scale: i16,
    /// Minor units.
    pub amount: Amount,
    /// `None`: still open.
    pub payout_id: Option<PayoutId>,
    /// reserved or confirmed.
    pub payout_state: Option<String>,
    /// When the payout was confirmed.
    pub paid_at_us: Option<i64>,
}

/// What the actor ever earned, oldest id first; `after`: the last of the page before. Calls `payouts.read_statement`.
pub async fn read_statement(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    after: Option<PayableId>,
    limit: u32,
) -> Result<Vec<StatementLine>, Error> {
    let sql = "select payable_id, (extract(epoch from earned_at) * 1000000)::bigint as earned_at_us, order_id, role, asset_id, \
               asset, scale, amount::text, payout_id, payout_state, \
               (extract(epoch from paid_at) * 1000000)::bigint as paid_at_us from payouts.read_statement($1, $2, $3, $4)";
    let (actor, after) = (actor.map(Uuid::from), after.map(Uuid::from));
    let rows = reader.rows(sql, &[&actor, &int(ledger_id)?, &after, &int(limit)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(StatementLine {
                payable_id: id(row, "payable_id", PayableId::from_uuid)?,
                earned_at_us: get(row, "earned_at_us")?,
                order_id: id(row, "order_id", OrderId::from_uuid)?,
                role: get(row, "role")?,
                asset_id: small(row, "asset_id")?,
                asset: get(row, "asset")?,
                scale: get(row, "scale")?,
                amount: amount(row, "amount")?,
                payout_id: id_or_none(row, "payout_id", PayoutId::from_uuid)?,
                payout_state: get(row, "payout_state")?,
                paid_at_us: get(row, "paid_at_us")?,
            })
        })
        .collect()
}
