//! Follows the log: files what was posted under its accounts, and audits it by the minute. Upkeep, not commands: it has a
//! connection of its own, waits for nobody's lock, and whatever happens to it happens to nobody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use super::Shared;
use crate::books;
use crate::error::Error;

/// How often new transfers are looked for; while there are more, at once.
const PAGING_INTERVAL: Duration = Duration::from_secs(1);
/// How often the books are audited.
const AUDIT_INTERVAL: Duration = Duration::from_secs(60);
/// Transfers that are filed in one go: one sort of so many costs a third of what keeping indexes up row by row does.
const PAGE_TRANSFERS: u32 = 32_768;
/// How soon the end of the writers is noticed.
const TICK: Duration = Duration::from_millis(50);

/// Keeps the books of a ledger until the writers are gone. A failure is tried again at the next tick.
pub(super) async fn keep(shared: Arc<Shared>, ledger_id: u32) {
    let mut keeper = Keeper { ledger_id, client: None, audit_at: Instant::now() };
    loop {
        let tick = Instant::now();
        let work = keeper.tick(&shared);
        let done = tokio::select! {
            done = work => Some(done),
            () = drained(&shared) => None,
        };
        match done {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                keeper.client = None;
                metrics::counter!("econ_upkeep_failures_total").increment(1);
                tracing::warn!(%error, ledger_id, "the books were not kept up; the next try is in a second");
            }
            None => return keeper.give_up().await,
        }
        tokio::select! {
            () = tokio::time::sleep_until(tick + PAGING_INTERVAL) => {}
            () = drained(&shared) => return,
        }
    }
}

struct Keeper {
    ledger_id: u32,
    client: Option<Client>,
    audit_at: Instant,
}

impl Keeper {
    /// Files what there is to file, and audits when it is time to.
    async fn tick(&mut self, shared: &Shared) -> Result<(), Error> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => connect(shared).await?,
        };
        let client = self.client.insert(client);
        while books::page_entries(client, self.ledger_id, PAGE_TRANSFERS).await? > 0 {}
        if Instant::now() >= self.audit_at {
            let audit = books::audit_advance(client, self.ledger_id).await?;
            self.audit_at = Instant::now() + AUDIT_INTERVAL;
            report(self.ledger_id, &audit);
        }
        Ok(())
    }

    /// What is still running would hold up the database's own end.
    async fn give_up(self) {
        if let Some(client) = self.client {
            // It may have ended by itself meanwhile.
            let _ = client.cancel_token().cancel_query(NoTls).await;
        }
    }
}

/// Says what is wrong. Nothing is stopped: the operator decides what to do about books that do not add up.
fn report(ledger_id: u32, audit: &books::Audit) {
    if audit.problems > 0 {
        metrics::counter!("econ_audit_problems_total").increment(audit.problems);
        let first = audit.first_problem.as_deref().unwrap_or_default();
        tracing::error!(
            ledger_id,
            problems = audit.problems,
            audited_through = audit.through_seq,
            first,
            "the books do not add up: see ledger.audit_recent, and run `econ verify`"
        );
    }
}

async fn connect(shared: &Shared) -> Result<Client, Error> {
    let mut config = shared.options.database.clone();
    config.application_name("econ keeper");
    let (client, driver) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "the keeper's connection ended");
        }
    });
    Ok(client)
}

async fn drained(shared: &Shared) {
    while !shared.drained() {
        tokio::time::sleep(TICK).await;
    }
}
