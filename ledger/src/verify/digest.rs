//! Digests of whole tables, and how a list of them is kept in a file.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use tokio_postgres::{Client, CopyOutStream};

use super::tables::Table;
use crate::error::Error;

/// Makes text forms the same on every connection.
pub const TEXT_FORMS: &str = "set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'iso_8601'; \
     set bytea_output = 'hex'; set extra_float_digits = 1";

/// What a table holds: its rows in the order of their key, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// BLAKE3 over the names of table and columns, and the rows.
    pub hash: blake3::Hash,
    /// How many rows there are.
    pub rows: u64,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rows", self.hash, self.rows)
    }
}

/// The digest of a table. The session must have [`TEXT_FORMS`].
pub async fn digest(client: &Client, table: &Table) -> Result<Digest, Error> {
    let mut lines = Lines::open(client, table).await?;
    let mut hasher = Hasher::new(table);
    while let Some(line) = lines.next().await? {
        hasher.row(&line);
    }
    Ok(hasher.finish())
}

/// Makes a table's digest row by row.
pub(super) struct Hasher {
    hasher: blake3::Hasher,
    rows: u64,
}

impl Hasher {
    pub(super) fn new(table: &Table) -> Self {
        let mut hasher = blake3::Hasher::new();
        for name in [table.name.as_str()].into_iter().chain(table.columns.iter().map(|c| c.name.as_str())) {
            hasher.update(name.as_bytes()).update(b"\n");
        }
        Self { hasher, rows: 0 }
    }

    pub(super) fn row(&mut self, line: &[u8]) {
        self.hasher.update(line).update(b"\n");
        self.rows += 1;
    }

    pub(super) fn finish(&self) -> Digest {
        Digest { hash: self.hasher.finalize(), rows: self.rows }
    }
}

/// A table's rows, one line of COPY's text form each, read as they come: never more of them than one message is in memory.
pub(super) struct Lines {
    stream: Pin<Box<CopyOutStream>>,
    rest: BytesMut,
}

impl Lines {
    pub(super) async fn open(client: &Client, table: &Table) -> Result<Self, Error> {
        let stream = client.copy_out(&table.copy()).await?;
        Ok(Self { stream: Box::pin(stream), rest: BytesMut::new() })
    }

    /// The next row without its line break. COPY escapes line breaks inside values.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line = self.rest.split_to(end + 1);
                line.truncate(end);
                return Ok(Some(line.freeze()));
            }
            match self.stream.try_next().await? {
                // As a rule a message is a row.
                Some(message)
                    if self.rest.is_empty()
                        && message.iter().position(|b| *b == b'\n') == message.len().checked_sub(1) =>
                {
                    return Ok(Some(message.slice(..message.len().saturating_sub(1))));
                }
                Some(message) => self.rest.extend_from_slice(&message),
                None => return Ok(None),
            }
        }
    }
}

/// What tables are expected to hold: a text file with one line per table: its name, how many rows, the digest, and the columns
/// that are in it. Columns and tables that came later are not in it, so it stays true when the schema grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    tables: BTreeMap<String, (u64, String, Vec<String>)>,
}

impl Expected {
    /// Reads the text form; says which line it did not understand.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tables = BTreeMap::new();
        for (n, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [table, rows, hash, columns] = words[..] else {
                return Err(format!("line {} is not: table, rows, digest, columns", n + 1));
            };
            let rows = rows.parse().map_err(|_| format!("line {}: {rows} is no number of rows", n + 1))?;
            let columns = columns.split(',').map(str::to_owned).collect();
            tables.insert(table.to_owned(), (rows, hash.to_owned(), columns));
        }
        Ok(Self { tables })
    }

    /// Notes a table.
    pub fn insert(&mut self, table: &Table, digest: Digest) {
        let columns = table.columns.iter().map(|column| column.name.clone()).collect();
        self.tables.insert(table.name.clone(), (digest.rows, digest.hash.to_string(), columns));
    }

    /// The same without some tables.
    #[must_use]
    pub fn without(mut self, names: &[String]) -> Self {
        self.tables.retain(|table, _| !names.contains(table));
        self
    }

    /// The tables that are named.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// How many rows a table should have, and its digest, over the table with the columns that it had then. `None`: the table
    /// is not named here.
    pub(super) fn of(&self, table: &Table) -> Option<(Table, u64, &str)> {
        let (rows, hash, columns) = self.tables.get(&table.name)?;
        let then = table.only(|column| columns.contains(&column.name));
        Some((then, *rows, hash))
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# table, rows, digest, columns: written by `econ export log`")?;
        for (table, (rows, hash, columns)) in &self.tables {
            writeln!(f, "{table} {rows} {hash} {}", columns.join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_digests_reads_back_and_names_a_line_that_does_not() {
        let text = "# a comment\n\nledger.accounts 3 ab a,b\nbase.commands 0 cd seq\n";
        let expected = Expected::parse(text).unwrap();
        assert_eq!(expected.names().collect::<Vec<_>>(), ["base.commands", "ledger.accounts"]);
        assert_eq!(Expected::parse(&expected.to_string()).unwrap(), expected);
        for broken in ["ledger.accounts 3 ab", "ledger.accounts many ab a", "ledger.accounts 3 ab a b"] {
            let text = format!("x.y 0 ab a\n{broken}\n");
            assert!(Expected::parse(&text).unwrap_err().starts_with("line 2"), "{broken}");
        }
    }
}
