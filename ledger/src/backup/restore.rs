//! The way back: a set and archived WAL become a database beside the data dir's place, which is put there in one step when it
//! has been proven.
//!
//! Order: [`Restore::begin`] compares and copies, and lets Postgres recover. Whoever asked then verifies the result, asks
//! [`Restore::compare`] what is missing, and calls [`Restore::finish`]. What was decided is written down before the first
//! change outside the staging folder, so a restore that is killed from there on is finished by the next one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use proto::keys::PublicKey;
use serde::{Deserialize, Serialize};
use tokio_postgres::Config;

use super::choose::{choose, install_keys, is_fit, refuse_to_overwrite, trusted_key};
use super::make::{connect, read_ledgers};
use super::manifest::{Kind, LedgerState, Manifest, Set};
use super::outside::{self, Loss, LossAccepted, Outside, Verdict};
use super::repository::fresh_name;
use super::settings::{self, IN_RECOVERY};
use super::wal::{self, Replayable};
use super::{BackupError, artifacts, files, logical};
use crate::clock::system_now_us;
use crate::cluster::{Cluster, ClusterError, ClusterOptions, Staging};
use crate::house::House;

/// What was decided, in the staging folder until all of it is done.
const DECISION: &str = "decision.json";
/// Recovery replays for as long as it takes; a Postgres that ends is noticed at once.
const RECOVERY_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Files of the house's keys.
pub(super) const KEYS: [&str; 4] = ["operator.pem", "service.pem", "verifier.pem", "receipt.pem"];

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the end of what there is.
    Latest,
    /// As it was at this moment by the server's clock, Unix microseconds; commits at that very moment included.
    Time(i64),
}

/// What to restore, and where to.
#[derive(Debug)]
pub struct RestoreOptions {
    /// The data dir, which holds no database.
    pub data_dir: PathBuf,
    /// A folder for backups, or one set in it.
    pub from: PathBuf,
    /// The folder for backups whose WAL goes on from the set, when it is not the one that the set is in.
    pub archive: Option<PathBuf>,
    /// How far.
    pub target: Target,
    /// A folder with the house's keys, to be copied into the data dir when that has none.
    pub keys: Option<PathBuf>,
    /// More checkpoints to compare with.
    pub checkpoints: Vec<PathBuf>,
    /// Take sets that nobody vouches for.
    pub unsigned: bool,
    /// The operator's word for what is lost.
    pub word: Option<LossAccepted>,
    /// Whether to leave out archived WAL from its first damage on.
    pub up_to_damage: bool,
    /// Folder of Postgres' programs.
    pub pg_bin: Option<PathBuf>,
    /// An external database, as its login: for logical sets.
    pub external: Option<Config>,
}

/// A restore under way: it holds the data dir's lock.
#[derive(Debug)]
pub struct Restore {
    staging: Staging,
    set: Manifest,
    target: Target,
    word: Option<LossAccepted>,
    outside: Vec<Outside>,
    key: Option<PublicKey>,
    wal: Replayable,
    unreadable: u64,
    /// The external database that was loaded.
    external: Option<Config>,
}

/// A restore that has ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The set's name.
    pub set: String,
    /// The moment that was asked for, Unix microseconds; `None`: the latest.
    pub until_us: Option<i64>,
    /// Unix microseconds.
    pub decided_at_us: i64,
    /// Each ledger as it is now.
    pub ledgers: Vec<LedgerState>,
    /// What the operator gave up.
    pub losses: Vec<Loss>,
    /// Checkpoints from outside that were compared.
    pub compared: usize,
    /// WAL segments that were replayed beyond the base.
    pub segments: u64,
    /// Why archived WAL was left out from there on.
    pub damage: Option<String>,
    /// Artifacts in the set whose key is not mirrored beside it: erased since, or the mirror was lost.
    pub unreadable: u64,
}

/// What is still to be done, in a form that can be done twice.
#[derive(Debug, Serialize, Deserialize)]
struct Decision {
    restored: Restored,
    /// Files of `checkpoints/`, those given up first.
    lost: BTreeMap<String, String>,
    checkpoints: BTreeMap<String, String>,
}

/// `UB604` when a restore into this data dir was begun and has not ended: a server would make a new market beside it.
///
/// # Errors
/// That.
pub fn refuse_unfinished(data_dir: &Path) -> Result<(), BackupError> {
    if !Staging::exists(data_dir) {
        return Ok(());
    }
    Err(BackupError::new(
        "UB604",
        format!(
            "a restore into {} has not ended well, so there is no database to serve: run `econ restore` again. Only to give this \
             data dir up, remove {}",
            data_dir.display(),
            data_dir.join("restore.new").display()
        ),
    ))
}

impl Restore {
    /// Does what a restore that was killed late had decided; `None` when there is nothing of the kind.
    ///
    /// # Errors
    /// What the file system says; `Locked` while somebody else is at it.
    pub fn resume(data_dir: &Path) -> Result<Option<Restored>, BackupError> {
        if !Staging::exists(data_dir) {
            return Ok(None);
        }
        let staging = Staging::of(data_dir)?;
        let path = staging.dir().join(DECISION);
        if path.exists() {
            let decision: Decision = serde_json::from_slice(&files::read_small(&path)?)
                .map_err(|error| ClusterError::io("cannot read", &path)(error.into()))?;
            return carry_out(staging, decision).map(Some);
        }
        if staging.data_dir().join("pg").exists() {
            // Nothing but the last removal was left.
            staging.remove()?;
        }
        Ok(None)
    }

    /// Copies and recovers. The result's second part is the running, private cluster; `None`: the external database.
    ///
    /// # Errors
    /// `UB504` there is a database; `UB413`, `UB605`, `UB606`, `UB607`, `UB610` no such set, or not fit; `UB603` other keys.
    pub async fn begin(options: RestoreOptions) -> Result<(Restore, Option<Cluster>), BackupError> {
        let staging = Staging::of(&options.data_dir)?;
        refuse_to_overwrite(&staging, &options).await?;
        // From here on, whatever is refused, no server makes a new market in this place by mistake.
        staging.clear().await?;
        let keys = options.keys.clone().unwrap_or_else(|| staging.data_dir().join("keys"));
        let key = trusted_key(&keys, options.unsigned)?;
        let vouched = key.filter(|_| !options.unsigned);
        let (set, repositories) = choose(&options, vouched.as_ref())?;
        is_fit(&set.manifest, &options)?;
        install_keys(&staging, options.keys.as_deref())?;
        let mut outside = outside::in_folder(&staging.data_dir().join("checkpoints"))?;
        for path in &options.checkpoints {
            outside.push(outside::in_file(path)?);
        }
        for repository in &repositories {
            outside.extend(outside::in_repository(repository.dir())?);
        }
        let stretch = set.manifest.wal.as_ref().and_then(|wal| wal.stretch.as_deref());
        let mut folders = repositories.iter().filter_map(|folder| Some(folder.wal().join(stretch?)));
        let stretch = folders.find(|folder| folder.is_dir());
        for name in set.hashes.0.keys().filter(|name| name.starts_with("checkpoints/")) {
            let bytes = set.small(name)?.unwrap_or_default();
            let place = set.dir.join(name).display().to_string();
            let note = String::from_utf8_lossy(&bytes).into_owned();
            outside.push(Outside { place, note, vouched: true });
        }
        let mut restore = Restore {
            staging,
            set: set.manifest.clone(),
            target: options.target,
            word: options.word,
            outside,
            key,
            wal: Replayable::default(),
            unreadable: 0,
            external: options.external.clone().filter(|_| set.manifest.kind == Kind::Logical),
        };
        let begun = match set.manifest.kind {
            Kind::Base => restore.recover(set, stretch, vouched, &options).await.map(Some),
            Kind::Logical => restore.load(set, &options).await,
        };
        match begun {
            Ok(cluster) => Ok((restore, cluster)),
            Err(error) => {
                restore.abandon().await;
                Err(error)
            }
        }
    }

    /// The set that is being restored.
    #[must_use]
    pub fn set(&self) -> &Manifest {
        &self.set
    }

    /// Frees the space, in an external database as well. What stays is the empty staging folder, so that nobody starts a new market here by mistake.
    pub async fn abandon(&self) {
        if let Some(external) = &self.external
            && let Err(error) = logical::clear(external).await
        {
            tracing::warn!(%error, "the external database could not be emptied: make it anew before the next try");
            return;
        }
        if let Err(error) = self.staging.clear().await {
            tracing::warn!(%error, "the staging folder could not be emptied");
        }
    }

    /// What the restored database lacks of what was promised. `api`: it, as `econ_api`.
    ///
    /// # Errors
    /// `UR903` another history, `UR906` a checkpoint that is none.
    pub async fn compare(&self, api: &Config) -> Result<Verdict, BackupError> {
        let api = connect(api).await?;
        let ledgers = read_ledgers(&api).await?;
        match &self.key {
            Some(key) => outside::compare(&api, ledgers, &self.outside, key).await,
            None => {
                tracing::warn!("without the receipt key no checkpoint can be compared");
                Ok(Verdict::uncompared(ledgers))
            }
        }
    }

    /// `UR601` when commands are missing and the operator has not given the word.
    ///
    /// # Errors
    /// That.
    pub fn ask(&self, verdict: &Verdict) -> Result<(), BackupError> {
        let question = verdict.question().join("; ");
        if question.is_empty() || self.word.is_some() {
            return Ok(());
        }
        Err(BackupError::new(
            "UR601",
            format!(
                "{question}. Nothing was put in place. Look for a later backup or more archived WAL first; if there is none, say \
                 --accept-loss: the log will state the loss in every checkpoint from then on"
            ),
        ))
    }

    /// A folder with the checkpoints that the restored database will go on from, for `econ verify` before that is decided.
    ///
    /// # Errors
    /// As [`Restore::ask`]; `UB603` when the loss has to be signed and the keys are not there.
    pub fn stage_checkpoints(&self, verdict: &Verdict) -> Result<PathBuf, BackupError> {
        let dir = self.staging.dir().join("checkpoints");
        files::make_folder(&dir)?;
        for (name, note) in self.notes(verdict)? {
            files::write_durably(&dir.join(name), note.as_bytes())?;
        }
        Ok(dir)
    }

    fn notes(&self, verdict: &Verdict) -> Result<BTreeMap<String, String>, BackupError> {
        let keys = self.staging.data_dir().join("keys");
        if !verdict.has_to_state() {
            return outside::to_keep(verdict, self.word, None);
        }
        let house = House::load(&keys).map_err(|error| {
            BackupError::new("UB603", format!("the loss has to be stated under the receipt key: {error}"))
        })?;
        outside::to_keep(verdict, self.word, Some(house.receipt_key()))
    }

    /// Puts the restored database in its place. Its cluster must have been stopped.
    ///
    /// # Errors
    /// As [`Restore::ask`], and what the file system says.
    pub fn finish(self, verdict: Verdict) -> Result<Restored, BackupError> {
        self.ask(&verdict)?;
        let checkpoints = self.notes(&verdict)?;
        let until_us = match self.target {
            Target::Latest => None,
            Target::Time(us) => Some(us),
        };
        let restored = Restored {
            set: self.set.name,
            until_us,
            decided_at_us: system_now_us(),
            ledgers: verdict.ledgers,
            losses: verdict.losses,
            compared: verdict.compared,
            segments: self.wal.segments,
            damage: self.wal.damage.filter(|_| self.target == Target::Latest),
            unreadable: self.unreadable,
        };
        let decision = Decision { restored, lost: verdict.lost_notes, checkpoints };
        let text = serde_json::to_vec_pretty(&decision)
            .map_err(|error| BackupError::new("UB900", format!("the decision cannot be written: {error}")))?;
        files::write_durably(&self.staging.dir().join(DECISION), &text)?;
        carry_out(self.staging, decision)
    }

    /// Base and WAL into the staging folder; then Postgres recovers, on a timeline of its own.
    async fn recover(
        &mut self,
        set: Set,
        stretch: Option<PathBuf>,
        vouched: Option<PublicKey>,
        options: &RestoreOptions,
    ) -> Result<Cluster, BackupError> {
        let range = set.manifest.wal.clone();
        let range = range.ok_or_else(|| BackupError::new("UB605", "the base names no WAL"))?;
        if !range.segment_bytes.is_power_of_two() || !(1 << 20..=1 << 30).contains(&range.segment_bytes) {
            return Err(BackupError::new("UB605", "the set names an impossible size of WAL segments"));
        }
        let pg = self.staging.make_pg()?;
        let staging = self.staging.dir().to_owned();
        (self.wal, self.unreadable) = tokio::task::spawn_blocking(move || {
            // Not synced file by file: Postgres syncs a whole data directory before it recovers it.
            set.copy_out("pg", &pg)?;
            settings::replace(&pg)?;
            let unreadable = artifacts::copy_out(&set, &staging)?;
            let wal = match &stretch {
                Some(folder) => wal::copy(folder, &range, vouched.as_ref(), &pg.join("pg_wal"))?,
                None => Replayable {
                    damage: range.stretch.map(|name| {
                        format!("the archive that goes on from this set (wal/{name}) is not there: name its folder with --archive")
                    }),
                    ..Replayable::default()
                },
            };
            // Archive recovery even without an archive: it ends on a new timeline, so that what is written from then on can
            // never be taken for what another copy of this cluster writes.
            files::write_durably(&pg.join("recovery.signal"), b"")?;
            Ok::<_, BackupError>((wal, unreadable))
        })
        .await??;
        self.staging.own_pg()?;
        if self.target == Target::Latest && !options.up_to_damage {
            self.refuse_damage()?;
        }
        match self.target {
            Target::Latest => self.start(options, None).await,
            Target::Time(until_us) => match self.start(options, Some(until_us)).await {
                // No commit follows the moment. If everything up to it was archived, that is what was asked for.
                Err(BackupError::Cluster(ClusterError::NotReady { tail, .. }))
                    if tail.contains("recovery ended before configured recovery target") =>
                {
                    self.refuse_damage()?;
                    if self.wal.reached_us.is_none_or(|reached_us| reached_us < until_us) {
                        return Err(BackupError::new(
                            "UB607",
                            format!(
                                "what is archived reaches to {} only: name an earlier moment, or leave --until out to restore \
                                 all of it",
                                self.wal.reached()
                            ),
                        ));
                    }
                    self.start(options, None).await
                }
                started => started,
            },
        }
    }

    fn refuse_damage(&self) -> Result<(), BackupError> {
        match &self.wal.damage {
            None => Ok(()),
            Some(why) => Err(BackupError::new(
                "UB607",
                format!(
                    "{why}. Without it only what was committed before {} can be restored: name such a moment with --until, find an \
                     undamaged copy, or say --up-to-damage to go as far as it goes",
                    self.wal.reached()
                ),
            )),
        }
    }

    async fn start(&self, options: &RestoreOptions, until_us: Option<i64>) -> Result<Cluster, BackupError> {
        let mut settings = vec![
            // Everything is in pg_wal already; this only has to say so.
            ("restore_command".to_owned(), "exit 1".to_owned()),
            ("recovery_target_timeline".to_owned(), "current".to_owned()),
            ("recovery_target_action".to_owned(), "promote".to_owned()),
            // So that it answers when it has recovered, not before.
            ("hot_standby".to_owned(), "off".to_owned()),
            ("primary_conninfo".to_owned(), String::new()),
        ];
        settings.extend(IN_RECOVERY.map(|(name, value)| (name.to_owned(), value.to_owned())));
        if let Some(us) = until_us {
            let at = Timestamp::from_microsecond(us)
                .map_err(|error| BackupError::new("UB607", format!("no such moment: {error}")))?;
            let at = at.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string();
            settings.push(("recovery_target_time".to_owned(), at));
        }
        let start = ClusterOptions {
            pg_bin: options.pg_bin.clone().or(ClusterOptions::new("").pg_bin),
            settings,
            start_limit: RECOVERY_LIMIT,
            ..ClusterOptions::new(self.staging.dir())
        };
        Ok(Cluster::start(start).await?)
    }

    /// A dump into a fresh cluster, or into the external database.
    async fn load(&mut self, set: Set, options: &RestoreOptions) -> Result<Option<Cluster>, BackupError> {
        let dump = self.staging.dir().join(logical::DUMP);
        let (to, staging) = (dump.clone(), self.staging.dir().to_owned());
        let (set, unreadable) = tokio::task::spawn_blocking(move || {
            let hash = set.hashes.0.get(logical::DUMP);
            let hash = hash.ok_or_else(|| BackupError::new("UB605", "the set holds no dump"))?;
            // Compared while it is copied: what is restored is the copy.
            files::copy(&set.dir.join(logical::DUMP), &to, Some(hash))?;
            let unreadable = artifacts::copy_out(&set, &staging)?;
            Ok::<_, BackupError>((set, unreadable))
        })
        .await??;
        self.unreadable = unreadable;
        let newer = |major: u32| {
            BackupError::new(
                "UB610",
                format!(
                    "the dump is of PostgreSQL {}, and this one is {major}: dumps only go to the same version or a newer one",
                    set.manifest.postgres_major()
                ),
            )
        };
        let (cluster, admin, bin_dir, major) = match &options.external {
            Some(admin) => {
                let client = connect(admin).await?;
                let row =
                    client.query_one("select current_setting('server_version_num')::integer", &[]).await?;
                let number = u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
                (None, admin.clone(), options.pg_bin.clone(), number / 10_000)
            }
            None => {
                let start = ClusterOptions {
                    pg_bin: options.pg_bin.clone().or(ClusterOptions::new("").pg_bin),
                    ..ClusterOptions::new(self.staging.dir())
                };
                let cluster = Cluster::start(start).await?;
                crate::database::ensure(&cluster.config("postgres", cluster.superuser()), DATABASE).await?;
                let admin = cluster.config(DATABASE, cluster.superuser());
                let bin_dir = cluster.bin_dir().to_path_buf();
                let major = cluster.major_version();
                (Some(cluster), admin, Some(bin_dir), major)
            }
        };
        if major < set.manifest.postgres_major() {
            return Err(newer(major));
        }
        logical::restore(&admin, bin_dir.as_deref(), major, &dump, self.staging.dir()).await?;
        std::fs::remove_file(&dump).map_err(ClusterError::io("cannot remove", &dump))?;
        Ok(cluster)
    }
}

/// The name of the database inside an embedded cluster.
const DATABASE: &str = "econ";

/// Everything that a decision says, in an order in which each step may be the last before a crash.
fn carry_out(staging: Staging, decision: Decision) -> Result<Restored, BackupError> {
    let data_dir = staging.data_dir().to_owned();
    let checkpoints = data_dir.join("checkpoints");
    files::make_folder(&checkpoints)?;
    staging.give(&checkpoints)?;
    let put = |dir: &Path, name: &str, text: &str| -> Result<(), BackupError> {
        files::write_durably(&dir.join(name), text.as_bytes())?;
        Ok(staging.give(&dir.join(name))?)
    };
    // Evidence first, and never in the place of other evidence.
    for (name, note) in decision.lost.iter().filter(|(name, _)| !checkpoints.join(name).exists()) {
        put(&checkpoints, name, note)?;
    }
    artifacts::put_in_place(&staging)?;
    staging.install_pg()?;
    for (name, note) in &decision.checkpoints {
        put(&checkpoints, name, note)?;
    }
    let records = data_dir.join("restores");
    files::make_folder(&records)?;
    staging.give(&records)?;
    let text = serde_json::to_string_pretty(&decision.restored)
        .map_err(|error| BackupError::new("UB900", format!("the record cannot be written: {error}")))?;
    put(&records, &format!("{}.json", fresh_name("restore")), &text)?;
    staging.remove()?;
    Ok(decision.restored)
}
