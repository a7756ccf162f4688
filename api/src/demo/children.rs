//! The demo's other processes: the server and the agents, spawned from this very executable, watched, and started again
//! when one of them dies.
//!
//! Each child is in a process group of its own, so that Ctrl-C reaches the demo alone and the demo ends them in order. If
//! the demo itself is killed, or gives up, they notice (`--exit-with-parent`) and end by themselves.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::cli::failure::{Failure, Outcome};

/// Deaths of one child that are made good; more mean that something is wrong with it.
const RESTARTS_MAX: u32 = 5;
/// How long a child may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Pause before a dead child is started again for the first time; it doubles from time to time.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// How long the server may take to get ready; fetching a Postgres over a slow line is in it.
const READY_LIMIT: Duration = Duration::from_secs(180);

/// How to start a child.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// For people.
    pub(crate) name: String,
    /// Arguments after the program's name.
    pub(crate) args: Vec<OsString>,
    /// Where its words go.
    pub(crate) log: PathBuf,
    /// Whether its first line of standard output says that it is ready.
    pub(crate) announces: bool,
}

/// What happened to a child.
#[derive(Debug)]
pub(crate) enum Notice {
    /// It died and lives again; the text says both.
    Restarted(String),
    /// It died too often, or cannot be started: the run cannot go on.
    Lost(Failure),
}

/// A running child and the task that watches it.
#[derive(Debug)]
pub(crate) struct Watched {
    /// What the child said when it was first ready; null if it announces nothing.
    pub(crate) ready: Value,
    stop: oneshot::Sender<()>,
    watcher: JoinHandle<Outcome>,
}

/// A running child.
struct Running {
    process: tokio::process::Child,
    // Held open: its end tells the child that we are gone.
    _stdin: Option<ChildStdin>,
    output: Option<Lines<BufReader<ChildStdout>>>,
}

impl Spec {
    /// The same child at the port where it was found: whoever knows the address must find it there again.
    fn at_port_of(mut self, ready: &Value) -> Self {
        let port = ready["url"].as_str().and_then(|url| url.rsplit(':').next());
        if let (Some(port), Some(place)) = (port, self.args.iter().position(|arg| arg == "--port"))
            && let Some(value) = self.args.get_mut(place + 1)
        {
            *value = port.into();
        }
        self
    }
}

impl Watched {
    /// Starts a child, waits until it is ready if it announces that, and watches over it from then on.
    pub(crate) async fn start(spec: Spec, notices: mpsc::UnboundedSender<Notice>) -> Outcome<Self> {
        let mut running = spawn(&spec)?;
        let ready = running.ready(&spec).await?;
        let spec = spec.at_port_of(&ready);
        let (stop, stopped) = oneshot::channel();
        let watcher = tokio::spawn(watch(spec, running, ready.clone(), notices, stopped));
        Ok(Self { ready, stop, watcher })
    }

    /// Ends the child cleanly.
    pub(crate) async fn stop(self) -> Outcome {
        // The watcher is gone already when the child was given up.
        let _ = self.stop.send(());
        self.watcher.await.map_err(|error| Failure::outside(format!("a watcher ended early: {error}")))?
    }
}

fn spawn(spec: &Spec) -> Outcome<Running> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::outside(format!("cannot find this program's own file: {error}")))?;
    let log = open_log(&spec.log)?;
    let mut process = Command::new(&program)
        .args(&spec.args)
        // What was meant for this process must not steer its children.
        .env_remove("ECON_DATA_DIR")
        .env_remove("ECON_DATABASE_URL")
        .env_remove("ECON_API")
        .env_remove("ECON_KEY")
        .stdin(Stdio::piped())
        .stdout(if spec.announces { Stdio::piped() } else { Stdio::from(open_log(&spec.log)?) })
        .stderr(Stdio::from(log))
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::outside(format!("cannot start the {}: {error}", spec.name)))?;
    let stdin = process.stdin.take();
    let output = process.stdout.take().map(|output| BufReader::new(output).lines());
    Ok(Running { process, _stdin: stdin, output })
}

fn open_log(path: &Path) -> Outcome<File> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Failure::io("cannot create", folder))?;
    File::options().create(true).append(true).open(path).map_err(Failure::io("cannot open", path))
}

impl Running {
    /// The child's announcement: its first line of JSON.
    async fn ready(&mut self, spec: &Spec) -> Outcome<Value> {
        let Some(output) = &mut self.output else { return Ok(Value::Null) };
        let line = tokio::time::timeout(READY_LIMIT, output.next_line()).await;
        let said = match line {
            Ok(Ok(Some(line))) => serde_json::from_str::<Value>(&line).unwrap_or_default(),
            Ok(_) => Value::Null,
            Err(_) => {
                return Err(Failure::outside(format!(
                    "the {} was not ready after {READY_LIMIT:?}: see {}",
                    spec.name,
                    spec.log.display()
                )));
            }
        };
        if let Some(message) = said["error"]["message"].as_str() {
            return Err(match said["error"]["code"].as_str() {
                Some(code) => Failure::new(code, message),
                None => Failure::outside(message),
            });
        }
        if said.is_object() {
            return Ok(said);
        }
        // Let it be reaped, so that the message can say how it ended.
        let status = self.process.wait().await.ok();
        Err(Failure::outside(format!(
            "the {} ended during its start ({}): see {}",
            spec.name,
            how(status),
            spec.log.display()
        )))
    }

    /// SIGTERM, patience, SIGKILL.
    async fn end(mut self, name: &str) -> Outcome {
        let pid = self.process.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            // It may have ended in this very moment.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(STOP_LIMIT, self.process.wait()).await.is_err() {
            self.process
                .kill()
                .await
                .map_err(|error| Failure::outside(format!("cannot end the {name}: {error}")))?;
            return Err(Failure::outside(format!(
                "the {name} did not end within {STOP_LIMIT:?} and was killed"
            )));
        }
        Ok(())
    }
}

async fn watch(
    spec: Spec,
    mut running: Running,
    ready: Value,
    notices: mpsc::UnboundedSender<Notice>,
    mut stopped: oneshot::Receiver<()>,
) -> Outcome {
    let mut restarts = 0;
    loop {
        let status = tokio::select! {
            status = running.process.wait() => status.ok(),
            _ = &mut stopped => return running.end(&spec.name).await,
        };
        restarts += 1;
        let lost = |failure| {
            // Nobody listens any more only when the demo is ending anyway.
            let _ = notices.send(Notice::Lost(failure));
        };
        if restarts > RESTARTS_MAX {
            lost(Failure::outside(format!(
                "the {} died {restarts} times, the last time with {}: see {}",
                spec.name,
                how(status),
                spec.log.display()
            )));
            return Ok(());
        }
        tokio::time::sleep(RESTART_PAUSE * (1 << (restarts - 1))).await;
        let again = async {
            let mut running = spawn(&spec)?;
            let said = running.ready(&spec).await?;
            Ok((running, said))
        };
        match again.await {
            Ok((_, said)) if said["url"] != ready["url"] => {
                lost(Failure::outside(format!(
                    "the {} came back at another address: run the same command again",
                    spec.name
                )));
                return Ok(());
            }
            Ok((again, _)) => running = again,
            Err(failure) => {
                lost(failure);
                return Ok(());
            }
        }
        let _ = notices.send(Notice::Restarted(format!(
            "the {} died ({}) and was started again",
            spec.name,
            how(status)
        )));
    }
}

/// How a process ended, in words.
fn how(status: Option<ExitStatus>) -> String {
    match status {
        None => "unknown end".into(),
        Some(status) => match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(signal) => match Signal::try_from(signal) {
                Ok(signal) => signal.to_string(),
                Err(_) => format!("signal {signal}"),
            },
            None => format!("exit status {}", status.code().unwrap_or_default()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_started_again_at_the_port_it_had() {
        let args = ["up", "--port", "0", "--ready-json"].map(OsString::from).to_vec();
        let spec = Spec { name: "server".into(), args, log: PathBuf::new(), announces: true };
        let again = spec.at_port_of(&serde_json::json!({ "url": "http://127.0.0.1:36889" }));
        assert_eq!(again.args, ["up", "--port", "36889", "--ready-json"].map(OsString::from));
    }

    #[test]
    fn an_end_is_told_in_words() {
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(how(Some(ExitStatus::from_raw(9))), "SIGKILL");
        assert_eq!(how(Some(ExitStatus::from_raw(1 << 8))), "exit status 1");
    }
}
