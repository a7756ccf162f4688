//! Mirror of the SQL domain `market`: ads, RFQs, offers, orders, what is due, and each agent's feed.

mod feed;

use proto::ids::{AgentId, ArtifactHash, AttemptId, OfferId, OrderId, RfqId, RunTicketId};
use proto::money::Amount;
use tokio_postgres::Row;
use uuid::Uuid;

pub use feed::{FeedEvent, FeedKind, Ticket, read_feed, read_feeds};

use crate::error::Error;
use crate::reader::{
    Reader, amount, amount_or_none, bytes32, bytes32_or_none, count, count_or_none, get, id, id_or_none, int,
    small, time,
};

/// How a market is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Providers that an RFQ asks unless it says otherwise.
    pub default_providers: i16,
    /// Providers that an RFQ asks at most.
    pub max_providers: i16,
    /// How long a buyer has to judge an output, milliseconds.
    pub acceptance_window_ms: i64,
    /// How much later than its time a ticket is given up, milliseconds.
    pub ticket_grace_ms: i64,
}

/// The market's settings; `None`: no such ledger. Calls `market.read_settings`.
pub async fn read_settings(reader: &Reader, ledger_id: u32) -> Result<Option<Settings>, Error> {
    let sql = "select default_providers, max_providers, acceptance_window_ms, ticket_grace_ms \
               from market.read_settings($1)";
    let row = reader.row(sql, &[&int(ledger_id)?]).await?;
    row.map(|row| {
        Ok(Settings {
            default_providers: get(&row, "default_providers")?,
            max_providers: get(&row, "max_providers")?,
            acceptance_window_ms: get(&row, "acceptance_window_ms")?,
            ticket_grace_ms: get(&row, "ticket_grace_ms")?,
        })
    })
    .transpose()
}

/// An active capability ad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ad {
    /// Who offers.
    pub provider_id: AgentId,
    /// Who earns in the end.
    pub beneficial_owner_id: AgentId,
    /// For example gemm.int8.
    pub work_class: String,
    /// Where.
    pub region: String,
    /// cpu, or the GPU's product name.
    pub device_kind: String,
    /// Devices behind it.
    pub device_count: i32,
    /// The asset of the price.
    pub asset_id: u32,
    /// Minor units per work unit.
    pub price_per_unit: Amount,
    /// Orders it runs at a time.
    pub max_concurrency: i32,
    /// Largest job it takes, work units.
    pub max_work_units: u64,
    /// Its live connection is up.
    pub reachable: bool,
    /// Orders that are ordered or running.
    pub live_orders: i32,
    /// Ledger time, Unix microseconds.
    pub published_at_us: i64,
}

/// Active ads of a work class (`None`: all), cheapest first within class and asset. Calls `market.read_ads`.
pub async fn read_ads(
    reader: &Reader,
    ledger_id: u32,
    work_class: Option<&str>,
    limit: u32,
) -> Result<Vec<Ad>, Error> {
    let sql = "select provider_id, beneficial_owner_id, work_class, region, device_kind, device_count, asset_id, \
               price_per_unit::text, max_concurrency, max_work_units, reachable, live_orders, \
               (extract(epoch from published_at) * 1000000)::bigint as published_at_us from market.read_ads($1, $2, $3)";
    let rows = reader.rows(sql, &[&int(ledger_id)?, &work_class, &int(limit)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(Ad {
                provider_id: id(row, "provider_id", AgentId::from_uuid)?,
                beneficial_owner_id: id(row, "beneficial_owner_id", AgentId::from_uuid)?,
                work_class: get(row, "work_class")?,
                region: get(row, "region")?,
                device_kind: get(row, "device_kind")?,
                device_count: get(row, "device_count")?,
                asset_id: small(row, "asset_id")?,
                price_per_unit: amount(row, "price_per_unit")?,
                max_concurrency: get(row, "max_concurrency")?,
                max_work_units: count(row, "max_work_units")?,
                reachable: get(row, "reachable")?,
                live_orders: get(row, "live_orders")?,
                published_at_us: get(row, "published_at_us")?,
            })
        })
        .collect()
}

/// A request for quotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rfq {
    /// Its id.
    pub rfq_id: RfqId,
    /// Who asks.
    pub buyer_id: AgentId,
    /// For example gemm.int8.
    pub work_class: String,
    /// `None`: any.
    pub region: Option<String>,
    /// The input artifact.
    pub input_hash: ArtifactHash,
    /// Size of the job.
    pub work_units: u64,
    /// The asset of the price.
    pub asset_id: u32,
    /// The most the buyer pays, minor units.
    pub max_price: Amount,
    /// How long one execution may take.
    pub max_duration_ms: u64,
    /// Gets the creator share.
    pub creator_id: Option<AgentId>,
    /// Gets the referrer share.
    pub referrer_id: Option<AgentId>,
    /// Ledger time, Unix microseconds.
    pub opened_at_us: i64,
    /// Offers are taken until then.
    pub expires_at_us: i64,
    /// open, ordered, expired or cancelled.
    pub state: String,
    /// Providers asked; the buyer only.
    pub invited: Option<i32>,
    /// Offers that came; the buyer only.
    pub offers: Option<i32>,
    /// The order made of it; the buyer only.
    pub order_id: Option<OrderId>,
}

const RFQ_COLUMNS: &str = "rfq_id, buyer_id, work_class, region, input_hash, work_units, asset_id, max_price::text, \
     max_duration_ms, creator_id, referrer_id, (extract(epoch from opened_at) * 1000000)::bigint as opened_at_us, \
     (extract(epoch from expires_at) * 1000000)::bigint as expires_at_us, state, invited, offers, order_id";

impl Rfq {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            rfq_id: id(row, "rfq_id", RfqId::from_uuid)?,
            buyer_id: id(row, "buyer_id", AgentId::from_uuid)?,
            work_class: get(row, "work_class")?,
            region: get(row, "region")?,
            input_hash: ArtifactHash::from_bytes(bytes32(row, "input_hash")?),
            work_units: count(row, "work_units")?,
            asset_id: small(row, "asset_id")?,
            max_price: amount(row, "max_price")?,
            max_duration_ms: count(row, "max_duration_ms")?,
            creator_id: id_or_none(row, "creator_id", AgentId::from_uuid)?,
            referrer_id: id_or_none(row, "referrer_id", AgentId::from_uuid)?,
            opened_at_us: get(row, "opened_at_us")?,
            expires_at_us: get(row, "expires_at_us")?,
            state: get(row, "state")?,
            invited: get(row, "invited")?,
            offers: get(row, "offers")?,
            order_id: id_or_none(row, "order_id", OrderId::from_uuid)?,
        })
    }
}

/// One RFQ; only its buyer and invited providers see it. Calls `market.read_rfq`.
pub async fn read_rfq(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    rfq_id: RfqId,
) -> Result<Option<Rfq>, Error> {
    let sql = format!("select {RFQ_COLUMNS} from market.read_rfq($1, $2, $3)");
    let row = reader.row(&sql, &[&actor.map(Uuid::from), &int(ledger_id)?, &rfq_id.as_uuid()]).await?;
    row.as_ref().map(Rfq::of).transpose()
}

/// The actor's own RFQs, newest id first; `after`: the last of the page before. Calls `market.read_rfqs`.
pub async fn read_rfqs(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    after: Option<RfqId>,
    limit: u32,
) -> Result<Vec<Rfq>, Error> {
    let sql = format!("select {RFQ_COLUMNS} from market.read_rfqs($1, $2, $3, $4)");
    let (actor, after) = (actor.map(Uuid::from), after.map(Uuid::from));
    let rows = reader.rows(&sql, &[&actor, &int(ledger_id)?, &after, &int(limit)?]).await?;
    rows.iter().map(Rfq::of).collect()
}

/// An offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its id.
    pub offer_id: OfferId,
    /// What it answers.
    pub rfq_id: RfqId,
    /// Who offers.
    pub provider_id: AgentId,
    /// The asset of the price.
    pub asset_id: u32,
    /// Minor units per work unit.
    pub price_per_unit: Amount,
    /// For the whole order, minor units.
    pub price: Amount,
    /// Ledger time, Unix microseconds.
    pub offered_at_us: i64,
    /// It stands until then.
    pub expires_at_us: i64,
    /// open, accepted or lapsed.
    pub state: String,
}

/// The offers of an RFQ, cheapest first: all for its buyer, its own for a provider. Calls `market.read_offers`.
pub async fn read_offers(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    rfq_id: RfqId,
) -> Result<Vec<Offer>, Error> {
    let sql = "select offer_id, rfq_id, provider_id, asset_id, price_per_unit::text, price::text, \
               (extract(epoch from offered_at) * 1000000)::bigint as offered_at_us, \
               (extract(epoch from expires_at) * 1000000)::bigint as expires_at_us, state from market.read_offers($1, $2, $3)";
    let rows = reader.rows(sql, &[&actor.map(Uuid::from), &int(ledger_id)?, &rfq_id.as_uuid()]).await?;
    rows.iter()
        .map(|row| {
            Ok(Offer {
                offer_id: id(row, "offer_id", OfferId::from_uuid)?,
                rfq_id: id(row, "rfq_id", RfqId::from_uuid)?,
                provider_id: id(row, "provider_id", AgentId::from_uuid)?,
                asset_id: small(row, "asset_id")?,
                price_per_unit: amount(row, "price_per_unit")?,
                price: amount(row, "price")?,
                offered_at_us: get(row, "offered_at_us")?,
                expires_at_us: get(row, "expires_at_us")?,
                state: get(row, "state")?,
            })
        })
        .collect()
}

/// An order, for its buyer and its provider. Times are ledger time in Unix microseconds, amounts minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub order_id: OrderId,
    /// The RFQ it came from.
    pub rfq_id: RfqId,
    /// The offer it was made of.
    pub offer_id: OfferId,
    /// Who pays.
    pub buyer_id: AgentId,
    /// Who executes.
    pub provider_id: AgentId,
    /// The asset.
    pub asset_id: u32,
    /// For example gemm.int8.
    pub work_class: String,
    /// Per work unit.
    pub price_per_unit: Amount,
    /// Ordered.
    pub work_units: u64,
    /// In escrow from the start.
    pub held: Amount,
    /// The single-use right to run it.
    pub run_ticket_id: RunTicketId,
    /// The execution, once it started.
    pub attempt_id: Option<AttemptId>,
    /// The input artifact.
    pub input_hash: ArtifactHash,
    /// The output artifact, once reported.
    pub output_hash: Option<ArtifactHash>,
    /// ordered, running, reported, disputed, accepted, settled or refunded.
    pub state: String,
    /// Why it is disputed or was refunded.
    pub cause: Option<String>,
    /// When it was made.
    pub ordered_at_us: i64,
    /// Until when its ticket may be used.
    pub ticket_expires_at_us: i64,
    /// When the attempt started.
    pub started_at_us: Option<i64>,
    /// When the output was reported.
    pub reported_at_us: Option<i64>,
    /// Until when the buyer may judge.
    pub judge_by_us: Option<i64>,
    /// When it was judged.
    pub judged_at_us: Option<i64>,
    /// When it was settled or refunded.
    pub closed_at_us: Option<i64>,
    /// By the newest accepted metering row.
    pub metered_units: Option<u64>,
    /// Paid for: the smaller of metered and ordered.
    pub billed_units: Option<u64>,
    /// To the split.
    pub paid: Option<Amount>,
    /// Back to the buyer.
    pub refunded: Option<Amount>,
    /// What the actor gets of it.
    pub earned: Option<Amount>,
}

const ORDER_COLUMNS: &str = "order_id, rfq_id, offer_id, buyer_id, provider_id, asset_id, work_class, price_per_unit::text, \
     work_units, held::text, run_ticket_id, attempt_id, input_hash, output_hash, state, cause, \
     (extract(epoch from ordered_at) * 1000000)::bigint as ordered_at_us, \
     (extract(epoch from ticket_expires_at) * 1000000)::bigint as ticket_expires_at_us, \
     (extract(epoch from started_at) * 1000000)::bigint as started_at_us, \
     (extract(epoch from reported_at) * 1000000)::bigint as reported_at_us, \
     (extract(epoch from judge_by) * 1000000)::bigint as judge_by_us, \
     (extract(epoch from judged_at) * 1000000)::bigint as judged_at_us, \
     (extract(epoch from closed_at) * 1000000)::bigint as closed_at_us, \
     metered_units, billed_units, paid::text, refunded::text, earned::text";

impl Order {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            order_id: id(row, "order_id", OrderId::from_uuid)?,
            rfq_id: id(row, "rfq_id", RfqId::from_uuid)?,
            offer_id: id(row, "offer_id", OfferId::from_uuid)?,
            buyer_id: id(row, "buyer_id", AgentId::from_uuid)?,
            provider_id: id(row, "provider_id", AgentId::from_uuid)?,
            asset_id: small(row, "asset_id")?,
            work_class: get(row, "work_class")?,
            price_per_unit: amount(row, "price_per_unit")?,
            work_units: count(row, "work_units")?,
            held: amount(row, "held")?,
            run_ticket_id: id(row, "run_ticket_id", RunTicketId::from_uuid)?,
            attempt_id: id_or_none(row, "attempt_id", AttemptId::from_uuid)?,
            input_hash: ArtifactHash::from_bytes(bytes32(row, "input_hash")?),
            output_hash: bytes32_or_none(row, "output_hash")?.map(ArtifactHash::from_bytes),
            state: get(row, "state")?,
            cause: get(row, "cause")?,
            ordered_at_us: get(row, "ordered_at_us")?,
            ticket_expires_at_us: get(row, "ticket_expires_at_us")?,
            started_at_us: get(row, "started_at_us")?,
            reported_at_us: get(row, "reported_at_us")?,
            judge_by_us: get(row, "judge_by_us")?,
            judged_at_us: get(row, "judged_at_us")?,
            closed_at_us: get(row, "closed_at_us")?,
            metered_units: count_or_none(row, "metered_units")?,
            billed_units: count_or_none(row, "billed_units")?,
            paid: amount_or_none(row, "paid")?,
            refunded: amount_or_none(row, "refunded")?,
            earned: amount_or_none(row, "earned")?,
        })
    }
}

/// One order; only its buyer and its provider see it. Calls `market.read_order`.
pub async fn read_order(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    order_id: OrderId,
) -> Result<Option<Order>, Error> {
    let sql = format!("select {ORDER_COLUMNS} from market.read_order($1, $2, $3)");
    let row = reader.row(&sql, &[&actor.map(Uuid::from), &int(ledger_id)?, &order_id.as_uuid()]).await?;
    row.as_ref().map(Order::of).transpose()
}

/// Orders that the actor bought or provides, newest id first; `after`: the last of the page before.
/// Calls `market.read_orders`.
pub async fn read_orders(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    after: Option<OrderId>,
    limit: u32,
) -> Result<Vec<Order>, Error> {
    let sql = format!("select {ORDER_COLUMNS} from market.read_orders($1, $2, $3, $4)");
    let (actor, after) = (actor.map(Uuid::from), after.map(Uuid::from));
    let rows = reader.rows(&sql, &[&actor, &int(ledger_id)?, &after, &int(limit)?]).await?;
    rows.iter().map(Order::of).collect()
}

/// What the house should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Due {
    /// Nobody was chosen in time.
    ExpireRfq(RfqId),
    /// The ticket's time is over and no output was reported.
    ExpireOrder(OrderId),
    /// Disputed, or reported and left alone.
    Judge(OrderId),
    /// Accepted and not yet settled.
    Settle(OrderId),
}

/// What is due at `at_us` (ledger time, Unix microseconds): up to `limit` of each kind, oldest first.
/// Calls `market.due`.
pub async fn due(reader: &Reader, ledger_id: u32, at_us: i64, limit: u32) -> Result<Vec<Due>, Error> {
    let sql = "select action, subject_id from market.due($1, $2, $3)";
    let rows = reader.rows(sql, &[&int(ledger_id)?, &time(at_us), &int(limit)?]).await?;
    rows.iter()
        .map(|row| {
            let action: &str = get(row, "action")?;
            Ok(match action {
                "expire_rfq" => Due::ExpireRfq(id(row, "subject_id", RfqId::from_uuid)?),
                "expire_order" => Due::ExpireOrder(id(row, "subject_id", OrderId::from_uuid)?),
                "judge" => Due::Judge(id(row, "subject_id", OrderId::from_uuid)?),
                "settle" => Due::Settle(id(row, "subject_id", OrderId::from_uuid)?),
                other => {
                    return Err(Error::new("UB900", format!("market.due names an unknown action {other}")));
                }
            })
        })
        .collect()
}

/// What a verifier must know of an order to judge its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Which.
    pub order_id: OrderId,
    /// Its state now.
    pub state: String,
    /// For example gemm.int8.
    pub work_class: String,
    /// Ordered.
    pub work_units: u64,
    /// The input artifact.
    pub input_hash: ArtifactHash,
    /// The output artifact, once reported.
    pub output_hash: Option<ArtifactHash>,
    /// By the newest accepted metering row.
    pub metered_units: Option<u64>,
    /// Signed rows in quarantine that claim more than the ticket allows.
    pub over_limit_rows: u64,
}

/// An order as its judge needs it; only for verifiers. Calls `market.read_case`.
pub async fn read_case(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    order_id: OrderId,
) -> Result<Option<Case>, Error> {
    let sql = "select order_id, state, work_class, work_units, input_hash, output_hash, metered_units, over_limit_rows \
               from market.read_case($1, $2, $3)";
    let row = reader.row(sql, &[&actor.map(Uuid::from), &int(ledger_id)?, &order_id.as_uuid()]).await?;
    row.map(|row| {
        Ok(Case {
            order_id: id(&row, "order_id", OrderId::from_uuid)?,
            state: get(&row, "state")?,
            work_class: get(&row, "work_class")?,
            work_units: count(&row, "work_units")?,
            input_hash: ArtifactHash::from_bytes(bytes32(&row, "input_hash")?),
            output_hash: bytes32_or_none(&row, "output_hash")?.map(ArtifactHash::from_bytes),
            metered_units: count_or_none(&row, "metered_units")?,
            over_limit_rows: count(&row, "over_limit_rows")?,
        })
    })
    .transpose()
}

/// Providers whose newest presence says reachable, each with the connection that said so. Calls `market.read_reachable`.
pub async fn read_reachable(
    reader: &Reader,
    ledger_id: u32,
    limit: u32,
) -> Result<Vec<(AgentId, Uuid)>, Error> {
    let sql = "select provider_id, connection_id from market.read_reachable($1, $2)";
    let rows = reader.rows(sql, &[&int(ledger_id)?, &int(limit)?]).await?;
    rows.iter()
        .map(|row| Ok((id(row, "provider_id", AgentId::from_uuid)?, get(row, "connection_id")?)))
        .collect()
}
