//! Ledgers: what a client must know before it can ask anything.

use async_graphql::{Context, Json, Object, Result, SimpleObject};
use ledger::{base, market};

use super::scalars::{Count, Micros};
use super::{command::coded, failed, state};

/// One market's books.
#[derive(Debug, SimpleObject)]
pub struct Ledger {
    /// Its number, from 1.
    ledger_id: u32,
    /// What people call it.
    name: String,
    /// Names it in checkpoints.
    origin: String,
    /// seq of the newest command; 0: none.
    last_seq: Count,
    /// Ledger time of the newest command, Unix microseconds.
    last_time_us: Option<Micros>,
    /// How it is run.
    settings: Option<Settings>,
}

/// How a market is run.
#[derive(Debug, SimpleObject)]
pub struct Settings {
    /// Providers that an RFQ asks unless it says otherwise.
    default_providers: i32,
    /// Providers that an RFQ asks at most.
    max_providers: i32,
    /// How long a buyer has to judge an output.
    acceptance_window_ms: i64,
    /// How much later than its time a ticket is given up.
    ticket_grace_ms: i64,
}

/// Reads about ledgers.
#[derive(Debug, Default)]
pub struct LedgerQuery;

#[Object]
impl LedgerQuery {
    /// What GET /v1/info answers.
    async fn info(&self, ctx: &Context<'_>) -> Result<Json<serde_json::Value>> {
        let info = crate::rest::info::read(state(ctx)?).await.map_err(|problem| coded(&problem))?;
        Ok(Json(serde_json::to_value(info)?))
    }

    /// One ledger; null: there is none of this number.
    async fn ledger(&self, ctx: &Context<'_>, #[graphql(default = 1)] id: u32) -> Result<Option<Ledger>> {
        let reader = &state(ctx)?.reader;
        let ledgers = base::read_ledgers(reader).await.map_err(failed)?;
        let Some(found) = ledgers.into_iter().find(|ledger| ledger.ledger_id == id) else { return Ok(None) };
        let settings = market::read_settings(reader, id).await.map_err(failed)?;
        Ok(Some(Ledger {
            ledger_id: found.ledger_id,
            name: found.name,
            origin: found.origin,
            last_seq: Count(found.last_seq),
            last_time_us: found.last_time_us.map(Micros),
            settings: settings.map(|settings| Settings {
                default_providers: settings.default_providers.into(),
                max_providers: settings.max_providers.into(),
                acceptance_window_ms: settings.acceptance_window_ms,
                ticket_grace_ms: settings.ticket_grace_ms,
            }),
        }))
    }
}
