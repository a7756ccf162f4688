//! `econ backup`: a copy of the database that can prove itself, while the server runs or not.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ledger::backup::{Archive, Kind, Made, MakeOptions, Removable, Repository, Source, make};
use ledger::house::House;
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::files::write_durably;
use super::place::{DATABASE, Database, PlaceArgs};
use super::say;

/// Options of `econ backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Folder for backups, outside the data dir, best on another disk; made when missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// A dump, for another major version of PostgreSQL or another server, instead of the cluster's files
    #[arg(long)]
    logical: bool,
    /// Put the artifacts in too, sealed; their keys go to artifact-keys/ beside the sets, and leave it once they are erased
    #[arg(long)]
    artifacts: bool,
    /// Copy the private keys to this folder, which must lie apart from the backups; without it no key leaves the data dir
    #[arg(long, value_name = "DIR")]
    keys_to: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `econ backup`.
pub(crate) async fn run(args: BackupArgs) -> Outcome {
    let data_dir = args.place.data_dir()?;
    let repository = Repository::open(&args.to, &data_dir)?;
    let keys = data_dir.join("keys");
    // A set that nobody vouches for is better than none; but keys that are there and cannot be read are a mistake.
    let house = keys.join("receipt.pem").exists().then(|| House::load(&keys)).transpose()?;
    if let Some(to) = &args.keys_to {
        copy_keys(&data_dir, to, &repository)?;
    }
    let database = Database::open(&args.place).await?;
    let source = source_of(&database, &args.place);
    let options = MakeOptions {
        repository: &repository,
        data_dir: &data_dir,
        receipt_key: house.as_ref().map(|house| house.receipt_key().clone()),
        kind: if args.logical { Kind::Logical } else { Kind::Base },
        artifacts: args.artifacts,
    };
    let made = make(&source, &options).await;
    database.close().await?;
    let made = made?;
    let removable = repository.removable(Archive::live(&data_dir)?.as_deref())?;
    if args.json {
        say(to_json(&made, house.is_some(), &removable));
    } else {
        tell(&args, &made, house.is_some(), &removable, &keys);
    }
    Ok(())
}

/// A database as something to copy.
pub(crate) fn source_of(database: &Database, place: &PlaceArgs) -> Source {
    match database {
        Database::Embedded(cluster) => Source::of_cluster(cluster, DATABASE),
        Database::External(external) => Source {
            admin: external.login_config(),
            api: external.config("econ_api"),
            embedded: false,
            bin_dir: place.pg_bin.clone(),
            major: u32::try_from(external.report().version_num / 10_000).unwrap_or_default(),
        },
    }
}

fn to_json(made: &Made, signed: bool, removable: &[Removable]) -> serde_json::Value {
    let removable: Vec<_> = removable
        .iter()
        .map(|spare| json!({ "folder": spare.folder, "segments": spare.segments, "needed_from": spare.needed_from }))
        .collect();
    json!({
        "set": made.dir, "signed": signed, "seconds": made.elapsed.as_secs_f64(), "manifest": made.manifest,
        "removable_wal": removable,
    })
}

fn tell(args: &BackupArgs, made: &Made, signed: bool, removable: &[Removable], keys: &Path) {
    let manifest = &made.manifest;
    say(format_args!("made      {}", made.dir.display()));
    say(format_args!(
        "holds     {} files, {} bytes, PostgreSQL {}, in {:.1} s",
        manifest.files,
        manifest.bytes,
        manifest.postgres_major(),
        made.elapsed.as_secs_f64()
    ));
    for ledger in &manifest.ledgers {
        say(format_args!("ledger    {} ({}): {} commands", ledger.ledger_id, ledger.origin, ledger.size));
    }
    match manifest.wal.as_ref().map(|wal| &wal.stretch) {
        Some(Some(stretch)) => {
            say(format_args!("goes on   with the archived WAL in wal/{stretch}, to any later moment"))
        }
        Some(None) => say(
            "goes on   nowhere: no WAL is archived (econ up --wal-archive DIR), so later commands are not in it",
        ),
        None => {}
    }
    if !signed {
        say(format_args!(
            "beware    it is not signed, because the keys are not in {}: restoring it will need --unsigned",
            keys.display()
        ));
    }
    match &args.keys_to {
        Some(to) => say(format_args!(
            "keys      copied to {}: take them to another place than the backups",
            to.display()
        )),
        None => say(format_args!(
            "keys      are not in it: keep a copy of {} in another place, once (--keys-to DIR)",
            keys.display()
        )),
    }
    for spare in removable {
        let folder = spare.folder.display();
        match &spare.needed_from {
            Some(first) => say(format_args!(
                "spare     {} WAL segments in {folder} are older than every set: pg_archivecleanup {folder} {first} (and -x .seal)",
                spare.segments
            )),
            None => say(format_args!(
                "spare     {folder}: {} WAL segments, and no set begins there",
                spare.segments
            )),
        }
    }
}

/// The four key files, each whole and 0600, in a folder that is not where the backups are.
fn copy_keys(data_dir: &Path, to: &Path, repository: &Repository) -> Outcome {
    let keys = &data_dir.join("keys");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to);
    made.map_err(Failure::io("cannot create", to))?;
    let to = to.canonicalize().map_err(Failure::io("cannot resolve", to))?;
    if to.starts_with(repository.dir()) || repository.dir().starts_with(&to) {
        return Err(Failure::new(
            "UB125",
            format!(
                "{} and the folder for backups lie in each other: whoever has both can forge what they prove. Name another folder",
                to.display()
            ),
        ));
    }
    let data_dir = data_dir.canonicalize().map_err(Failure::io("cannot resolve", data_dir))?;
    if to.starts_with(&data_dir) {
        let why = format!(
            "{} lies in the data dir: what destroys that takes them along. Name another folder",
            to.display()
        );
        return Err(Failure::new("UB125", why));
    }
    House::load(keys)?;
    for name in ["operator.pem", "service.pem", "verifier.pem", "receipt.pem"] {
        let from = keys.join(name);
        let bytes = std::fs::read(&from).map_err(Failure::io("cannot read", &from))?;
        let target = to.join(name);
        match super::files::read_if_there(&target)? {
            Some(there) if there == bytes => {}
            Some(_) => {
                return Err(Failure::new(
                    "UB603",
                    format!(
                        "{} is there already, and it is another key: name an empty folder",
                        target.display()
                    ),
                ));
            }
            None => write_durably(&target, &bytes)?,
        }
    }
    Ok(())
}
