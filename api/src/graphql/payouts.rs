//! Payouts: payables become payouts, reserved and then confirmed or failed.

use async_graphql::connection::Connection;
use async_graphql::{Context, InputObject, Object, Result, SimpleObject};
use ledger::payouts;
use proto::ids::{PayableId, PayoutId};
use proto::v1;
use proto::v1::command_body::Kind;

use super::command::carry;
use super::result::CommandResult;
use super::scalars::{AmountText, Id, Micros};
use super::{PAGE_DEFAULT, actor, connection, cursor_id, failed, page_size, state};

/// Message ReservePayout.
#[derive(Debug, InputObject)]
pub struct ReservePayoutInput {
    /// Whose open payables are gathered.
    payee_id: Id,
    /// In which asset.
    asset_id: u32,
    /// internal: the only rail so far.
    #[graphql(default_with = "\"internal\".to_owned()")]
    rail: String,
    /// Smaller sums wait, minor units.
    min_amount: AmountText,
}

/// Message ConfirmPayout.
#[derive(Debug, InputObject)]
pub struct ConfirmPayoutInput {
    /// Which.
    payout_id: Id,
    /// The rail's own reference.
    rail_reference: String,
}

/// Message FailPayout.
#[derive(Debug, InputObject)]
pub struct FailPayoutInput {
    /// Which.
    payout_id: Id,
    /// Why.
    reason: String,
}

/// Commands about payouts.
#[derive(Debug, Default)]
pub struct PayoutMutation;

#[Object]
impl PayoutMutation {
    /// Gathers a payee's open payables into a payout and reserves the money. Operator keys only.
    async fn reserve_payout(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: ReservePayoutInput,
    ) -> Result<CommandResult> {
        let reserve = v1::ReservePayout {
            payee_id: input.payee_id.bytes(),
            asset_id: input.asset_id,
            rail: input.rail,
            min_amount: input.min_amount.0.to_string(),
        };
        carry(ctx, ledger_id, Kind::ReservePayout(reserve))
    }

    /// The rail confirmed: the reserved money has left. Operator keys only.
    async fn confirm_payout(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: ConfirmPayoutInput,
    ) -> Result<CommandResult> {
        let confirm =
            v1::ConfirmPayout { payout_id: input.payout_id.bytes(), rail_reference: input.rail_reference };
        carry(ctx, ledger_id, Kind::ConfirmPayout(confirm))
    }

    /// The rail refused: the payables are open again. Operator keys only.
    async fn fail_payout(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: FailPayoutInput,
    ) -> Result<CommandResult> {
        let fail = v1::FailPayout { payout_id: input.payout_id.bytes(), reason: input.reason };
        carry(ctx, ledger_id, Kind::FailPayout(fail))
    }
}

/// A payout. Times are ledger time in Unix microseconds.
#[derive(Debug, SimpleObject)]
pub struct Payout {
    /// Its id.
    payout_id: Id,
    /// The asset.
    asset_id: u32,
    /// Minor units.
    amount: AmountText,
    /// internal.
    rail: String,
    /// reserved, confirmed or failed.
    state: String,
    /// When its money was reserved.
    reserved_at_us: Micros,
    /// When it was confirmed or failed.
    closed_at_us: Option<Micros>,
    /// The rail's own reference.
    rail_reference: Option<String>,
    /// Why it failed.
    failure: Option<String>,
    /// Payables that it pays.
    payables: i32,
}

impl From<payouts::Payout> for Payout {
    fn from(payout: payouts::Payout) -> Self {
        Self {
            payout_id: payout.payout_id.into(),
            asset_id: payout.asset_id,
            amount: AmountText(payout.amount),
            rail: payout.rail,
            state: payout.state,
            reserved_at_us: Micros(payout.reserved_at_us),
            closed_at_us: payout.closed_at_us.map(Micros),
            rail_reference: payout.rail_reference,
            failure: payout.failure,
            payables: payout.payables,
        }
    }
}

/// A line of a payee's statement: one payable, and the payout that carries it.
#[derive(Debug, SimpleObject)]
pub struct StatementLine {
    /// The payable.
    payable_id: Id,
    /// Ledger time, Unix microseconds.
    earned_at_us: Micros,
    /// The order it was earned from.
    order_id: Id,
    /// creator, provider, operator or referrer.
    role: String,
    /// The asset.
    asset_id: u32,
    /// Its short code.
    asset: String,
    /// Its decimal places.
    scale: i32,
    /// Minor units.
    amount: AmountText,
    /// null: still open.
    payout_id: Option<Id>,
    /// reserved or confirmed.
    payout_state: Option<String>,
    /// When the payout was confirmed.
    paid_at_us: Option<Micros>,
}

impl From<payouts::StatementLine> for StatementLine {
    fn from(line: payouts::StatementLine) -> Self {
        Self {
            payable_id: line.payable_id.into(),
            earned_at_us: Micros(line.earned_at_us),
            order_id: line.order_id.into(),
            role: line.role,
            asset_id: line.asset_id,
            asset: line.asset,
            scale: line.scale.into(),
            amount: AmountText(line.amount),
            payout_id: line.payout_id.map(Id::from),
            payout_state: line.payout_state,
            paid_at_us: line.paid_at_us.map(Micros),
        }
    }
}

/// Reads about payouts.
#[derive(Debug, Default)]
pub struct PayoutQuery;

#[Object]
impl PayoutQuery {
    /// The signed actor's payouts, newest first.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn payouts(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, Payout>> {
        let rows = page_size(first)?;
        let after = cursor_id::<PayoutId>(after)?;
        let found =
            payouts::read_payouts(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, after, rows + 1).await;
        let found = found.map_err(failed)?.into_iter().map(Payout::from).collect();
        Ok(connection(found, rows, after.is_some(), |payout: &Payout| payout.payout_id.0.to_string()))
    }

    /// What the signed actor ever earned, oldest first.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn statement(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, StatementLine>> {
        let rows = page_size(first)?;
        let after = cursor_id::<PayableId>(after)?;
        let found =
            payouts::read_statement(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, after, rows + 1).await;
        let found = found.map_err(failed)?.into_iter().map(StatementLine::from).collect();
        Ok(connection(found, rows, after.is_some(), |line: &StatementLine| line.payable_id.0.to_string()))
    }
}
