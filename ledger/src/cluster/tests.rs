//! Clusters of their own, in memory where possible.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User};
use tokio_postgres::{Client, NoTls};

use super::postmaster::is_alive;
use super::*;
use crate::testing::{Watchdog, scratch_dir, test_options};

/// A data dir that goes away with its cluster, also when the test panics.
struct Scratch {
    dir: PathBuf,
    _watchdog: Watchdog,
}

impl Scratch {
    fn new() -> Scratch {
        let dir = scratch_dir("econ-cluster-");
        Scratch { _watchdog: Watchdog::over(&dir), dir }
    }

    fn options(&self) -> ClusterOptions {
        test_options(&self.dir)
    }
}

async fn connect(cluster: &Cluster) -> Client {
    let (client, connection) = cluster.config("postgres", cluster.superuser()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn setting(client: &Client, name: &str) -> String {
    client.query_one("select current_setting($1)", &[&name]).await.unwrap().get(0)
}

fn kill_hard(cluster: &Cluster) {
    postmaster::signal(cluster.pid(), Signal::SIGKILL);
}

/// What every user must be able to do; run below as root and as somebody else.
#[tokio::test]
async fn a_durable_cluster_is_private_and_keeps_its_data_over_a_stop() {
    let scratch = Scratch::new();
    let options = ClusterOptions { durable: true, ..scratch.options() };
    let cluster = Cluster::start(options.clone()).await.unwrap();
    let client = connect(&cluster).await;
    for (name, value) in [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
        ("data_checksums", "on"),
        ("jit", "off"),
    ] {
        assert_eq!(setting(&client, name).await, value, "{name}");
    }
    assert_eq!(std::fs::metadata(cluster.socket_dir()).unwrap().permissions().mode() & 0o777, 0o700);
    let state = EconState::read(cluster.data_dir()).unwrap();
    assert_eq!((state.pid, state.socket_dir.as_path()), (std::process::id(), cluster.socket_dir()));
    client.batch_execute("create table kept as select 7 as n").await.unwrap();
    let pid = cluster.pid();
    cluster.stop().await.unwrap();
    assert!(!is_alive(pid));
    assert_eq!(EconState::read(&scratch.dir), None);

    let cluster = Cluster::start(options).await.unwrap();
    let row = connect(&cluster).await.query_one("select n from kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    let pid = cluster.pid();
    drop(cluster);
    assert!(!is_alive(pid), "a dropped cluster is stopped");
}

#[tokio::test]
async fn an_ordinary_user_gets_the_same() {
    if !Uid::effective().is_root() {
        println!("skipped: already an ordinary user, the other tests show it");
        return;
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    // The test binary may lie where that user cannot go.
    let dir = scratch_dir("econ-nobody-");
    let exe = dir.join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let output = Command::new(&exe)
        .args(["--exact", "cluster::tests::a_durable_cluster_is_private_and_keeps_its_data_over_a_stop"])
        .uid(nobody.uid.as_raw())
        .gid(nobody.gid.as_raw())
        .env_remove("HOME")
        .current_dir("/")
        .output();
    std::fs::remove_dir_all(&dir).unwrap();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn root_runs_postgres_as_the_owner_of_the_data_dir_and_enters_closed_ones() {
    if !Uid::effective().is_root() {
        println!("skipped: needs root");
        return;
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let scratch = Scratch::new();
    chown(&scratch.dir, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    let cluster = Cluster::start(scratch.options()).await.unwrap();
    for path in ["pg", "run", "econ.lock", "econ.json"] {
        let owner = std::fs::metadata(scratch.dir.join(path)).unwrap().uid();
        assert_eq!(owner, nobody.uid.as_raw(), "{path}");
    }
    cluster.stop().await.unwrap();

    // A folder that only root could enter, as `mktemp -d` makes them. An own one may be opened a little …
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    let cluster = Cluster::start(scratch.options()).await.unwrap();
    assert_eq!(std::fs::metadata(&scratch.dir).unwrap().mode() & 0o777, 0o710);
    cluster.stop().await.unwrap();

    // … one above is left alone, and named.
    let closed = Scratch::new();
    std::fs::set_permissions(&closed.dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    let inner = closed.dir.join("data");
    let error = Cluster::start(test_options(&inner)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("cannot enter {}:", closed.dir.display())), "{error}");
    assert_eq!(std::fs::metadata(&closed.dir).unwrap().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_second_econ_is_refused_and_told_whom_to_stop() {
    let scratch = Scratch::new();
    assert_eq!(DataDirLock::holder(&scratch.dir).unwrap(), None);
    let lock = DataDirLock::acquire(&scratch.dir).unwrap();
    assert_eq!(DataDirLock::holder(&scratch.dir).unwrap(), Some(std::process::id()));
    let error = Cluster::start(scratch.options()).await.unwrap_err();
    assert!(matches!(error, ClusterError::Locked { pid, .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&format!("kill {}", std::process::id())), "{error}");
    assert!(!scratch.dir.join("pg").exists(), "the refused one touched nothing");
    drop(lock);
    assert_eq!(DataDirLock::holder(&scratch.dir).unwrap(), None);
    assert!(matches!(Cluster::attach(&scratch.dir).await, Err(ClusterError::NotRunning(_))));
}

#[tokio::test]
async fn the_orphan_of_a_killed_econ_is_adopted_without_its_sessions() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(scratch.options()).await.unwrap();
    let (pid, left_over) = (cluster.pid(), connect(&cluster).await);
    let attached = Cluster::attach(&scratch.dir).await.unwrap();
    assert_eq!((attached.pid(), attached.bin_dir()), (pid, cluster.bin_dir()));
    let person = connect(&attached).await;
    cluster.abandon();

    let adopted = Cluster::start(scratch.options()).await.unwrap();
    assert_eq!(adopted.pid(), pid, "the same process goes on");
    assert!(adopted.is_alive());
    assert!(left_over.query_one("select 1", &[]).await.is_err(), "the dead econ's session was ended");
    assert!(person.query_one("select 1", &[]).await.is_ok(), "a person's session was not");
    drop(attached);
    assert!(adopted.is_alive(), "an attached cluster is not ours to stop");
    adopted.abandon();

    // One that was started with less durability than we want is not taken over.
    let restarted = Cluster::start(ClusterOptions { durable: true, ..scratch.options() }).await.unwrap();
    assert_ne!(restarted.pid(), pid);
    assert_eq!(setting(&connect(&restarted).await, "fsync").await, "on");
    restarted.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_postmaster_is_noticed_and_started_again() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(ClusterOptions { durable: true, ..scratch.options() }).await.unwrap();
    let config = cluster.config("postgres", cluster.superuser());
    assert!(!cluster.ensure_running().await.unwrap(), "nothing to do while it lives");
    let client = connect(&cluster).await;
    client.batch_execute("create table kept as select 7 as n").await.unwrap();
    let pid = cluster.pid();
    kill_hard(&cluster);
    cluster.died().await;
    let (one, other) = tokio::join!(cluster.ensure_running(), cluster.ensure_running());
    assert_ne!(one.unwrap(), other.unwrap(), "one of two restarted it");
    assert_ne!(cluster.pid(), pid);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query_one("select n from kept", &[]).await.unwrap().get::<_, i32>(0), 7);

    // The same when econ dies with it: its pid file is left behind.
    kill_hard(&cluster);
    cluster.died().await;
    drop(cluster);
    assert!(scratch.dir.join("pg/postmaster.pid").exists());
    let cluster = Cluster::start(scratch.options()).await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_stale_pid_file_whose_pid_is_in_use_again_does_not_stand_in_the_way() {
    let scratch = Scratch::new();
    Cluster::start(scratch.options()).await.unwrap().stop().await.unwrap();
    // A live process of Postgres' own user, which Postgres would take for a postmaster.
    let user = TargetUser::for_data_dir(&scratch.dir).unwrap();
    let mut other = user.command(Path::new("/bin/cat")).stdin(Stdio::piped()).spawn().unwrap();
    let pid_file = scratch.dir.join("pg/postmaster.pid");
    let pg = scratch.dir.join("pg");
    std::fs::write(&pid_file, format!("{}\n{}\n1\n5432\n/x\n\n", other.id(), pg.display())).unwrap();
    let cluster = Cluster::start(scratch.options()).await.unwrap();
    assert_ne!(cluster.pid(), i32::try_from(other.id()).unwrap());
    assert!(matches!(other.try_wait(), Ok(None)), "the other process was left alone");
    cluster.stop().await.unwrap();
    drop(other.stdin.take());
    other.wait().unwrap();
}

#[tokio::test]
async fn a_data_dir_too_deep_for_a_socket_gets_a_private_one_elsewhere() {
    let scratch = Scratch::new();
    let deep = scratch.dir.join("d".repeat(90));
    let cluster = Cluster::start(test_options(&deep)).await.unwrap();
    let socket_dir = cluster.socket_dir().to_path_buf();
    assert!(!socket_dir.starts_with(&scratch.dir));
    assert_eq!(std::fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    assert!(connect(&cluster).await.query_one("select 1", &[]).await.is_ok());
    assert_eq!(Cluster::attach(&deep).await.unwrap().socket_dir(), socket_dir);
    cluster.stop().await.unwrap();
    assert!(!socket_dir.exists());
}

#[tokio::test]
async fn a_start_that_fails_shows_the_end_of_the_log() {
    let scratch = Scratch::new();
    let mut options = scratch.options();
    options.settings.push(("shared_buffers".into(), "plenty".into()));
    let error = Cluster::start(options).await.unwrap_err();
    assert!(matches!(error, ClusterError::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
}
