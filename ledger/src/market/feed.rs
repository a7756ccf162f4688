//! An agent's feed: what it is told, in log order.

use proto::ids::{AgentId, ArtifactHash, KeyId, OfferId, OrderId, PayoutId, RfqId, RunTicketId};
use proto::money::Amount;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::Error;
use crate::reader::{
    Reader, amount, amount_or_none, bigint, bytes32, bytes32_or_none, count, get, id, id_or_none, int,
    small_or_none,
};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeedKind {
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

/// One event, filled as far as its kind has it. Times are ledger time in Unix microseconds, amounts minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// The cursor: seq of the command that made the news.
    pub seq: u64,
    /// Order within the command.
    pub n: i16,
    /// What it is about.
    pub kind: FeedKind,
    /// The RFQ, offer, order or payout, by kind.
    pub subject_id: Uuid,
    /// When.
    pub at_us: i64,
    /// Of every kind but payout.
    pub rfq_id: Option<RfqId>,
    /// offer, ticket, order, closed.
    pub offer_id: Option<OfferId>,
    /// ticket, order, closed.
    pub order_id: Option<OrderId>,
    /// payout.
    pub payout_id: Option<PayoutId>,
    /// The state that this event brought about.
    pub state: Option<String>,
    /// Why an order is disputed or was refunded.
    pub cause: Option<String>,
    /// The asset of the amounts.
    pub asset_id: Option<u32>,
    /// Of the RFQ.
    pub work_class: Option<String>,
    /// Of the RFQ.
    pub work_units: Option<i64>,
    /// Of the RFQ.
    pub max_price: Option<Amount>,
    /// Of the RFQ.
    pub opened_at_us: Option<i64>,
    /// Of the ticket, offer or RFQ, by kind.
    pub expires_at_us: Option<i64>,
    /// order, closed.
    pub output_hash: Option<ArtifactHash>,
    /// Who executes or offers.
    pub provider_id: Option<AgentId>,
    /// offer: for the whole order.
    pub price: Option<Amount>,
    /// closed: to the split.
    pub paid: Option<Amount>,
    /// closed: back to the buyer.
    pub refunded: Option<Amount>,
    /// closed: what this agent gets of it.
    pub earned: Option<Amount>,
    /// payout: how much.
    pub amount: Option<Amount>,
    /// ticket: everything that the signed run ticket states.
    pub ticket: Option<Ticket>,
}

/// The run ticket of an order, as the database holds it: the same row gives the same signed bytes every time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its id.
    pub run_ticket_id: RunTicketId,
    /// The order it belongs to.
    pub order_id: OrderId,
    /// Who may redeem it.
    pub provider_id: AgentId,
    /// With which key.
    pub provider_key_id: KeyId,
    /// The input artifact.
    pub input_hash: ArtifactHash,
    /// For example gemm.int8.
    pub work_class: String,
    /// The most that is paid for.
    pub max_work_units: u64,
    /// The asset of the price.
    pub asset_id: u32,
    /// What is held, minor units.
    pub max_spend: Amount,
    /// How long the execution may take.
    pub max_duration_ms: i64,
    /// Ledger time, Unix microseconds.
    pub issued_at_us: i64,
    /// Likewise.
    pub expires_at_us: i64,
    /// 16 bytes.
    pub nonce: Vec<u8>,
}

impl Ticket {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            run_ticket_id: id(row, "run_ticket_id", RunTicketId::from_uuid)?,
            order_id: id(row, "order_id", OrderId::from_uuid)?,
            provider_id: id(row, "provider_id", AgentId::from_uuid)?,
            provider_key_id: KeyId::from_bytes(bytes32(row, "provider_key_id")?),
            input_hash: ArtifactHash::from_bytes(bytes32(row, "input_hash")?),
            work_class: get(row, "work_class")?,
            max_work_units: count(row, "work_units")?,
            asset_id: small_or_none(row, "asset_id")?.unwrap_or_default(),
            max_spend: amount(row, "held")?,
            max_duration_ms: get(row, "max_duration_ms")?,
            issued_at_us: get(row, "issued_at_us")?,
            expires_at_us: get(row, "expires_at_us")?,
            nonce: get(row, "nonce")?,
        })
    }
}

impl FeedEvent {
    fn of(row: &Row) -> Result<Self, Error> {
        let kind = match get(row, "kind")? {
            "rfq" => FeedKind::Rfq,
            "offer" => FeedKind::Offer,
            "ticket" => FeedKind::Ticket,
            "order" => FeedKind::Order,
            "closed" => FeedKind::Closed,
            "rfq_closed" => FeedKind::RfqClosed,
            "payout" => FeedKind::Payout,
            other => {
                return Err(Error::new("UB900", format!("market.read_feeds names an unknown kind {other}")));
            }
        };
        Ok(Self {
            seq: count(row, "seq")?,
            n: get(row, "n")?,
            kind,
            subject_id: get(row, "subject_id")?,
            at_us: get(row, "at_us")?,
            rfq_id: id_or_none(row, "rfq_id", RfqId::from_uuid)?,
            offer_id: id_or_none(row, "offer_id", OfferId::from_uuid)?,
            order_id: id_or_none(row, "order_id", OrderId::from_uuid)?,
            payout_id: id_or_none(row, "payout_id", PayoutId::from_uuid)?,
            state: get(row, "state")?,
            cause: get(row, "cause")?,
            asset_id: small_or_none(row, "asset_id")?,
            work_class: get(row, "work_class")?,
            work_units: get(row, "work_units")?,
            max_price: amount_or_none(row, "max_price")?,
            opened_at_us: get(row, "opened_at_us")?,
            expires_at_us: get(row, "expires_at_us")?,
            output_hash: bytes32_or_none(row, "output_hash")?.map(ArtifactHash::from_bytes),
            provider_id: id_or_none(row, "provider_id", AgentId::from_uuid)?,
            price: amount_or_none(row, "price")?,
            paid: amount_or_none(row, "paid")?,
            refunded: amount_or_none(row, "refunded")?,
            earned: amount_or_none(row, "earned")?,
            amount: amount_or_none(row, "amount")?,
            ticket: (kind == FeedKind::Ticket).then(|| Ticket::of(row)).transpose()?,
        })
    }
}

/// The actor's events after the cursor `after`, about `limit` of them: the events of one seq are never parted, so whoever
/// goes on from the last seq it saw has neither gap nor double. Calls `market.read_feeds`.
pub async fn read_feed(
    reader: &Reader,
    actor: AgentId,
    ledger_id: u32,
    after: u64,
    limit: u32,
) -> Result<Vec<FeedEvent>, Error> {
    let events = read_feeds(reader, ledger_id, &[(actor, after)], limit).await?;
    Ok(events.into_iter().map(|(_, event)| event).collect())
}

/// The same for many agents at once, each with its own cursor; agent by agent. Calls `market.read_feeds`.
pub async fn read_feeds(
    reader: &Reader,
    ledger_id: u32,
    places: &[(AgentId, u64)],
    limit: u32,
) -> Result<Vec<(AgentId, FeedEvent)>, Error> {
    let sql = "select agent_id, seq, n, kind, subject_id, (extract(epoch from at) * 1000000)::bigint as at_us, rfq_id, offer_id, \
               order_id, payout_id, state, cause, asset_id, work_class, work_units, max_price::text, \
               (extract(epoch from opened_at) * 1000000)::bigint as opened_at_us, \
               (extract(epoch from expires_at) * 1000000)::bigint as expires_at_us, max_duration_ms, input_hash, output_hash, \
               provider_id, provider_key_id, price::text, held::text, run_ticket_id, \
               (extract(epoch from issued_at) * 1000000)::bigint as issued_at_us, nonce, \
               paid::text, refunded::text, earned::text, amount::text from market.read_feeds($1, $2, $3, $4)";
    let actors: Vec<Uuid> = places.iter().map(|(actor, _)| Uuid::from(*actor)).collect();
    let afters: Vec<i64> = places.iter().map(|(_, after)| bigint(*after)).collect();
    let rows = reader.rows(sql, &[&int(ledger_id)?, &actors, &afters, &int(limit)?]).await?;
    rows.iter().map(|row| Ok((id(row, "agent_id", AgentId::from_uuid)?, FeedEvent::of(row)?))).collect()
}
