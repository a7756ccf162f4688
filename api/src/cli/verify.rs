//! `econ verify`, `econ migrate`: what is done to a database as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::cluster::{Cluster, ClusterOptions};
use ledger::verify::{self, Report, VerifyOptions};
use proto::keys::{KeyPair, PublicKey};
use proto::prost::Message as _;

use super::evidence::BundleArgs;
use super::failure::{Failure, Outcome};
use super::place::{Database, PlaceArgs};
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
    let promises = Promises { given: checkpoints, ..Promises::of(&args.place.data_dir()?)? };
    let report = check_with(&database, promises, args.batch).await;
    database.close().await?;
    let report = report?;
    if args.json {
        say(to_json(&report))
    } else {
        say(&report)
    }
    Ok(report.passed())
}

/// What a database is held against: the house's key and checkpoints from outside it.
pub(crate) struct Promises {
    /// The key that receipts must be signed by; `None` on a machine that lacks it.
    pub(crate) receipt_key: Option<PublicKey>,
    /// Where the newest checkpoints are kept.
    pub(crate) kept: PathBuf,
    /// Checkpoints that somebody else kept, each with its name.
    pub(crate) given: Vec<(String, String)>,
}

impl Promises {
    /// What a data dir holds besides its database.
    pub(crate) fn of(data_dir: &Path) -> Outcome<Self> {
        let kept = data_dir.join(super::up::CHECKPOINTS);
        Ok(Self { receipt_key: receipt_key(data_dir)?, kept, given: Vec::new() })
    }
}

/// Runs every check against an open database.
pub(crate) async fn check(database: &Database, data_dir: &Path, batch: usize) -> Outcome<Report> {
    check_with(database, Promises::of(data_dir)?, batch).await
}

/// The same, held against these promises.
pub(crate) async fn check_with(database: &Database, promises: Promises, batch: usize) -> Outcome<Report> {
    let place = ScratchPlace::of(database).await?;
    let options = VerifyOptions {
        database: database.config("econ_auditor"),
        admin: place.admin(Some(database))?,
        receipt_key: promises.receipt_key,
        checkpoint_dir: Some(promises.kept),
        checkpoints: promises.given,
        rederive: Arc::new(rederive),
        batch: batch.max(1),
    };
    let report = verify::run(&options).await;
    place.close().await?;
    Ok(report?)
}

/// Where replay makes its scratch database: beside the real one, or in a cluster of its own when the login of an external
/// database may not create any.
pub(super) enum ScratchPlace {
    /// On the server of the database.
    Beside,
    /// On one of its own. The folder goes when this is dropped, after its cluster.
    Apart(Box<Cluster>, tempfile::TempDir),
}

impl ScratchPlace {
    pub(super) async fn of(database: &Database) -> Outcome<Self> {
        match database {
            Database::External(external) if !external.report().createdb => Self::apart(None).await,
            _ => Ok(Self::Beside),
        }
    }

    /// A throwaway cluster, where nothing has to survive a crash.
    pub(super) async fn apart(pg_bin: Option<&Path>) -> Outcome<Self> {
        let folder = tempfile::Builder::new()
            .prefix("econ-replay-")
            .tempdir()
            .map_err(|error| Failure::outside(format!("cannot create a folder for the replay: {error}")))?;
        let pg_bin = pg_bin.map(Path::to_owned);
        let options = ClusterOptions { durable: false, pg_bin, ..ClusterOptions::new(folder.path()) };
        Ok(Self::Apart(Box::new(Cluster::start(options).await?), folder))
    }

    /// Who may create databases there. `database` is there wherever this is beside it.
    pub(super) fn admin(&self, database: Option<&Database>) -> Outcome<tokio_postgres::Config> {
        match (self, database) {
            (Self::Apart(cluster, _), _) => Ok(cluster.config("postgres", cluster.superuser())),
            (Self::Beside, Some(database)) => Ok(database.admin()),
            (Self::Beside, None) => Err(Failure::new("UB411", "there is no database to replay beside")),
        }
    }

    pub(super) async fn close(self) -> Outcome {
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
        "left_out": report.left_out,
    })
}

/// The key that receipts must be signed by, as it is kept outside the database; `None` on a machine that lacks it.
pub(super) fn receipt_key(data_dir: &Path) -> Outcome<Option<PublicKey>> {
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
