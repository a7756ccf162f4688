//! Makes a backup set: beside its name, whole, on stable storage, then renamed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::keys::{KeyPair, PublicKey};
use serde::Deserialize;
use tokio_postgres::{Client, Config, NoTls};

use super::archive::ArchiveState;
use super::manifest::{self, Kind, LedgerState, Manifest, WalRange};
use super::repository::{Repository, fresh_name};
use super::segments::Segment;
use super::{BackupError, Source, artifacts, files, logical, tools};
use crate::clock::system_now_us;
use crate::cluster::ClusterError;
use crate::error::Error;
use crate::loader::SQL_RELEASE;

/// What to put into a set, and where.
#[derive(Debug)]
pub struct MakeOptions<'a> {
    /// Where sets are kept.
    pub repository: &'a Repository,
    /// The data dir: checkpoints, public halves of keys, artifacts.
    pub data_dir: &'a Path,
    /// Vouches for the set; `None`: nobody does.
    pub receipt_key: Option<Arc<KeyPair>>,
    /// Base or logical.
    pub kind: Kind,
    /// Whether artifacts go along, sealed, and their keys into the mirror beside the sets.
    pub artifacts: bool,
}

/// A set that was made.
#[derive(Debug)]
pub struct Made {
    /// Its folder.
    pub dir: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
    /// How long it took.
    pub elapsed: Duration,
}

/// Makes a set of a running database. Under the set's name there is never anything by half.
///
/// # Errors
/// `UB411` no ledger, `UB414` a program is missing, `UB421` the folder is gone, `UB505` another set is being made, `UB608` a
/// base of an external database.
pub async fn make(source: &Source, options: &MakeOptions<'_>) -> Result<Made, BackupError> {
    let began = Instant::now();
    let _lock = options.repository.lock()?;
    let name = fresh_name(options.kind.as_str());
    let dir = options.repository.unfinished(&name);
    files::make_one_folder(&dir)?;
    let made = fill(source, options, &name, &dir).await;
    let manifest = match made {
        Ok(manifest) => manifest,
        Err(error) => {
            // Whatever cannot be removed now is removed before the next set is made.
            let _ = std::fs::remove_dir_all(&dir);
            return Err(error);
        }
    };
    let whole = options.repository.sets().join(&name);
    std::fs::rename(&dir, &whole).map_err(ClusterError::io("cannot rename to", &whole))?;
    files::sync(&options.repository.sets())?;
    Ok(Made { dir: whole, manifest, elapsed: began.elapsed() })
}

async fn fill(
    source: &Source,
    options: &MakeOptions<'_>,
    name: &str,
    dir: &Path,
) -> Result<Manifest, BackupError> {
    let started_at_us = system_now_us();
    // Before the database, so that no checkpoint of the set promises more than the set holds.
    copy_checkpoints(options.data_dir, dir)?;
    let api = connect(&source.api).await?;
    let postgres_version = version(&api).await?;
    let forgotten = artifacts::forget_erased(&api, options.data_dir, options.repository.dir()).await?;
    if forgotten > 0 {
        tracing::info!(
            forgotten,
            "keys of erased artifacts left the folder for backups: no set opens them any more"
        );
    }
    let (wal, ledgers) = match options.kind {
        Kind::Base => {
            let ledgers = read_ledgers(&api).await?;
            (Some(base(source, options.data_dir, dir).await?), ledgers)
        }
        Kind::Logical => (None, logical::dump(source, api, &dir.join(logical::DUMP)).await?),
    };
    if options.artifacts {
        let (from, set) = (options.data_dir.to_owned(), dir.to_owned());
        let mirror = options.repository.dir().to_owned();
        tokio::task::spawn_blocking(move || {
            artifacts::copy_in(&from, &set)?;
            // Afterwards, so that no artifact in the set lacks its key.
            artifacts::mirror_keys(&from, &mirror)
        })
        .await??;
    }
    let manifest = Manifest {
        format: Manifest::CURRENT_FORMAT,
        name: name.to_owned(),
        kind: options.kind,
        econ_version: env!("CARGO_PKG_VERSION").to_owned(),
        sql_release: SQL_RELEASE,
        postgres_version,
        started_at_us,
        finished_at_us: system_now_us(),
        wal,
        ledgers,
        keys: key_ids(&options.data_dir.join("keys")),
        artifacts: options.artifacts,
        folders: Vec::new(),
        files: 0,
        bytes: 0,
        files_blake3: String::new(),
    };
    let (dir, key) = (dir.to_owned(), options.receipt_key.clone());
    tokio::task::spawn_blocking(move || {
        let manifest = manifest::write(&dir, manifest, key.as_deref())?;
        files::sync_tree(&dir, &files::Tree::of(&dir)?)?;
        Ok(manifest)
    })
    .await?
}

/// What `backup_manifest` says of WAL.
#[derive(Deserialize)]
struct BackupManifest {
    #[serde(rename = "WAL-Ranges")]
    wal_ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

async fn base(source: &Source, data_dir: &Path, dir: &Path) -> Result<WalRange, BackupError> {
    source.must_be_ours()?;
    let bin_dir = source.bin_dir.as_deref();
    let basebackup = tools::find("pg_basebackup", bin_dir, source.major).await?;
    let verifybackup = tools::find("pg_verifybackup", bin_dir, source.major).await?;
    let admin = connect(&source.admin).await?;
    let row = admin
        .query_one(
            "select system_identifier::text, pg_size_bytes(current_setting('wal_segment_size')) from pg_control_system()",
            &[],
        )
        .await?;
    let (system_identifier, segment_bytes): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    let segment_bytes = u64::try_from(segment_bytes).unwrap_or(16 << 20);
    // Before it begins: a stretch that begins later would not hold what the base needs first.
    let stretch = ArchiveState::read(data_dir)?.map(|state| state.stretch);
    let pg = dir.join("pg");
    // Hashes of its own are cheap ones: ours are signed. It syncs what it has written.
    let mut command = tools::command(&basebackup, Some(&source.admin));
    command.args([
        "--no-password",
        "--checkpoint=fast",
        "--wal-method=stream",
        "--manifest-checksums=CRC32C",
    ]);
    command.args(["--label=econ", "--pgdata"]).arg(&pg);
    tools::run("pg_basebackup", &mut command).await?;
    let mut command = tools::command(&verifybackup, None);
    tools::run("pg_verifybackup", command.arg("--exit-on-error").arg("--quiet").arg(&pg)).await?;
    let unreadable = |_| BackupError::new("UB605", "pg_basebackup wrote a manifest that cannot be read");
    let text = files::read_small(&pg.join("backup_manifest"))?;
    let said: BackupManifest = serde_json::from_slice(&text).map_err(unreadable)?;
    let first = said.wal_ranges.first().and_then(|range| {
        let (segment, _) = Segment::of_lsn(range.timeline, &range.start, segment_bytes)?;
        Some((range, segment))
    });
    let (Some((range, segment)), Some(last)) = (first, said.wal_ranges.last()) else {
        return Err(BackupError::new("UB605", "pg_basebackup says nothing of the WAL that it needs"));
    };
    Ok(WalRange {
        system_identifier,
        timeline: range.timeline,
        segment_bytes,
        first_segment: segment.name(segment_bytes),
        start_lsn: range.start.clone(),
        end_lsn: last.end.clone(),
        stretch,
    })
}

/// `checkpoints/` of the data dir, as it is now.
fn copy_checkpoints(data_dir: &Path, dir: &Path) -> Result<(), BackupError> {
    let to = dir.join("checkpoints");
    files::make_folder(&to)?;
    for (ledger_id, note) in crate::verify::read_outside(&data_dir.join("checkpoints"))? {
        files::write_durably(&crate::pipeline::checkpoint_path(&to, ledger_id), note.as_bytes())?;
    }
    Ok(())
}

/// Ids of the keys that are in a folder, by name.
fn key_ids(dir: &Path) -> BTreeMap<String, String> {
    let id = |name: &str| {
        let key = KeyPair::load(&dir.join(format!("{name}.pem"))).ok()?;
        Some((name.to_owned(), key.public().id().to_string()))
    };
    ["operator", "service", "verifier", "receipt"].into_iter().filter_map(id).collect()
}

/// Every ledger as its log stands. `UB411` in a database without any.
pub(super) async fn read_ledgers(api: &Client) -> Result<Vec<LedgerState>, BackupError> {
    let there = api.query_one("select to_regprocedure('base.read_ledgers()') is not null", &[]).await?;
    let rows = if there.try_get(0)? {
        api.query(
            "select b.ledger_id, b.origin, l.size, l.root,
                    case when isfinite(b.last_time) then (extract(epoch from b.last_time) * 1000000)::bigint end
               from base.read_ledgers() b, lateral receipts.read_log(b.ledger_id) l order by 1",
            &[],
        )
        .await?
    } else {
        Vec::new()
    };
    if rows.is_empty() {
        return Err(BackupError::new("UB411", "there is no ledger in this database: `econ up` makes one"));
    }
    let mut ledgers = Vec::new();
    for row in rows {
        let (ledger_id, size): (i32, i64) = (row.try_get(0)?, row.try_get(2)?);
        ledgers.push(LedgerState {
            ledger_id: u32::try_from(ledger_id).unwrap_or_default(),
            origin: row.try_get(1)?,
            size: u64::try_from(size).unwrap_or_default(),
            root: hex::encode(row.try_get::<_, Vec<u8>>(3)?),
            last_time_us: row.try_get(4)?,
        });
    }
    Ok(ledgers)
}

async fn version(api: &Client) -> Result<u32, BackupError> {
    let row = api.query_one("select current_setting('server_version_num')::integer", &[]).await?;
    Ok(u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default())
}

/// A connection whose driver runs by itself.
pub(super) async fn connect(config: &Config) -> Result<Client, BackupError> {
    let (client, driver) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(client)
}

/// The receipt key's public half in a folder of keys; `None` when the folder lacks it.
pub(super) fn receipt_key(keys: &Path) -> Result<Option<PublicKey>, BackupError> {
    let path = keys.join("receipt.pem");
    if !path.exists() {
        return Ok(None);
    }
    let key = KeyPair::load(&path).map_err(|error| Error::new("UI111", error.to_string()))?;
    Ok(Some(*key.public()))
}
