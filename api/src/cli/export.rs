//! `econ export`: the books in the formats of others.

use std::io::{BufWriter, ErrorKind, IsTerminal as _, Write};
use std::path::PathBuf;

use analytics::export::{self, By, ExportError, Format, Period, Written};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use ledger::replay::{self, Exported};
use ledger::verify::{self, Expected, TEXT_FORMS};
use ledger::{Reader, base};
use serde_json::json;

use super::amount::counted;
use super::failure::{Failure, Outcome};
use super::place::{Database, PlaceArgs, connect};
use super::{export_tiles, files, say};

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// A journal for hledger, which checks our balances when it reads it
    Hledger,
    /// A ledger for Beancount, likewise (bean-check)
    Beancount,
    /// Every transfer with every column, holds included
    Csv,
    /// The same columns, typed
    Parquet,
    /// The command log with its receipts, checkpoints and public keys: what `econ replay --log` rebuilds everything from
    Log,
    /// The receipt log's checkpoint and tiles (C2SP tlog-tiles) into the folder --out, for any web server; --ledger 0: the forest
    Tiles,
}

/// Which time of a transfer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ByArg {
    /// When it was recorded
    Record,
    /// When it happened, where that was told with an earlier time
    Event,
}

/// Options of `econ export`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ExportArgs {
    /// In which format
    #[arg(value_enum)]
    format: FormatArg,
    /// From this moment on, such as 2026-11-01 (UTC) or 2026-11-01T00:00:00Z [default: the beginning]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Timestamp>,
    /// Up to this moment, which is not in it any more [default: everything there is]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Timestamp>,
    /// Which time of a transfer counts
    #[arg(long, value_enum, default_value_t = ByArg::Record)]
    by: ByArg,
    /// The ledger [default: 1; of a log, all of them]
    #[arg(long, value_name = "ID")]
    ledger: Option<u32>,
    /// Write to this file, which is there when it is whole [default: standard output]; for tiles, the folder
    #[arg(value_name = "FILE", conflicts_with = "out")]
    file: Option<PathBuf>,
    /// The same
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// With a log: write digests of every table to this file, for `econ replay --log --digests`
    #[arg(long, value_name = "FILE")]
    digests: Option<PathBuf>,
    /// Print one JSON object about the file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

const AFTER_HELP: &str = "\
hledger and beancount get what moved (plain and post_pending transfers); a debit is positive, so an account's balance there is \
the ledger's with its sign turned. With --from, one transaction brings every account to the balance that it had at that moment, so \
the balances at the end are whole. Each file ends with an assertion for every account, which hledger and bean-check prove exactly.

A log holds everything that replay needs, of all ledgers, and neither private keys nor tables: the copy to leave with somebody else. It says of itself whether it is whole, and two exports of one log are the same bytes.

Everything is read as econ_auditor from one snapshot: an export is of one moment, however long it takes.";

/// `econ export`.
pub(crate) async fn run(args: ExportArgs) -> Outcome {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(Failure::usage("--from must be earlier than --to"));
    }
    let out = args.file.as_ref().or(args.out.as_ref());
    if args.json && out.is_none() {
        return Err(Failure::usage("--json is about a file: name one"));
    }
    let binary = matches!(args.format, FormatArg::Parquet | FormatArg::Log);
    if binary && out.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage("this format is not for a terminal: name a file"));
    }
    if let FormatArg::Log = args.format {
        if args.from.is_some() || args.to.is_some() || args.ledger.is_some() {
            return Err(Failure::usage("a log is exported whole: it takes no --from, --to or --ledger"));
        }
        let database = Database::open(&args.place).await?;
        let written = write_log(&args, out, &database).await;
        database.close().await?;
        return tell_log(&args, out, &written?);
    }
    if args.digests.is_some() {
        return Err(Failure::usage("--digests goes with a log"));
    }
    if args.format == FormatArg::Tiles && (args.from.is_some() || args.to.is_some()) {
        return Err(Failure::usage("tiles are written whole: --from and --to are for the books"));
    }
    let database = Database::open(&args.place).await?;
    if args.format == FormatArg::Tiles {
        let written = write_tiles(&args, out, &database).await;
        database.close().await?;
        return written;
    }
    let written = write(&args, out, &database).await;
    database.close().await?;
    let written = written?;
    let Some(out) = out else { return Ok(()) };
    if args.json {
        say(json!({
            "file": out.display().to_string(), "transfers": written.transfers, "balances": written.balances,
        }));
    } else {
        let asserted = if written.balances > 0 {
            format!(" and {} to prove", counted(written.balances, "balance"))
        } else {
            String::new()
        };
        say(format_args!(
            "{}{asserted} written to {}",
            counted(written.transfers, "transfer"),
            out.display()
        ));
    }
    Ok(())
}

async fn write_tiles(args: &ExportArgs, out: Option<&PathBuf>, database: &Database) -> Outcome {
    let dir = out.ok_or_else(|| Failure::usage("name the folder of the tiles with -o"))?;
    let reader = Reader::new(database.config("econ_api"), 1)?;
    export_tiles::run(&reader, args.ledger.unwrap_or(1), dir, args.json).await
}

/// The whole log, and digests of every table at the same moment.
async fn write_log(args: &ExportArgs, out: Option<&PathBuf>, database: &Database) -> Outcome<Exported> {
    let client = connect(&database.config("econ_auditor")).await?;
    let run = async |sql: &str| client.batch_execute(sql).await.map_err(ledger::Error::from);
    run(TEXT_FORMS).await?;
    run("begin transaction isolation level repeatable read read only").await?;
    let written = match out {
        None => replay::export_snapshot(&client, &mut std::io::stdout()).await?,
        Some(path) => {
            let cannot = |error| Failure::io("cannot write", path)(error);
            let mut file = tempfile::NamedTempFile::new_in(files::folder_of(path)).map_err(cannot)?;
            let written = replay::export_snapshot(&client, &mut file).await?;
            file.as_file().sync_all().map_err(cannot)?;
            file.persist(path).map_err(|error| cannot(error.error))?;
            files::sync_parent(path)?;
            written
        }
    };
    if let Some(path) = &args.digests {
        let mut expected = Expected::default();
        for table in verify::tables(&client).await? {
            let digest = verify::digest(&client, &table).await?;
            expected.insert(&table, digest);
        }
        files::write_durably(path, expected.to_string().as_bytes())?;
    }
    run("rollback").await?;
    Ok(written)
}

fn tell_log(args: &ExportArgs, out: Option<&PathBuf>, written: &Exported) -> Outcome {
    let Some(out) = out else { return Ok(()) };
    if args.json {
        say(json!({
            "file": out.display().to_string(), "commands": written.commands, "checkpoints": written.checkpoints,
            "bytes": written.bytes,
        }));
    } else {
        let (commands, checkpoints) =
            (counted(written.commands, "command"), counted(written.checkpoints, "checkpoint"));
        let bytes = counted(written.bytes, "byte");
        say(format_args!(
            "{commands} with their receipts and {checkpoints} written to {} ({bytes})",
            out.display()
        ));
    }
    Ok(())
}

async fn write(args: &ExportArgs, out: Option<&PathBuf>, database: &Database) -> Outcome<Written> {
    let reader = Reader::new(database.config("econ_api"), 1)?;
    let ledger_id = args.ledger.unwrap_or(1);
    if !base::read_ledgers(&reader).await?.iter().any(|known| known.ledger_id == ledger_id) {
        return Err(Failure::new("UB401", format!("there is no ledger {ledger_id} here")));
    }
    let period = Period {
        ledger_id: i32::try_from(ledger_id).map_err(Failure::usage)?,
        from: args.from,
        to: args.to,
        by: match args.by {
            ByArg::Record => By::Record,
            ByArg::Event => By::Event,
        },
    };
    let format = match args.format {
        FormatArg::Hledger => Format::Hledger,
        FormatArg::Beancount => Format::Beancount,
        FormatArg::Csv => Format::Csv,
        FormatArg::Parquet => Format::Parquet,
        FormatArg::Log | FormatArg::Tiles => {
            return Err(Failure::usage("a log is not an export of transfers"));
        }
    };
    let mut client = connect(&database.config("econ_auditor")).await?;
    let Some(path) = out else {
        let mut out = BufWriter::new(std::io::stdout());
        return match export::export(&mut client, format, &period, &mut out).await {
            // Whoever closed the pipe has read enough.
            Err(ExportError::Io(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(Written::default()),
            other => other.map_err(failure),
        };
    };
    let cannot = |error| Failure::io("cannot write", path)(error);
    let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(files::folder_of(path)).map_err(cannot)?);
    let written = export::export(&mut client, format, &period, &mut file).await.map_err(failure)?;
    file.flush().map_err(cannot)?;
    let file = file.into_inner().map_err(|error| cannot(error.into_error()))?;
    file.as_file().sync_all().map_err(cannot)?;
    file.persist(path).map_err(|error| cannot(error.error))?;
    files::sync_parent(path)?;
    Ok(written)
}

fn failure(error: ExportError) -> Failure {
    match error {
        ExportError::Database(error) => ledger::Error::from(error).into(),
        other => Failure::outside(other),
    }
}

/// A moment, or the beginning of a day in UTC.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    let of_day = |day: Date| day.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
    text.parse::<Timestamp>()
        .or_else(|_| text.parse::<Date>().and_then(of_day))
        // Years before the first are beyond what Postgres and the journals' dates can say.
        .ok()
        .filter(|at| at.to_zoned(TimeZone::UTC).year() > 0)
        .ok_or_else(|| "write a day like 2026-11-01, or a moment like 2026-11-01T09:30:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_in_utc() {
        assert_eq!(moment("2026-11-01"), moment("2026-11-01T00:00:00Z"));
        assert_eq!(moment("2026-11-01T02:00:00+02:00"), moment("2026-11-01"));
        assert!(moment("yesterday").unwrap_err().contains("2026-11-01"));
    }
}
