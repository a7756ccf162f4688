//! Mirror of the SQL domain `splits`: settlements.

use proto::ids::{AgentId, JournalId, OrderId};
use proto::money::Amount;
use uuid::Uuid;

use crate::error::Error;
use crate::reader::{Reader, amount, get, id, id_or_none, int, small};

/// How an order's money divided. Amounts are minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which order.
    pub order_id: OrderId,
    /// Its transfers.
    pub journal_id: JournalId,
    /// The policy that was in force.
    pub policy: String,
    /// The asset.
    pub asset_id: u32,
    /// From escrow.
    pub held: Amount,
    /// To the legs.
    pub paid: Amount,
    /// To the buyer.
    pub refunded: Amount,
    /// Ledger time, Unix microseconds.
    pub settled_at_us: i64,
    /// As far as the actor may see them.
    pub legs: Vec<Leg>,
}

/// One payee's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// creator, provider, operator or referrer.
    pub role: String,
    /// Who.
    pub payee_id: AgentId,
    /// How much, minor units.
    pub amount: Amount,
}

/// The settlement of an order: buyer and provider see every leg, another payee its own. Calls `splits.read_settlement`.
pub async fn read_settlement(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    order_id: OrderId,
) -> Result<Option<Settlement>, Error> {
    let sql = "select order_id, journal_id, policy_name, asset_id, held::text, paid::text, refunded::text, \
               (extract(epoch from settled_at) * 1000000)::bigint as settled_at_us, role, payee_id, amount::text \
               from splits.read_settlement($1, $2, $3)";
    let rows = reader.rows(sql, &[&actor.map(Uuid::from), &int(ledger_id)?, &order_id.as_uuid()]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut legs = Vec::with_capacity(rows.len());
    for row in &rows {
        // A settlement that paid nothing has one row without a leg.
        if let Some(payee_id) = id_or_none(row, "payee_id", AgentId::from_uuid)? {
            legs.push(Leg { role: get(row, "role")?, payee_id, amount: amount(row, "amount")? });
        }
    }
    Ok(Some(Settlement {
        order_id: id(first, "order_id", OrderId::from_uuid)?,
        journal_id: id(first, "journal_id", JournalId::from_uuid)?,
        policy: get(first, "policy_name")?,
        asset_id: small(first, "asset_id")?,
        held: amount(first, "held")?,
        paid: amount(first, "paid")?,
        refunded: amount(first, "refunded")?,
        settled_at_us: get(first, "settled_at_us")?,
        legs,
    }))
}
