//! The built `econ` as a person runs it: processes, their data dir, and what is in its books afterwards.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use ledger::cluster::{Cluster, ClusterOptions, EconState};
use ledger::testing::{Watchdog, scratch_dir};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_postgres::{Client, Config, NoTls};

/// Longest that anything here is waited for, whole programs included; far more than any of it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// Pace of looking at another process.
const LOOK: Duration = Duration::from_millis(10);

/// A data dir and whatever belongs to it; gone, Postgres included, when the test is.
pub struct Folder {
    path: PathBuf,
    _watchdog: Watchdog,
}

/// `econ` with these arguments, and nothing in its environment that would lead it elsewhere. Dies with the test.
pub fn econ<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_econ"));
    for variable in ["ECON_DATA_DIR", "ECON_DATABASE_URL", "ECON_API", "ECON_KEY", "RUST_LOG"] {
        command.env_remove(variable);
    }
    if let Some(bin) = std::env::var_os("ECON_TEST_PG_BIN") {
        command.env("ECON_PG_BIN", bin);
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A running market on that folder, and its URL.
pub async fn open_market(folder: &Folder) -> (Child, String) {
    open_market_with(folder, &[]).await
}

/// The same, told more.
pub async fn open_market_with(folder: &Folder, more: &[&str]) -> (Child, String) {
    let args = [&["up", "--port", "0", "--data-dir", folder.text()], more].concat();
    let mut market = econ(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(market.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let url = line.strip_prefix("the market is open at ").unwrap_or_else(|| panic!("{line}")).to_owned();
    // Read on: nobody closes a terminal behind a server.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (market, url)
}

/// What `econ` says to these arguments.
pub async fn say(args: &[&str]) -> Output {
    let said = tokio::time::timeout(PATIENCE, econ(args).output()).await;
    said.unwrap_or_else(|_| panic!("econ {args:?} does not end")).unwrap()
}

/// Its standard output, when it succeeds.
pub async fn must(args: &[&str]) -> String {
    let said = say(args).await;
    assert!(said.status.success(), "econ {args:?}: {}", both(&said));
    String::from_utf8(said.stdout).unwrap()
}

/// Its answer to `--json`.
pub async fn json(args: &[&str]) -> Value {
    let said = must(&[args, &["--json"]].concat()).await;
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("econ {args:?} says: {said}"))
}

/// Everything that was said, for a failure's message.
pub fn both(said: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    format!("{}\n{out}\n{err}", said.status)
}

/// What a server answers to a plain GET.
pub async fn page(url: &str, path: &str) -> String {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// Waits for something, looking again and again.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pace = tokio::time::interval(LOOK);
    let looking = async {
        loop {
            pace.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

impl Folder {
    pub fn new() -> Folder {
        let path = scratch_dir("econ-e2e-");
        let watchdog = Watchdog::over(&path);
        Folder { path, _watchdog: watchdog }
    }

    pub fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// A file or folder in it.
    pub fn file(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_owned()
    }

    /// `econ demo` over `orders` orders, as a program asks for it.
    pub fn demo(&self, orders: u32) -> Command {
        let orders = orders.to_string();
        let args =
            ["demo", "--orders", &orders, "--json", "--exit", "--port", "0", "--data-dir", self.text()];
        let mut command = econ(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A demo that ends well: its summary.
    pub async fn played(&self, orders: u32) -> Value {
        let said = ended(self.demo(orders).spawn().unwrap()).await;
        summary(&said, orders)
    }

    /// The process of the server that runs here.
    pub fn server(&self) -> Option<Pid> {
        let state = EconState::read(&self.path)?;
        let pid = Pid::from_raw(i32::try_from(state.pid).unwrap());
        self.processes("up").contains(&pid).then_some(pid)
    }

    /// The postmaster that runs here.
    pub fn postmaster(&self) -> Option<Pid> {
        let file = std::fs::read_to_string(self.path.join("pg/postmaster.pid")).ok()?;
        Some(Pid::from_raw(file.lines().next()?.parse().unwrap()))
    }

    /// Processes of ours that run as this subcommand.
    pub fn processes(&self, subcommand: &str) -> Vec<Pid> {
        let ours = |words: &[String]| words.get(1).is_some_and(|word| word == subcommand);
        self.all_processes().into_iter().filter(|(_, words)| ours(words)).map(|(pid, _)| pid).collect()
    }

    /// Processes of whatever kind whose command line names this folder, with their words.
    pub fn all_processes(&self) -> Vec<(Pid, Vec<String>)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended since, or be somebody else's.
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let words: Vec<String> = line
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            let watchdog = words.iter().any(|word| word == "econ-test-watchdog");
            if !watchdog && words.iter().any(|word| word.starts_with(self.text())) {
                found.push((Pid::from_raw(pid), words));
            }
        }
        found
    }

    /// A session on the database of the market that runs here; `None`: it is not there yet, or not any more.
    pub async fn client(&self, role: &str) -> Option<Client> {
        let state = EconState::read(&self.path)?;
        let mut config = Config::new();
        config.host_path(&state.socket_dir).port(state.port).dbname("econ").user(role);
        let (client, connection) = config.connect(NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// Waits until the log of the market that runs here holds so many commands; the processes that were there then.
    pub async fn until_commands(&self, count: i64, demo: &mut Child) {
        let mut db = None;
        until(&format!("{count} commands"), async || {
            if let Some(status) = demo.try_wait().unwrap() {
                panic!("the demo ended ({status}) before it had {count} commands");
            }
            if db.is_none() {
                db = self.client("econ_auditor").await;
            }
            let query = "select coalesce(max(last_seq), 0) from base.ledgers";
            match db.as_ref()?.query_one(query, &[]).await {
                Ok(row) => (row.get::<_, i64>(0) >= count).then_some(()),
                Err(_) => {
                    db = None;
                    None
                }
            }
        })
        .await;
    }

    /// The books of a market that does not run at the moment, as its database's superuser.
    pub async fn books(&self) -> Books {
        let mut options = ClusterOptions::new(&self.path);
        if let Some(bin) = std::env::var_os("ECON_TEST_PG_BIN") {
            options.pg_bin = Some(bin.into());
        }
        let cluster = Cluster::start(options).await.unwrap();
        let (client, connection) = cluster.config("econ", cluster.superuser()).connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        Books { db: client, cluster }
    }
}

/// An open database.
pub struct Books {
    pub db: Client,
    cluster: Cluster,
}

impl Books {
    pub async fn close(self) {
        drop(self.db);
        self.cluster.stop().await.unwrap();
    }
}

/// The end of a process.
pub async fn ended(child: Child) -> Output {
    let said = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    said.expect("it does not end").unwrap()
}

/// Insists that a demo of so many orders ended well, and returns its summary.
pub fn summary(said: &Output, orders: u32) -> Value {
    assert!(said.status.success(), "{}", both(said));
    let summary: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", both(said)));
    assert_eq!((&summary["ok"], &summary["verify"]["passed"]), (&true.into(), &true.into()), "{summary}");
    let count = |state: &str| summary["orders"][state].as_u64().unwrap();
    assert_eq!((count("settled") + count("refunded"), count("open")), (u64::from(orders), 0), "{summary}");
    summary
}

pub fn kill_9(pid: Pid) {
    kill(pid, Signal::SIGKILL).unwrap();
}

pub fn interrupt(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGINT).unwrap();
}
