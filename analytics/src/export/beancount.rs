//! A ledger for Beancount.

use std::io::Write;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use jiff::civil::Date;
use tokio_postgres::Transaction;

use super::rows;
use super::{ExportError, Period, Written};

pub(super) async fn write(
    snapshot: &Transaction<'_>,
    period: &Period,
    out: &mut (dyn Write + Send),
) -> Result<Written, ExportError> {
    let extent = rows::extent(snapshot, period).await?;
    writeln!(
        out,
        ";; Ledger {}, up to command {}, by {}. A debit is positive: each balance is the ledger's own with its sign turned.",
        period.ledger_id,
        extent.last_seq,
        period.by.name()
    )?;
    writeln!(out, "option \"title\" \"Ledger {}\"", period.ledger_id)?;
    for asset in rows::assets(snapshot, period).await? {
        writeln!(out, "{} commodity {}\n  precision: {}", extent.opens, asset.code, asset.scale)?;
    }
    open_accounts(snapshot, period, extent.opens, out).await?;
    if let Some(from) = period.from {
        let mut opening = pin!(rows::balances_before(snapshot, period, from).await?);
        let mut is_begun = false;
        while let Some(balance) = opening.try_next().await? {
            if !is_begun {
                writeln!(out, "\n{} * \"opening balances\"", extent.opens)?;
                is_begun = true;
            }
            let (name, amount) = (balance.account.beancount_name(), balance.debits_positive());
            writeln!(out, "  {name}  {amount} {}", balance.asset)?;
        }
    }
    let mut written = Written::default();
    let mut transfers = pin!(rows::transfers(snapshot, period, true).await?);
    while let Some(transfer) = transfers.try_next().await? {
        let amount = transfer.amount.to_decimal_string(transfer.scale);
        writeln!(
            out,
            "\n{} * \"{}\"\n  transfer: \"{}\"\n  journal: \"{}\"\n  kind: \"{}\"\n  seq: {}\n  at: \"{}\"\n  {}  {amount} {}\n  {}  -{amount} {}",
            transfer.date(period.by),
            quoted(&transfer.reason),
            transfer.transfer_id,
            transfer.journal_id,
            transfer.kind,
            transfer.seq,
            transfer.at,
            transfer.debit.beancount_name(),
            transfer.asset,
            transfer.credit.beancount_name(),
            transfer.asset,
        )?;
        written.transfers += 1;
    }
    // A balance is that of the day's beginning, hence the day after; and exactly that: without the ~ 0 Beancount would let
    // one minor unit pass.
    let after = extent.closes.tomorrow().map_err(|error| ExportError::Row(error.to_string()))?;
    let mut closing = rows::balances_after(snapshot, period).await?;
    writeln!(out)?;
    while let Some(balance) = closing.try_next().await? {
        let (name, amount) = (balance.account.beancount_name(), balance.debits_positive());
        writeln!(out, "{after} balance {name}  {amount} ~ 0 {}", balance.asset)?;
        written.balances += 1;
    }
    Ok(written)
}

/// Opens each account once, with the assets that it has; those follow each other.
async fn open_accounts(
    snapshot: &Transaction<'_>,
    period: &Period,
    at: Date,
    out: &mut (dyn Write + Send),
) -> Result<(), ExportError> {
    let mut balances = rows::balances_after(snapshot, period).await?;
    let mut last = None;
    while let Some(balance) = balances.try_next().await? {
        if last.as_ref() == Some(&balance.account) {
            write!(out, ",{}", balance.asset)?;
        } else {
            write!(out, "\n{at} open {}  {}", balance.account.beancount_name(), balance.asset)?;
            last = Some(balance.account);
        }
    }
    writeln!(out)?;
    Ok(())
}

/// Inside a string.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
