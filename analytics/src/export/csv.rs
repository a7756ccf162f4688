//! Every transfer with every column, comma-separated. Columns that `econ ledger post` reads have the names that it knows.

use std::io::Write;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use tokio_postgres::Transaction;
use uuid::Uuid;

use super::rows;
use super::{ExportError, Period, Written};

const HEADER: [&str; 24] = [
    "seq",
    "item",
    "at",
    "effective_at",
    "transfer_id",
    "kind",
    "balancing_debit",
    "balancing_credit",
    "closing_debit",
    "closing_credit",
    "debit_account_id",
    "debit_account",
    "credit_account_id",
    "credit_account",
    "asset",
    "scale",
    "amount",
    "amount_minor",
    "pending_id",
    "timeout_at",
    "journal_id",
    "reverses_id",
    "reason",
    "ledger_id",
];

pub(super) async fn write(
    snapshot: &Transaction<'_>,
    period: &Period,
    out: &mut (dyn Write + Send),
) -> Result<Written, ExportError> {
    let mut csv = ::csv::Writer::from_writer(out);
    csv.write_record(HEADER).map_err(failed)?;
    let mut written = Written::default();
    let ledger_id = period.ledger_id.to_string();
    let mut transfers = pin!(rows::transfers(snapshot, period, false).await?);
    while let Some(t) = transfers.try_next().await? {
        csv.write_record([
            &t.seq.to_string(),
            &t.item.to_string(),
            &moment(Some(t.at)),
            &moment(t.effective_at),
            &t.transfer_id.to_string(),
            &t.kind,
            &t.balancing_debit.to_string(),
            &t.balancing_credit.to_string(),
            &t.closing_debit.to_string(),
            &t.closing_credit.to_string(),
            &t.debit_account_id.to_string(),
            &t.debit.plain_name(),
            &t.credit_account_id.to_string(),
            &t.credit.plain_name(),
            &t.asset,
            &t.scale.to_string(),
            &t.amount.to_decimal_string(t.scale),
            &t.amount.to_string(),
            &id(t.pending_id),
            &moment(t.timeout_at),
            &t.journal_id.to_string(),
            &id(t.reverses_id),
            &t.reason,
            &ledger_id,
        ])
        .map_err(failed)?;
        written.transfers += 1;
    }
    csv.flush()?;
    Ok(written)
}

/// RFC 3339 in UTC, to the microsecond; empty where there is none.
fn moment(at: Option<Timestamp>) -> String {
    at.map(|at| format!("{at:.6}")).unwrap_or_default()
}

fn id(id: Option<Uuid>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

/// With the kind of error that it was: a closed pipe is no failure for whoever reads only the beginning.
fn failed(error: ::csv::Error) -> ExportError {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => ExportError::Io(error),
        other => ExportError::Row(format!("{other:?}")),
    }
}
