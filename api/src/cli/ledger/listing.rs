//! How a list is shown: a table for people, an object for programs, values for a spreadsheet.

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::client::ClientArgs;
use crate::cli::failure::{Failure, Outcome};

/// By which time the books are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    /// As they were written
    Record,
    /// As things happened: what was told late is where it belongs
    Event,
}

impl By {
    /// Its name in the API.
    pub(super) const fn as_graphql(self) -> &'static str {
        match self {
            Self::Record => "RECORD",
            Self::Event => "EVENT",
        }
    }
}

/// A client's options and one more form.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ListArgs {
    /// As comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub(super) csv: bool,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

impl ListArgs {
    /// Shows rows in the form that was asked for; `text` shows them to a person.
    pub(super) fn show<T: Serialize, const N: usize>(
        &self,
        rows: &T,
        csv: (&[&str; N], impl Iterator<Item = [String; N]>),
        text: impl FnOnce(),
    ) -> Outcome {
        if self.csv {
            return write_csv(csv.0, csv.1);
        }
        let json = serde_json::to_value(rows).map_err(Failure::outside)?;
        self.client.print(&json, text);
        Ok(())
    }
}

fn write_csv<const N: usize>(header: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> Outcome {
    let failed = |error: csv::Error| Failure::outside(format!("cannot write: {error}"));
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    writer.write_record(header).map_err(failed)?;
    for row in rows {
        writer.write_record(row).map_err(failed)?;
    }
    writer.flush().map_err(|error| Failure::outside(format!("cannot write: {error}")))
}

/// A moment exactly, for programs.
pub(super) fn exact_moment(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| at.to_string())
}

/// A moment from the command line, as Unix microseconds.
pub(crate) fn moment(text: &str) -> Result<i64, String> {
    text.parse::<Timestamp>()
        .map(Timestamp::as_microsecond)
        .map_err(|_| "a moment is written as 2026-11-20T09:30:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_exact_in_both_directions() {
        let us = moment("2026-11-20T09:30:00.000001Z").unwrap();
        assert_eq!(exact_moment(us), "2026-11-20T09:30:00.000001Z");
        assert_eq!(moment("2026-11-20T10:30:00.000001+01:00"), Ok(us));
        assert!(moment("2026-11-20").is_err() && moment("yesterday").is_err());
    }
}
