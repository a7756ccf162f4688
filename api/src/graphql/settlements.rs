//! Settlements.

use async_graphql::{Context, InputObject, Object, Result, SimpleObject};
use ledger::splits;
use proto::ids::OrderId;
use proto::v1;
use proto::v1::command_body::Kind;

use super::command::carry;
use super::result::CommandResult;
use super::scalars::{AmountText, Id, Micros};
use super::{actor, failed, state};

/// Message SettleOrder.
#[derive(Debug, InputObject)]
pub struct SettleOrderInput {
    /// Which order.
    order_id: Id,
}

/// Commands about settlements.
#[derive(Debug, Default)]
pub struct SettlementMutation;

#[Object]
impl SettlementMutation {
    /// Pays the used part of an accepted order from escrow, splits it and refunds the rest.
    async fn settle_order(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: SettleOrderInput,
    ) -> Result<CommandResult> {
        carry(ctx, ledger_id, Kind::SettleOrder(v1::SettleOrder { order_id: input.order_id.bytes() }))
    }
}

/// How an order's money divided. Amounts are minor units.
#[derive(Debug, SimpleObject)]
pub struct Settlement {
    /// Which order.
    order_id: Id,
    /// Its transfers.
    journal_id: Id,
    /// The policy that was in force.
    policy: String,
    /// The asset.
    asset_id: u32,
    /// From escrow.
    held: AmountText,
    /// To the legs.
    paid: AmountText,
    /// To the buyer.
    refunded: AmountText,
    /// Ledger time, Unix microseconds.
    settled_at_us: Micros,
    /// All for buyer and provider; another payee sees its own.
    legs: Vec<SettlementLeg>,
}

/// One payee's part.
#[derive(Debug, SimpleObject)]
pub struct SettlementLeg {
    /// creator, provider, operator or referrer.
    role: String,
    /// Who.
    payee_id: Id,
    /// Minor units.
    amount: AmountText,
}

/// Reads about settlements.
#[derive(Debug, Default)]
pub struct SettlementQuery;

#[Object]
impl SettlementQuery {
    /// The settlement of an order, for its parties and payees; null: not settled, or not theirs.
    async fn settlement(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        order_id: Id,
    ) -> Result<Option<Settlement>> {
        let order_id = OrderId::from_uuid(order_id.0);
        let found =
            splits::read_settlement(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, order_id).await;
        Ok(found.map_err(failed)?.map(|settled| Settlement {
            order_id: settled.order_id.into(),
            journal_id: settled.journal_id.into(),
            policy: settled.policy,
            asset_id: settled.asset_id,
            held: AmountText(settled.held),
            paid: AmountText(settled.paid),
            refunded: AmountText(settled.refunded),
            settled_at_us: Micros(settled.settled_at_us),
            legs: settled.legs.into_iter().map(SettlementLeg::from).collect(),
        }))
    }
}

impl From<splits::Leg> for SettlementLeg {
    fn from(leg: splits::Leg) -> Self {
        Self { role: leg.role, payee_id: leg.payee_id.into(), amount: AmountText(leg.amount) }
    }
}
