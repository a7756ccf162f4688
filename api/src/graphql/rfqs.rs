//! Requests for quotation.

use async_graphql::connection::Connection;
use async_graphql::{Context, InputObject, Object, Result, SimpleObject};
use ledger::market;
use proto::ids::RfqId;
use proto::v1;
use proto::v1::command_body::Kind;

use super::command::carry;
use super::result::CommandResult;
use super::scalars::{AmountText, Count, Hex32, Id, Micros};
use super::{PAGE_DEFAULT, actor, connection, cursor_id, failed, page_size, state};

/// Message OpenRfq.
#[derive(Debug, InputObject)]
pub struct OpenRfqInput {
    /// Chosen by the buyer: UUIDv7 within 24 h of ledger time.
    rfq_id: Id,
    /// For example gemm.int8.
    work_class: String,
    /// Left out: any.
    #[graphql(default)]
    region: String,
    /// BLAKE3 of the input artifact.
    input_hash: Hex32,
    /// Size of the job.
    work_units: Count,
    /// The asset of the price.
    asset_id: u32,
    /// The most the buyer pays for the whole order, minor units.
    max_price: AmountText,
    /// How long offers are taken.
    valid_for_ms: u32,
    /// How long one execution may take once its ticket is issued.
    max_duration_ms: u32,
    /// Who made what runs: gets the creator share.
    creator_id: Option<Id>,
    /// Who brought the buyer: gets the referrer share.
    referrer_id: Option<Id>,
    /// How many providers to ask; 0: the market's default.
    #[graphql(default)]
    max_providers: u32,
}

/// Message CancelRfq.
#[derive(Debug, InputObject)]
pub struct CancelRfqInput {
    /// Which.
    rfq_id: Id,
}

/// Commands about RFQs.
#[derive(Debug, Default)]
pub struct RfqMutation;

#[Object]
impl RfqMutation {
    /// Asks for offers and invites eligible providers. Buyer keys only.
    async fn open_rfq(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: OpenRfqInput,
    ) -> Result<CommandResult> {
        let open = v1::OpenRfq {
            rfq_id: input.rfq_id.bytes(),
            work_class: input.work_class,
            region: input.region,
            input_hash: input.input_hash.bytes(),
            work_units: input.work_units.0,
            asset_id: input.asset_id,
            max_price: input.max_price.0.to_string(),
            valid_for_ms: input.valid_for_ms,
            max_duration_ms: input.max_duration_ms,
            creator_id: input.creator_id.map(Id::bytes).unwrap_or_default(),
            referrer_id: input.referrer_id.map(Id::bytes).unwrap_or_default(),
            max_providers: input.max_providers,
        };
        carry(ctx, ledger_id, Kind::OpenRfq(open))
    }

    /// Withdraws an open RFQ.
    async fn cancel_rfq(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: CancelRfqInput,
    ) -> Result<CommandResult> {
        carry(ctx, ledger_id, Kind::CancelRfq(v1::CancelRfq { rfq_id: input.rfq_id.bytes() }))
    }
}

/// A request for quotation, for its buyer and the providers it invited.
#[derive(Debug, SimpleObject)]
pub struct Rfq {
    /// Its id.
    rfq_id: Id,
    /// Who asks.
    buyer_id: Id,
    /// For example gemm.int8.
    work_class: String,
    /// null: any.
    region: Option<String>,
    /// The input artifact.
    input_hash: Hex32,
    /// Size of the job.
    work_units: Count,
    /// The asset of the price.
    asset_id: u32,
    /// The most the buyer pays, minor units.
    max_price: AmountText,
    /// How long one execution may take.
    max_duration_ms: Count,
    /// Gets the creator share.
    creator_id: Option<Id>,
    /// Gets the referrer share.
    referrer_id: Option<Id>,
    /// Ledger time, Unix microseconds.
    opened_at_us: Micros,
    /// Offers are taken until then.
    expires_at_us: Micros,
    /// open, ordered, expired or cancelled.
    state: String,
    /// Providers asked; the buyer only.
    invited: Option<i32>,
    /// Offers that came; the buyer only.
    offers: Option<i32>,
    /// The order made of it; the buyer only.
    order_id: Option<Id>,
}

impl From<market::Rfq> for Rfq {
    fn from(rfq: market::Rfq) -> Self {
        Self {
            rfq_id: rfq.rfq_id.into(),
            buyer_id: rfq.buyer_id.into(),
            work_class: rfq.work_class,
            region: rfq.region,
            input_hash: Hex32(*rfq.input_hash.as_bytes()),
            work_units: Count(rfq.work_units),
            asset_id: rfq.asset_id,
            max_price: AmountText(rfq.max_price),
            max_duration_ms: Count(rfq.max_duration_ms),
            creator_id: rfq.creator_id.map(Id::from),
            referrer_id: rfq.referrer_id.map(Id::from),
            opened_at_us: Micros(rfq.opened_at_us),
            expires_at_us: Micros(rfq.expires_at_us),
            state: rfq.state,
            invited: rfq.invited,
            offers: rfq.offers,
            order_id: rfq.order_id.map(Id::from),
        }
    }
}

/// Reads about RFQs.
#[derive(Debug, Default)]
pub struct RfqQuery;

#[Object]
impl RfqQuery {
    /// One RFQ; only its buyer and invited providers see it.
    async fn rfq(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        id: Id,
    ) -> Result<Option<Rfq>> {
        let found =
            market::read_rfq(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, RfqId::from_uuid(id.0)).await;
        Ok(found.map_err(failed)?.map(Rfq::from))
    }

    /// The signed buyer's own RFQs, newest first.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn rfqs(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, Rfq>> {
        let rows = page_size(first)?;
        let after = cursor_id::<RfqId>(after)?;
        let found =
            market::read_rfqs(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, after, rows + 1).await;
        let found = found.map_err(failed)?.into_iter().map(Rfq::from).collect();
        Ok(connection(found, rows, after.is_some(), |rfq: &Rfq| rfq.rfq_id.0.to_string()))
    }
}
