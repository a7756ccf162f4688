//! Races that are made, not awaited: a lock is held, the others are seen to block on it, and it is let go.

mod ledger_row;
mod loaders;
mod posters;

use std::time::{Duration, Instant};

use tokio_postgres::Client;

/// How long a session may take to reach the lock before the test says that it never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `count` sessions of this database wait for a lock, and returns their pids, the longest waiting first. The
/// keepers, which look at the log each second and wait for whoever writes to it and for each other, are not counted. Asks
/// again and again: each question is a round trip, so nothing spins without the server having had its turn.
async fn blocked(db: &Client, count: usize) -> Vec<i32> {
    let since = Instant::now();
    loop {
        let rows = db
            .query(
                "select pid from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0 \
                 and query !~ 'receipts.(read_settled_log|append_forest|store_checkpoint)|ledger.(page_entries|audit_advance)' \
                 order by query_start",
                &[],
            )
            .await
            .unwrap();
        if rows.len() == count {
            return rows.iter().map(|row| row.get(0)).collect();
        }
        assert!(since.elapsed() < PATIENCE, "{} sessions are blocked, not {count}", rows.len());
        tokio::task::yield_now().await;
    }
}
