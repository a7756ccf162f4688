//! A journal for hledger.

use std::io::Write;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use tokio_postgres::Transaction;

use super::accounts::Class;
use super::rows::{self, Asset};
use super::{ExportError, Period, Written};

pub(super) async fn write(
    snapshot: &Transaction<'_>,
    period: &Period,
    out: &mut (dyn Write + Send),
) -> Result<Written, ExportError> {
    let extent = rows::extent(snapshot, period).await?;
    writeln!(
        out,
        "; Ledger {}, up to command {}, by {}. A debit is positive: each balance is the ledger's own with its sign turned.",
        period.ledger_id,
        extent.last_seq,
        period.by.name()
    )?;
    writeln!(out, "decimal-mark .")?;
    for asset in rows::assets(snapshot, period).await? {
        writeln!(out, "commodity {}", sample(&asset))?;
    }
    declare_accounts(snapshot, period, out).await?;
    if let Some(from) = period.from {
        let mut opening = pin!(rows::balances_before(snapshot, period, from).await?);
        let mut is_begun = false;
        while let Some(balance) = opening.try_next().await? {
            if !is_begun {
                writeln!(out, "\n{} * opening balances", extent.opens)?;
                is_begun = true;
            }
            let (name, amount) = (balance.account.plain_name(), balance.debits_positive());
            writeln!(out, "    {name}  {amount} {}", commodity(&balance.asset))?;
        }
    }
    let mut written = Written::default();
    let mut transfers = pin!(rows::transfers(snapshot, period, true).await?);
    while let Some(transfer) = transfers.try_next().await? {
        let amount = transfer.amount.to_decimal_string(transfer.scale);
        let asset = commodity(&transfer.asset);
        writeln!(
            out,
            "\n{} * {}\n    ; transfer:{}, journal:{}, kind:{}, seq:{}, at:{}\n    {}  {amount} {asset}\n    {}  -{amount} {asset}",
            transfer.date(period.by),
            described(&transfer.reason),
            transfer.transfer_id,
            transfer.journal_id,
            transfer.kind,
            transfer.seq,
            transfer.at,
            transfer.debit.plain_name(),
            transfer.credit.plain_name(),
        )?;
        written.transfers += 1;
    }
    // Assertions hold where they stand among their day's postings, so the last day's end is the right place.
    let mut closing = rows::balances_after(snapshot, period).await?;
    while let Some(balance) = closing.try_next().await? {
        if written.balances == 0 {
            writeln!(out, "\n{} * closing balances", extent.closes)?;
        }
        let (name, asset) = (balance.account.plain_name(), commodity(&balance.asset));
        writeln!(out, "    {name}  0 {asset} = {} {asset}", balance.debits_positive())?;
        written.balances += 1;
    }
    Ok(written)
}

/// With a type per purpose, so that `hledger balancesheet` knows what is owed. An account takes the type of the one above.
async fn declare_accounts(
    snapshot: &Transaction<'_>,
    period: &Period,
    out: &mut (dyn Write + Send),
) -> Result<(), ExportError> {
    let mut balances = rows::balances_after(snapshot, period).await?;
    let (mut purpose, mut name) = (String::new(), String::new());
    while let Some(balance) = balances.try_next().await? {
        if balance.account.purpose() != purpose {
            balance.account.purpose().clone_into(&mut purpose);
            let class = match Class::of(&purpose) {
                Class::Asset => 'A',
                Class::Liability => 'L',
                Class::Equity => 'E',
            };
            writeln!(out, "account {purpose}  ; type:{class}")?;
            name.clone_from(&purpose);
        }
        // One line for an account of several assets, which follow each other.
        let next = balance.account.plain_name();
        if next != name {
            writeln!(out, "account {next}")?;
            name = next;
        }
    }
    Ok(())
}

/// A commodity's name; only letters need no quotes.
fn commodity(code: &str) -> String {
    if code.chars().all(|letter| letter.is_ascii_alphabetic()) {
        code.to_owned()
    } else {
        format!("\"{code}\"")
    }
}

/// An amount that says how many decimal places there are; its mark is required, with nothing behind it as well.
fn sample(asset: &Asset) -> String {
    format!("1000.{} {}", "0".repeat(usize::from(asset.scale)), commodity(&asset.code))
}

/// A description ends where a comment or a line does.
fn described(reason: &str) -> String {
    reason.chars().map(|letter| if letter == ';' || letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commodities_are_quoted_where_hledger_needs_it() {
        let asset = |code: &str, scale| Asset { code: code.into(), scale };
        for (given, text) in [
            (asset("USD", 6), "1000.000000 USD"),
            (asset("GPUSEC", 0), "1000. GPUSEC"),
            (asset("H100S", 2), "1000.00 \"H100S\""),
        ] {
            assert_eq!(sample(&given), text);
        }
    }

    #[test]
    fn a_reason_cannot_begin_a_comment_or_a_line() {
        assert_eq!(described("a;b\nc"), "a b c");
    }
}
