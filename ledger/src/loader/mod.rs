//! Loads `sql/` into a database: roles, migrations, then functions, views and grants whole, in one transaction.
//!
//! Migrations (`sql/schema/V*.sql`) run once each, as econ_owner. Functions and views are loaded again whenever their digest
//! differs from the one the database remembers; functions that are no longer in the tree are dropped. The loader's own
//! tables are in the schema `migrations`, apart from the house's schemas, because they are there before the first of them.

mod error;
mod pass;
mod place;
#[cfg(test)]
mod tests;
mod tree;

use std::time::{Duration, Instant};

use refinery::{Migration, Runner};
use tokio_postgres::Client;

pub use error::LoadError;
pub use tree::{SqlFile, SqlTree};

/// Raised by one in every release that changes a function, a view or a grant. A binary with a lower number than the database
/// remembers is older than it and loads nothing.
pub const SQL_RELEASE: i32 = 3;

/// Our schemas, in loading order. `transparency` and `finance` read all the others, so they come last.
pub const SCHEMAS: [&str; 11] = [
    "base",
    "identity",
    "ledger",
    "receipts",
    "splits",
    "payouts",
    "metering",
    "market",
    "artifacts",
    "finance",
    "transparency",
];

/// Our roles, as `sql/roles.sql` creates them.
pub const ROLES: [&str; 6] =
    ["econ_owner", "econ_engine", "econ_api", "econ_analyst", "econ_finance", "econ_auditor"];

/// Key of the advisory lock under which one loader at a time works on a database ("ECONSQL1").
const LOCK_KEY: i64 = 0x4543_4f4e_5351_4c31;
/// refinery's history, beside our own table.
const HISTORY: &str = "migrations.history";
/// How often the roles script is repeated when another database's loader changes the same shared rows.
const ROLES_TRIES: u32 = 40;

/// How to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// What to load.
    pub tree: SqlTree,
    /// The release number that the tree counts as; [`SQL_RELEASE`] except in tests.
    pub release: i32,
    /// How long to wait for another loader, and for any one lock on a table or view, in milliseconds.
    pub lock_timeout_ms: u32,
    /// Load functions and views also when the database remembers having them: after a restore it may not.
    pub reload: bool,
}

impl LoadOptions {
    /// The embedded tree, with a minute's patience.
    ///
    /// # Errors
    /// [`LoadError::Misnamed`] and its neighbours, when the embedded tree breaks the naming rules.
    pub fn embedded() -> Result<LoadOptions, LoadError> {
        Ok(LoadOptions::of(SqlTree::embedded()?))
    }

    /// Another tree, with a minute's patience.
    #[must_use]
    pub fn of(tree: SqlTree) -> LoadOptions {
        LoadOptions { tree, release: SQL_RELEASE, lock_timeout_ms: 60_000, reload: false }
    }
}

/// What a load did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// Migrations applied now, as `V1__base`.
    pub migrations: Vec<String>,
    /// Files of functions and views loaded now; 0: the database had them already.
    pub files_loaded: usize,
    /// Functions dropped because the tree no longer has them, as `schema.name(types)`.
    pub functions_dropped: Vec<String>,
    /// BLAKE3 of functions, views and grants, in hexadecimal.
    pub digest: String,
    /// How long it took, waiting for other loaders included.
    pub elapsed: Duration,
}

/// Brings a database up to date. `client` must be a superuser, or own the database and be able to create our roles or be a
/// member of them. Safe to call from several processes at once: one works, the others then find it done.
///
/// # Errors
/// [`LoadError::Sql`] with file, line and Postgres' message; [`LoadError::DatabaseIsNewer`]; [`LoadError::History`] when an
/// applied migration was changed or is missing. On an error functions, views and grants are as they were before.
pub async fn load(client: &mut Client, options: &LoadOptions) -> Result<LoadReport, LoadError> {
    let began = Instant::now();
    client
        .batch_execute(&format!(
            "set lock_timeout = {}; set client_min_messages = warning; set check_function_bodies = on;
             select pg_catalog.pg_advisory_lock({LOCK_KEY})",
            options.lock_timeout_ms
        ))
        .await
        .map_err(|error| LoadError::plain("waiting for another loader", &error))?;
    let done = load_locked(client, options, began).await;
    // Also after an error: the session is the caller's, and goes on as it came.
    let restored = client
        .batch_execute(&format!(
            "reset role; reset lock_timeout; reset client_min_messages; reset check_function_bodies;
             select pg_catalog.pg_advisory_unlock({LOCK_KEY})"
        ))
        .await;
    let report = done?;
    restored.map_err(|error| LoadError::plain("letting go of the loader's lock", &error))?;
    Ok(report)
}

async fn load_locked(
    client: &mut Client,
    options: &LoadOptions,
    began: Instant,
) -> Result<LoadReport, LoadError> {
    create_roles(client, &options.tree).await?;
    harden_database(client).await?;
    client
        .batch_execute("set role econ_owner")
        .await
        .map_err(|error| LoadError::plain("becoming econ_owner", &error))?;
    let loaded = last_load(client).await?;
    if let Some((_, release)) = &loaded
        && *release > options.release
    {
        return Err(LoadError::DatabaseIsNewer { database: *release, binary: options.release });
    }
    let migrations = migrate(client, &options.tree).await?;
    let digest = options.tree.digest();
    let current =
        !options.reload && migrations.is_empty() && loaded.is_some_and(|(loaded, _)| loaded == digest);
    let mut report = LoadReport {
        migrations,
        files_loaded: 0,
        functions_dropped: Vec::new(),
        digest,
        elapsed: Duration::ZERO,
    };
    if !current {
        report.functions_dropped = pass::run(client, options, &report.digest).await?;
        report.files_loaded = options.tree.loaded().count();
    }
    report.elapsed = began.elapsed();
    Ok(report)
}

/// What must be there before tables are: the roles, and their rights on the database.
///
/// # Errors
/// [`LoadError::Sql`].
pub(crate) async fn prepare(client: &Client, tree: &SqlTree) -> Result<(), LoadError> {
    create_roles(client, tree).await?;
    harden_database(client).await
}

/// Roles are rows of the whole cluster, which the advisory lock of one database does not protect: on a clash the script,
/// which only adds what is missing, runs again.
async fn create_roles(client: &Client, tree: &SqlTree) -> Result<(), LoadError> {
    let mut attempt = 0;
    loop {
        let Err(error) = client.batch_execute(&tree.roles.text).await else {
            return Ok(());
        };
        attempt += 1;
        // tuple concurrently updated, duplicate key, duplicate object, deadlock, lock timeout of a sort.
        let clash =
            error.code().is_some_and(|code| ["XX000", "23505", "42710", "40P01"].contains(&code.code()));
        if !clash || attempt == ROLES_TRIES {
            return Err(LoadError::sql(&error, &tree.roles, tree));
        }
        tokio::time::sleep(Duration::from_millis(u64::from(5 + 3 * attempt))).await;
    }
}

/// Takes from PUBLIC what it has on the current database (CONNECT, TEMP) and on its schema `public` (CREATE), and gives our
/// roles CONNECT. The rights of a database are not copied from its template, so a clone needs this again.
///
/// # Errors
/// [`LoadError::Sql`], when the session's role does not own the database.
pub async fn harden_database(client: &Client) -> Result<(), LoadError> {
    let fail = |error: tokio_postgres::Error| LoadError::plain("hardening the database", &error);
    let row = client
        .query_one(
            "select pg_catalog.current_database()::text, \
             pg_catalog.has_schema_privilege('public', n.oid, 'CREATE') \
             from (select 1) one left join pg_catalog.pg_namespace n on n.nspname = 'public'",
            &[],
        )
        .await
        .map_err(fail)?;
    let database: String = row.try_get(0).map_err(fail)?;
    let open: Option<bool> = row.try_get(1).map_err(fail)?;
    if open == Some(true) {
        client.batch_execute("revoke create on schema public from public").await.map_err(fail)?;
    }
    harden_rights(client, &database).await
}

/// The part of [`harden_database`] that concerns the database as an object; `client` may be connected to another one.
pub(crate) async fn harden_rights(client: &Client, database: &str) -> Result<(), LoadError> {
    let fail = |error: tokio_postgres::Error| LoadError::plain("hardening the database", &error);
    let row = client
        .query_one(
            "select pg_catalog.has_database_privilege('public', d.oid, 'CONNECT, TEMP')
                or not pg_catalog.has_database_privilege('econ_owner', d.oid, 'CREATE')
                or exists (select from unnest($2::text[]) r
                           where not pg_catalog.has_database_privilege(r, d.oid, 'CONNECT')),
               pg_catalog.quote_ident(d.datname)
             from pg_catalog.pg_database d where d.datname = $1",
            &[&database, &ROLES.to_vec()],
        )
        .await
        .map_err(fail)?;
    let needed: bool = row.try_get(0).map_err(fail)?;
    if !needed {
        return Ok(());
    }
    let quoted: String = row.try_get(1).map_err(fail)?;
    client
        .batch_execute(&format!(
            "revoke all on database {quoted} from public; grant connect on database {quoted} to {};
             grant create on database {quoted} to econ_owner",
            ROLES.join(", ")
        ))
        .await
        .map_err(fail)
}

/// Digest and release of the newest load; `None` on a fresh database, whose tables for it are created here.
async fn last_load(client: &Client) -> Result<Option<(String, i32)>, LoadError> {
    let fail = |error: tokio_postgres::Error| LoadError::plain("reading migrations.sql_loads", &error);
    let there: bool = client
        .query_one("select pg_catalog.to_regclass('migrations.sql_loads') is not null", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(fail)?;
    if !there {
        client
            .batch_execute(
                "begin;
                 create schema if not exists migrations;
                 comment on schema migrations is 'The loader''s own book-keeping: which migrations ran, which functions are loaded.';
                 create table migrations.sql_loads (
                   load_id bigint generated always as identity,
                   digest text not null,
                   sql_release integer not null,
                   loaded_at timestamptz not null default pg_catalog.now(),
                   constraint sql_loads_pk primary key (load_id)
                 );
                 comment on table migrations.sql_loads is 'One row per load of functions, views and grants; the newest is what the database has.';
                 comment on column migrations.sql_loads.digest is 'BLAKE3 over path and content of the files, in hexadecimal.';
                 comment on column migrations.sql_loads.sql_release is 'SQL_RELEASE of the binary that loaded.';
                 grant usage on schema migrations to econ_auditor;
                 grant select on migrations.sql_loads to econ_auditor;
                 commit",
            )
            .await
            .map_err(fail)?;
        return Ok(None);
    }
    let row = client
        .query_opt("select digest, sql_release from migrations.sql_loads order by load_id desc limit 1", &[])
        .await
        .map_err(fail)?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose().map_err(fail)
}

async fn migrate(client: &mut Client, tree: &SqlTree) -> Result<Vec<String>, LoadError> {
    let mut migrations = Vec::new();
    for file in &tree.migrations {
        let stem = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".sql");
        let migration = Migration::unapplied(stem, &file.text)
            .map_err(|_| LoadError::Misnamed { path: file.path.clone() })?;
        migrations.push(migration);
    }
    let mut runner = Runner::new(&migrations);
    runner.set_migration_table_name(HISTORY);
    match runner.run_async(client).await {
        Ok(report) => Ok(report.applied_migrations().iter().map(ToString::to_string).collect()),
        Err(error) => Err(explain(client, tree, &migrations, &error).await),
    }
}

/// Turns refinery's error into ours: which file, which line.
async fn explain(
    client: &mut Client,
    tree: &SqlTree,
    migrations: &[Migration],
    error: &refinery::Error,
) -> LoadError {
    let postgres = std::error::Error::source(error).and_then(|e| e.downcast_ref::<tokio_postgres::Error>());
    let at_fault = migrations
        .iter()
        .position(|migration| error.to_string().contains(&format!("error applying migration {migration}`")))
        .and_then(|i| tree.migrations.get(i));
    match (postgres, at_fault) {
        (Some(postgres), Some(file)) => {
            // It was rolled back, so running it once more, piece by piece, tells where it fails.
            match client.transaction().await {
                Ok(transaction) => pass::pinpoint(&transaction, file, tree).await,
                Err(_) => None,
            }
            .unwrap_or_else(|| LoadError::sql(postgres, file, tree))
        }
        _ => LoadError::History(error.to_string()),
    }
}
