//! `econ restore`: from a backup to a database that is proven before anybody is served.

use std::path::PathBuf;

use ledger::backup::{Kind, Loss, LossAccepted, Restore, RestoreOptions, Restored, Target};
use ledger::cluster::{Cluster, ExternalDatabase};
use ledger::verify::Report;
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::ledger::moment;
use super::place::{Database, PlaceArgs};
use super::{say, verify};

/// Options of `econ restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A folder for backups (its best set is taken), or one set in it
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// As it was at this moment by the server's clock, such as 2026-11-20T09:30:00Z [default: the latest]
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    until: Option<i64>,
    /// The folder for backups whose archived WAL goes on from the set [default: the one that the set is in]
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// Copy the house's keys from here, if the data dir has none
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Compare with this checkpoint too: a witness's, or any that somebody kept; may be repeated
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Your word that commands which were promised to others may be lost
    #[arg(long)]
    accept_loss: bool,
    /// Leave out archived WAL from its first damage on, and go as far as it is whole
    #[arg(long)]
    up_to_damage: bool,
    /// Take a set that nobody vouches for: whoever could write to it can run programs here
    #[arg(long)]
    unsigned: bool,
    /// Commands per transaction of the replay that proves the result
    #[arg(long, value_name = "N", default_value_t = verify::BATCH)]
    batch: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `econ restore`.
pub(crate) async fn run(args: RestoreArgs) -> Outcome {
    let data_dir = args.place.data_dir()?;
    if let Some(restored) = Restore::resume(&data_dir)? {
        tell(&args, &restored, None);
        return Ok(());
    }
    let external = args.place.external_database().await?;
    let options = RestoreOptions {
        data_dir,
        from: args.from.clone(),
        archive: args.archive.clone(),
        target: args.until.map_or(Target::Latest, Target::Time),
        keys: args.keys.clone(),
        checkpoints: args.checkpoint.clone(),
        unsigned: args.unsigned,
        word: args.accept_loss.then_some(LossAccepted),
        up_to_damage: args.up_to_damage,
        pg_bin: args.place.pg_bin.clone(),
        external: external.as_ref().map(|external| external.login_config()),
    };
    let (restore, cluster) = Restore::begin(options).await?;
    if !args.json && restore.set().kind == Kind::Base {
        say(format_args!("recovered {}; now it is proven", restore.set().name));
    }
    let proven = prove(&args, &restore, cluster, external).await;
    let (verdict, report) = match proven {
        Ok(proven) => proven,
        Err(failure) => {
            restore.abandon().await;
            return Err(failure);
        }
    };
    let restored = restore.finish(verdict)?;
    tell(&args, &restored, Some(&report));
    Ok(())
}

/// Loads what this program brings, compares with what was promised, verifies everything, and stops the database.
async fn prove(
    args: &RestoreArgs,
    restore: &Restore,
    cluster: Option<Cluster>,
    external: Option<ExternalDatabase>,
) -> Outcome<(ledger::backup::Verdict, Report)> {
    let database = match (cluster, external) {
        (Some(cluster), _) => Database::Embedded(Box::new(cluster)),
        (None, Some(external)) => Database::External(Box::new(external)),
        (None, None) => return Err(Failure::outside("there is no database to prove")),
    };
    let proven = async {
        database.load().await?;
        let verdict = restore.compare(&database.config("econ_api")).await?;
        // Before the long proof: whoever has to give a word should not wait for it.
        restore.ask(&verdict)?;
        let kept = restore.stage_checkpoints(&verdict)?;
        let promises = verify::Promises { kept, ..verify::Promises::of(&args.place.data_dir()?)? };
        let report = verify::check_with(&database, promises, args.batch).await?;
        if let Some((name, problem)) = report.first_problem() {
            return Err(Failure::new(
                "UB609",
                format!(
                    "the restored database does not verify, so it was not put in place: {name} at {}: {}. Take another set",
                    problem.place, problem.message
                ),
            ));
        }
        Ok((verdict, report))
    }
    .await;
    let closed = database.close().await;
    let proven = proven?;
    closed?;
    Ok(proven)
}

fn tell(args: &RestoreArgs, restored: &Restored, report: Option<&Report>) {
    if args.json {
        say(json!({ "restored": restored, "verify": report.map(verify::to_json) }));
        return;
    }
    if let Some(report) = report {
        say(report);
    } else {
        say("finished a restore that had been proven and was interrupted");
    }
    for ledger in &restored.ledgers {
        say(format_args!(
            "restored  ledger {} ({}): {} commands",
            ledger.ledger_id, ledger.origin, ledger.size
        ));
    }
    for loss in &restored.losses {
        let word = if loss.is_of_commands() { ", by your word" } else { "; no command is among them" };
        say(format_args!(
            "lost      {}{word}; every checkpoint will say so, and the promise is kept in checkpoints/ (found in {})",
            loss.what(),
            loss.place
        ));
    }
    if let Some(damage) = &restored.damage {
        say(format_args!("left out  WAL from the first damage on: {damage}"));
    }
    if restored.compared == 0 {
        say(
            "compared  with nothing: no checkpoint was found, or no receipt key to believe one by. What is missing, nobody can say",
        );
    } else if !restored.losses.iter().any(Loss::is_of_commands) {
        say(format_args!(
            "compared  with {} checkpoints: none promises more commands. What nobody kept a checkpoint of, nobody can miss here",
            restored.compared
        ));
    }
    if restored.unreadable > 0 {
        say(format_args!(
            "closed    {} artifacts of the set, whose keys are not beside it: erased since then, or artifact-keys/ was lost",
            restored.unreadable
        ));
    }
    if restored.losses.iter().any(Loss::is_of_commands) {
        say(
            "again     payouts, deposits and erasures after that moment: see docs/OPERATIONS.md, After an accepted loss",
        );
    }
    say("next      econ up; then make a new backup, because older sets do not lead past this restore");
}
