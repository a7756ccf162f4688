//! Which command last touched a row.
//!
//! In the database that replay made, each row version knows the transaction that wrote it (xmin) and where in it (cmin). A
//! command's own row in `base.commands` is written right after everything that the command did, in the same transaction. So
//! the command that touched a row last is the first one logged at or after the row in the row's transaction: exact for
//! batches of any size, without replaying anything again.

use std::fmt;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::compare::{Difference, How};
use super::tables::Table;
use crate::error::Error;

/// A command of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Its ledger.
    pub ledger_id: i32,
    /// Its place in the log.
    pub seq: i64,
    /// Its kind.
    pub kind: String,
    /// Its receipt's id, hexadecimal.
    pub receipt_id: Option<String>,
}

impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq {} {}", self.seq, self.kind)?;
        match &self.receipt_id {
            Some(id) => write!(f, " (receipt {id})"),
            None => Ok(()),
        }
    }
}

const COMMAND: &str = "select c.ledger_id, c.seq, c.kind, encode(r.receipt_id, 'hex') from base.commands c \
     left join receipts.receipts r on r.ledger_id = c.ledger_id and r.seq = c.seq";

/// The command that a difference leads to; `None`: no command made the row.
pub(super) async fn find(
    source: &Client,
    replayed: &Client,
    table: &Table,
    difference: &Difference,
) -> Result<Option<Touched>, Error> {
    // What the row says of itself, where replay has no such row; and where a row is written after its command, with the
    // receipts of the whole batch.
    if matches!(difference.how, How::OnlyStored(_)) {
        return named_by_row(source, table, difference).await;
    }
    if table.name.starts_with("receipts.") && table.position("seq").is_some() {
        return named_by_row(replayed, table, difference).await;
    }
    let (condition, values) = of_key(table, difference);
    let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    let rest = format!(
        "join (select t.xmin as x, t.cmin::text::bigint as n from {} t where {condition} limit 1) w on c.xmin = w.x",
        table.name
    );
    let after =
        format!("{COMMAND} {rest} where c.cmin::text::bigint >= w.n order by c.cmin::text::bigint limit 1");
    if let Some(row) = replayed.query_opt(&after, &parameters).await? {
        return touched(&row).map(Some);
    }
    // Written once per batch, after its last command.
    let last = format!("{COMMAND} {rest} order by c.cmin::text::bigint desc limit 1");
    let row = replayed.query_opt(&last, &parameters).await?;
    row.as_ref().map(touched).transpose()
}

async fn named_by_row(
    client: &Client,
    table: &Table,
    difference: &Difference,
) -> Result<Option<Touched>, Error> {
    if table.position("seq").is_none() || table.position("ledger_id").is_none() {
        return Ok(None);
    }
    let (condition, values) = of_key(table, difference);
    let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    let select = format!(
        "{COMMAND} join (select t.ledger_id, t.seq from {} t where {condition} limit 1) w on c.ledger_id = w.ledger_id and c.seq = w.seq",
        table.name
    );
    let row = client.query_opt(&select, &parameters).await?;
    row.as_ref().map(touched).transpose()
}

/// A condition that the row's key meets, and its parameters.
fn of_key(table: &Table, difference: &Difference) -> (String, Vec<String>) {
    let mut parts = Vec::new();
    let mut values = Vec::new();
    for (name, value) in &difference.key {
        let Some(column) = table.position(name).and_then(|n| table.columns.get(n)) else { continue };
        values.push(value.clone());
        parts.push(format!("t.{name} = (${}::text)::{}", values.len(), column.type_name));
    }
    if parts.is_empty() {
        parts.push("false".to_owned());
    }
    (parts.join(" and "), values)
}

fn touched(row: &tokio_postgres::Row) -> Result<Touched, Error> {
    Ok(Touched {
        ledger_id: row.try_get(0)?,
        seq: row.try_get(1)?,
        kind: row.try_get(2)?,
        receipt_id: row.try_get(3)?,
    })
}
