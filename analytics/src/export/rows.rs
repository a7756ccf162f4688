//! What an export reads: transfers and balances, row by row.

use futures_util::{Stream, TryStreamExt as _};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use proto::money::Amount;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::accounts::Account;
use super::{ExportError, Period};

/// Which of a transfer's two times counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// When the ledger wrote it down.
    Record,
    /// When it happened, as far as it was told with an earlier time than that.
    Event,
}

impl By {
    const fn column(self) -> &'static str {
        match self {
            Self::Record => "at",
            Self::Event => "event_at",
        }
    }

    /// Commit order where record time counts: that is the order of an index, so nothing is sorted.
    const fn order(self) -> &'static str {
        match self {
            Self::Record => "seq, item",
            Self::Event => "event_at, seq, item",
        }
    }

    /// For a heading.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Record => "record time",
            Self::Event => "event time",
        }
    }
}

/// One transfer with all that is known of it.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) seq: i64,
    pub(super) item: i32,
    pub(super) at: Timestamp,
    pub(super) effective_at: Option<Timestamp>,
    pub(super) event_at: Timestamp,
    pub(super) transfer_id: Uuid,
    pub(super) kind: String,
    pub(super) balancing_debit: bool,
    pub(super) balancing_credit: bool,
    pub(super) closing_debit: bool,
    pub(super) closing_credit: bool,
    pub(super) debit_account_id: Uuid,
    pub(super) debit: Account,
    pub(super) credit_account_id: Uuid,
    pub(super) credit: Account,
    pub(super) asset: String,
    pub(super) scale: u8,
    pub(super) amount: Amount,
    pub(super) pending_id: Option<Uuid>,
    pub(super) timeout_at: Option<Timestamp>,
    pub(super) journal_id: Uuid,
    pub(super) reverses_id: Option<Uuid>,
    pub(super) reason: String,
}

impl Transfer {
    fn of(row: &Row) -> Result<Self, ExportError> {
        Ok(Self {
            seq: row.try_get("seq")?,
            item: row.try_get("item")?,
            at: row.try_get("at")?,
            effective_at: row.try_get("effective_at")?,
            event_at: row.try_get("event_at")?,
            transfer_id: row.try_get("transfer_id")?,
            kind: row.try_get("kind")?,
            balancing_debit: row.try_get("balancing_debit")?,
            balancing_credit: row.try_get("balancing_credit")?,
            closing_debit: row.try_get("closing_debit")?,
            closing_credit: row.try_get("closing_credit")?,
            debit_account_id: row.try_get("debit_account_id")?,
            debit: Account::of(row, ["debit_purpose", "debit_owner_id", "debit_ref_id"])?,
            credit_account_id: row.try_get("credit_account_id")?,
            credit: Account::of(row, ["credit_purpose", "credit_owner_id", "credit_ref_id"])?,
            asset: row.try_get("asset")?,
            scale: scale(row)?,
            amount: minor(row.try_get("amount_minor")?)?,
            pending_id: row.try_get("pending_id")?,
            timeout_at: row.try_get("timeout_at")?,
            journal_id: row.try_get("journal_id")?,
            reverses_id: row.try_get("reverses_id")?,
            reason: row.try_get("reason")?,
        })
    }

    /// The day, in UTC, under which a journal has it.
    pub(super) fn date(&self, by: By) -> Date {
        match by {
            By::Record => day(self.at),
            By::Event => day(self.event_at),
        }
    }
}

/// What an account holds of one asset: credits less debits.
#[derive(Debug)]
pub(super) struct Balance {
    pub(super) account: Account,
    pub(super) asset: String,
    pub(super) scale: u8,
    is_negative: bool,
    amount: Amount,
}

impl Balance {
    fn of(row: &Row) -> Result<Self, ExportError> {
        let text: &str = row.try_get("balance_minor")?;
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        Ok(Self {
            account: Account::of(row, ["purpose", "owner_id", "ref_id"])?,
            asset: row.try_get("asset")?,
            scale: scale(row)?,
            is_negative,
            amount: minor(digits)?,
        })
    }

    /// As a journal has it: debits positive.
    pub(super) fn debits_positive(&self) -> String {
        let digits = self.amount.to_decimal_string(self.scale);
        if self.is_negative || self.amount.is_zero() { digits } else { format!("-{digits}") }
    }
}

/// The day of a moment, in UTC.
fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// A unit of account.
#[derive(Debug)]
pub(super) struct Asset {
    pub(super) code: String,
    pub(super) scale: u8,
}

/// First and last day with a posting, and the command that the snapshot ends with.
#[derive(Debug)]
pub(super) struct Extent {
    /// Where opening balances go.
    pub(super) opens: Date,
    /// No posting is later.
    pub(super) closes: Date,
    pub(super) last_seq: i64,
}

/// The ledger's assets, by code.
pub(super) async fn assets(snapshot: &Transaction<'_>, period: &Period) -> Result<Vec<Asset>, ExportError> {
    let sql = "select distinct asset, scale from finance.balances where ledger_id = $1 order by asset";
    let rows = snapshot.query(sql, &[&period.ledger_id]).await?;
    rows.iter().map(|row| Ok(Asset { code: row.try_get("asset")?, scale: scale(row)? })).collect()
}

/// Where a period's postings begin and end; an empty one is the day it was asked for.
pub(super) async fn extent(snapshot: &Transaction<'_>, period: &Period) -> Result<Extent, ExportError> {
    let time = period.by.column();
    let sql = format!(
        "select min(t.{time}) as first, max(t.{time}) as last, coalesce(max(t.seq), 0) as last_seq, now() as asked \
           from finance.exported_transfers t \
          where t.ledger_id = $1 and t.kind in ('plain', 'post_pending') \
            and ($2::timestamptz is null or t.{time} >= $2) and ($3::timestamptz is null or t.{time} < $3)"
    );
    let row = snapshot.query_one(&sql, &[&period.ledger_id, &period.from, &period.to]).await?;
    let (first, last): (Option<Timestamp>, Option<Timestamp>) = (row.try_get("first")?, row.try_get("last")?);
    let asked: Timestamp = row.try_get("asked")?;
    let opens = period.from.or(first).unwrap_or(asked);
    Ok(Extent { opens: day(opens), closes: day(last.unwrap_or(opens)), last_seq: row.try_get("last_seq")? })
}

/// The transfers of a period, in its order; only those that move balances, or all.
pub(super) async fn transfers(
    snapshot: &Transaction<'_>,
    period: &Period,
    only_posted: bool,
) -> Result<impl Stream<Item = Result<Transfer, ExportError>>, ExportError> {
    let (time, order) = (period.by.column(), period.by.order());
    let kinds = if only_posted { "and t.kind in ('plain', 'post_pending')" } else { "" };
    let sql = format!(
        "select t.seq, t.item, t.at, t.effective_at, t.event_at, t.transfer_id, t.kind, t.balancing_debit, t.balancing_credit, \
                t.closing_debit, t.closing_credit, t.debit_account_id, t.debit_purpose, t.debit_owner_id, t.debit_ref_id, \
                t.credit_account_id, t.credit_purpose, t.credit_owner_id, t.credit_ref_id, t.asset, t.scale, \
                t.amount_minor::text as amount_minor, t.pending_id, t.timeout_at, t.journal_id, t.reverses_id, t.reason \
           from finance.exported_transfers t \
          where t.ledger_id = $1 {kinds} \
            and ($2::timestamptz is null or t.{time} >= $2) and ($3::timestamptz is null or t.{time} < $3) \
          order by {order}"
    );
    let params: [&(dyn ToSql + Sync); 3] = [&period.ledger_id, &period.from, &period.to];
    let rows = snapshot.query_raw(&sql, params).await?;
    Ok(rows.map_err(ExportError::from).and_then(async |row| Transfer::of(&row)))
}

/// What each account had moved until `before`, by account; those that had not moved are left out.
pub(super) async fn balances_before(
    snapshot: &Transaction<'_>,
    period: &Period,
    before: Timestamp,
) -> Result<impl Stream<Item = Result<Balance, ExportError>> + use<>, ExportError> {
    let time = period.by.column();
    let sql = format!(
        "select x.purpose, x.owner_id, x.ref_id, x.asset, x.scale, sum(x.minor)::text as balance_minor \
           from (select t.debit_purpose as purpose, t.debit_owner_id as owner_id, t.debit_ref_id as ref_id, t.asset, t.scale, \
                        -t.amount_minor as minor \
                   from finance.exported_transfers t \
                  where t.ledger_id = $1 and t.kind in ('plain', 'post_pending') and t.{time} < $2 \
                 union all \
                 select t.credit_purpose, t.credit_owner_id, t.credit_ref_id, t.asset, t.scale, t.amount_minor \
                   from finance.exported_transfers t \
                  where t.ledger_id = $1 and t.kind in ('plain', 'post_pending') and t.{time} < $2) as x \
          group by x.purpose, x.owner_id, x.ref_id, x.asset, x.scale \
          order by x.purpose, x.owner_id, x.ref_id, x.asset"
    );
    let params: [&(dyn ToSql + Sync); 2] = [&period.ledger_id, &before];
    let rows = snapshot.query_raw(&sql, params).await?;
    Ok(rows.map_err(ExportError::from).and_then(async |row| Balance::of(&row)))
}

/// The balances at a period's end, by account. Without an end they are those that the ledger keeps in its accounts, so a
/// journal that reaches them has been checked against something else than its own sum.
pub(super) async fn balances_after(
    snapshot: &Transaction<'_>,
    period: &Period,
) -> Result<std::pin::Pin<Box<dyn Stream<Item = Result<Balance, ExportError>> + Send>>, ExportError> {
    if let Some(to) = period.to {
        return Ok(Box::pin(balances_before(snapshot, period, to).await?));
    }
    let sql = "select b.purpose, b.owner_id, b.ref_id, b.asset, b.scale, b.balance_minor::text as balance_minor \
                 from finance.balances b where b.ledger_id = $1 order by b.purpose, b.owner_id, b.ref_id, b.asset";
    let params: [&(dyn ToSql + Sync); 1] = [&period.ledger_id];
    let rows = snapshot.query_raw(sql, params).await?;
    Ok(Box::pin(rows.map_err(ExportError::from).and_then(async |row| Balance::of(&row))))
}

fn scale(row: &Row) -> Result<u8, ExportError> {
    let scale: i16 = row.try_get("scale")?;
    u8::try_from(scale).map_err(|error| ExportError::Row(format!("scale {scale}: {error}")))
}

fn minor(text: &str) -> Result<Amount, ExportError> {
    Amount::parse_minor(text).map_err(|error| ExportError::Row(format!("amount {text}: {error}")))
}
