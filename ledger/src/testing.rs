//! A real Postgres for tests: one cluster per test process, migrated once into a template, one cloned database per test.
//!
//! Everything here panics on failure, with the reason: a test that has no database can only fail.
//!
//! - `ECON_TEST_PG_BIN` names the Postgres programs to use.
//! - `ECON_TEST_DATABASE_URL` names an external database instead. Its role needs CREATEDB, and CREATEROLE or membership of
//!   our roles. The template stays there, named after the digest of `sql/`, for the next run.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

use crate::cluster::{Cluster, ClusterOptions, ExternalDatabase};
use crate::loader::{LoadOptions, harden_rights, load};

static SHARED: OnceCell<TestCluster> = OnceCell::const_new();
static TEMPLATE: OnceCell<String> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The server that the tests of this process share.
#[derive(Debug)]
pub struct TestCluster {
    server: Server,
}

#[derive(Debug)]
enum Server {
    Own { cluster: Cluster, _watchdog: Watchdog },
    External(ExternalDatabase),
}

impl TestCluster {
    /// The shared server, started by the first test that asks.
    ///
    /// # Panics
    /// When no Postgres can be started or reached.
    pub async fn shared() -> &'static TestCluster {
        SHARED.get_or_init(TestCluster::start).await
    }

    async fn start() -> TestCluster {
        if let Ok(url) = std::env::var("ECON_TEST_DATABASE_URL") {
            let config: Config = url
                .parse()
                .unwrap_or_else(|error| give_up("ECON_TEST_DATABASE_URL is not a Postgres URL", error));
            let external = ExternalDatabase::check(config, true).await;
            let external = external.unwrap_or_else(|error| give_up("ECON_TEST_DATABASE_URL", error));
            return TestCluster { server: Server::External(external) };
        }
        let dir = scratch_dir("econ-test-");
        let watchdog = Watchdog::over(&dir);
        let cluster = Cluster::start(test_options(&dir)).await;
        let cluster = cluster.unwrap_or_else(|error| give_up("starting the test cluster", error));
        TestCluster { server: Server::Own { cluster, _watchdog: watchdog } }
    }

    /// How to connect to `dbname` with the rights of `role`. `None`: the superuser, or the login of an external database.
    #[must_use]
    pub fn config(&self, dbname: &str, role: Option<&str>) -> Config {
        match &self.server {
            Server::Own { cluster, .. } => cluster.config(dbname, role.unwrap_or(cluster.superuser())),
            Server::External(external) => {
                let mut config = role.map_or_else(|| external.login_config(), |role| external.config(role));
                config.dbname(dbname);
                config
            }
        }
    }

    /// The embedded cluster; `None` when the tests run on an external database.
    #[must_use]
    pub fn embedded(&self) -> Option<&Cluster> {
        match &self.server {
            Server::Own { cluster, .. } => Some(cluster),
            Server::External(_) => None,
        }
    }

    /// A session on the database that is always there, for creating and dropping others.
    async fn admin(&self) -> Client {
        let config = match &self.server {
            Server::Own { .. } => self.config("postgres", None),
            Server::External(external) => external.login_config(),
        };
        connect(&config).await
    }

    /// Name of the migrated template, made by the first test that asks.
    async fn template(&self) -> &'static str {
        TEMPLATE.get_or_init(|| self.make_template()).await
    }

    async fn make_template(&self) -> String {
        let options = LoadOptions::embedded().unwrap_or_else(|error| give_up("sql/", error));
        let name = format!("econ_template_{}", &options.tree.whole_digest()[..16]);
        let admin = self.admin().await;
        // On an external server several test processes may want it at once.
        run(&admin, "select pg_advisory_lock(hashtext('econ test template'))").await;
        let there = admin.query_opt("select 1 from pg_database where datname = $1", &[&name]).await;
        if there.unwrap_or_else(|error| give_up("looking for the template", describe(&error))).is_none() {
            // Renamed when done, so that a killed run leaves nothing that looks migrated.
            let fresh = format!("{name}_new");
            run(&admin, &format!("drop database if exists {fresh} with (force)")).await;
            run(&admin, &format!("create database {fresh} template template0 encoding 'UTF8'")).await;
            let (mut client, connection) = open(&self.config(&fresh, None)).await;
            load(&mut client, &options).await.unwrap_or_else(|error| give_up("loading sql/", error));
            drop(client);
            // A template must have no sessions, so this one has to be gone.
            let _ = connection.await;
            run(&admin, &format!("alter database {fresh} rename to {name}")).await;
        }
        run(&admin, "select pg_advisory_unlock(hashtext('econ test template'))").await;
        name
    }
}

/// One test's own database, dropped with it.
#[derive(Debug)]
pub struct TestDb {
    name: String,
    cluster: &'static TestCluster,
    dropped: bool,
}

impl TestDb {
    /// A clone of the migrated template.
    ///
    /// # Panics
    /// When no database can be had.
    pub async fn new() -> TestDb {
        let cluster = TestCluster::shared().await;
        let template = cluster.template().await;
        TestDb::create(cluster, &format!("template {template} strategy file_copy"), true).await
    }

    /// An empty database: nothing of `sql/` is loaded.
    ///
    /// # Panics
    /// When no database can be had.
    pub async fn empty() -> TestDb {
        let cluster = TestCluster::shared().await;
        TestDb::create(cluster, "template template0 strategy file_copy encoding 'UTF8'", false).await
    }

    async fn create(cluster: &'static TestCluster, how: &str, harden: bool) -> TestDb {
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let admin = cluster.admin().await;
        run(&admin, &format!("create database {name} {how}")).await;
        if harden {
            // A database's own rights are not cloned with it.
            harden_rights(&admin, &name).await.unwrap_or_else(|error| give_up("hardening", error));
        }
        TestDb { name, cluster, dropped: false }
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server that it is on.
    #[must_use]
    pub fn cluster(&self) -> &'static TestCluster {
        self.cluster
    }

    /// How to connect with the rights of `role`, one of [`crate::loader::ROLES`].
    #[must_use]
    pub fn config(&self, role: &str) -> Config {
        self.cluster.config(&self.name, Some(role))
    }

    /// How to connect as the superuser (on an external database: as its login).
    #[must_use]
    pub fn admin_config(&self) -> Config {
        self.cluster.config(&self.name, None)
    }

    /// A session with the rights of `role`.
    ///
    /// # Panics
    /// When it cannot connect.
    pub async fn client(&self, role: &str) -> Client {
        connect(&self.config(role)).await
    }

    /// A session as the superuser (on an external database: as its login).
    ///
    /// # Panics
    /// When it cannot connect.
    pub async fn admin(&self) -> Client {
        connect(&self.admin_config()).await
    }

    /// Drops the database now; dropping the value does the same, but blocks the thread meanwhile.
    pub async fn close(mut self) {
        self.dropped = true;
        let admin = self.cluster.admin().await;
        run(&admin, &format!("drop database if exists {} with (force)", self.name)).await;
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if self.dropped {
            return;
        }
        let sql = format!("drop database if exists {} with (force)", self.name);
        let cluster = self.cluster;
        // A destructor cannot wait on the test's runtime, so the drop has a thread and a runtime of its own. It is waited
        // for: hundreds of databases that linger would fill the memory that they live in.
        let worker = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(async {
                    run(&cluster.admin().await, &sql).await;
                });
            }
        });
        // If it failed it has said why, and the test's own verdict stands.
        let _ = worker.join();
    }
}

/// Options of a throwaway cluster in `dir`: nothing is synced to disk.
#[must_use]
pub fn test_options(dir: &Path) -> ClusterOptions {
    let mut options = ClusterOptions::new(dir);
    options.durable = false;
    if let Some(bin) = std::env::var_os("ECON_TEST_PG_BIN") {
        options.pg_bin = Some(PathBuf::from(bin));
    }
    options
}

/// A new folder in memory where there is some (/dev/shm), else among the temporary files. Walkable for everybody, because
/// root's Postgres is somebody else. Whoever asks removes it.
///
/// # Panics
/// When none can be made.
#[must_use]
pub fn scratch_dir(prefix: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(std::fs::Permissions::from_mode(0o755));
    let dir = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir());
    dir.unwrap_or_else(|error| give_up("making a temporary folder", error)).keep()
}

/// Stops a cluster and removes its folder when dropped, or else when the test process ends, in whatever way.
///
/// Statics are not dropped at the end of a process, and a test run may be killed. So a shell waits on a pipe whose other end
/// only this process holds: when it is gone, the kernel closes the pipe, `read` returns, and the shell cleans up. It is in a
/// process group of its own, so that Ctrl-C in the terminal does not take it along.
#[derive(Debug)]
pub struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Watches over the cluster in data dir `dir`, which it will remove whole.
    ///
    /// # Panics
    /// When there is no shell.
    #[must_use]
    pub fn over(dir: &Path) -> Watchdog {
        use std::os::unix::process::CommandExt;
        const SCRIPT: &str = r#"
read -r _
# An initdb under way is let finish: with its folder gone it would leave its shared memory behind.
if [ -e "$1/pg.new" ]; then sleep 2; fi
for pg in "$1/pg" "$1/restore.new/pg"; do
  for pid in $(head -n 1 "$pg/postmaster.pid" 2>/dev/null); do
    kill -QUIT "$pid" 2>/dev/null
    n=0
    while [ -e "$pg/postmaster.pid" ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.05; done
  done
done
# Whatever still runs may write what was just removed.
n=0
until rm -rf -- "$1" 2>/dev/null && sleep 0.05 && [ ! -e "$1" ]; do
  n=$((n + 1))
  [ $n -lt 100 ] || exit 1
done
"#;
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "econ-test-watchdog"])
            .arg(dir)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Watchdog { shell: child.unwrap_or_else(|error| give_up("starting /bin/sh", error)) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // Whatever it says, there is nothing more to clean up than it has tried.
        let _ = self.shell.wait();
    }
}

async fn open(config: &Config) -> (Client, tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>) {
    let (client, connection) = config
        .connect(NoTls)
        .await
        .unwrap_or_else(|error| give_up("connecting to the test database", describe(&error)));
    (client, tokio::spawn(connection))
}

async fn connect(config: &Config) -> Client {
    open(config).await.0
}

async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        give_up(sql, describe(&error));
    }
}

fn describe(error: &tokio_postgres::Error) -> String {
    crate::cluster::describe(error)
}

fn give_up(what: &str, error: impl Display) -> ! {
    panic!("test database: {what}: {error}")
}
