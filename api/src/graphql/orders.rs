//! Orders, from the ticket to the judgement of the output.

use async_graphql::connection::Connection;
use async_graphql::{Context, InputObject, Object, Result, SimpleObject};
use ledger::market;
use proto::ids::OrderId;
use proto::v1;
use proto::v1::command_body::Kind;

use super::command::carry;
use super::result::CommandResult;
use super::scalars::{AmountText, Count, Hex32, Id, Micros};
use super::{PAGE_DEFAULT, actor, connection, cursor_id, failed, page_size, state};

/// Message StartAttempt.
#[derive(Debug, InputObject)]
pub struct StartAttemptInput {
    /// The ticket that is redeemed.
    run_ticket_id: Id,
    /// Chosen by the provider: UUIDv7.
    attempt_id: Id,
}

/// Message ReportOutput.
#[derive(Debug, InputObject)]
pub struct ReportOutputInput {
    /// The ticket.
    run_ticket_id: Id,
    /// The attempt.
    attempt_id: Id,
    /// BLAKE3 of the output artifact.
    output_hash: Hex32,
}

/// Message FailAttempt.
#[derive(Debug, InputObject)]
pub struct FailAttemptInput {
    /// The ticket.
    run_ticket_id: Id,
    /// The attempt; left out when none was started.
    attempt_id: Option<Id>,
    /// crash, input_missing, unsupported or cancelled.
    reason: String,
}

/// Message AcceptOutput.
#[derive(Debug, InputObject)]
pub struct AcceptOutputInput {
    /// Which order.
    order_id: Id,
    /// What the buyer saw.
    output_hash: Hex32,
}

/// Message RejectOutput.
#[derive(Debug, InputObject)]
pub struct RejectOutputInput {
    /// Which order.
    order_id: Id,
    /// What the buyer saw.
    output_hash: Hex32,
    /// wrong_output, over_report or missing_output.
    reason: String,
}

/// Commands about orders.
#[derive(Debug, Default)]
pub struct OrderMutation;

#[Object]
impl OrderMutation {
    /// The provider redeems its run ticket.
    async fn start_attempt(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: StartAttemptInput,
    ) -> Result<CommandResult> {
        let start = v1::StartAttempt {
            run_ticket_id: input.run_ticket_id.bytes(),
            attempt_id: input.attempt_id.bytes(),
        };
        carry(ctx, ledger_id, Kind::StartAttempt(start))
    }

    /// The provider names the output artifact.
    async fn report_output(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: ReportOutputInput,
    ) -> Result<CommandResult> {
        let report = v1::ReportOutput {
            run_ticket_id: input.run_ticket_id.bytes(),
            attempt_id: input.attempt_id.bytes(),
            output_hash: input.output_hash.bytes(),
        };
        carry(ctx, ledger_id, Kind::ReportOutput(report))
    }

    /// The provider gives the order up; the buyer is refunded.
    async fn fail_attempt(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: FailAttemptInput,
    ) -> Result<CommandResult> {
        let fail = v1::FailAttempt {
            run_ticket_id: input.run_ticket_id.bytes(),
            attempt_id: input.attempt_id.map(Id::bytes).unwrap_or_default(),
            reason: input.reason,
        };
        carry(ctx, ledger_id, Kind::FailAttempt(fail))
    }

    /// The buyer accepts the output it saw.
    async fn accept_output(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: AcceptOutputInput,
    ) -> Result<CommandResult> {
        let accept =
            v1::AcceptOutput { order_id: input.order_id.bytes(), output_hash: input.output_hash.bytes() };
        carry(ctx, ledger_id, Kind::AcceptOutput(accept))
    }

    /// The buyer disputes the output it saw; a verifier judges.
    async fn reject_output(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: RejectOutputInput,
    ) -> Result<CommandResult> {
        let reject = v1::RejectOutput {
            order_id: input.order_id.bytes(),
            output_hash: input.output_hash.bytes(),
            reason: input.reason,
        };
        carry(ctx, ledger_id, Kind::RejectOutput(reject))
    }
}

/// An order, for its buyer and its provider. Times are ledger time in Unix microseconds, amounts minor units.
#[derive(Debug, Clone, SimpleObject)]
pub struct Order {
    /// Its id.
    order_id: Id,
    /// The RFQ it came from.
    rfq_id: Id,
    /// The offer it was made of.
    offer_id: Id,
    /// Who pays.
    buyer_id: Id,
    /// Who executes.
    provider_id: Id,
    /// The asset.
    asset_id: u32,
    /// For example gemm.int8.
    work_class: String,
    /// Per work unit.
    price_per_unit: AmountText,
    /// Ordered.
    work_units: Count,
    /// In escrow from the start.
    held: AmountText,
    /// The single-use right to run it.
    run_ticket_id: Id,
    /// The execution, once it started.
    attempt_id: Option<Id>,
    /// The input artifact.
    input_hash: Hex32,
    /// The output artifact, once reported.
    output_hash: Option<Hex32>,
    /// ordered, running, reported, disputed, accepted, settled or refunded.
    pub(super) state: String,
    /// Why it is disputed or was refunded.
    pub(super) cause: Option<String>,
    /// When it was made.
    ordered_at_us: Micros,
    /// Until when its ticket may be used.
    ticket_expires_at_us: Micros,
    /// When the attempt started.
    started_at_us: Option<Micros>,
    /// When the output was reported.
    reported_at_us: Option<Micros>,
    /// Until when the buyer may judge.
    judge_by_us: Option<Micros>,
    /// When it was judged.
    judged_at_us: Option<Micros>,
    /// When it was settled or refunded.
    closed_at_us: Option<Micros>,
    /// By the newest accepted metering row.
    metered_units: Option<Count>,
    /// Paid for: the smaller of metered and ordered.
    billed_units: Option<Count>,
    /// To the split.
    paid: Option<AmountText>,
    /// Back to the buyer.
    refunded: Option<AmountText>,
    /// What the signed actor gets of it.
    earned: Option<AmountText>,
}

impl From<market::Order> for Order {
    fn from(order: market::Order) -> Self {
        Self {
            order_id: order.order_id.into(),
            rfq_id: order.rfq_id.into(),
            offer_id: order.offer_id.into(),
            buyer_id: order.buyer_id.into(),
            provider_id: order.provider_id.into(),
            asset_id: order.asset_id,
            work_class: order.work_class,
            price_per_unit: AmountText(order.price_per_unit),
            work_units: Count(order.work_units),
            held: AmountText(order.held),
            run_ticket_id: order.run_ticket_id.into(),
            attempt_id: order.attempt_id.map(Id::from),
            input_hash: Hex32(*order.input_hash.as_bytes()),
            output_hash: order.output_hash.map(|hash| Hex32(*hash.as_bytes())),
            state: order.state,
            cause: order.cause,
            ordered_at_us: Micros(order.ordered_at_us),
            ticket_expires_at_us: Micros(order.ticket_expires_at_us),
            started_at_us: order.started_at_us.map(Micros),
            reported_at_us: order.reported_at_us.map(Micros),
            judge_by_us: order.judge_by_us.map(Micros),
            judged_at_us: order.judged_at_us.map(Micros),
            closed_at_us: order.closed_at_us.map(Micros),
            metered_units: order.metered_units.map(Count),
            billed_units: order.billed_units.map(Count),
            paid: order.paid.map(AmountText),
            refunded: order.refunded.map(AmountText),
            earned: order.earned.map(AmountText),
        }
    }
}

/// Reads about orders.
#[derive(Debug, Default)]
pub struct OrderQuery;

#[Object]
impl OrderQuery {
    /// One order; only its buyer and its provider see it.
    async fn order(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        id: Id,
    ) -> Result<Option<Order>> {
        let order_id = OrderId::from_uuid(id.0);
        let found = market::read_order(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, order_id).await;
        Ok(found.map_err(failed)?.map(Order::from))
    }

    /// Orders that the signed actor bought or provides, newest first.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn orders(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, Order>> {
        let rows = page_size(first)?;
        let after = cursor_id::<OrderId>(after)?;
        let found =
            market::read_orders(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, after, rows + 1).await;
        let found = found.map_err(failed)?.into_iter().map(Order::from).collect();
        Ok(connection(found, rows, after.is_some(), |order: &Order| order.order_id.0.to_string()))
    }
}
