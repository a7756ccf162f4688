//! What the market did: public, for analysts. Definitions are in the views' comments.

use async_graphql::{Context, Object, Result, SimpleObject};
use ledger::transparency as views;

use super::scalars::{AmountText, Count};
use super::{PAGE_DEFAULT, failed, page_size, state};

/// Closed orders of one UTC day, asset and work class.
#[derive(Debug, SimpleObject)]
pub struct DayVolume {
    /// YYYY-MM-DD, ledger time.
    day: String,
    /// Asset code.
    asset: String,
    /// Its decimal places.
    scale: i32,
    /// For example gemm.int8.
    work_class: String,
    /// Orders settled.
    orders_settled: Count,
    /// Orders refunded.
    orders_refunded: Count,
    /// To payees, minor units.
    paid: AmountText,
    /// Back to buyers, minor units.
    refunded: AmountText,
    /// Work units paid for.
    work_units_paid: Option<AmountText>,
}

/// What became of the RFQs of one day and work class.
#[derive(Debug, SimpleObject)]
pub struct FillRate {
    /// YYYY-MM-DD of opening.
    day: String,
    /// For example gemm.int8.
    work_class: String,
    /// Opened.
    opened: Count,
    /// Became an order.
    ordered: Count,
    /// Nobody was chosen in time.
    expired: Count,
    /// Withdrawn.
    cancelled: Count,
    /// ordered ÷ (ordered + expired); null where none has ended either way.
    fill_rate: Option<f64>,
}

/// Latency of settled orders in one segment, by ledger time.
#[derive(Debug, SimpleObject)]
pub struct LatencySegment {
    /// discover, contract, execute, verify, settle or total.
    segment: String,
    /// Orders measured.
    orders: Count,
    /// Median, milliseconds.
    p50_ms: f64,
    /// 95th percentile, milliseconds.
    p95_ms: f64,
    /// Largest, milliseconds.
    max_ms: f64,
    /// Refunded ÷ closed orders.
    failure_rate: Option<f64>,
}

/// Who earns, per asset.
#[derive(Debug, SimpleObject)]
pub struct Earners {
    /// Asset code.
    asset: String,
    /// Payees with a settlement leg.
    unique_earners: Count,
    /// Payees with a confirmed payout.
    unique_paid_earners: Count,
    /// Their beneficial owners.
    unique_paid_owners: Count,
    /// Buyers, providers and payees of orders.
    active_participants: Count,
    /// Paid earners ÷ participants.
    payout_breadth: Option<f64>,
}

/// Concentration by beneficial owner.
#[derive(Debug, SimpleObject)]
pub struct Concentration {
    /// payouts, earned or offered_capacity.
    basis: String,
    /// Asset code; null for offered capacity.
    asset: Option<String>,
    /// Beneficial owners counted.
    owners: Count,
    /// Herfindahl-Hirschman index, 0 to 10,000.
    hhi: f64,
    /// Part of the largest owner.
    largest_share: f64,
    /// Label by the US merger guidelines of 2023.
    guidelines_2023: String,
    /// Label by the US merger guidelines of 2010.
    guidelines_2010: String,
}

/// Orders by state and cause.
#[derive(Debug, SimpleObject)]
pub struct Outcome {
    /// Asset code.
    asset: String,
    /// The order's state.
    state: String,
    /// Where disputed or refunded.
    cause: Option<String>,
    /// How many.
    orders: Count,
    /// Held at the start, minor units.
    held: AmountText,
    /// null while open.
    paid: Option<AmountText>,
    /// null while open.
    refunded: Option<AmountText>,
    /// Part of the asset's orders.
    share_of_orders: f64,
}

/// Whether the books of one asset balance.
#[derive(Debug, SimpleObject)]
pub struct Conservation {
    /// Asset code.
    asset: String,
    /// Accounts added up.
    accounts: Count,
    /// Sum of all debits, minor units.
    debits: String,
    /// Sum of all credits, minor units.
    credits: String,
    /// Credits less debits: "0" when nothing was made or lost.
    difference: String,
}

/// The analysts' views of one ledger.
#[derive(Debug)]
pub struct Transparency {
    ledger_id: u32,
}

#[Object]
impl Transparency {
    /// Newest day first.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn volume_by_day(&self, ctx: &Context<'_>, first: Option<u32>) -> Result<Vec<DayVolume>> {
        let rows = views::volume_by_day(&state(ctx)?.reader, self.ledger_id, page_size(first)?).await;
        let to = |row: views::DayVolume| DayVolume {
            day: row.day,
            asset: row.asset,
            scale: row.scale.into(),
            work_class: row.work_class,
            orders_settled: Count(row.orders_settled),
            orders_refunded: Count(row.orders_refunded),
            paid: AmountText(row.paid),
            refunded: AmountText(row.refunded),
            work_units_paid: row.work_units_paid.map(AmountText),
        };
        Ok(rows.map_err(failed)?.into_iter().map(to).collect())
    }

    /// Newest day first.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn fill_rate(&self, ctx: &Context<'_>, first: Option<u32>) -> Result<Vec<FillRate>> {
        let rows = views::fill_rate(&state(ctx)?.reader, self.ledger_id, page_size(first)?).await;
        let to = |row: views::FillRate| FillRate {
            day: row.day,
            work_class: row.work_class,
            opened: Count(row.opened),
            ordered: Count(row.ordered),
            expired: Count(row.expired),
            cancelled: Count(row.cancelled),
            fill_rate: row.fill_rate,
        };
        Ok(rows.map_err(failed)?.into_iter().map(to).collect())
    }

    /// In the order of an order's life, the total last.
    async fn latency_segments(&self, ctx: &Context<'_>) -> Result<Vec<LatencySegment>> {
        let rows = views::latency_segments(&state(ctx)?.reader, self.ledger_id).await;
        let to = |row: views::LatencySegment| LatencySegment {
            segment: row.segment,
            orders: Count(row.orders),
            p50_ms: row.p50_ms,
            p95_ms: row.p95_ms,
            max_ms: row.max_ms,
            failure_rate: row.failure_rate,
        };
        Ok(rows.map_err(failed)?.into_iter().map(to).collect())
    }

    /// One row per asset that was traded.
    async fn unique_earners(&self, ctx: &Context<'_>) -> Result<Vec<Earners>> {
        let rows = views::unique_earners(&state(ctx)?.reader, self.ledger_id).await;
        let to = |row: views::Earners| Earners {
            asset: row.asset,
            unique_earners: Count(row.unique_earners),
            unique_paid_earners: Count(row.unique_paid_earners),
            unique_paid_owners: Count(row.unique_paid_owners),
            active_participants: Count(row.active_participants),
            payout_breadth: row.payout_breadth,
        };
        Ok(rows.map_err(failed)?.into_iter().map(to).collect())
    }

    /// Concentration of payouts, earnings and offered capacity.
    async fn payout_hhi(&self, ctx: &Context<'_>) -> Result<Vec<Concentration>> {
        let rows = views::payout_hhi(&state(ctx)?.reader, self.ledger_id).await;
        let to = |row: views::Concentration| Concentration {
            basis: row.basis,
            asset: row.asset,
            owners: Count(row.owners),
            hhi: row.hhi,
            largest_share: row.largest_share,
            guidelines_2023: row.guidelines_2023,
            guidelines_2010: row.guidelines_2010,
        };
        Ok(rows.map_err(failed)?.into_iter().map(to).collect())
    }

    /// Most frequent first.
    async fn outcomes(&self, ctx: &Context<'_>) -> Result<Vec<Outcome>> {
        let rows = views::outcomes(&state(ctx)?.reader, self.ledger_id).await;
        let to = |row: views::Outcome| Outcome {
            asset: row.asset,
            state: row.state,
            cause: row.cause,
            orders: Count(row.orders),
            held: AmountText(row.held),
            paid: row.paid.map(AmountText),
            refunded: row.refunded.map(AmountText),
            share_of_orders: row.share_of_orders,
        };
        Ok(rows.map_err(failed)?.into_iter().map(to).collect())
    }

    /// One row per asset that has accounts.
    async fn conservation(&self, ctx: &Context<'_>) -> Result<Vec<Conservation>> {
        let rows = views::conservation(&state(ctx)?.reader, self.ledger_id).await;
        let to = |row: views::Conservation| Conservation {
            asset: row.asset,
            accounts: Count(row.accounts),
            debits: row.debits,
            credits: row.credits,
            difference: row.difference,
        };
        Ok(rows.map_err(failed)?.into_iter().map(to).collect())
    }
}

/// Reads about the market as a whole.
#[derive(Debug, Default)]
pub struct TransparencyQuery;

#[Object]
impl TransparencyQuery {
    /// What the market did.
    async fn transparency(&self, #[graphql(default = 1)] ledger_id: u32) -> Transparency {
        Transparency { ledger_id }
    }
}
