//! What keeps the books quick to read and proves them by the minute. Derived: neither is a command, neither adds a fact.

use tokio_postgres::Client;

use crate::error::Error;
use crate::reader::{count, get, int};

/// What an audit of the newest transfers found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Healthy up to this command.
    pub through_seq: u64,
    /// Rows of `ledger.audit_recent`; 0: healthy.
    pub problems: u64,
    /// What is wrong with which account or transfer.
    pub first_problem: Option<String>,
}

/// Files the ledger's next `transfers` transfers under their accounts, if there are so many, and returns how many it filed;
/// 0: not yet enough, or another session is at it. Calls `ledger.page_entries`.
pub async fn page_entries(client: &Client, ledger_id: u32, transfers: u32) -> Result<u32, Error> {
    let sql = "select ledger.page_entries($1, $2) as filed";
    let row = client.query_one(sql, &[&int(ledger_id)?, &int(transfers)?]).await?;
    crate::reader::small(&row, "filed")
}

/// Audits what was posted since the last healthy audit and, if it is healthy, remembers how far. Calls
/// `ledger.audit_advance`.
pub async fn audit_advance(client: &Client, ledger_id: u32) -> Result<Audit, Error> {
    let sql = "select through_seq, problems, first_problem from ledger.audit_advance($1)";
    let row = client.query_one(sql, &[&int(ledger_id)?]).await?;
    Ok(Audit {
        through_seq: count(&row, "through_seq")?,
        problems: count(&row, "problems")?,
        first_problem: get(&row, "first_problem")?,
    })
}
