//! `econ verify`, `econ replay`, `econ migrate`: what is done to a database as a whole.

use std::path::{Path, PathBuf};

use ledger::cluster::{Cluster, ClusterOptions};
use ledger::verify::{Report, VerifyOptions};
use ledger::{replay, verify};
use proto::keys::{KeyPair, PublicKey};
use proto::prost::Message as _;

use super::evidence::BundleArgs;
use super::failure::{Failure, Outcome};
use super::place::{Database, PlaceArgs, connect};
use super::say;

/// Commands per transaction of a replay, when nobody says.
pub(crate) const BATCH: usize = 500;

/// Options of `econ verify`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct VerifyArgs {
    #[command(subcommand)]
    what: Option<VerifyCommand>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Commands per transaction of the replay; the result must not depend on it
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    batch: usize,
    /// A checkpoint that somebody else kept, such as a witness' (may be given several times): the log must agree with it
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What else can be verified.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum VerifyCommand {
    /// Judge an order's evidence: no network, no database
    Bundle(BundleArgs),
}

/// Options of `econ replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Commands per transaction; the result must not depend on it
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    batch: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Options of `econ migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `econ verify`: exit status 1 when something is off.
pub(crate) async fn verify(args: VerifyArgs) -> Outcome<bool> {
    if let Some(VerifyCommand::Bundle(args)) = &args.what {
        return super::evidence::bundle(args);
    }
    let read = |path: &PathBuf| {
        let note = std::fs::read_to_string(path).map_err(Failure::io("cannot read", path))?;
        Ok((path.display().to_string(), note))
    };
    let checkpoints = args.checkpoints.iter().map(read).collect::<Outcome<Vec<_>>>()?;
    let database = Database::open(&args.place).await?;
    let report = check_with(&database, &args.place.data_dir()?, args.batch, checkpoints).await;
    database.close().await?;
    let report = report?;
    if args.json {
        say(to_json(&report))
    } else {
        say(&report)
    }
    Ok(report.passed())
}

/// Runs every check against an open database.
pub(crate) async fn check(database: &Database, data_dir: &Path, batch: usize) -> Outcome<Report> {
    check_with(database, data_dir, batch, Vec::new()).await
}

/// The same with checkpoints that somebody else kept, each with its name.
async fn check_with(
    database: &Database,
    data_dir: &Path,
    batch: usize,
    checkpoints: Vec<(String, String)>,
) -> Outcome<Report> {
    let place = ScratchPlace::of(database).await?;
    let options = VerifyOptions {
        database: database.config("econ_auditor"),
        admin: place.admin(database),
        receipt_key: receipt_key(data_dir)?,
        checkpoint_dir: Some(data_dir.join(super::up::CHECKPOINTS)),
        checkpoints,
        rederive: Box::new(rederive),
        batch: batch.max(1),
    };
    let report = verify::run(&options).await;
    place.close().await?;
    Ok(report?)
}

/// Where replay makes its scratch database: beside the real one, or in a cluster of its own when the login of an external
/// database may not create any.
enum ScratchPlace {
    Beside,
    // The folder goes when this is dropped, after its cluster.
    Apart(Box<Cluster>, tempfile::TempDir),
}

impl ScratchPlace {
    async fn of(database: &Database) -> Outcome<Self> {
        match database {
            Database::External(external) if !external.report().createdb => {
                let folder = tempfile::Builder::new().prefix("econ-replay-").tempdir().map_err(|error| {
                    Failure::outside(format!("cannot create a folder for the replay: {error}"))
                })?;
                let options = ClusterOptions { durable: false, ..ClusterOptions::new(folder.path()) };
                Ok(Self::Apart(Box::new(Cluster::start(options).await?), folder))
            }
            _ => Ok(Self::Beside),
        }
    }

    fn admin(&self, database: &Database) -> tokio_postgres::Config {
        match self {
            Self::Beside => database.admin(),
            Self::Apart(cluster, _) => cluster.config("postgres", cluster.superuser()),
        }
    }

    async fn close(self) -> Outcome {
        match self {
            Self::Beside => Ok(()),
            Self::Apart(cluster, _folder) => Ok(cluster.stop().await?),
        }
    }
}

/// The report as one JSON object, with the verdict first.
pub(crate) fn to_json(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "passed": report.passed(),
        "checks": report.checks,
        "left_out": report.left_out.iter().map(|(table, why)| serde_json::json!({ "table": table, "reason": why })).collect::<Vec<_>>(),
    })
}

/// The key that receipts must be signed by, as it is kept outside the database; `None` on a machine that lacks it.
fn receipt_key(data_dir: &Path) -> Outcome<Option<PublicKey>> {
    let path = data_dir.join("keys").join("receipt.pem");
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(*KeyPair::load(&path)?.public()))
}

/// From a signed GraphQL request to the command it asks for, so that an auditor can see that the executed command is the
/// signed one.
pub(crate) fn rederive(body: &[u8]) -> Result<(u32, Vec<u8>), String> {
    let (ledger_id, command) = api::graphql::command_of(body).map_err(|error| error.to_string())?;
    Ok((ledger_id, command.encode_to_vec()))
}

/// `econ replay`: rebuilds everything from the command log alone and says how far that went.
pub(crate) async fn replay(args: ReplayArgs) -> Outcome<bool> {
    let database = Database::open(&args.place).await?;
    let done = replay_all(&database, args.batch.max(1)).await;
    database.close().await?;
    let (commands, problem) = done?;
    match (&problem, args.json) {
        (_, true) => {
            say(serde_json::json!({ "passed": problem.is_none(), "commands": commands, "problem": problem }))
        }
        (None, false) => {
            say(format_args!("replay: {commands} commands gave every receipt again, byte for byte"))
        }
        (Some(problem), false) => {
            say(format_args!(
                "replay: stopped after {commands} commands at {}: {}",
                problem.place, problem.message
            ));
        }
    }
    Ok(problem.is_none())
}

async fn replay_all(database: &Database, batch: usize) -> Outcome<(u64, Option<verify::Problem>)> {
    let source = connect(&database.config("econ_auditor")).await?;
    let reader = connect(&database.config("econ_api")).await?;
    let place = ScratchPlace::of(database).await?;
    let scratch = verify::Scratch::create(&place.admin(database)).await?;
    let done = async {
        let target = scratch.load().await?;
        let ledgers = reader.query("select ledger_id from base.read_ledgers()", &[]).await?;
        let (mut commands, mut problem) = (0, None);
        for row in ledgers {
            let id: i32 = row.try_get(0)?;
            let ledger_id = u32::try_from(id).unwrap_or_default();
            let replayed = replay::replay_ledger(&source, &target, ledger_id, batch, &rederive).await?;
            commands += replayed.commands;
            problem = problem.or(replayed.problem);
        }
        Ok((commands, problem))
    }
    .await;
    scratch.drop().await?;
    place.close().await?;
    done.map_err(|error: ledger::Error| Failure::from(error))
}

/// `econ migrate`: brings the database up to this binary.
pub(crate) async fn migrate(args: MigrateArgs) -> Outcome {
    let database = Database::open(&args.place).await?;
    let done = database.load().await;
    database.close().await?;
    let report = done?;
    let milliseconds = report.elapsed.as_millis();
    if args.json {
        say(serde_json::json!({
            "migrations": report.migrations, "files_loaded": report.files_loaded,
            "functions_dropped": report.functions_dropped, "digest": report.digest,
            "milliseconds": u64::try_from(milliseconds).unwrap_or(u64::MAX),
        }));
        return Ok(());
    }
    if report.migrations.is_empty() && report.files_loaded == 0 {
        say(format_args!("migrate: nothing to do, the database has everything ({milliseconds} ms)"));
    } else {
        for migration in &report.migrations {
            say(format_args!("applied  {migration}"));
        }
        say(format_args!(
            "loaded   {} files of functions and views ({milliseconds} ms)",
            report.files_loaded
        ));
    }
    for function in &report.functions_dropped {
        say(format_args!("dropped  {function}"));
    }
    Ok(())
}
