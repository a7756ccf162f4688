//! A Postgres that somebody else runs, given by URL: checked before anything is written to it.

use tokio_postgres::{Client, Config, NoTls};

use super::ClusterError;
use super::postmaster::ask;
use crate::loader::ROLES;

/// An external database that passed the check.
#[derive(Debug, Clone)]
pub struct ExternalDatabase {
    config: Config,
    report: ExternalReport,
}

/// What the check saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalReport {
    /// `server_version_num`, such as 180006.
    pub version_num: i32,
    /// The role of the URL.
    pub login: String,
    /// Whether that role is a superuser.
    pub superuser: bool,
    /// Whether it may create databases, which `econ replay` would use.
    pub createdb: bool,
}

impl ExternalDatabase {
    /// Connects and checks: version 15 to 18, durable settings, and either the right to create our roles or their presence.
    /// `allow_unsafe` lets a server with fsync, full_page_writes or synchronous_commit off pass; it is for tests.
    ///
    /// # Errors
    /// [`ClusterError::Unfit`] with every finding and what to do about it; [`ClusterError::Postgres`] when it cannot be
    /// reached.
    pub async fn check(config: Config, allow_unsafe: bool) -> Result<ExternalDatabase, ClusterError> {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(connection);
        let report = examine(&client, allow_unsafe).await;
        drop(client);
        // Ends by itself once the client is dropped.
        let _ = driver.await;
        Ok(ExternalDatabase { config, report: report? })
    }

    /// How to connect as the URL's own role.
    #[must_use]
    pub fn login_config(&self) -> Config {
        self.config.clone()
    }

    /// How to connect with the rights of `role`: the URL's login, which the loader has made a member of our roles, becomes
    /// that role at the start of the session. Our roles have no password, so they cannot log in over a network themselves.
    #[must_use]
    pub fn config(&self, role: &str) -> Config {
        let mut config = self.config.clone();
        let mut options = config.get_options().map(|given| format!("{given} ")).unwrap_or_default();
        options.push_str(&format!("-c role={role}"));
        config.options(options);
        config
    }

    /// What the check saw.
    #[must_use]
    pub fn report(&self) -> &ExternalReport {
        &self.report
    }

    /// Whether the server answers now.
    pub async fn is_alive(&self) -> bool {
        ask(&self.config, "select 'ready'").await.is_ok()
    }
}

const QUESTION: &str = "
select current_setting('server_version_num')::integer, current_setting('fsync'), current_setting('full_page_writes'),
       current_setting('synchronous_commit'), session_user::text, r.rolsuper, r.rolcreaterole, r.rolcreatedb,
       (select count(*) from pg_roles o where o.rolname = any ($1)),
       (select count(*) from pg_roles o where o.rolname = any ($1) and pg_has_role(session_user, o.oid, 'MEMBER')),
       has_database_privilege(current_database(), 'CREATE WITH GRANT OPTION'), current_database()::text,
       current_setting('server_encoding')
from pg_roles r where r.rolname = session_user";

async fn examine(client: &Client, allow_unsafe: bool) -> Result<ExternalReport, ClusterError> {
    let names: Vec<&str> = ROLES.to_vec();
    let row = client.query_one(QUESTION, &[&names]).await?;
    let version_num: i32 = row.try_get(0)?;
    let login: String = row.try_get(4)?;
    let superuser: bool = row.try_get(5)?;
    let createrole: bool = row.try_get(6)?;
    let present: i64 = row.try_get(8)?;
    let member_of: i64 = row.try_get(9)?;
    let may_create: bool = row.try_get(10)?;
    let database: String = row.try_get(11)?;
    let encoding: String = row.try_get(12)?;
    let mut findings = Vec::new();
    if !(150_000..190_000).contains(&version_num) {
        findings.push(format!("  PostgreSQL {} is not supported: use 15 to 18", version_num / 10_000));
    }
    if encoding != "UTF8" {
        findings.push(format!("  its encoding is {encoding}: create the database with ENCODING 'UTF8'"));
    }
    for (i, name) in [(1, "fsync"), (2, "full_page_writes"), (3, "synchronous_commit")] {
        let value: String = row.try_get(i)?;
        // `local`, `remote_write` and `remote_apply` all wait for the local disk.
        if value == "off" && !allow_unsafe {
            findings.push(format!("  {name} is off, so a crash would lose committed money: turn it on"));
        }
    }
    let wanted = i64::try_from(ROLES.len()).unwrap_or(i64::MAX);
    if !superuser && present < wanted && !createrole {
        findings.push(format!(
            "  role {login} may not create the roles {}: run `alter role {login} createrole` once as a superuser",
            ROLES.join(", ")
        ));
    }
    // CREATEROLE of 16 and later administers only the roles that it made itself.
    if !superuser && present == wanted && member_of < wanted && (version_num >= 160_000 || !createrole) {
        findings.push(format!(
            "  role {login} is not a member of all of our roles: run `grant {} to {login}` as who created them",
            ROLES.join(", ")
        ));
    }
    if !superuser && !may_create {
        findings.push(format!(
            "  role {login} does not own database {database}: run `alter database {database} owner to {login}`"
        ));
    }
    if findings.is_empty() {
        let createdb: bool = row.try_get(7)?;
        return Ok(ExternalReport { version_num, login, superuser, createdb: superuser || createdb });
    }
    Err(ClusterError::Unfit(findings))
}
