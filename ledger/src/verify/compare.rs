//! Two databases, table by table, row by row: both are read in the order of their keys and side by side, so that two tables of
//! any size take the memory of two rows.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use tokio_postgres::Client;

use super::blame::{self, Touched};
use super::digest::{Digest, Expected, Hasher, Lines, digest};
use super::report::Problem;
use super::tables::{Order, Table, tables};
use crate::error::Error;

/// How far a log was replayed: the newest seq of each ledger.
pub type Reached = BTreeMap<i32, i64>;

/// What of a table was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// The rows that the commands up to there had made; these columns change later and were not compared.
    UpTo(Vec<String>),
    /// The rows that replay gives are still there; these columns change later and were not compared.
    StillThere(Vec<String>),
    /// There is nothing to compare with.
    Alone,
}

/// A table on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Its name.
    pub table: String,
    /// What of it was compared.
    pub extent: Extent,
    /// What the source holds; `None`: there is no source.
    pub stored: Option<Digest>,
    /// What the log gives.
    pub replayed: Digest,
    /// Rows of the same key that differ.
    pub rows_different: u64,
    /// Rows that only the source holds.
    pub rows_only_stored: u64,
    /// Rows that only the log gives.
    pub rows_only_replayed: u64,
    /// The first of them, in the order of the key.
    pub first: Option<Difference>,
}

/// A row in which a table is not what the log gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Columns of the primary key with their values.
    pub key: Vec<(String, String)>,
    /// How it differs.
    pub how: How,
    /// The last command that wrote this row when the log was replayed; for a row that only the source holds, the command that
    /// the row names itself.
    pub touched: Option<Touched>,
}

/// How a row differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// The first column that differs, what the log gives, what the table holds, and which other columns differ too.
    Column {
        /// Its name.
        column: String,
        /// What the log gives.
        replayed: String,
        /// What the table holds.
        stored: String,
        /// More columns that differ.
        others: Vec<String>,
    },
    /// The log gives no such row; here is what it holds.
    OnlyStored(String),
    /// The table lacks this row.
    OnlyReplayed(String),
    /// Only digests were compared: what the log gives, and what was expected.
    Digest {
        /// Digest and rows that the log gives.
        replayed: Digest,
        /// Digest and rows that were expected, in words.
        expected: String,
    },
}

impl Comparison {
    /// Whether both sides agree, as far as they were compared.
    pub fn equal(&self) -> bool {
        self.first.is_none()
    }

    /// The first row that differs, as a finding.
    pub fn problem(&self) -> Option<Problem> {
        let first = self.first.as_ref()?;
        let key: Vec<String> = first.key.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let key = if key.is_empty() { String::new() } else { format!(" ({})", key.join(", ")) };
        let more = self.rows_different + self.rows_only_stored + self.rows_only_replayed - 1;
        let mut message = first.to_string();
        if more > 0 {
            message
                .push_str(&format!("; {more} more {} of this table", if more == 1 { "row" } else { "rows" }));
        }
        Some(Problem { place: format!("{}{key}", self.table), message })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Column { column, replayed, stored, others } => {
                let (replayed, stored) = near(replayed, stored);
                write!(f, "column {column}: the log gives {replayed}, the table holds {stored}")?;
                if !others.is_empty() {
                    write!(f, "; also {}", others.join(", "))?;
                }
            }
            How::OnlyStored(row) => write!(f, "the log gives no such row: {row}")?,
            How::OnlyReplayed(row) => write!(f, "the table lacks this row: {row}")?,
            How::Digest { replayed, expected } => {
                return write!(f, "the log gives {replayed}, expected was {expected}");
            }
        }
        match (&self.touched, &self.how) {
            (Some(touched), How::OnlyStored(_)) => write!(f, "; the row names {touched}"),
            (Some(touched), _) => write!(f, "; last command that touched it: {touched}"),
            (None, How::OnlyStored(_)) => Ok(()),
            (None, _) => write!(f, "; no command made this row: it comes with the schema"),
        }
    }
}

/// Compares every table of a source with what replay made of its log. With `reached`, the log was replayed only up to there.
/// Both sessions must have `TEXT_FORMS` and may read every table.
pub async fn compare(
    source: &Client,
    replayed: &Client,
    reached: Option<&Reached>,
) -> Result<Vec<Comparison>, Error> {
    let mut done = Vec::new();
    let (here, there) = (tables(source).await?, tables(replayed).await?);
    let unknown = here.iter().find(|here| there.iter().all(|table| table.name != here.name));
    if let Some(table) = unknown {
        return Err(Error::new(
            "UB631",
            format!("the database holds {}, which this program does not know: use a newer one", table.name),
        ));
    }
    for there in there {
        // A source whose schema is older lacks columns, or whole tables, that this program's has.
        let Some(here) = here.iter().find(|table| table.name == there.name) else {
            done.push(alone(&there, digest(replayed, &there).await?));
            continue;
        };
        let same = there.only(|column| here.position(&column.name).is_some());
        let (left, right, extent) = match reached {
            None => (same.clone(), same, Extent::Whole),
            Some(reached) => prefix(&same, reached),
        };
        let mut comparison = side_by_side(source, replayed, &left, &right, extent).await?;
        if let Some(first) = &mut comparison.first {
            first.touched = blame::find(source, replayed, &right, first).await?;
        }
        done.push(comparison);
    }
    Ok(done)
}

/// Compares what replay made with a list of digests; tables that the list does not name are only digested.
pub async fn compare_with(replayed: &Client, expected: &Expected) -> Result<Vec<Comparison>, Error> {
    let mut done = Vec::new();
    for table in tables(replayed).await? {
        let Some((then, rows, hash)) = expected.of(&table) else {
            done.push(alone(&table, digest(replayed, &table).await?));
            continue;
        };
        let replayed = digest(replayed, &then).await?;
        let agrees = replayed.rows == rows && replayed.hash.to_string() == hash;
        let stored = blake3::Hash::from_hex(hash).ok().map(|hash| Digest { hash, rows });
        let first = (!agrees).then(|| Difference {
            key: Vec::new(),
            how: How::Digest { replayed, expected: format!("{hash} of {rows} rows") },
            touched: None,
        });
        done.push(Comparison {
            stored,
            extent: Extent::Whole,
            first,
            rows_different: u64::from(!agrees),
            ..alone(&then, replayed)
        });
    }
    Ok(done)
}

/// The tables of a fresh database that hold rows: the schema's, not a log's. An older schema filled them otherwise.
pub async fn filled_by_schema(client: &Client) -> Result<Vec<String>, Error> {
    let mut filled = Vec::new();
    for table in tables(client).await? {
        let row = client.query_one(&format!("select exists (select from {})", table.name), &[]).await?;
        if row.try_get(0)? {
            filled.push(table.name);
        }
    }
    Ok(filled)
}

fn alone(table: &Table, replayed: Digest) -> Comparison {
    Comparison {
        table: table.name.clone(),
        extent: Extent::Alone,
        stored: None,
        replayed,
        rows_different: 0,
        rows_only_stored: 0,
        rows_only_replayed: 0,
        first: None,
    }
}

/// What of a table can be compared when only the first part of the log was replayed. Rows are never removed, and which columns
/// may change is the engine's column rights: so what is there must still be there, and what cannot change must be the same.
fn prefix(table: &Table, reached: &Reached) -> (Table, Table, Extent) {
    let changing: Vec<String> =
        table.columns.iter().filter(|column| column.mutable).map(|column| column.name.clone()).collect();
    let fixed = table.only(|column| !column.mutable);
    let made_by_a_command = |name| fixed.position(name).is_some();
    if !(made_by_a_command("ledger_id") && made_by_a_command("seq")) {
        return (fixed.clone(), fixed, Extent::StillThere(changing));
    }
    let parts: Vec<String> =
        reached.iter().map(|(ledger_id, seq)| format!("ledger_id = {ledger_id} and seq <= {seq}")).collect();
    let condition = if parts.is_empty() { "false".to_owned() } else { parts.join(" or ") };
    (fixed.rows(&condition), fixed, Extent::UpTo(changing))
}

/// One side of a comparison: the row that is next.
struct Side {
    lines: Lines,
    hasher: Hasher,
    next: Option<Bytes>,
}

impl Side {
    async fn open(client: &Client, table: &Table) -> Result<Self, Error> {
        let mut lines = Lines::open(client, table).await?;
        let next = lines.next().await?;
        Ok(Self { lines, hasher: Hasher::new(table), next })
    }

    /// The next row, which counts; the one after it is then next.
    async fn take(&mut self) -> Result<Option<Bytes>, Error> {
        let after = if self.next.is_some() { self.lines.next().await? } else { None };
        let taken = std::mem::replace(&mut self.next, after);
        if let Some(line) = &taken {
            self.hasher.row(line);
        }
        Ok(taken)
    }

    /// Leaves the next row out.
    async fn skip(&mut self) -> Result<(), Error> {
        self.next = self.lines.next().await?;
        Ok(())
    }
}

async fn side_by_side(
    source: &Client,
    replayed: &Client,
    left: &Table,
    right: &Table,
    extent: Extent,
) -> Result<Comparison, Error> {
    let subset = matches!(extent, Extent::StillThere(_));
    let (here, there) = futures_util::try_join!(Side::open(source, left), Side::open(replayed, right))?;
    let (mut here, mut there) = (here, there);
    let mut found = alone(right, there.hasher.finish());
    loop {
        let order = match (&here.next, &there.next) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) if one == other => {
                futures_util::try_join!(here.take(), there.take())?;
                continue;
            }
            (Some(one), Some(other)) => by_key(right, one, other),
        };
        let first = &mut found.first;
        match order {
            Ordering::Less if subset => here.skip().await?,
            Ordering::Less => {
                found.rows_only_stored += 1;
                let line = here.take().await?.unwrap_or_default();
                first.get_or_insert_with(|| difference(right, &line, How::OnlyStored(row(right, &line))));
            }
            Ordering::Greater => {
                found.rows_only_replayed += 1;
                let line = there.take().await?.unwrap_or_default();
                first.get_or_insert_with(|| difference(right, &line, How::OnlyReplayed(row(right, &line))));
            }
            Ordering::Equal => {
                found.rows_different += 1;
                let (stored, replayed) = futures_util::try_join!(here.take(), there.take())?;
                let (stored, replayed) = (stored.unwrap_or_default(), replayed.unwrap_or_default());
                first.get_or_insert_with(|| difference(right, &replayed, columns(right, &stored, &replayed)));
            }
        }
    }
    found.extent = extent;
    found.stored = Some(here.hasher.finish());
    found.replayed = there.hasher.finish();
    Ok(found)
}

fn difference(table: &Table, line: &[u8], how: How) -> Difference {
    let values: Vec<&[u8]> = fields(line).collect();
    let named = |n: &usize| {
        let column = table.columns.get(*n)?;
        Some((column.name.clone(), shown(values.get(*n).copied().unwrap_or_default())))
    };
    Difference { key: table.key.iter().filter_map(named).collect(), how, touched: None }
}

fn columns(table: &Table, stored: &[u8], replayed: &[u8]) -> How {
    let mut differing = fields(stored).zip(fields(replayed)).zip(&table.columns).filter(|((a, b), _)| a != b);
    let Some(((stored, replayed), column)) = differing.next() else {
        return How::OnlyStored(row(table, stored));
    };
    How::Column {
        column: column.name.clone(),
        replayed: shown(replayed),
        stored: shown(stored),
        others: differing.map(|(_, column)| column.name.clone()).collect(),
    }
}

/// The columns of a row in COPY's text form.
fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b'\t')
}

/// Which of two rows comes first. The order is that of [`Table::copy`].
fn by_key(table: &Table, one: &[u8], other: &[u8]) -> Ordering {
    let (one, other): (Vec<&[u8]>, Vec<&[u8]>) = (fields(one).collect(), fields(other).collect());
    let at = |row: &[&[u8]], n: usize| row.get(n).map(|field| value(field));
    for n in &table.key {
        let (Some(a), Some(b)) = (at(&one, *n), at(&other, *n)) else { return one.len().cmp(&other.len()) };
        let order = match (a, b, table.columns.get(*n).map(|column| column.order)) {
            // NULL, which only a table without a primary key has there, comes last.
            (None, None, _) => Ordering::Equal,
            (None, Some(_), _) => Ordering::Greater,
            (Some(_), None, _) => Ordering::Less,
            (Some(a), Some(b), Some(Order::Number)) => number(&a).cmp(&number(&b)),
            (Some(a), Some(b), _) => a.cmp(&b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn number(text: &[u8]) -> i64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(i64::MAX)
}

/// A value out of COPY's text form; `None`: NULL.
pub(super) fn value(field: &[u8]) -> Option<Vec<u8>> {
    if field == b"\\N" {
        return None;
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'v') => 11,
                Some(other) => other,
                None => b'\\',
            },
            other => other,
        });
    }
    Some(plain)
}

/// A value for people.
fn shown(field: &[u8]) -> String {
    value(field).map_or_else(|| "NULL".to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn row(table: &Table, line: &[u8]) -> String {
    let named: Vec<String> = table
        .columns
        .iter()
        .zip(fields(line))
        .map(|(column, field)| format!("{} {}", column.name, shorten(&shown(field), 0)))
        .collect();
    shorten(&named.join(", "), 0)
}

/// Long values may differ far from their beginning: both from shortly before that place on.
fn near(one: &str, other: &str) -> (String, String) {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let from =
        if one.chars().count().max(other.chars().count()) <= SHOWN { 0 } else { same.saturating_sub(40) };
    (shorten(one, from), shorten(other, from))
}

/// Characters of a value that are shown.
const SHOWN: usize = 240;

fn shorten(text: &str, from: usize) -> String {
    let mut short: String = text.chars().skip(from).take(SHOWN).collect();
    if from > 0 {
        short.insert(0, '\u{2026}');
    }
    if text.chars().count() > from + SHOWN {
        short.push('\u{2026}');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_out_of_copys_text_form() {
        assert_eq!(value(b"\\N"), None);
        assert_eq!(value(b"a\\tb\\\\c\\n"), Some(b"a\tb\\c\n".to_vec()));
        assert_eq!(value(b"\\\\xff"), Some(b"\\xff".to_vec()));
    }

    #[test]
    fn a_difference_far_into_a_long_value_is_shown() {
        let long = "x".repeat(1_000);
        let (one, other) = near(&format!("{long}1"), &format!("{long}2"));
        assert!(one.ends_with("x1") && other.ends_with("x2") && one.len() < 60, "{one} {other}");
        assert_eq!(near("500", "600"), ("500".into(), "600".into()));
    }
}
