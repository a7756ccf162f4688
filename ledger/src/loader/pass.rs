//! The functions pass: functions, views and grants, whole, in one transaction.

use tokio_postgres::{Client, Transaction};

use super::tree::{SqlFile, SqlTree};
use super::{LoadError, LoadOptions, SCHEMAS, place};

/// Functions of the engine that this transaction has not written are those that the tree no longer has. (Every file is run,
/// and CREATE OR REPLACE writes its row anew. No savepoints are used, so all rows carry the transaction's own xid.)
const STALE: &str = "
select p.oid::regprocedure::text
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = any ($1) and p.proowner = 'econ_engine'::regrole
  and p.xmin::text <> (pg_catalog.pg_current_xact_id()::text::numeric % 4294967296)::text
order by 1";

/// Bodies are not looked at while loading, since functions call each other in every order. Now that all are there, they are.
const TO_VALIDATE: &str = "
select p.oid, l.lanname = 'plpgsql', p.oid::regprocedure::text
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_language l on l.oid = p.prolang
where n.nspname = any ($1) and p.proowner = 'econ_engine'::regrole and l.lanname in ('sql', 'plpgsql')
order by 3";

/// Runs the pass as econ_owner, which the session has become, and returns the functions that it dropped.
pub(super) async fn run(
    client: &mut Client,
    options: &LoadOptions,
    digest: &str,
) -> Result<Vec<String>, LoadError> {
    let tree = &options.tree;
    let failure = match attempt(client, options, digest).await {
        Ok(dropped) => return Ok(dropped),
        Err(failure) => failure,
    };
    match failure {
        Failure::Load(error) => Err(error),
        Failure::File(file, error) => {
            // Postgres gives no position for many errors (a changed return type, say). The transaction is rolled back: the
            // way to the file once more, and then its statements one by one.
            let located = match client.transaction().await {
                Ok(transaction) => {
                    if prepare(&transaction).await.is_ok() {
                        for earlier in tree.loaded().take_while(|earlier| **earlier != *file) {
                            if transaction.batch_execute(&earlier.text).await.is_err() {
                                break;
                            }
                        }
                        pinpoint(&transaction, file, tree).await
                    } else {
                        None
                    }
                }
                Err(_) => None,
            };
            Err(located.unwrap_or_else(|| LoadError::sql(&error, file, tree)))
        }
    }
}

enum Failure<'a> {
    Load(LoadError),
    /// A file was refused. To be looked into once the transaction is over.
    File(&'a SqlFile, tokio_postgres::Error),
}

impl From<LoadError> for Failure<'_> {
    fn from(error: LoadError) -> Self {
        Failure::Load(error)
    }
}

async fn attempt<'a>(
    client: &mut Client,
    options: &'a LoadOptions,
    digest: &str,
) -> Result<Vec<String>, Failure<'a>> {
    let tree = &options.tree;
    let fail = |step| move |error: tokio_postgres::Error| LoadError::plain(step, &error);
    let transaction = client.transaction().await.map_err(fail("beginning the load"))?;
    prepare(&transaction).await?;
    for file in tree.loaded() {
        if let Err(error) = transaction.batch_execute(&file.text).await {
            return Err(Failure::File(file, error));
        }
    }
    let dropped = drop_stale(&transaction).await?;
    validate(&transaction, tree).await?;
    transaction
        .batch_execute(&format!(
            "set local role econ_owner; {}",
            for_schemas("revoke create on schema %s from econ_engine")
        ))
        .await
        .map_err(fail("taking CREATE back from econ_engine"))?;
    if let Err(error) = transaction.batch_execute(&tree.grants.text).await {
        return Err(Failure::Load(LoadError::sql(&error, &tree.grants, tree)));
    }
    transaction
        .execute(
            "insert into migrations.sql_loads (digest, sql_release) values ($1, $2)",
            &[&digest, &options.release],
        )
        .await
        .map_err(fail("remembering the load"))?;
    transaction.commit().await.map_err(fail("committing the load"))?;
    Ok(dropped)
}

/// From here on whatever is created belongs to econ_engine, which may create for the length of this transaction only.
async fn prepare(transaction: &Transaction<'_>) -> Result<(), LoadError> {
    let fail = |error: tokio_postgres::Error| LoadError::plain("preparing the load", &error);
    // Names are to be qualified everywhere, so what a session's search_path would find does not count.
    transaction
        .batch_execute(&format!(
            "set local check_function_bodies = off; set local search_path = pg_catalog, pg_temp;
             select pg_catalog.set_config('econ.schemas', '{}', true); {}",
            SCHEMAS.join(","),
            for_schemas("grant usage, create on schema %s to econ_engine")
        ))
        .await
        .map_err(fail)?;
    // Views are dropped first, all in one command, because CREATE OR REPLACE refuses a removed or changed column. A view that
    // somebody else has put on top of ours makes this fail, with its name.
    let views = transaction
        .query(
            "select pg_catalog.string_agg(c.oid::regclass::text, ', ')
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where c.relkind = 'v' and n.nspname = any ($1) having count(*) > 0",
            &[&SCHEMAS.to_vec()],
        )
        .await
        .map_err(fail)?;
    if let Some(row) = views.first() {
        let list: String = row.try_get(0).map_err(fail)?;
        transaction
            .batch_execute(&format!("drop view {list}"))
            .await
            .map_err(|error| LoadError::plain("dropping the views before loading them anew", &error))?;
    }
    transaction.batch_execute("set local role econ_engine").await.map_err(fail)
}

/// Repeats a statement for each of our schemas that exists.
fn for_schemas(statement: &str) -> String {
    let list = SCHEMAS.map(|schema| format!("'{schema}'")).join(", ");
    format!(
        "do $schemas$ declare v_schema name; begin
           for v_schema in select nspname from pg_catalog.pg_namespace where nspname in ({list}) loop
             execute pg_catalog.format('{}', v_schema);
           end loop;
         end $schemas$;",
        statement.replace("%s", "%I")
    )
}

async fn drop_stale(transaction: &Transaction<'_>) -> Result<Vec<String>, LoadError> {
    let fail =
        |error: tokio_postgres::Error| LoadError::plain("dropping functions that are gone from sql/", &error);
    let rows = transaction.query(STALE, &[&SCHEMAS.to_vec()]).await.map_err(fail)?;
    let stale: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(fail)?;
    if !stale.is_empty() {
        transaction.batch_execute(&format!("drop routine {}", stale.join(", "))).await.map_err(fail)?;
    }
    Ok(stale)
}

async fn validate(transaction: &Transaction<'_>, tree: &SqlTree) -> Result<(), LoadError> {
    let fail = |error: tokio_postgres::Error| LoadError::plain("checking the functions", &error);
    transaction.batch_execute("set local check_function_bodies = on").await.map_err(fail)?;
    let rows = transaction.query(TO_VALIDATE, &[&SCHEMAS.to_vec()]).await.map_err(fail)?;
    let plpgsql = transaction.prepare("select pg_catalog.plpgsql_validator($1)").await.map_err(fail)?;
    let sql = transaction.prepare("select pg_catalog.fmgr_sql_validator($1)").await.map_err(fail)?;
    for row in rows {
        let oid: u32 = row.try_get(0).map_err(fail)?;
        let is_plpgsql: bool = row.try_get(1).map_err(fail)?;
        let statement = if is_plpgsql { &plpgsql } else { &sql };
        if let Err(error) = transaction.query(statement, &[&oid]).await {
            let signature: String = row.try_get(2).map_err(fail)?;
            let name = signature.split('(').next().unwrap_or_default();
            return Err(match file_of(name, tree) {
                Some(file) => LoadError::sql(&error, file, tree),
                None => fail(error),
            });
        }
    }
    Ok(())
}

/// The file that creates function `name` (`schema.function`).
fn file_of<'a>(name: &str, tree: &'a SqlTree) -> Option<&'a SqlFile> {
    let mut spelled = name.to_lowercase();
    spelled.insert_str(0, "function ");
    spelled.push('(');
    tree.functions.iter().find(|file| file.text.to_lowercase().contains(&spelled))
}

/// Runs `file` statement by statement until one is refused, and says which. Leaves the transaction useless. `None` when all
/// of them pass.
pub(super) async fn pinpoint(
    transaction: &Transaction<'_>,
    file: &SqlFile,
    tree: &SqlTree,
) -> Option<LoadError> {
    for (line, statement) in place::statements(&file.text) {
        if let Err(error) = transaction.batch_execute(statement).await {
            let place = error.as_db_error().and_then(|db| {
                let alone = SqlFile { path: file.path.clone(), text: statement.to_owned().into() };
                place::of(db, Some(&alone), tree)
            });
            // A position counts from the statement's start, a place elsewhere from its file's.
            let line = match place {
                Some(place::Place { file: path, line: Some(inner) }) if path == file.path => line + inner - 1,
                _ => line,
            };
            return Some(match LoadError::sql_at(&error, file, Some(line), tree) {
                LoadError::Sql { file, message, code, hint, .. } => {
                    LoadError::Sql { file, line: Some(line), message, code, hint }
                }
                other => other,
            });
        }
    }
    None
}
