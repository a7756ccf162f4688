//! `econ replay`: rebuilds everything from the command log and public keys, compares it, and leaves it for questions if asked
//! to; `econ kept`: what was left.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ledger::cluster::ExternalDatabase;
use ledger::replay::{
    Kept, LedgerEnd, Proof, ProofOptions, ReplayOptions, Scratch, Source, Until, drop_kept, kept, prepare,
    prove,
};
use ledger::verify::{self, Comparison, Expected, Extent, How};
use proto::keys::PublicKey;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::config::Host;

use super::amount::counted;
use super::failure::{Failure, Outcome};
use super::place::{Database, PlaceArgs, connect};
use super::verify::{BATCH, ScratchPlace, receipt_key, rederive};
use super::{export, say, table};

/// Options of `econ replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ReplayArgs {
    /// Begin with an empty database. Every replay does
    #[arg(long)]
    from_empty: bool,
    /// Compare every table. Every replay does
    #[arg(long)]
    verify: bool,
    /// Replay only up to this moment, such as 2026-11-26T12:00Z, or to the command of this number
    #[arg(long, value_name = "TIME|SEQ", value_parser = until)]
    until: Option<UntilArg>,
    /// The ledger of the command that --until names [default: the only one]
    #[arg(long, value_name = "ID", requires = "until")]
    ledger: Option<u32>,
    /// Commands per transaction; the result must not depend on it
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    batch: usize,
    /// Leave the database under this name, to be looked into with `econ psql --kept NAME`
    #[arg(long, value_name = "NAME", conflicts_with = "into")]
    keep: Option<String>,
    /// Replay into this empty database, and leave it
    #[arg(long, value_name = "URL")]
    into: Option<String>,
    /// Replay an exported log (`econ export log`) instead of a database's
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// What the tables of an exported log should hold, as `econ export log --digests` wrote it
    #[arg(long, value_name = "FILE", requires = "log", conflicts_with = "until")]
    digests: Option<PathBuf>,
    /// The public key that must have signed the receipts, hexadecimal [default: with --log the one that the log names itself,
    /// else the data dir's]
    #[arg(long, value_name = "HEX", value_parser = public_key)]
    receipt_key: Option<PublicKey>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

const AFTER_HELP: &str = "\
Every receipt must come out again byte for byte, and every row of every table. Where one does not, the first row is named with the \
column that differs and the command that touched it last; the exit status is 1.

With --until, what came later is not replayed: all ledgers are replayed up to that moment of ledger time, it included, or up to \
that command. A day alone is its beginning, UTC.";

/// What to do with databases that replays left.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeptCommand {
    /// List them
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Remove one
    Drop {
        /// Its name
        name: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: PlaceArgs,
    },
}

/// How far to replay, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UntilArg {
    Seq(i64),
    Time(i64),
}

fn until(text: &str) -> Result<UntilArg, String> {
    if let Ok(seq) = text.parse() {
        return Ok(UntilArg::Seq(seq));
    }
    let moment = export::moment(text).map_err(|why| format!("{why}, or a command's number"))?;
    Ok(UntilArg::Time(moment.as_microsecond()))
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    let bytes = hex::decode(text).map_err(|error| error.to_string())?;
    PublicKey::from_slice(&bytes).map_err(|error| error.to_string())
}

/// `econ replay`: exit status 1 when something is off.
pub(crate) async fn replay(args: ReplayArgs) -> Outcome<bool> {
    let expected = args.digests.as_deref().map(read_expected).transpose()?;
    // An exported log needs no market here; then the replay has a Postgres of its own.
    let database = match &args.log {
        Some(_) if !args.place.has_database()? => None,
        _ => Some(Database::open(&args.place).await?),
    };
    let done = run(&args, database.as_ref(), expected).await;
    if let Some(database) = database {
        database.close().await?;
    }
    let (proof, left) = done?;
    if args.json {
        say(to_json(&args, &proof, left.as_ref()));
    } else {
        tell(&args, &proof, left.as_ref());
    }
    Ok(proof.passed())
}

fn read_expected(path: &Path) -> Outcome<Expected> {
    let text = std::fs::read_to_string(path).map_err(Failure::io("cannot read", path))?;
    Expected::parse(&text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))
}

/// Where what was replayed can be found afterwards.
enum Left {
    Kept { name: String, database: String },
    Into(String),
}

async fn run(
    args: &ReplayArgs,
    database: Option<&Database>,
    expected: Option<Expected>,
) -> Outcome<(Proof, Option<Left>)> {
    let mut options = options(args)?;
    if args.log.is_none() {
        // Before the snapshot of the log: a running server may move its checkpoints on, but never behind a log read later.
        let data_dir = args.place.data_dir()?;
        options.outside = verify::read_outside(&data_dir.join(super::up::CHECKPOINTS))?;
        options.receipt_key = options.receipt_key.or(receipt_key(&data_dir)?);
    }
    let source = match (&args.log, database) {
        (Some(path), _) => Source::File(path.clone()),
        (None, Some(database)) => Source::Database(database.config("econ_auditor")),
        (None, None) => return Err(Failure::new("UB411", "there is no ledger here to replay")),
    };
    let watch = Watch::start(&options.progress, args.json);
    let proof_options = ProofOptions { replay: options, expected };
    let done = match &args.into {
        Some(url) => into(url, &source, &proof_options).await,
        None => beside(args, database, &source, &proof_options).await,
    };
    watch.stop();
    done
}

fn options(args: &ReplayArgs) -> Outcome<ReplayOptions> {
    let until = match args.until {
        None => Until::End,
        Some(UntilArg::Time(_)) if args.ledger.is_some() => {
            return Err(Failure::usage(
                "a moment holds for every ledger: --ledger goes with a command's number",
            ));
        }
        Some(UntilArg::Time(us)) => Until::Time(us),
        Some(UntilArg::Seq(seq)) => Until::Seq { ledger_id: args.ledger, seq },
    };
    let options = ReplayOptions::new(args.batch.max(1), Arc::new(rederive));
    Ok(ReplayOptions { until, receipt_key: args.receipt_key, ..options })
}

/// Into a database that somebody made.
async fn into(url: &str, source: &Source, options: &ProofOptions) -> Outcome<(Proof, Option<Left>)> {
    let config = url
        .parse::<tokio_postgres::Config>()
        // The URL may hold a password, so it is not repeated.
        .map_err(|error| Failure::usage(format!("--into is no Postgres URL: {error}")))?;
    let external = ExternalDatabase::check(config, true).await?;
    let login = external.login_config();
    let target = prepare(connect(&login).await?).await?;
    let proof = prove(source, &target, options).await?;
    let host = match login.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(dir)) => dir.display().to_string(),
        None => "localhost".into(),
    };
    let name = login.get_dbname().or(login.get_user()).unwrap_or_default();
    Ok((proof, Some(Left::Into(format!("database {name} on {host}")))))
}

/// Into a database on the ledger's own server; on another one where that is not allowed.
async fn beside(
    args: &ReplayArgs,
    database: Option<&Database>,
    source: &Source,
    options: &ProofOptions,
) -> Outcome<(Proof, Option<Left>)> {
    let place = match database {
        Some(database) => ScratchPlace::of(database).await?,
        None => ScratchPlace::apart(args.place.pg_bin.as_deref()).await?,
    };
    let done = async {
        let admin = place.admin(database)?;
        let Some(name) = &args.keep else {
            let scratch = Scratch::create(&admin).await?;
            let done = async { prove(source, &scratch.load().await?, options).await }.await;
            scratch.drop().await?;
            return Ok((done?, None));
        };
        if matches!(place, ScratchPlace::Apart(..)) {
            return Err(Failure::new(
                "UB301",
                "there is no server here to keep a database on: replay --into one that you made, or grant CREATEDB",
            ));
        }
        let scratch = Scratch::create_kept(&admin, name).await?;
        let target = scratch.load().await;
        let proven = match &target {
            Ok(target) => prove(source, target, options).await,
            Err(error) => Err(error.clone()),
        };
        drop::<Result<Client, _>>(target);
        match proven {
            Ok(proof) => {
                let database = scratch.name().to_owned();
                scratch.keep(&about(&proof).to_string()).await?;
                Ok((proof, Some(Left::Kept { name: name.clone(), database })))
            }
            Err(error) => {
                scratch.drop().await?;
                Err(error.into())
            }
        }
    }
    .await;
    place.close().await?;
    done
}

/// What `econ kept list` will say about it.
fn about(proof: &Proof) -> Value {
    json!({
        "ledgers": proof.replayed.ledgers.iter().map(|end| json!({
            "ledger_id": end.ledger_id, "seq": end.seq, "at_us": end.at_us,
        })).collect::<Vec<_>>(),
        "passed": proof.passed(),
    })
}

/// Shows on a terminal how far the replay has come.
struct Watch {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn start(progress: &Arc<AtomicU64>, quiet: bool) -> Self {
        let bar = ProgressBar::new_spinner();
        if quiet || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("replay: {pos} commands, {per_sec}") {
            bar.set_style(style);
        }
        let (shown, progress) = (bar.clone(), Arc::clone(progress));
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(200));
            loop {
                pace.tick().await;
                shown.set_position(progress.load(Ordering::Relaxed));
            }
        });
        Self { bar, task }
    }

    fn stop(self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(proof: &Proof) -> f64 {
    let seconds = proof.replayed.elapsed.as_secs_f64();
    (proof.replayed.commands as f64 / seconds.max(0.001)).round()
}

fn tell(args: &ReplayArgs, proof: &Proof, left: Option<&Left>) {
    for end in &proof.replayed.ledgers {
        say(reached(end, args.until.is_some()));
    }
    if !proof.tables.is_empty() {
        let header = ["table", "rows", "source", "replay", ""];
        let mut shown = table::plain(header);
        for one in &proof.tables {
            let digest = |digest: &verify::Digest| digest.hash.to_hex()[..16].to_owned();
            let rows = match &one.stored {
                Some(stored) if stored.rows != one.replayed.rows => {
                    format!("{} / {}", stored.rows, one.replayed.rows)
                }
                _ => one.replayed.rows.to_string(),
            };
            let source = one.stored.as_ref().map_or_else(|| "-".to_owned(), digest);
            shown.add_row([one.table.clone(), rows, source, digest(&one.replayed), verdict(one)]);
        }
        say(shown);
    }
    for left in proof.left_out {
        say(format_args!("not compared: {} ({})", left.what(), left.reason));
    }
    if args.until.is_some() {
        say(
            "not compared: columns that later commands change (named above), and rows that later commands made",
        );
    }
    if args.log.is_some() && args.digests.is_none() {
        say("not compared: tables, because a log holds none; give --digests, or compare with another replay");
    }
    if args.log.is_some() && args.receipt_key.is_none() {
        say(
            "receipts were checked with the key that the log names itself: give --receipt-key to name the house's",
        );
    }
    let problems = proof.problems();
    for problem in &problems {
        say(format_args!("at {}: {}", problem.place, problem.message));
    }
    let (commands, seconds) = (proof.replayed.commands, proof.replayed.elapsed.as_secs_f64());
    if let Some(problem) = &proof.replayed.problem {
        say(format_args!("replay: FAILED after {} at {}", counted(commands, "command"), problem.place));
    } else {
        say(format_args!(
            "replay: {} gave every receipt again, byte for byte ({seconds:.1} s, {} commands/s)",
            counted(commands, "command"),
            rate(proof),
        ));
        match problems.first() {
            Some(problem) => say(format_args!("replay: FAILED at {}", problem.place)),
            None if proof.tables.iter().all(|table| table.extent == Extent::Alone) => {}
            None if args.until.is_some() => say("replay: every table holds what the log gives up to there"),
            None => say("replay: every table is what the log gives"),
        }
    }
    match left {
        None => {}
        Some(Left::Into(place)) => {
            say(format_args!("it is in {place}; look into it with psql, in a role such as econ_analyst"))
        }
        Some(Left::Kept { name, .. }) => {
            let mut place = String::new();
            if let Some(dir) = &args.place.data_dir {
                place = format!(" --data-dir {}", dir.display());
            }
            say(format_args!("kept as {name}: econ psql --kept {name}{place}; econ kept drop {name}{place}"));
        }
    }
}

/// How far a ledger came, and which checkpoints that agrees with.
fn reached(end: &LedgerEnd, partly: bool) -> String {
    if end.seq == 0 {
        return format!("ledger {}: no commands", end.ledger_id);
    }
    let mut line = format!(
        "ledger {}: up to seq {}, {} UTC, log root {}",
        end.ledger_id,
        end.seq,
        table::moment(end.at_us),
        hex::encode(&end.root.0[..8])
    );
    match end.checkpoint_before {
        Some(size) => line.push_str(&format!("; its checkpoint of {} agrees", counted(size, "receipt"))),
        None => line.push_str("; no checkpoint before"),
    }
    match end.checkpoint_after {
        Some(size) => line.push_str(&format!(", and that of {size} after it continues this log")),
        None if partly => line.push_str(", and there is none after it"),
        None => {}
    }
    line
}

fn verdict(one: &Comparison) -> String {
    if !one.equal() {
        return "DIFFERENT".into();
    }
    let but = |columns: &[String]| {
        if columns.is_empty() { String::new() } else { format!(", not compared: {}", columns.join(", ")) }
    };
    match &one.extent {
        Extent::Whole => "equal".into(),
        Extent::UpTo(columns) => format!("equal up to there{}", but(columns)),
        Extent::StillThere(columns) => format!("still there{}", but(columns)),
        Extent::Alone => "nothing to compare with".into(),
    }
}

fn to_json(args: &ReplayArgs, proof: &Proof, left: Option<&Left>) -> Value {
    let replayed = &proof.replayed;
    let until = args.until.map(|until| match until {
        UntilArg::Seq(seq) => json!({ "seq": seq }),
        UntilArg::Time(us) => json!({ "time_us": us }),
    });
    json!({
        "passed": proof.passed(),
        "commands": replayed.commands,
        "seconds": replayed.elapsed.as_secs_f64(),
        "commands_per_second": rate(proof),
        "batch": args.batch,
        "until": until,
        "ledgers": replayed.ledgers.iter().map(ledger_json).collect::<Vec<_>>(),
        "tables": proof.tables.iter().map(table_json).collect::<Vec<_>>(),
        "left_out": proof.left_out,
        // The first one under the name that it always had.
        "problem": proof.problems().first(),
        "problems": proof.problems(),
        "left": left.map(|left| match left {
            Left::Kept { name, database } => json!({ "kept": name, "database": database }),
            Left::Into(place) => json!({ "into": place }),
        }),
    })
}

fn ledger_json(end: &LedgerEnd) -> Value {
    json!({
        "ledger_id": end.ledger_id, "seq": end.seq, "at_us": end.at_us, "root": hex::encode(end.root.0),
        "checkpoints": end.checkpoints, "checkpoint_before": end.checkpoint_before,
        "checkpoint_after": end.checkpoint_after,
    })
}

fn table_json(one: &Comparison) -> Value {
    let (extent, without) = match &one.extent {
        Extent::Whole => ("whole", None),
        Extent::UpTo(columns) => ("up_to_there", Some(columns)),
        Extent::StillThere(columns) => ("still_there", Some(columns)),
        Extent::Alone => ("alone", None),
    };
    let side = |digest: &verify::Digest| json!({ "rows": digest.rows, "digest": digest.hash.to_string() });
    let first = one.first.as_ref().map(|first| {
        let (column, replayed, stored) = match &first.how {
            How::Column { column, replayed, stored, .. } => (Some(column), Some(replayed), Some(stored)),
            How::OnlyStored(row) => (None, None, Some(row)),
            How::OnlyReplayed(row) => (None, Some(row), None),
            How::Digest { .. } => (None, None, None),
        };
        json!({
            "key": first.key.iter().cloned().collect::<BTreeMap<_, _>>(), "column": column, "replay": replayed, "source": stored,
            "command": first.touched.as_ref().map(|command| json!({
                "ledger_id": command.ledger_id, "seq": command.seq, "kind": command.kind, "receipt_id": command.receipt_id,
            })),
            "message": first.to_string(),
        })
    });
    json!({
        "table": one.table, "compared": extent, "columns_not_compared": without, "source": one.stored.as_ref().map(side),
        "replay": side(&one.replayed), "equal": one.stored.as_ref().map(|_| one.equal()), "first_difference": first,
        "rows_different": one.rows_different, "rows_only_in_source": one.rows_only_stored,
        "rows_only_in_replay": one.rows_only_replayed,
    })
}

/// `econ kept …`.
pub(crate) async fn run_kept(command: KeptCommand) -> Outcome {
    match command {
        KeptCommand::List { json, place } => {
            let database = Database::open(&place).await?;
            let found = kept(&database.admin()).await;
            database.close().await?;
            list(&found?, json);
        }
        KeptCommand::Drop { name, json, place } => {
            let database = Database::open(&place).await?;
            let dropped = drop_kept(&database.admin(), &name).await;
            database.close().await?;
            dropped?;
            if json {
                say(json!({ "dropped": name }));
            } else {
                say(format_args!("dropped {name}"));
            }
        }
    }
    Ok(())
}

fn list(found: &[Kept], json: bool) {
    let about =
        |kept: &Kept| kept.about.as_deref().and_then(|about| serde_json::from_str::<Value>(about).ok());
    if json {
        let all: Vec<Value> = found
            .iter()
            .map(|kept| {
                json!({ "name": kept.name, "database": kept.database, "size_bytes": kept.size_bytes, "about": about(kept) })
            })
            .collect();
        say(Value::from(all));
        return;
    }
    if found.is_empty() {
        say("no replay is kept: `econ replay --until TIME --keep NAME` leaves one");
        return;
    }
    let mut shown = table::plain(["name", "up to", "megabytes", ""]);
    for kept in found {
        let about = about(kept);
        let ends = about.as_ref().and_then(|about| about["ledgers"].as_array()).cloned().unwrap_or_default();
        let end = |end: &Value| {
            let at = table::moment(end["at_us"].as_i64().unwrap_or_default());
            format!("ledger {} seq {}, {at} UTC", end["ledger_id"], end["seq"])
        };
        let state = match about.as_ref().map(|about| &about["passed"]) {
            None => "did not end: drop it",
            Some(Value::Bool(true)) => "",
            Some(_) => "the replay found a difference",
        };
        let ends: Vec<String> = ends.iter().map(end).collect();
        let megabytes = (kept.size_bytes / 1_000_000).to_string();
        shown.add_row([kept.name.clone(), ends.join("; "), megabytes, state.to_owned()]);
    }
    say(shown);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_command_or_a_moment() {
        assert_eq!(until("77"), Ok(UntilArg::Seq(77)));
        let noon = 1_795_694_400_000_000;
        for text in ["2026-11-26T12:00Z", "2026-11-26T12:00:00Z", "2026-11-26T14:00+02:00"] {
            assert_eq!(until(text), Ok(UntilArg::Time(noon)), "{text}");
        }
        assert_eq!(until("2026-11-26"), Ok(UntilArg::Time(noon - 12 * 3_600_000_000)));
        assert!(until("noon").is_err());
    }
}
