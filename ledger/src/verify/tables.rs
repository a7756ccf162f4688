//! The tables that hold state: their columns, their keys, which of their columns may change, and what replay does not make.

use serde::Serialize;
use tokio_postgres::Client;

use crate::error::Error;

/// The schemas that hold state.
const SCHEMAS: &[&str] =
    &["base", "identity", "ledger", "receipts", "market", "metering", "splits", "payouts", "artifacts"];

/// Something that replay does not make again: a table, or some of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Qualified name.
    pub table: &'static str,
    /// Which rows, as a condition in SQL; `None`: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<&'static str>,
    /// Why.
    pub reason: &'static str,
}

/// What replay does not make again, each with its reason.
pub const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        table: "receipts.checkpoints",
        rows: None,
        reason: "made by time, not by commands; each is checked against the log",
    },
    LeftOut {
        table: "receipts.forests",
        rows: None,
        reason: "the forest's name; the forest is made by time, and checked as a whole",
    },
    LeftOut {
        table: "receipts.forest_entries",
        rows: None,
        reason: "checkpoints, made by time; each is checked against its ledger's log",
    },
    LeftOut {
        table: "receipts.logs",
        rows: Some("ledger_id = 0"),
        reason: "the forest's head, made by time; the forest is checked as a whole",
    },
    LeftOut {
        table: "receipts.tiles",
        rows: Some("ledger_id = 0"),
        reason: "the forest's tiles, made by time; the forest is checked as a whole",
    },
    LeftOut {
        table: "receipts.cosignatures",
        rows: None,
        reason: "what witnesses said from outside; each is checked against its checkpoint",
    },
    LeftOut {
        table: "artifacts.uploads",
        rows: None,
        reason: "upkeep of an erasable store outside the database",
    },
    LeftOut {
        table: "ledger.entry_pages",
        rows: None,
        reason: "derived behind the log at its own pace; ledger.audit_pages proves it",
    },
    LeftOut {
        table: "ledger.paged",
        rows: None,
        reason: "how far entry_pages has followed, at its own pace; ledger.audit_pages proves it",
    },
    LeftOut {
        table: "ledger.audited",
        rows: None,
        reason: "how far an audit has come, at its own pace; every audit view reads the whole",
    },
];

impl LeftOut {
    /// The table, and which of its rows.
    pub fn what(&self) -> String {
        self.rows.map_or_else(|| self.table.to_owned(), |rows| format!("{} where {rows}", self.table))
    }
}

/// How a column's values sort, in Postgres and here alike, whatever the locale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By value.
    Number,
    /// By value, which is the order of their text's bytes too.
    Native,
    /// Text, by its bytes.
    Text,
    /// By the bytes of their text form.
    Form,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// As Postgres quotes it.
    pub name: String,
    pub(crate) type_name: String,
    pub(crate) order: Order,
    /// Some command may change it in a row that is there.
    pub mutable: bool,
}

/// A table to digest and compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Qualified, as Postgres quotes it.
    pub name: String,
    /// Its columns, or those of them that matter here, in their order.
    pub columns: Vec<Column>,
    /// Where in `columns` the primary key is; without one, all of them.
    pub(crate) key: Vec<usize>,
    /// Condition of the rows that count; `None`: all.
    pub(crate) rows: Option<String>,
}

const QUESTION: &str = "
select quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
       t.typname::text, has_column_privilege('econ_engine', c.oid, a.attnum, 'UPDATE'),
       (select k.position from unnest(i.indkey::int2[]) with ordinality as k (attnum, position) where k.attnum = a.attnum)
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_type t on t.oid = a.atttypid
  left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
 where c.relkind in ('r', 'p') and not c.relispartition and n.nspname = any ($1)
 order by n.nspname, c.relname, a.attnum";

/// The tables to compare, sorted by name; [`LEFT_OUT`] is left out.
pub async fn tables(client: &Client) -> Result<Vec<Table>, Error> {
    tables_without(client, LEFT_OUT).await
}

/// The same, leaving out what `left_out` says.
pub async fn tables_without(client: &Client, left_out: &[LeftOut]) -> Result<Vec<Table>, Error> {
    let mut tables: Vec<(Table, Vec<(i64, usize)>)> = Vec::new();
    for row in client.query(QUESTION, &[&SCHEMAS]).await? {
        let name: String = row.try_get(0)?;
        if tables.last().is_none_or(|(table, _)| table.name != name) {
            tables.push((Table { name, columns: Vec::new(), key: Vec::new(), rows: None }, Vec::new()));
        }
        let Some((table, key)) = tables.last_mut() else { continue };
        let plain_type: String = row.try_get(3)?;
        if let Some(position) = row.try_get::<_, Option<i64>>(5)? {
            key.push((position, table.columns.len()));
        }
        table.columns.push(Column {
            name: row.try_get(1)?,
            type_name: row.try_get(2)?,
            order: Order::of(&plain_type),
            mutable: row.try_get(4)?,
        });
    }
    let whole = |table: &Table| left_out.iter().any(|left| left.table == table.name && left.rows.is_none());
    let mut kept = Vec::with_capacity(tables.len());
    for (mut table, mut key) in tables {
        if whole(&table) {
            continue;
        }
        key.sort_unstable();
        table.key = key.into_iter().map(|(_, column)| column).collect();
        if table.key.is_empty() {
            table.key = (0..table.columns.len()).collect();
        }
        let out: Vec<String> = left_out
            .iter()
            .filter(|left| left.table == table.name)
            .filter_map(|left| left.rows.map(|rows| format!("({rows}) is not true")))
            .collect();
        table.rows = (!out.is_empty()).then(|| out.join(" and "));
        kept.push(table);
    }
    Ok(kept)
}

impl Order {
    fn of(type_name: &str) -> Self {
        match type_name {
            "int2" | "int4" | "int8" => Self::Number,
            "uuid" | "bytea" | "bool" => Self::Native,
            "text" | "varchar" | "name" => Self::Text,
            _ => Self::Form,
        }
    }
}

impl Table {
    /// Only those of its columns that pass, and its key.
    #[must_use]
    pub fn only(&self, mut keep: impl FnMut(&Column) -> bool) -> Self {
        let mut columns = Vec::new();
        let mut place = vec![None; self.columns.len()];
        for (n, column) in self.columns.iter().enumerate() {
            if keep(column) || self.key.contains(&n) {
                place[n] = Some(columns.len());
                columns.push(column.clone());
            }
        }
        let key = self.key.iter().filter_map(|n| place[*n]).collect();
        Self { name: self.name.clone(), columns, key, rows: self.rows.clone() }
    }

    /// Only the rows of which this condition holds.
    #[must_use]
    pub fn rows(&self, condition: &str) -> Self {
        let rows = self
            .rows
            .as_ref()
            .map_or_else(|| format!("({condition})"), |rows| format!("{rows} and ({condition})"));
        Self { rows: Some(rows), ..self.clone() }
    }

    /// Where a column is.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Writes the rows to the client in the order of the key.
    pub(crate) fn copy(&self) -> String {
        let columns: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let order: Vec<String> =
            self.key.iter().filter_map(|n| self.columns.get(*n)).map(Column::sorted).collect();
        let rows = self.rows.as_ref().map(|rows| format!(" where {rows}")).unwrap_or_default();
        format!(
            "copy (select {} from {} t{rows} order by {}) to stdout",
            columns.join(", "),
            self.name,
            order.join(", ")
        )
    }
}

impl Column {
    fn sorted(&self) -> String {
        match self.order {
            Order::Number | Order::Native => self.name.clone(),
            Order::Text => format!("{} collate \"C\"", self.name),
            Order::Form => format!("({}::text) collate \"C\"", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |name: &str, type_name: &str, mutable| Column {
            name: name.into(),
            type_name: type_name.into(),
            order: Order::of(type_name),
            mutable,
        };
        Table {
            name: "a.b".into(),
            columns: vec![
                column("state", "text", true),
                column("name", "text", false),
                column("n", "int8", false),
                column("at", "timestamptz", false),
            ],
            key: vec![2, 1, 3],
            rows: None,
        }
    }

    #[test]
    fn rows_come_in_an_order_that_no_locale_changes() {
        assert_eq!(
            table().copy(),
            "copy (select state, name, n, at from a.b t order by n, name collate \"C\", (at::text) collate \"C\") to stdout"
        );
    }

    #[test]
    fn a_table_without_some_columns_keeps_its_key() {
        let narrow = table().only(|column| column.name == "state").rows("n < 3").rows("n > 1");
        assert_eq!(narrow.columns.len(), 4, "the key counts");
        let fixed = table().only(|column| !column.mutable).rows("n < 3").rows("n > 1");
        assert_eq!(
            fixed.copy(),
            "copy (select name, n, at from a.b t where (n < 3) and (n > 1) order by n, name collate \"C\", (at::text) collate \"C\") \
             to stdout"
        );
    }
}
