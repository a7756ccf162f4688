//! Mirror of the SQL domain `base`: ledgers.

use crate::error::Error;
use crate::reader::{Reader, count, get, small};

/// One market's books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Its number, from 1.
    pub ledger_id: u32,
    /// What people call it.
    pub name: String,
    /// Names it in checkpoints; unique for each init.
    pub origin: String,
    /// seq of the newest command; 0: none.
    pub last_seq: u64,
    /// Ledger time of the newest command, Unix microseconds; `None` before the first.
    pub last_time_us: Option<i64>,
}

/// Every ledger, by number. Calls `base.read_ledgers`.
pub async fn read_ledgers(reader: &Reader) -> Result<Vec<Ledger>, Error> {
    // '-infinity', before the first command, has no microseconds.
    let sql = "select ledger_id, name, origin, last_seq, \
               (extract(epoch from nullif(last_time, '-infinity')) * 1000000)::bigint as last_time_us from base.read_ledgers()";
    let rows = reader.rows(sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Ledger {
                ledger_id: small(row, "ledger_id")?,
                name: get(row, "name")?,
                origin: get(row, "origin")?,
                last_seq: count(row, "last_seq")?,
                last_time_us: get(row, "last_time_us")?,
            })
        })
        .collect()
}
