//! Offers, and the acceptance that makes an order of one.

use async_graphql::{Context, InputObject, Object, Result, SimpleObject};
use ledger::market;
use proto::ids::RfqId;
use proto::v1;
use proto::v1::command_body::Kind;

use super::command::carry;
use super::result::CommandResult;
use super::scalars::{AmountText, Id, Micros};
use super::{actor, failed, state};

/// Message SubmitOffer.
#[derive(Debug, InputObject)]
pub struct SubmitOfferInput {
    /// Chosen by the provider: UUIDv7.
    offer_id: Id,
    /// What it answers.
    rfq_id: Id,
    /// Minor units per work unit.
    price_per_unit: AmountText,
    /// How long it stands.
    valid_for_ms: u32,
}

/// Message AcceptOffer.
#[derive(Debug, InputObject)]
pub struct AcceptOfferInput {
    /// Which.
    offer_id: Id,
    /// The buyer's own cap, minor units: the smaller of it and the price is held in escrow.
    spend_cap: AmountText,
}

/// Commands about offers.
#[derive(Debug, Default)]
pub struct OfferMutation;

#[Object]
impl OfferMutation {
    /// Offers to run an RFQ at a unit price. Provider keys only.
    async fn submit_offer(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: SubmitOfferInput,
    ) -> Result<CommandResult> {
        let offer = v1::SubmitOffer {
            offer_id: input.offer_id.bytes(),
            rfq_id: input.rfq_id.bytes(),
            price_per_unit: input.price_per_unit.0.to_string(),
            valid_for_ms: input.valid_for_ms,
        };
        carry(ctx, ledger_id, Kind::SubmitOffer(offer))
    }

    /// Makes an order of an offer, holds its maximum in escrow and issues the run ticket. Buyer keys only.
    async fn accept_offer(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: AcceptOfferInput,
    ) -> Result<CommandResult> {
        let accept =
            v1::AcceptOffer { offer_id: input.offer_id.bytes(), spend_cap: input.spend_cap.0.to_string() };
        carry(ctx, ledger_id, Kind::AcceptOffer(accept))
    }
}

/// An offer.
#[derive(Debug, SimpleObject)]
pub struct Offer {
    /// Its id.
    offer_id: Id,
    /// What it answers.
    rfq_id: Id,
    /// Who offers.
    provider_id: Id,
    /// The asset of the price.
    asset_id: u32,
    /// Minor units per work unit.
    price_per_unit: AmountText,
    /// For the whole order, minor units.
    price: AmountText,
    /// Ledger time, Unix microseconds.
    offered_at_us: Micros,
    /// It stands until then.
    expires_at_us: Micros,
    /// open, accepted or lapsed.
    state: String,
}

impl From<market::Offer> for Offer {
    fn from(offer: market::Offer) -> Self {
        Self {
            offer_id: offer.offer_id.into(),
            rfq_id: offer.rfq_id.into(),
            provider_id: offer.provider_id.into(),
            asset_id: offer.asset_id,
            price_per_unit: AmountText(offer.price_per_unit),
            price: AmountText(offer.price),
            offered_at_us: Micros(offer.offered_at_us),
            expires_at_us: Micros(offer.expires_at_us),
            state: offer.state,
        }
    }
}

/// Reads about offers.
#[derive(Debug, Default)]
pub struct OfferQuery;

#[Object]
impl OfferQuery {
    /// The offers of an RFQ, cheapest first: all for its buyer, its own for a provider.
    async fn offers(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        rfq_id: Id,
    ) -> Result<Vec<Offer>> {
        let rfq_id = RfqId::from_uuid(rfq_id.0);
        let found = market::read_offers(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, rfq_id).await;
        Ok(found.map_err(failed)?.into_iter().map(Offer::from).collect())
    }
}
