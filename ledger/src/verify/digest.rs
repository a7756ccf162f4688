//! Digests of whole tables, and the first row in which two databases differ.

use futures_util::TryStreamExt as _;
use tokio_postgres::Client;

use super::report::Problem;
use crate::error::Error;

/// The schemas that hold state.
const SCHEMAS: &[&str] =
    &["base", "identity", "ledger", "receipts", "market", "metering", "splits", "payouts", "artifacts"];

/// What replay does not make again, each with its reason.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("receipts.checkpoints", "made by time, not by commands; each is checked against the log"),
    ("receipts.forests", "the forest's name; the forest is made by time, and checked as a whole"),
    ("receipts.forest_entries", "checkpoints, made by time; each is checked against its ledger's log"),
    ("receipts.cosignatures", "what witnesses said from outside; each is checked against its checkpoint"),
    ("artifacts.uploads", "upkeep of an erasable store outside the database"),
    ("ledger.entry_pages", "derived behind the log at its own pace; ledger.audit_pages proves it"),
    ("ledger.paged", "how far entry_pages has followed, at its own pace; ledger.audit_pages proves it"),
    ("ledger.audited", "how far an audit has come, at its own pace; every audit view reads the whole"),
];

/// Makes text forms the same on every connection.
pub const TEXT_FORMS: &str =
    "set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set bytea_output = 'hex'; set extra_float_digits = 1";

/// The tables to compare, by qualified name, sorted.
pub async fn tables(client: &Client) -> Result<Vec<String>, Error> {
    let rows = client
        .query(
            "select quote_ident(n.nspname) || '.' || quote_ident(c.relname) from pg_catalog.pg_class c \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where c.relkind in ('r', 'p') and not c.relispartition and n.nspname = any($1) order by 1",
            &[&SCHEMAS],
        )
        .await?;
    let names: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(names?.into_iter().filter(|name: &String| !LEFT_OUT.iter().any(|(table, _)| table == name)).collect())
}

/// Which rows of a table replay makes again: those of log 0, the forest, are made by time.
fn kept(table: &str) -> &'static str {
    match table {
        "receipts.logs" | "receipts.tiles" => "where ledger_id > 0",
        _ => "",
    }
}

/// BLAKE3 over the table's rows as text, in byte order, and how many there are.
pub async fn digest(client: &Client, table: &str) -> Result<(blake3::Hash, u64), Error> {
    let mut hasher = blake3::Hasher::new();
    let mut rows = 0;
    // One line per row: COPY's text form escapes newlines inside values.
    let kept = kept(table);
    let copy =
        format!("copy (select t::text from {table} t {kept} order by t::text collate \"C\") to stdout");
    let mut stream = std::pin::pin!(client.copy_out(&copy).await?);
    while let Some(chunk) = stream.try_next().await? {
        rows += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        hasher.update(&chunk);
    }
    Ok((hasher.finalize(), rows))
}

/// The first row (in text order) that only one of two databases holds.
pub(crate) async fn first_difference(
    stored: &Client,
    replayed: &Client,
    table: &str,
) -> Result<Problem, Error> {
    let kept = kept(table);
    let select = format!("select t::text from {table} t {kept} order by t::text collate \"C\"");
    let here: Vec<String> = texts(stored, &select).await?;
    let there: Vec<String> = texts(replayed, &select).await?;
    let (here_set, there_set): (std::collections::BTreeSet<_>, std::collections::BTreeSet<_>) =
        (here.iter().collect(), there.iter().collect());
    let only_here = here_set.difference(&there_set).next();
    let only_there = there_set.difference(&here_set).next();
    let shorten = |row: &&&String| row.chars().take(240).collect::<String>();
    let message = match (only_here.as_ref().map(shorten), only_there.as_ref().map(shorten)) {
        (Some(stored), Some(replayed)) => {
            // A long row may differ far from its start.
            let at = only_here.zip(only_there).map_or(0, |(here, there)| differs_at(here, there));
            let near = |row: Option<&&String>| -> String {
                row.map_or("", |row| row.as_str()).chars().skip(at.saturating_sub(40)).take(120).collect()
            };
            format!(
                "the log gives {replayed}, the table holds {stored}; they differ near: the log \u{2026}{}\u{2026}, the table \u{2026}{}\u{2026}",
                near(only_there),
                near(only_here)
            )
        }
        (Some(stored), None) => format!("the log gives no such row: {stored}"),
        (None, Some(replayed)) => format!("the table lacks {replayed}"),
        (None, None) => "a row is stored twice".to_owned(),
    };
    Ok(Problem { place: table.to_owned(), message })
}

/// In which character two texts begin to differ.
fn differs_at(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count()
}

async fn texts(client: &Client, select: &str) -> Result<Vec<String>, Error> {
    let rows = client.query(select, &[]).await?;
    let texts: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(texts?)
}
