//! The database as a dump, and back: between major versions and servers.
//!
//! What is dumped whole is what belongs to `econ_owner`: schemas, tables, types, rows, constraints, triggers and the rights on
//! them. Functions and views belong to `econ_engine`; the loader brings this program's own, so none is taken from a dump.

use std::path::Path;

use tokio_postgres::{Client, Config};

use super::make::{connect, read_ledgers};
use super::manifest::LedgerState;
use super::{BackupError, Source, files, tools};
use crate::cluster::ClusterError;
use crate::loader::{self, LoadOptions, SCHEMAS};

/// The dump's name in its set.
pub(super) const DUMP: &str = "database.dump";
/// The loader's own schema, beside ours.
const MIGRATIONS: &str = "migrations";

/// Dumps one snapshot into a file; the ledgers exactly as they are in it.
pub(super) async fn dump(source: &Source, api: Client, to: &Path) -> Result<Vec<LedgerState>, BackupError> {
    let program = tools::find("pg_dump", source.bin_dir.as_deref(), source.major).await?;
    api.batch_execute("begin transaction isolation level repeatable read read only").await?;
    let snapshot: String = api.query_one("select pg_export_snapshot()", &[]).await?.try_get(0)?;
    let ledgers = read_ledgers(&api).await?;
    let mut command = tools::command(&program, Some(&source.admin));
    command.args(["--no-password", "--format=custom", "--role=econ_owner"]);
    command.arg(format!("--snapshot={snapshot}"));
    for schema in SCHEMAS.iter().chain([&MIGRATIONS]) {
        command.arg(format!("--schema={schema}"));
    }
    tools::run("pg_dump", command.arg("--file").arg(to)).await?;
    api.batch_execute("rollback").await?;
    Ok(ledgers)
}

/// Whether a database holds anything of ours.
pub(super) async fn is_empty(admin: &Config) -> Result<bool, BackupError> {
    let mut schemas = SCHEMAS.to_vec();
    schemas.push(MIGRATIONS);
    let question = "select not exists (select from pg_catalog.pg_namespace where nspname = any ($1))";
    Ok(connect(admin).await?.query_one(question, &[&schemas]).await?.try_get(0)?)
}

/// Removes everything of ours from a database that a restore has loaded, and that was empty before.
pub(super) async fn clear(admin: &Config) -> Result<(), BackupError> {
    let client = connect(admin).await?;
    let mut schemas = SCHEMAS.to_vec();
    schemas.push(MIGRATIONS);
    let question = "select quote_ident(nspname), quote_ident(pg_get_userbyid(nspowner)) from pg_catalog.pg_namespace where nspname = any ($1)";
    let mut script = "begin; ".to_owned();
    for row in client.query(question, &[&schemas]).await? {
        let (schema, owner): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        script.push_str(&format!("set local role {owner}; drop schema {schema} cascade; reset role; "));
    }
    script.push_str("commit");
    Ok(client.batch_execute(&script).await?)
}

/// Restores a dump into an empty database, in one transaction, and loads this program's functions and views.
pub(super) async fn restore(
    admin: &Config,
    bin_dir: Option<&Path>,
    major: u32,
    dump: &Path,
    scratch: &Path,
) -> Result<(), BackupError> {
    let program = tools::find("pg_restore", bin_dir, major).await?;
    let options = LoadOptions::embedded().map_err(load_failed)?;
    let mut client = connect(admin).await?;
    loader::prepare(&client, &options.tree).await.map_err(load_failed)?;
    let listed = tools::run("pg_restore", tools::command(&program, None).arg("--list").arg(dump)).await?;
    let list = scratch.join("database.list");
    files::write_durably(&list, taken(&String::from_utf8_lossy(&listed)).as_bytes())?;
    let mut command = tools::command(&program, Some(admin));
    command.args([
        "--no-password",
        "--exit-on-error",
        "--single-transaction",
        "--no-owner",
        "--role=econ_owner",
    ]);
    // Without a name it would print the script.
    command.arg("--dbname").arg(admin.get_dbname().unwrap_or("postgres"));
    command.arg("--use-list").arg(&list).arg(dump);
    tools::run("pg_restore", &mut command).await?;
    let options = LoadOptions { reload: true, ..options };
    loader::load(&mut client, &options).await.map_err(load_failed)?;
    // A dump holds no statistics, and plans without them read whole logs for one row.
    client.batch_execute("set role econ_owner; select base.refresh_statistics(); reset role").await?;
    std::fs::remove_file(&list).map_err(ClusterError::io("cannot remove", &list))?;
    Ok(())
}

/// The lines of a dump's list without what belongs to `econ_engine`: the last word of a line is the owner.
fn taken(list: &str) -> String {
    let keep = |line: &&str| line.starts_with(';') || !line.ends_with(" econ_engine");
    list.lines().filter(keep).flat_map(|line| [line, "\n"]).collect()
}

fn load_failed(error: loader::LoadError) -> BackupError {
    BackupError::new("UB904", format!("the restored database could not be loaded: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_views_of_the_engine_are_not_taken_from_a_dump() {
        let list = "; a comment econ_engine\n\
                    6; 2615 16390 SCHEMA - base econ_owner\n\
                    300; 1255 16500 FUNCTION base decide(jsonb) econ_engine\n\
                    4000; 0 0 COMMENT base FUNCTION decide(jsonb) econ_engine\n\
                    301; 1255 16501 FUNCTION base refuse_change() econ_owner\n\
                    400; 1259 16600 VIEW finance balances econ_engine\n\
                    401; 1259 16601 TABLE base commands econ_owner\n";
        let kept = taken(list);
        assert!(!kept.contains("decide") && !kept.contains("balances"), "{kept}");
        for kept_name in ["a comment", "SCHEMA", "refuse_change", "commands"] {
            assert!(kept.contains(kept_name), "{kept_name}: {kept}");
        }
    }
}
