//! Subscriptions: an agent's own feed, from any cursor, without gap or double.

use std::sync::Arc;

use async_graphql::{Context, Enum, Result, SimpleObject, Subscription as GraphqlSubscription};
use futures_util::Stream;
use ledger::market::{self, FeedEvent, FeedKind};
use proto::ids::OrderId;
use tokio::sync::OwnedSemaphorePermit;

use super::command::coded;
use super::orders::Order;
use super::scalars::{AmountText, Hex32, Id, Micros};
use super::{actor, failed, signer, state};
use crate::server::problem::Problem;
use crate::ws::feed::{Cursor, Follower, Step};
use crate::ws::graphql::Slots;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum EventKind {
    /// The agent is asked for an offer.
    Rfq,
    /// An offer came for the agent's RFQ.
    Offer,
    /// The agent was chosen and may execute.
    Ticket,
    /// An order of the agent changed state.
    Order,
    /// An order of the agent ended.
    Closed,
    /// An RFQ ended without the agent.
    RfqClosed,
    /// A payout to the agent changed state.
    Payout,
}

/// One event of the signed actor's feed. Times are ledger time in Unix microseconds, amounts minor units.
#[derive(Debug, SimpleObject)]
pub struct Event {
    /// Hand it back as `after` to go on behind this event.
    cursor: String,
    /// What it is about.
    kind: EventKind,
    /// The RFQ, offer, order or payout, by kind.
    subject_id: Id,
    /// When.
    at_us: Micros,
    /// Of every kind but PAYOUT.
    rfq_id: Option<Id>,
    /// OFFER, TICKET, ORDER, CLOSED.
    offer_id: Option<Id>,
    /// TICKET, ORDER, CLOSED.
    order_id: Option<Id>,
    /// PAYOUT.
    payout_id: Option<Id>,
    /// The state that this event brought about.
    state: Option<String>,
    /// Why an order is disputed or was refunded.
    cause: Option<String>,
    /// The asset of the amounts.
    asset_id: Option<u32>,
    /// Of the RFQ.
    work_class: Option<String>,
    /// Of the RFQ.
    work_units: Option<i64>,
    /// Of the RFQ.
    max_price: Option<AmountText>,
    /// Of the ticket, offer or RFQ, by kind.
    expires_at_us: Option<Micros>,
    /// ORDER, CLOSED.
    output_hash: Option<Hex32>,
    /// Who executes or offers.
    provider_id: Option<Id>,
    /// OFFER: for the whole order.
    price: Option<AmountText>,
    /// CLOSED: to the split.
    paid: Option<AmountText>,
    /// CLOSED: back to the buyer.
    refunded: Option<AmountText>,
    /// CLOSED: what this agent gets of it.
    earned: Option<AmountText>,
    /// PAYOUT: how much.
    amount: Option<AmountText>,
}

impl From<FeedEvent> for Event {
    fn from(event: FeedEvent) -> Self {
        Self {
            cursor: Cursor::of(&event).to_string(),
            kind: match event.kind {
                FeedKind::Rfq => EventKind::Rfq,
                FeedKind::Offer => EventKind::Offer,
                FeedKind::Ticket => EventKind::Ticket,
                FeedKind::Order => EventKind::Order,
                FeedKind::Closed => EventKind::Closed,
                FeedKind::RfqClosed => EventKind::RfqClosed,
                FeedKind::Payout => EventKind::Payout,
            },
            subject_id: event.subject_id.into(),
            at_us: Micros(event.at_us),
            rfq_id: event.rfq_id.map(Id::from),
            offer_id: event.offer_id.map(Id::from),
            order_id: event.order_id.map(Id::from),
            payout_id: event.payout_id.map(Id::from),
            state: event.state,
            cause: event.cause,
            asset_id: event.asset_id,
            work_class: event.work_class,
            work_units: event.work_units,
            max_price: event.max_price.map(AmountText),
            expires_at_us: event.expires_at_us.map(Micros),
            output_hash: event.output_hash.map(|hash| Hex32(*hash.as_bytes())),
            provider_id: event.provider_id.map(Id::from),
            price: event.price.map(AmountText),
            paid: event.paid.map(AmountText),
            refunded: event.refunded.map(AmountText),
            earned: event.earned.map(AmountText),
            amount: event.amount.map(AmountText),
        }
    }
}

/// An order's state at one moment.
#[derive(Debug, SimpleObject)]
pub struct OrderStatus {
    /// Hand it back as `after` to go on behind this state.
    cursor: String,
    /// ordered, running, reported, disputed, accepted, settled or refunded.
    state: String,
    /// Why it is disputed or was refunded.
    cause: Option<String>,
    /// Ledger time, Unix microseconds; null: the state at the time of subscribing.
    at_us: Option<Micros>,
    /// The order as it is now.
    order: Order,
}

/// Live data. Every subscription takes a cursor.
#[derive(Debug)]
pub struct Subscription;

#[GraphqlSubscription]
impl Subscription {
    /// The signed actor's events behind the cursor `after` ("0": from the beginning), in log order.
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        #[graphql(default_with = "\"0\".to_owned()")] after: String,
    ) -> Result<impl Stream<Item = Result<Event>> + use<>> {
        let feed = follow(ctx, ledger_id, parse(&after)?)?;
        let slot = slot(ctx)?;
        let start = Reading { feed, slot, waiting: Vec::new().into_iter(), done: false };
        Ok(futures_util::stream::unfold(start, |mut reading| async move {
            let event = reading.next().await?;
            Some((event.map(Event::from), reading))
        }))
    }

    /// The states of one of the signed actor's orders behind the cursor `after`; without it first the present state. Ends
    /// with the order.
    async fn order_status(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        order_id: Id,
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<OrderStatus>> + use<>> {
        let (actor, state) = (actor(ctx)?, state(ctx)?.clone());
        let order_id = OrderId::from_uuid(order_id.0);
        // The head is read before the order: what happens in between is in both, and told once.
        let ledgers = ledger::base::read_ledgers(&state.reader).await.map_err(failed)?;
        let head =
            ledgers.iter().find(|ledger| ledger.ledger_id == ledger_id).map_or(0, |ledger| ledger.last_seq);
        let order =
            market::read_order(&state.reader, Some(actor), ledger_id, order_id).await.map_err(failed)?;
        let missing = || coded(&Problem::new("UM403", "there is no such order, or it is not yours"));
        let order = Order::from(order.ok_or_else(missing)?);
        let cursor = after.as_deref().map(parse).transpose()?;
        let feed = follow(ctx, ledger_id, cursor.unwrap_or(Cursor::after_seq(head)))?;
        let first = cursor.is_none().then(|| OrderStatus {
            cursor: Cursor::after_seq(head).to_string(),
            state: order.state.clone(),
            cause: order.cause.clone(),
            at_us: None,
            order,
        });
        let told = first.as_ref().map(|first| first.state.clone());
        let slot = slot(ctx)?;
        let reading = Reading { feed, slot, waiting: Vec::new().into_iter(), done: false };
        let start = (reading, first, told);
        Ok(futures_util::stream::unfold(start, move |(mut reading, first, mut told)| {
            let state = state.clone();
            async move {
                if let Some(first) = first {
                    reading.done = is_final(&first.state);
                    return Some((Ok(first), (reading, None, told)));
                }
                loop {
                    let event = match reading.next().await? {
                        Ok(event) => event,
                        Err(error) => return Some((Err(error), (reading, None, told))),
                    };
                    let Some(now) = event.state.clone().filter(|_| event.order_id == Some(order_id)) else {
                        continue;
                    };
                    if told.as_ref() == Some(&now) {
                        continue;
                    }
                    told = Some(now.clone());
                    reading.done = is_final(&now);
                    let order = market::read_order(&state.reader, Some(actor), ledger_id, order_id).await;
                    let status = order.map_err(failed).and_then(|order| {
                        let missing =
                            || coded(&Problem::new("UM403", "there is no such order, or it is not yours"));
                        Ok(OrderStatus {
                            cursor: Cursor::of(&event).to_string(),
                            state: now,
                            cause: event.cause.clone(),
                            at_us: Some(Micros(event.at_us)),
                            order: Order::from(order.ok_or_else(missing)?),
                        })
                    });
                    return Some((status, (reading, None, told)));
                }
            }
        }))
    }
}

fn is_final(state: &str) -> bool {
    matches!(state, "settled" | "refunded")
}

fn parse(after: &str) -> Result<Cursor> {
    after.parse().map_err(|problem| coded(&problem))
}

fn follow(ctx: &Context<'_>, ledger_id: u32, after: Cursor) -> Result<Follower> {
    let actor = actor(ctx)?;
    let key_id = signer(ctx).map(|signer| signer.key.id());
    let key_id =
        key_id.ok_or_else(|| coded(&Problem::new("UI201", "sign the request that opens the connection")))?;
    Ok(Follower::new(Arc::clone(state(ctx)?), actor, key_id, ledger_id, after))
}

/// A place among the connection's subscriptions. UB701: all are taken.
fn slot(ctx: &Context<'_>) -> Result<OwnedSemaphorePermit> {
    let slots = ctx.data_opt::<Slots>().map(|slots| slots.0.clone());
    let slots =
        slots.ok_or_else(|| coded(&Problem::new("UB109", "subscriptions travel over /graphql/ws only")))?;
    let full = |_| coded(&Problem::new("UB701", "too many subscriptions on this connection"));
    slots.try_acquire_owned().map_err(full)
}

/// A feed read event by event.
struct Reading {
    feed: Follower,
    #[allow(dead_code, reason = "held while the subscription lives")]
    slot: OwnedSemaphorePermit,
    waiting: std::vec::IntoIter<FeedEvent>,
    done: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<FeedEvent>> {
        loop {
            if let Some(event) = self.waiting.next() {
                return (!self.done).then_some(Ok(event));
            }
            if self.done {
                return None;
            }
            match self.feed.next().await {
                Ok(Step::Events(events)) => self.waiting = events.into_iter(),
                Ok(Step::CaughtUp(_)) => {}
                Err(problem) => {
                    self.done = true;
                    return Some(Err(coded(&problem)));
                }
            }
        }
    }
}
