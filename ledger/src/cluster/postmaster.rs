//! The postmaster as a process: its pid file, its settings, its start, and what a dead econ may have left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::{Config, NoTls};

use super::binaries::Binaries;
use super::user::TargetUser;
use super::{ClusterError, ClusterOptions, PORT, SUPERUSER};

/// Pause between looks at a process that is starting or stopping.
pub(crate) const LOOK: Duration = Duration::from_millis(10);
/// A log longer than this is put aside at the next start.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// `pg_hba.conf`: local only, whatever a later setting of listen_addresses says.
pub(crate) const HBA: &str =
    "# Written by econ: the socket's folder is the key.\nlocal all all trust\nlocal replication all trust\n";

/// The folders of one data dir.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) data_dir: PathBuf,
    pub(crate) pg: PathBuf,
    pub(crate) log: PathBuf,
}

impl Layout {
    pub(crate) fn of(data_dir: &Path) -> Layout {
        Layout {
            data_dir: data_dir.to_path_buf(),
            pg: data_dir.join("pg"),
            log: data_dir.join("log/postgres.log"),
        }
    }

    /// The major version that wrote `pg`; `None` when there is no cluster yet.
    pub(crate) fn version(&self) -> Option<u32> {
        fs::read_to_string(self.pg.join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    fn pid_path(&self) -> PathBuf {
        self.pg.join("postmaster.pid")
    }
}

/// What `postmaster.pid` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub(crate) pid: i32,
    pub(crate) port: u16,
    pub(crate) socket_dir: PathBuf,
}

impl PidFile {
    pub(crate) fn read(layout: &Layout) -> Option<PidFile> {
        let text = fs::read_to_string(layout.pid_path()).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        Some(PidFile {
            pid: lines.first()?.trim().parse().ok()?,
            // Written a moment after the pid; until then the file is of no use to a client.
            port: lines.get(3).and_then(|line| line.trim().parse().ok()).unwrap_or(PORT),
            socket_dir: lines.get(4).map(|line| PathBuf::from(line.trim())).unwrap_or_default(),
        })
    }

    /// Whether the process of that pid is alive and, as far as this system can tell, is the postmaster of `layout`:
    /// pids are used again, in containers within seconds.
    pub(crate) fn is_running(&self, layout: &Layout) -> bool {
        is_alive(self.pid) && is_postmaster_of(self.pid, layout)
    }
}

/// Whether a process exists and is not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    match kill(Pid::from_raw(pid), None) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(_) => return false,
    }
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the command name, which is in parentheses and may hold anything.
        Ok(stat) => stat.rsplit_once(") ").is_none_or(|(_, rest)| !rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

/// A postmaster's working directory is its data directory. Where there is no /proc to ask, the answer is yes.
fn is_postmaster_of(pid: i32, layout: &Layout) -> bool {
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => cwd == layout.pg,
        Err(_) => !Path::new("/proc/self/cwd").exists(),
    }
}

/// If the pid of a dead postmaster now belongs to another process, Postgres would refuse to start. The parent's pid in that
/// place is known to it as stale, while its check for surviving backends (the shared memory key, further down in the file)
/// still happens. That is why the line is changed and the file is not removed.
pub(crate) fn disarm_recycled_pid(layout: &Layout, file: &PidFile) -> Result<(), ClusterError> {
    if !is_alive(file.pid) {
        return Ok(());
    }
    let path = layout.pid_path();
    let text = fs::read_to_string(&path).map_err(ClusterError::io("cannot read", &path))?;
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    fs::write(&path, format!("{}\n{rest}", std::process::id()))
        .map_err(ClusterError::io("cannot write", &path))
}

/// The folder of the programs that a postmaster was started with: `postmaster.opts` holds its command line, arguments quoted.
pub(crate) fn running_bin_dir(layout: &Layout) -> Option<PathBuf> {
    let text = fs::read_to_string(layout.pg.join("postmaster.opts")).ok()?;
    let (program, _) = text.split_once(" \"")?;
    Path::new(program).parent().filter(|dir| dir.is_absolute()).map(Path::to_path_buf)
}

/// Every setting that this house decides, as `name=value`; later ones win.
pub(crate) fn settings(options: &ClusterOptions, socket_dir: &Path) -> Vec<(String, String)> {
    let on_if_durable = if options.durable { "on" } else { "off" };
    let mut settings: Vec<(String, String)> = [
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("fsync", on_if_durable),
        ("full_page_writes", on_if_durable),
        ("synchronous_commit", on_if_durable),
        ("shared_buffers", if options.durable { "256MB" } else { "64MB" }),
        ("max_wal_size", if options.durable { "4GB" } else { "512MB" }),
        ("checkpoint_timeout", "15min"),
        ("max_connections", if options.durable { "120" } else { "200" }),
        ("wal_compression", "on"),
        // What an archive that does not keep up may hold back: then it loses its place, and the ledger goes on.
        ("max_slot_wal_keep_size", "16GB"),
        ("jit", "off"),
        ("random_page_cost", "1.1"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
        ("logging_collector", "off"),
        ("cluster_name", "econ"),
        // A worker of it holding a connection to a template would make cloning wait; throwaway data needs no upkeep.
        ("autovacuum", on_if_durable),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    settings.push(("port".into(), PORT.to_string()));
    settings.push(("unix_socket_directories".into(), socket_dir.display().to_string()));
    settings.extend(options.settings.iter().cloned());
    settings
}

/// Creates the cluster in `layout.pg` unless it exists. Whole or not at all.
pub(crate) fn init(
    layout: &Layout,
    bin: &Binaries,
    user: &TargetUser,
    durable: bool,
) -> Result<(), ClusterError> {
    if layout.version().is_some() {
        return Ok(());
    }
    let fresh = layout.data_dir.join("pg.new");
    if fresh.exists() {
        // What a killed first start left: never used, because only the rename makes it the cluster.
        fs::remove_dir_all(&fresh).map_err(ClusterError::io("cannot remove", &fresh))?;
    }
    user.own_dir(&fresh)?;
    // The builtin provider sorts by code point on every machine. Before 17 the C library's C.UTF-8 does, where it exists.
    let locales: &[&[&str]] = if bin.major >= 17 {
        &[&["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]]
    } else {
        &[&["--locale=C.UTF-8"], &["--locale=C"]]
    };
    let mut failure = None;
    for locale in locales {
        let mut command = user.command(&bin.dir.join("initdb"));
        command.args(["-A", "trust", "-E", "UTF8", "-k", "--no-instructions", "-U", SUPERUSER]).args(*locale);
        if !durable {
            command.arg("--no-sync");
        }
        let output = command
            .arg("-D")
            .arg(&fresh)
            .stdin(Stdio::null())
            .output()
            .map_err(ClusterError::io("cannot run", bin.dir.join("initdb")))?;
        if output.status.success() {
            failure = None;
            break;
        }
        let text = String::from_utf8_lossy(&output.stderr);
        failure = Some(ClusterError::Tool {
            tool: "initdb",
            status: output.status.to_string(),
            output: last_lines(&text, 8),
        });
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    // Overwriting keeps the owner.
    let hba = fresh.join("pg_hba.conf");
    fs::write(&hba, HBA).map_err(ClusterError::io("cannot write", &hba))?;
    fs::rename(&fresh, &layout.pg).map_err(ClusterError::io("cannot rename to", &layout.pg))?;
    if durable {
        File::open(&layout.data_dir)
            .and_then(|dir| dir.sync_all())
            .map_err(ClusterError::io("cannot sync", &layout.data_dir))?;
    }
    Ok(())
}

/// Starts `postgres` without waiting for it. In its own process group: Ctrl-C in the terminal is ours to handle, and Postgres
/// must outlive it until the last command is stored.
pub(crate) fn spawn(
    layout: &Layout,
    bin: &Binaries,
    user: &TargetUser,
    options: &ClusterOptions,
    socket_dir: &Path,
) -> Result<Child, ClusterError> {
    use std::os::unix::process::CommandExt;
    let log = open_log(layout)?;
    let errors = log.try_clone().map_err(ClusterError::io("cannot open", &layout.log))?;
    let mut command = user.command(&bin.dir.join("postgres"));
    command.arg("-D").arg(&layout.pg);
    for (name, value) in settings(options, socket_dir) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(ClusterError::io("cannot run", bin.dir.join("postgres")))
}

fn open_log(layout: &Layout) -> Result<File, ClusterError> {
    let log = &layout.log;
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).map_err(ClusterError::io("cannot create", dir))?;
    }
    if fs::metadata(log).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
        fs::rename(log, log.with_extension("log.1")).map_err(ClusterError::io("cannot put aside", log))?;
    }
    OpenOptions::new().create(true).append(true).open(log).map_err(ClusterError::io("cannot open", log))
}

/// Length of the log now, to tell later what a start has added to it.
pub(crate) fn log_length(layout: &Layout) -> u64 {
    fs::metadata(&layout.log).map_or(0, |meta| meta.len())
}

/// What was logged from byte `from` on, at most the last 64 KiB.
pub(crate) fn log_since(layout: &Layout, from: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(&layout.log)?;
        let end = file.metadata()?.len();
        // A rotation since makes the file shorter than it was.
        let from = if from > end { 0 } else { from };
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(64 << 10))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

pub(crate) fn last_lines(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(n)..].join("\n")
}

/// Sends a signal to a postmaster. A process that is gone already is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal)
        && error != Errno::ESRCH
    {
        tracing::warn!(pid, %signal, %error, "cannot signal PostgreSQL");
    }
}

/// Waits until `gone` says so, up to `limit`.
pub(crate) async fn wait_until(limit: Duration, mut gone: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !gone() {
        if start.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// Connects as the superuser and asks one question; the error says what kind of "not yet" it is.
pub(crate) async fn ask(config: &Config, question: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let driver = tokio::spawn(connection);
    let row = client.query_one(question, &[]).await;
    drop(client);
    // Ends by itself once the client is dropped; waiting keeps the session from outliving this call.
    let _ = driver.await;
    let row = row?;
    (0..row.len()).map(|i| row.try_get::<_, String>(i)).collect()
}
