//! Archives Postgres' log as it is written: `pg_receivewal` on a replication slot, under this supervisor.
//!
//! Streaming, not `archive_command`: what is archived is a moment behind instead of a segment, nothing has to be restarted, no
//! shell is involved, and Postgres' user needs no right on the folder. The slot holds WAL back while the archive cannot keep
//! up, to a limit; beyond it the archive has lost its place, and a new *stretch* with a base of its own begins.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::keys::KeyPair;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::make::{Made, MakeOptions, connect, make};
use super::manifest::Kind;
use super::repository::{Repository, fresh_name, names};
use super::seal::{self, PARTIAL, Sealer};
use super::segments::Segment;
use super::{BackupError, Source, files, tools};
use crate::clock::system_now_us;
use crate::cluster::ClusterError;

/// The replication slot's name.
const SLOT: &str = "econ_archive";
/// Pace of looking at receiver and slot.
const TICK: Duration = Duration::from_secs(1);
/// Pause before a receiver or a base that failed is tried again.
const RECEIVER_PAUSE: Duration = Duration::from_secs(5);
const BASE_PAUSE: Duration = Duration::from_secs(60);
/// How often the same failure is logged.
const REMIND: Duration = Duration::from_secs(60);
/// How long a stop waits for the last bytes.
const GOODBYE: Duration = Duration::from_secs(2);
/// Longest that a commit takes from its time to its bytes.
const COMMIT_US: i64 = 1_000_000;
const STATE: &str = "wal-archive.json";

/// `<data>/wal-archive.json`: where this data dir's WAL goes. Not part of any backup: a restored database begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ArchiveState {
    pub(super) repository: PathBuf,
    pub(super) stretch: String,
}

impl ArchiveState {
    pub(super) fn read(data_dir: &Path) -> Result<Option<ArchiveState>, BackupError> {
        let path = data_dir.join(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let state = serde_json::from_slice(&files::read_small(&path)?);
        state.map(Some).map_err(|error| ClusterError::io("cannot read", path)(error.into()).into())
    }

    fn write(&self, data_dir: &Path) -> Result<(), BackupError> {
        let path = data_dir.join(STATE);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| BackupError::from(ClusterError::io("cannot encode", &path)(error.into())))?;
        files::write_durably(&path, &text)
    }
}

/// Whether a data dir's WAL is archived.
#[derive(Debug)]
pub struct Archive;

impl Archive {
    /// The folder that was named, or else the one that an earlier start was given: archiving goes on until it is ended.
    ///
    /// Only a folder that was not archived to is made. One that was and is missing now, named again or not, lies on a disk that
    /// is not there at this moment: on the mount point nothing may begin.
    ///
    /// # Errors
    /// `UB125` when the folder and the data dir lie in each other.
    pub fn wanted(data_dir: &Path, named: Option<&Path>) -> Result<Option<Repository>, BackupError> {
        let remembered = ArchiveState::read(data_dir)?.map(|state| state.repository);
        match named {
            Some(named) if remembered.as_deref() != Some(files::resolve(named).as_path()) => {
                Repository::open(named, data_dir).map(Some)
            }
            _ => Ok(remembered.map(|folder| Repository::at(&folder))),
        }
    }

    /// The stretch that grows now.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn live(data_dir: &Path) -> Result<Option<String>, BackupError> {
        Ok(ArchiveState::read(data_dir)?.map(|state| state.stretch))
    }

    /// Ends archiving: Postgres keeps nothing back any more. Returns whether anything was archived.
    ///
    /// # Errors
    /// What Postgres says.
    pub async fn end(source: &Source, data_dir: &Path) -> Result<bool, BackupError> {
        let was = data_dir.join(STATE).exists();
        drop_slot(&connect(&source.admin).await?).await?;
        for path in [STATE, seal::MEMORY].map(|name| data_dir.join(name)) {
            if path.exists() {
                std::fs::remove_file(&path).map_err(ClusterError::io("cannot remove", &path))?;
            }
        }
        Ok(was)
    }
}

/// The running supervisor.
#[derive(Debug)]
pub struct Archiver {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Archiver {
    /// Starts archiving the WAL of `source` into `repository`. Failures are logged, counted and tried again; they never
    /// reach who posts.
    ///
    /// # Errors
    /// `UB608` for an external database, `UB414` when pg_receivewal or pg_basebackup is missing.
    pub async fn start(
        source: Source,
        repository: Repository,
        data_dir: PathBuf,
        receipt_key: Arc<KeyPair>,
    ) -> Result<Archiver, BackupError> {
        source.must_be_ours()?;
        let receivewal = tools::find("pg_receivewal", source.bin_dir.as_deref(), source.major).await?;
        tools::find("pg_basebackup", source.bin_dir.as_deref(), source.major).await?;
        let (stop, stopped) = watch::channel(false);
        let keeper = Keeper {
            source,
            repository,
            data_dir,
            key: receipt_key,
            receivewal,
            client: None,
            segment_bytes: 0,
            stretch: None,
            receiver: None,
            receiver_after: Instant::now(),
            base: Base::Unknown,
            reached_us: 0,
            complained: None,
        };
        Ok(Archiver { stop, task: tokio::spawn(keeper.keep(stopped)) })
    }

    /// Waits shortly until everything is archived that is committed now, and ends the receiver.
    pub async fn close(self) {
        let _ = self.stop.send(true);
        // A task that panicked has said so.
        let _ = self.task.await;
    }
}

struct Keeper {
    source: Source,
    repository: Repository,
    data_dir: PathBuf,
    key: Arc<KeyPair>,
    receivewal: PathBuf,
    client: Option<Client>,
    segment_bytes: u64,
    stretch: Option<Stretch>,
    receiver: Option<Child>,
    receiver_after: Instant,
    base: Base,
    /// Everything committed up to this moment was received.
    reached_us: i64,
    complained: Option<(String, Instant)>,
}

struct Stretch {
    name: String,
    folder: PathBuf,
    // Lent to a thread while it works.
    sealer: Option<Sealer>,
}

/// The base without which a stretch is of no use.
enum Base {
    Unknown,
    Wanted(Instant),
    InWork(JoinHandle<Result<Made, BackupError>>),
    There,
}

/// What Postgres says of the slot.
struct Slot {
    active_pid: Option<i32>,
    timeline: u32,
    lost: bool,
    flushed: Option<String>,
    behind: i64,
    caught_up: bool,
}

impl Keeper {
    async fn keep(mut self, mut stopped: watch::Receiver<bool>) {
        let mut pace = tokio::time::interval(TICK);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = pace.tick() => {}
                _ = stopped.changed() => break,
            }
            let done = self.tick().await;
            self.report(done);
        }
        if let Base::InWork(task) = &self.base {
            task.abort();
        }
        let goodbye = Instant::now() + GOODBYE;
        loop {
            let done = self.tick().await;
            let enough = matches!(done, Ok(true)) || Instant::now() >= goodbye;
            self.report(done);
            if enough {
                break;
            }
            tokio::time::sleep(TICK / 20).await;
        }
        if let Some(mut receiver) = self.receiver.take() {
            interrupt(&receiver);
            let ended = tokio::time::timeout(GOODBYE, receiver.wait()).await;
            tracing::debug!(?ended, "the WAL receiver has ended");
        }
    }

    /// Says what went wrong, but not every second.
    fn report(&mut self, done: Result<bool, BackupError>) {
        let Err(error) = done else {
            self.complained = None;
            return;
        };
        self.client = None;
        metrics::counter!("econ_wal_archive_failures_total").increment(1);
        let text = error.to_string();
        let again = self.complained.as_ref().is_none_or(|(last, at)| *last != text || at.elapsed() > REMIND);
        if again {
            tracing::error!(
                error = text,
                "WAL is not archived at this moment; it is kept back and tried again"
            );
            self.complained = Some((text, Instant::now()));
        }
    }

    /// One look; whether everything was archived that was committed when it began.
    async fn tick(&mut self) -> Result<bool, BackupError> {
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => {
                let client = connect(&self.source.admin).await?;
                let row = client
                    .query_one("select pg_size_bytes(current_setting('wal_segment_size'))", &[])
                    .await?;
                self.segment_bytes = u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(16 << 20);
                client
            }
        };
        let done = self.look(&client).await;
        if done.is_ok() {
            self.client = Some(client);
        }
        done
    }

    async fn look(&mut self, client: &Client) -> Result<bool, BackupError> {
        if self.stretch.is_none() {
            self.resume()?;
        }
        let slot = read_slot(client).await?;
        if let Some(slot) = &slot {
            metrics::gauge!("econ_wal_archive_behind_bytes").set(slot.behind as f64);
        }
        match (&self.stretch, &slot) {
            (Some(stretch), Some(slot)) if !slot.lost => {
                if let Err(error) = self.repository.is_there(Some(&stretch.folder)) {
                    // It would go on into a folder that has no name any more, and Postgres would keep nothing back.
                    self.receiver = None;
                    return Err(error);
                }
            }
            _ => self.begin(client, slot.is_some()).await?,
        }
        self.mind_receiver(client).await?;
        // Read after the receiver was looked after and before anything is sealed: then the time of the seal is true.
        let at_us = system_now_us();
        let Some(slot) = read_slot(client).await? else { return Ok(false) };
        metrics::gauge!("econ_wal_archive_behind_bytes").set(slot.behind as f64);
        self.seal(&slot, at_us).await?;
        if slot.flushed.is_some() {
            self.mind_base().await?;
        }
        Ok(slot.caught_up)
    }

    /// Goes on where an earlier process was, if it archived to the same folder.
    fn resume(&mut self) -> Result<(), BackupError> {
        let state = ArchiveState::read(&self.data_dir)?;
        if let Some(state) = state.filter(|state| state.repository == self.repository.dir()) {
            self.enter(state.stretch);
        }
        Ok(())
    }

    fn enter(&mut self, name: String) {
        let folder = self.repository.wal().join(&name);
        let key = Arc::clone(&self.key);
        let sealer = Sealer::new(folder.clone(), name.clone(), key, self.data_dir.clone());
        self.stretch = Some(Stretch { name, folder, sealer: Some(sealer) });
        self.base = Base::Unknown;
    }

    /// Begins a new stretch: a folder, the word of it, and then a slot that holds back everything from now on. In this order,
    /// since a slot of later than the stretch that is written down would leave a gap in that one.
    async fn begin(&mut self, client: &Client, had_slot: bool) -> Result<(), BackupError> {
        self.repository.is_there(None)?;
        // One that was begun and got no slot.
        let unused = match &self.stretch {
            Some(stretch) if stretch.folder.is_dir() && names(&stretch.folder)?.is_empty() => {
                Some(stretch.name.clone())
            }
            Some(stretch) if had_slot => {
                tracing::error!(
                    stretch = stretch.name,
                    "the WAL archive has lost its place: it was away for too long. A new stretch begins, with a base of its \
                     own; moments between the two cannot be restored"
                );
                None
            }
            Some(stretch) => {
                tracing::warn!(
                    stretch = stretch.name,
                    "PostgreSQL does not know the WAL archive's slot, as after a restore: a new stretch begins"
                );
                None
            }
            None => None,
        };
        self.receiver = None;
        drop_slot(client).await?;
        let name = match unused {
            Some(name) => name,
            None => {
                let name = fresh_name("wal");
                files::make_one_folder(&self.repository.wal().join(&name))?;
                files::sync(&self.repository.wal())?;
                name
            }
        };
        let state = ArchiveState { repository: self.repository.dir().to_owned(), stretch: name.clone() };
        state.write(&self.data_dir)?;
        client.query_one("select pg_create_physical_replication_slot($1, true)", &[&SLOT]).await?;
        tracing::info!(stretch = name, folder = %self.repository.dir().display(), "WAL is archived from here on");
        self.enter(name);
        self.base = Base::Wanted(Instant::now());
        self.receiver_after = Instant::now();
        Ok(())
    }

    /// Keeps a receiver running, and no second one.
    async fn mind_receiver(&mut self, client: &Client) -> Result<(), BackupError> {
        let Some(stretch) = &mut self.stretch else { return Ok(()) };
        let log = self.data_dir.join("log/wal-archive.log");
        if let Some(receiver) = &mut self.receiver {
            match receiver.try_wait().map_err(ClusterError::io("cannot wait for", "pg_receivewal"))? {
                None => return Ok(()),
                Some(status) => {
                    self.receiver = None;
                    self.receiver_after = Instant::now() + RECEIVER_PAUSE;
                    let said = std::fs::read_to_string(&log).unwrap_or_default();
                    let output = crate::cluster::last_lines(&said, 3);
                    let failed =
                        ClusterError::Tool { tool: "pg_receivewal", status: status.to_string(), output };
                    return Err(failed.into());
                }
            }
        }
        if Instant::now() < self.receiver_after {
            return Ok(());
        }
        // The receiver of an econ that was killed: without its session it ends.
        end_session(client).await?;
        clear_for_receiver(&stretch.folder, self.segment_bytes)?;
        if let Some(sealer) = &mut stretch.sealer {
            sealer.forget();
        }
        let errors = std::fs::File::create(&log).map_err(ClusterError::io("cannot create", &log))?;
        let mut command: Command = tools::command(&self.receivewal, Some(&self.source.admin));
        // In a group of its own: Ctrl-C in the terminal is ours to handle, and the last commits are still to come.
        command.env("PGAPPNAME", "econ-archive").process_group(0).stdout(Stdio::null()).stderr(errors);
        command.args(["--no-password", "--no-loop", "--synchronous", "--slot", SLOT, "--directory"]);
        let child = command.arg(&stretch.folder).spawn();
        self.receiver = Some(child.map_err(ClusterError::io("cannot run", &self.receivewal))?);
        Ok(())
    }

    async fn seal(&mut self, slot: &Slot, at_us: i64) -> Result<(), BackupError> {
        let Some(stretch) = &mut self.stretch else { return Ok(()) };
        let Some(mut sealer) = stretch.sealer.take() else { return Ok(()) };
        let segment_bytes = self.segment_bytes;
        let flushed =
            slot.flushed.as_deref().and_then(|lsn| Segment::of_lsn(slot.timeline, lsn, segment_bytes));
        // How far the archive reaches in time can only be said when it has everything; and a commit takes its time a moment
        // before it is written.
        if slot.caught_up {
            self.reached_us = at_us - COMMIT_US;
        }
        let at_us = self.reached_us;
        let (sealer, done) = tokio::task::spawn_blocking(move || {
            let done = sealer.seal(flushed, segment_bytes, at_us);
            (sealer, done)
        })
        .await?;
        stretch.sealer = Some(sealer);
        done
    }

    /// Sees to it that the stretch has a base to begin from.
    async fn mind_base(&mut self) -> Result<(), BackupError> {
        let Some(stretch) = &self.stretch else { return Ok(()) };
        self.base = match std::mem::replace(&mut self.base, Base::Unknown) {
            Base::Unknown if self.repository.has_base_of(&stretch.name, self.key.public())? => Base::There,
            Base::Unknown => Base::Wanted(Instant::now()),
            Base::Wanted(after) if Instant::now() >= after => {
                let (source, repository) = (self.source.clone(), self.repository.clone());
                let (data_dir, key) = (self.data_dir.clone(), Arc::clone(&self.key));
                Base::InWork(tokio::spawn(async move {
                    let options = MakeOptions {
                        repository: &repository,
                        data_dir: &data_dir,
                        receipt_key: Some(key),
                        kind: Kind::Base,
                        artifacts: false,
                    };
                    make(&source, &options).await
                }))
            }
            Base::InWork(task) if task.is_finished() => match task.await? {
                Ok(made) => {
                    tracing::info!(set = %made.dir.display(), "the archive has a base to begin from");
                    Base::There
                }
                Err(error) => {
                    self.base = Base::Wanted(Instant::now() + BASE_PAUSE);
                    return Err(error);
                }
            },
            other => other,
        };
        Ok(())
    }
}

/// Takes away what pg_receivewal stumbles over for ever: a segment that it had not filled up when the disk was full, or it was
/// killed. Nothing was received into that yet, or Postgres sends it again. Refuses what would lead it elsewhere: `UB303`.
fn clear_for_receiver(folder: &Path, segment_bytes: u64) -> Result<(), BackupError> {
    for name in names(folder)? {
        let path = folder.join(&name);
        let meta = std::fs::symlink_metadata(&path).map_err(ClusterError::io("cannot look at", &path))?;
        if !meta.is_file() {
            let message =
                format!("{} is not a plain file: remove it, and find out who put it there", path.display());
            return Err(BackupError::new("UB303", message));
        }
        if name.ends_with(PARTIAL) && meta.len() != 0 && meta.len() != segment_bytes {
            tracing::warn!(file = %path.display(), bytes = meta.len(), "a segment that was made by half is received anew");
            std::fs::remove_file(&path).map_err(ClusterError::io("cannot remove", &path))?;
        }
    }
    Ok(())
}

fn interrupt(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended already.
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
    }
}

async fn read_slot(client: &Client) -> Result<Option<Slot>, BackupError> {
    let question = "select s.active_pid, coalesce(s.wal_status = 'lost', false), r.flush_lsn::text,
         coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), coalesce(r.flush_lsn, s.restart_lsn)), 0)::bigint,
         coalesce(r.flush_lsn >= pg_current_wal_flush_lsn(), false),
         left(pg_walfile_name(pg_current_wal_flush_lsn()), 8)
       from pg_replication_slots s left join pg_stat_replication r on r.pid = s.active_pid where s.slot_name = $1";
    let Some(row) = client.query_opt(question, &[&SLOT]).await? else { return Ok(None) };
    let timeline: String = row.try_get(5)?;
    Ok(Some(Slot {
        timeline: u32::from_str_radix(&timeline, 16).unwrap_or_default(),
        active_pid: row.try_get(0)?,
        lost: row.try_get(1)?,
        flushed: row.try_get(2)?,
        behind: row.try_get(3)?,
        caught_up: row.try_get(4)?,
    }))
}

/// Ends whoever receives from the slot, and waits until that is so.
async fn end_session(client: &Client) -> Result<(), BackupError> {
    if let Some(pid) = read_slot(client).await?.and_then(|slot| slot.active_pid) {
        client.query_one("select pg_terminate_backend($1, 5000)", &[&pid]).await?;
    }
    Ok(())
}

async fn drop_slot(client: &Client) -> Result<(), BackupError> {
    end_session(client).await?;
    let drop = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1";
    client.query(drop, &[&SLOT]).await?;
    Ok(())
}
