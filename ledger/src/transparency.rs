//! Mirror of the views of `transparency` that the server shows, and the books' conservation check. Ratios are floats for
//! display; money stays whole.

use proto::money::Amount;

use crate::error::Error;
use crate::reader::{Reader, amount, amount_or_none, count, get, int};

/// Closed orders of one day, asset and work class. Reads `transparency.volume_by_day`.
#[derive(Debug, Clone, PartialEq)]
pub struct DayVolume {
    /// UTC day of ledger time, YYYY-MM-DD.
    pub day: String,
    /// Asset code.
    pub asset: String,
    /// Its decimal places.
    pub scale: i16,
    /// For example gemm.int8.
    pub work_class: String,
    /// Orders settled.
    pub orders_settled: u64,
    /// Orders refunded.
    pub orders_refunded: u64,
    /// Minor units paid to payees.
    pub paid: Amount,
    /// Minor units back to buyers.
    pub refunded: Amount,
    /// Work units paid for.
    pub work_units_paid: Option<Amount>,
}

/// The newest `limit` rows, newest day first.
pub async fn volume_by_day(reader: &Reader, ledger_id: u32, limit: u32) -> Result<Vec<DayVolume>, Error> {
    let sql = "select day::text, asset, scale, work_class, orders_settled, orders_refunded, paid_minor::text, \
               refunded_minor::text, work_units_paid::text from transparency.volume_by_day where ledger_id = $1 \
               order by volume_by_day.day desc, asset, work_class limit $2";
    let rows = reader.rows(sql, &[&int(ledger_id)?, &i64::from(limit)]).await?;
    rows.iter()
        .map(|row| {
            Ok(DayVolume {
                day: get(row, "day")?,
                asset: get(row, "asset")?,
                scale: get(row, "scale")?,
                work_class: get(row, "work_class")?,
                orders_settled: count(row, "orders_settled")?,
                orders_refunded: count(row, "orders_refunded")?,
                paid: amount(row, "paid_minor")?,
                refunded: amount(row, "refunded_minor")?,
                work_units_paid: amount_or_none(row, "work_units_paid")?,
            })
        })
        .collect()
}

/// What became of the RFQs of one day and work class. Reads `transparency.fill_rate`.
#[derive(Debug, Clone, PartialEq)]
pub struct FillRate {
    /// UTC day of opening, YYYY-MM-DD.
    pub day: String,
    /// For example gemm.int8.
    pub work_class: String,
    /// Opened.
    pub opened: u64,
    /// Became an order.
    pub ordered: u64,
    /// Nobody was chosen in time.
    pub expired: u64,
    /// Withdrawn.
    pub cancelled: u64,
    /// Ordered ÷ (ordered + expired); `None` where none has ended either way.
    pub fill_rate: Option<f64>,
}

/// The newest `limit` rows, newest day first.
pub async fn fill_rate(reader: &Reader, ledger_id: u32, limit: u32) -> Result<Vec<FillRate>, Error> {
    let sql = "select day::text, work_class, rfqs_opened, rfqs_ordered, rfqs_expired, rfqs_cancelled, fill_rate::float8 \
               from transparency.fill_rate where ledger_id = $1 order by fill_rate.day desc, work_class limit $2";
    let rows = reader.rows(sql, &[&int(ledger_id)?, &i64::from(limit)]).await?;
    rows.iter()
        .map(|row| {
            Ok(FillRate {
                day: get(row, "day")?,
                work_class: get(row, "work_class")?,
                opened: count(row, "rfqs_opened")?,
                ordered: count(row, "rfqs_ordered")?,
                expired: count(row, "rfqs_expired")?,
                cancelled: count(row, "rfqs_cancelled")?,
                fill_rate: get(row, "fill_rate")?,
            })
        })
        .collect()
}

/// Latency of settled orders in one segment, milliseconds. Reads `transparency.latency_segments`.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencySegment {
    /// discover, contract, execute, verify, settle or total.
    pub segment: String,
    /// Orders measured.
    pub orders: u64,
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// Largest.
    pub max_ms: f64,
    /// Refunded ÷ closed orders.
    pub failure_rate: Option<f64>,
}

/// In the order of an order's life, the total last.
pub async fn latency_segments(reader: &Reader, ledger_id: u32) -> Result<Vec<LatencySegment>, Error> {
    let sql = "select segment, orders, p50_ms::float8, p95_ms::float8, max_ms::float8, failure_rate::float8 \
               from transparency.latency_segments where ledger_id = $1 order by segment_n";
    let rows = reader.rows(sql, &[&int(ledger_id)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(LatencySegment {
                segment: get(row, "segment")?,
                orders: count(row, "orders")?,
                p50_ms: get(row, "p50_ms")?,
                p95_ms: get(row, "p95_ms")?,
                max_ms: get(row, "max_ms")?,
                failure_rate: get(row, "failure_rate")?,
            })
        })
        .collect()
}

/// Who earns, per asset. Reads `transparency.unique_earners`.
#[derive(Debug, Clone, PartialEq)]
pub struct Earners {
    /// Asset code.
    pub asset: String,
    /// Payees with a settlement leg.
    pub unique_earners: u64,
    /// Payees with a confirmed payout.
    pub unique_paid_earners: u64,
    /// Their beneficial owners.
    pub unique_paid_owners: u64,
    /// Buyers, providers and payees of orders.
    pub active_participants: u64,
    /// Paid earners ÷ participants.
    pub payout_breadth: Option<f64>,
}

/// One row per asset that was traded.
pub async fn unique_earners(reader: &Reader, ledger_id: u32) -> Result<Vec<Earners>, Error> {
    let sql = "select asset, unique_earners, unique_paid_earners, unique_paid_owners, active_participants, \
               payout_breadth::float8 from transparency.unique_earners where ledger_id = $1 order by asset";
    let rows = reader.rows(sql, &[&int(ledger_id)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(Earners {
                asset: get(row, "asset")?,
                unique_earners: count(row, "unique_earners")?,
                unique_paid_earners: count(row, "unique_paid_earners")?,
                unique_paid_owners: count(row, "unique_paid_owners")?,
                active_participants: count(row, "active_participants")?,
                payout_breadth: get(row, "payout_breadth")?,
            })
        })
        .collect()
}

/// Concentration by beneficial owner. Reads `transparency.payout_hhi`.
#[derive(Debug, Clone, PartialEq)]
pub struct Concentration {
    /// payouts, earned or offered_capacity.
    pub basis: String,
    /// Asset code; `None` for offered capacity.
    pub asset: Option<String>,
    /// Beneficial owners counted.
    pub owners: u64,
    /// 0 to 10,000.
    pub hhi: f64,
    /// Part of the largest owner.
    pub largest_share: f64,
    /// Label by the guidelines of 2023.
    pub guidelines_2023: String,
    /// Label by the guidelines of 2010.
    pub guidelines_2010: String,
}

/// One row per basis and asset.
pub async fn payout_hhi(reader: &Reader, ledger_id: u32) -> Result<Vec<Concentration>, Error> {
    let sql = "select basis, asset, owners, hhi::float8, largest_share::float8, guidelines_2023, guidelines_2010 \
               from transparency.payout_hhi where ledger_id = $1 order by basis, asset";
    let rows = reader.rows(sql, &[&int(ledger_id)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(Concentration {
                basis: get(row, "basis")?,
                asset: get(row, "asset")?,
                owners: count(row, "owners")?,
                hhi: get(row, "hhi")?,
                largest_share: get(row, "largest_share")?,
                guidelines_2023: get(row, "guidelines_2023")?,
                guidelines_2010: get(row, "guidelines_2010")?,
            })
        })
        .collect()
}

/// Orders by state and cause. Reads `transparency.outcomes`.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Asset code.
    pub asset: String,
    /// The order's state.
    pub state: String,
    /// Where disputed or refunded.
    pub cause: Option<String>,
    /// How many.
    pub orders: u64,
    /// Held at the start, minor units.
    pub held: Amount,
    /// `None` while open.
    pub paid: Option<Amount>,
    /// `None` while open.
    pub refunded: Option<Amount>,
    /// Part of the asset's orders.
    pub share_of_orders: f64,
}

/// Most frequent first.
pub async fn outcomes(reader: &Reader, ledger_id: u32) -> Result<Vec<Outcome>, Error> {
    let sql = "select asset, state, cause, orders, held_minor::text, paid_minor::text, refunded_minor::text, \
               share_of_orders::float8 from transparency.outcomes where ledger_id = $1 order by orders desc, state, cause";
    let rows = reader.rows(sql, &[&int(ledger_id)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(Outcome {
                asset: get(row, "asset")?,
                state: get(row, "state")?,
                cause: get(row, "cause")?,
                orders: count(row, "orders")?,
                held: amount(row, "held_minor")?,
                paid: amount_or_none(row, "paid_minor")?,
                refunded: amount_or_none(row, "refunded_minor")?,
                share_of_orders: get(row, "share_of_orders")?,
            })
        })
        .collect()
}

/// What is on offer, by work class, region and asset. Reads `transparency.supply`.
#[derive(Debug, Clone, PartialEq)]
pub struct Supply {
    /// For example gemm.int8.
    pub work_class: String,
    /// Where.
    pub region: String,
    /// Asset code.
    pub asset: String,
    /// Providers with an active ad.
    pub providers: u64,
    /// Their beneficial owners.
    pub owners: u64,
    /// Live connection is up.
    pub providers_reachable: u64,
    /// Self-declared.
    pub devices: u64,
    /// Orders at a time, all together.
    pub concurrent_orders: u64,
    /// Minor units per work unit.
    pub min_price: Amount,
    /// Likewise.
    pub median_price: Amount,
}

/// By work class and region.
pub async fn supply(reader: &Reader, ledger_id: u32) -> Result<Vec<Supply>, Error> {
    let sql = "select work_class, region, asset, providers, owners, providers_reachable, devices, concurrent_orders, \
               min_price_minor::text, median_price_minor::text from transparency.supply where ledger_id = $1 \
               order by work_class, region, asset";
    let rows = reader.rows(sql, &[&int(ledger_id)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(Supply {
                work_class: get(row, "work_class")?,
                region: get(row, "region")?,
                asset: get(row, "asset")?,
                providers: count(row, "providers")?,
                owners: count(row, "owners")?,
                providers_reachable: count(row, "providers_reachable")?,
                devices: count(row, "devices")?,
                concurrent_orders: count(row, "concurrent_orders")?,
                min_price: amount(row, "min_price_minor")?,
                median_price: amount(row, "median_price_minor")?,
            })
        })
        .collect()
}

/// Whether the books of one asset balance. Reads `finance.trial_balance`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conservation {
    /// Asset code.
    pub asset: String,
    /// Its decimal places.
    pub scale: i16,
    /// Accounts added up.
    pub accounts: u64,
    /// Sum of all debits, minor units: grows with turnover, so it may pass 28 digits.
    pub debits: String,
    /// Sum of all credits, minor units.
    pub credits: String,
    /// Credits less debits; "0" when nothing was made or lost.
    pub difference: String,
}

/// One row per asset that has accounts.
pub async fn conservation(reader: &Reader, ledger_id: u32) -> Result<Vec<Conservation>, Error> {
    let sql = "select asset, scale, accounts, debits_minor::text, credits_minor::text, balance_minor::text \
               from finance.trial_balance where ledger_id = $1 and purpose = 'total' order by asset";
    let rows = reader.rows(sql, &[&int(ledger_id)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(Conservation {
                asset: get(row, "asset")?,
                scale: get(row, "scale")?,
                accounts: count(row, "accounts")?,
                debits: get(row, "debits_minor")?,
                credits: get(row, "credits_minor")?,
                difference: get(row, "balance_minor")?,
            })
        })
        .collect()
}
