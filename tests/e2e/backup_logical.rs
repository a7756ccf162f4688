//! Dumps: to another major version, to another server; the catalog as if it had been made there.

use std::path::{Path, PathBuf};
use std::process::Command;

use ledger::cluster::{Cluster, ClusterOptions, libpq_environment};
use ledger::loader::{LoadOptions, load};
use tokio_postgres::{Client, Config, NoTls};

use crate::support::checks::rows;
use crate::support::copies::{Buyer, Copies, flip, last_seq, refused, restored, size, spawn};
use crate::support::program::{Folder, both, ended, interrupt, open_market_with, say, summary, until};

const ORDERS: u32 = 20;

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Everything that a database holds besides rows, as `pg_dump` tells it: owners, rights and comments included.
fn catalog(bin_dir: &Path, config: &Config) -> Vec<String> {
    let mut command = Command::new(bin_dir.join("pg_dump"));
    let said = command.envs(libpq_environment(config)).arg("--schema-only").output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).unwrap();
    // A random word guards restores against the text itself.
    let same = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
    // What was parsed once more has fewer parentheses, rights were given in another order; neither means anything.
    let mut lines: Vec<String> = text.lines().filter(same).map(|line| line.replace(['(', ')'], "")).collect();
    lines.sort();
    lines
}

/// A cluster on a folder, and its programs.
async fn cluster_on(folder: &Folder, pg_bin: Option<&Path>) -> Cluster {
    let mut options = ClusterOptions::new(folder.text());
    if let Some(bin) =
        pg_bin.map(Path::to_path_buf).or(std::env::var_os("ECON_TEST_PG_BIN").map(PathBuf::from))
    {
        options.pg_bin = Some(bin);
    }
    Cluster::start(options).await.unwrap()
}

/// The restored database has the catalog of one that was made here, identities go on, and no transaction id is stored.
async fn is_like_new(folder: &Folder, pg_bin: Option<&Path>) {
    let cluster = cluster_on(folder, pg_bin).await;
    let superuser = cluster.superuser().to_owned();
    let admin = connect(&cluster.config("postgres", &superuser)).await;
    admin.batch_execute("create database fresh template template0 encoding 'UTF8'").await.unwrap();
    let fresh = cluster.config("fresh", &superuser);
    load(&mut connect(&fresh).await, &LoadOptions::embedded().unwrap()).await.unwrap();
    let restored = cluster.config("econ", &superuser);
    let (there, here) = (catalog(cluster.bin_dir(), &fresh), catalog(cluster.bin_dir(), &restored));
    assert!(there.len() > 5_000, "the catalog has gone blind: {} lines", there.len());
    let differs: Vec<_> = there.iter().zip(&here).filter(|(there, here)| there != here).take(5).collect();
    assert_eq!((there.len(), differs), (here.len(), vec![]));
    let db = connect(&restored).await;
    let loads = rows(&db, "select load_id::text from migrations.sql_loads order by load_id").await;
    let expected: Vec<String> = (1..=loads.len()).map(|id| id.to_string()).collect();
    assert!(loads.len() > 1 && loads == expected, "{loads:?}");
    drop((db, admin));
    cluster.stop().await.unwrap();
}

/// A dump of `market`, restored into a new folder on the Postgres of `to`, is proven, like new, and goes on.
async fn moves_to(market: &Folder, copies: &Copies, from: &[&str], to: Option<&Path>) {
    let made = copies.make(market, &[&["--logical"], from].concat()).await;
    let before = made["manifest"]["ledgers"][0]["size"].as_u64().unwrap();
    let back = Folder::new();
    let pg_bin: Vec<&str> = to.map_or(vec![], |bin| vec!["--pg-bin", bin.to_str().unwrap()]);
    let set = copies.sets().pop().unwrap();
    let said = copies.restore_from(set.to_str().unwrap(), &back, &pg_bin).await;
    assert_eq!(size(&restored(&said)), before);
    is_like_new(&back, to).await;
    let (server, url) = open_market_with(&back, &pg_bin).await;
    let buyer = Buyer::register(&back, &url).await;
    assert_eq!(last_seq(&back).await, before + 1);
    buyer.deposit(&back, 5, "after").await;
    let appended = "update base.commands set code = code where seq = 1";
    let refused = back.client("postgres").await.unwrap().execute(appended, &[]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "UB901", "the guards of append-only tables came along");
    interrupt(&server);
    assert!(ended(server).await.status.success());
    let version = std::fs::read_to_string(back.file("pg/PG_VERSION")).unwrap();
    println!("PostgreSQL {} to {}", made["manifest"]["postgres_version"], version.trim());
    let mut verify = vec!["verify", "--data-dir", back.text()];
    verify.extend(&pg_bin);
    let said = say(&verify).await;
    assert!(said.status.success(), "{}", both(&said));
}

#[tokio::test]
async fn a_dump_comes_back_with_the_catalog_of_a_new_database_and_goes_on() {
    let (market, copies) = (Folder::new(), Copies::new());
    market.played(ORDERS).await;
    moves_to(&market, &copies, &[], None).await;
    // A dump is of one moment, and a changed one is nobody's.
    let (set, back) = (copies.sets().pop().unwrap(), Folder::new());
    let until = ["--until", "2020-01-01T00:00:00Z"];
    let said = copies.restore_from(set.to_str().unwrap(), &back, &until).await;
    refused(&said, &back, "UB607");
    flip(&set.join("database.dump"), 1, 2);
    copies.refused(&Folder::new(), "UB605", &[]).await;
}

/// The major version of a folder of programs.
fn major(bin: &Path) -> Option<u32> {
    let said = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let number = text.split_once("(PostgreSQL) ")?.1;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[tokio::test]
async fn a_dump_moves_to_another_major_version() {
    let own = std::env::var_os("ECON_TEST_PG_BIN").map(PathBuf::from);
    let other = std::env::var_os("ECON_TEST_OTHER_PG_BIN").map(PathBuf::from);
    let (Some(own), Some(other)) = (own, other) else {
        println!(
            "SKIPPED a dump to another major version: ECON_TEST_PG_BIN and ECON_TEST_OTHER_PG_BIN name two PostgreSQLs"
        );
        return;
    };
    let (from, to) = if major(&own) < major(&other) { (own, other) } else { (other, own) };
    assert_ne!(major(&from), major(&to), "two of the same version");
    let (market, copies) = (Folder::new(), Copies::new());
    let mut demo = market.demo(ORDERS);
    let said = ended(demo.env("ECON_PG_BIN", &from).spawn().unwrap()).await;
    summary(&said, ORDERS);
    moves_to(&market, &copies, &["--pg-bin", from.to_str().unwrap()], Some(&to)).await;
    // There is no way back to the older one by a dump.
    let (newer, newer_copies, back) = (Folder::new(), Copies::new(), Folder::new());
    let said = ended(newer.demo(1).env("ECON_PG_BIN", &to).spawn().unwrap()).await;
    summary(&said, 1);
    newer_copies.make(&newer, &["--logical", "--pg-bin", to.to_str().unwrap()]).await;
    newer_copies.refused(&back, "UB610", &["--pg-bin", from.to_str().unwrap()]).await;
}

#[tokio::test]
async fn an_external_database_is_dumped_and_restored_without_a_superuser_and_has_no_base() {
    // A server that somebody else runs, with a login as docs/OPERATIONS.md makes it.
    let host = Folder::new();
    let cluster = cluster_on(&host, None).await;
    let superuser = connect(&cluster.config("postgres", cluster.superuser())).await;
    superuser.batch_execute("create role econ_login login createrole createdb").await.unwrap();
    for name in ["first", "second"] {
        let create = format!("create database {name} owner econ_login encoding 'UTF8' template template0");
        superuser.batch_execute(&create).await.unwrap();
    }
    let socket = cluster.socket_dir().to_str().unwrap().replace('/', "%2F");
    let url = |name: &str| format!("postgres://econ_login@{socket}:{}/{name}", cluster.port());
    let (market, copies) = (Folder::new(), Copies::new());
    let (first, second) = (url("first"), url("second"));
    let (server, api) = open_market_with(&market, &["--database-url", &first]).await;
    let buyer = Buyer::register(&market, &api).await;

    let (to, keys) = (copies.backups(), copies.keys());
    let backup =
        ["backup", "--data-dir", market.text(), "--to", &to, "--keys-to", &keys, "--database-url", &first];
    let base = say(&backup).await;
    assert!(!base.status.success() && both(&base).contains("UB608"), "{}", both(&base));
    let dump = say(&[&backup[..], &["--logical"]].concat()).await;
    assert!(dump.status.success(), "{}", both(&dump));
    buyer.deposit(&market, 5, "after").await;
    interrupt(&server);
    assert!(ended(server).await.status.success());

    // Refused after it was loaded: nothing stays there.
    let (back, later) = (Folder::new(), market.file("checkpoints/ledger-1.checkpoint"));
    let with = ["--database-url", second.as_str(), "--checkpoint", later.as_str()];
    copies.refused(&back, "UR601", &with).await;
    let db = connect(&cluster.config("second", cluster.superuser())).await;
    let left = "select nspname::text from pg_namespace where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')";
    assert!(rows(&db, left).await.is_empty(), "{:?}", rows(&db, left).await);
    drop(db);
    let lossy = Folder::new();
    restored(&copies.restore(&lossy, &[&with[..], &["--accept-loss"]].concat()).await);
    let drop_it = "drop database second with (force)";
    superuser.batch_execute(drop_it).await.unwrap();
    let create_it = "create database second owner econ_login encoding 'UTF8' template template0";
    superuser.batch_execute(create_it).await.unwrap();

    // Killed while it loads: what is left there is never taken for a market, nor emptied because a marker says that it may be.
    let torn = Folder::new();
    let external = ["--database-url", second.as_str()];
    let mut killed = spawn(
        &[&["restore", "--from", &to, "--data-dir", torn.text(), "--keys", &keys], &external[..]].concat(),
    );
    let db = connect(&cluster.config("second", cluster.superuser())).await;
    until("the first of what is loaded", async || (!rows(&db, left).await.is_empty()).then_some(())).await;
    killed.start_kill().unwrap();
    let said = ended(killed).await;
    assert_eq!(said.status.code(), None, "it ended before it was killed: {}", both(&said));
    drop(db);
    copies.refused(&torn, "UB504", &external).await;
    let up = say(&[&["up", "--port", "0", "--data-dir", torn.text()], &external[..]].concat()).await;
    assert!(!up.status.success() && both(&up).contains("UB604"), "{}", both(&up));
    superuser.batch_execute(drop_it).await.unwrap();
    superuser.batch_execute(create_it).await.unwrap();

    let back = torn;
    // Not over a database that holds something.
    let said = copies.restore(&back, &["--database-url", &first]).await;
    assert!(both(&said).contains("UB504"), "{}", both(&said));
    let said = copies.restore(&back, &["--database-url", &second]).await;
    let before = size(&restored(&said));
    let (server, api) = open_market_with(&back, &["--database-url", &second]).await;
    Buyer::register(&back, &api).await;
    interrupt(&server);
    assert!(ended(server).await.status.success());
    let db = connect(&cluster.config("second", cluster.superuser())).await;
    assert_eq!(rows(&db, "select last_seq::text from base.ledgers").await, [(before + 1).to_string()]);
    let owners = "select distinct pg_get_userbyid(c.relowner)::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('base', 'ledger', 'migrations') and c.relkind = 'r'";
    assert_eq!(rows(&db, owners).await, ["econ_owner"]);
    drop((db, superuser));
    cluster.stop().await.unwrap();
}
