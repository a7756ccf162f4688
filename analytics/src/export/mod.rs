//! The books in the formats of others: hledger and Beancount journals, CSV, Parquet.
//!
//! Everything is read from one repeatable-read snapshot and streamed, so that an export is of one moment and needs no more
//! memory for a long history than for a short one. Amounts stay exact: whole minor units in, decimal digits out.
//!
//! In the journals a debit is positive, as accountants have it: an account's balance there is the ledger's (credits less
//! debits) with its sign turned.

mod accounts;
mod beancount;
mod csv;
mod hledger;
mod parquet;
mod rows;

use std::io::Write;

use jiff::Timestamp;
use tokio_postgres::{Client, IsolationLevel};

pub use rows::By;

/// In which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A journal for hledger (and Ledger), which proves our balances when it is read.
    Hledger,
    /// A ledger for Beancount, likewise.
    Beancount,
    /// Every transfer with every column, comma-separated.
    Csv,
    /// The same columns, typed.
    Parquet,
}

/// What to export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Of which ledger.
    pub ledger_id: i32,
    /// From this moment on; `None`: from the first transfer.
    pub from: Option<Timestamp>,
    /// Up to and without this moment; `None`: to the newest transfer.
    pub to: Option<Timestamp>,
    /// Which of a transfer's two times decides, and dates the entries.
    pub by: By,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Transfers.
    pub transfers: u64,
    /// Balances that the file asserts, one per account and asset; 0 in CSV and Parquet.
    pub balances: u64,
}

/// An export that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database refused or was away.
    #[error(transparent)]
    Database(#[from] tokio_postgres::Error),
    /// The output could not be written.
    #[error("the output cannot be written: {0}")]
    Io(#[from] std::io::Error),
    /// The same, as the Parquet writer says it.
    #[error("the output cannot be written: {0}")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    /// The view and this program disagree.
    #[error("a row of the books is not what it should be: {0}")]
    Row(String),
}

/// Writes the transfers of a period to `out`. `client` needs to read the views of schema `finance`: role `econ_auditor`.
///
/// # Errors
/// [`ExportError`]; what was written until then is incomplete.
pub async fn export(
    client: &mut Client,
    format: Format,
    period: &Period,
    out: &mut (dyn Write + Send),
) -> Result<Written, ExportError> {
    let snapshot = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let written = match format {
        Format::Hledger => hledger::write(&snapshot, period, out).await?,
        Format::Beancount => beancount::write(&snapshot, period, out).await?,
        Format::Csv => csv::write(&snapshot, period, out).await?,
        Format::Parquet => parquet::write(&snapshot, period, out).await?,
    };
    out.flush()?;
    snapshot.commit().await?;
    Ok(written)
}
