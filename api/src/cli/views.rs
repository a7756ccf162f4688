//! The reports of crate `analytics`, with a connection per question: the demo outlives a Postgres that is killed.

use analytics::ReportError;
use proto::ids::AgentId;
use serde_json::Value;

pub(crate) use analytics::whole;

use super::failure::{Failure, Outcome};
use super::place::{Database, connect};

/// See [`analytics::rows`].
pub(crate) async fn rows(database: &Database, view: &str) -> Outcome<Vec<Value>> {
    let client = connect(&database.config("econ_api")).await?;
    analytics::rows(&client, view).await.map_err(failure)
}

/// See [`analytics::earned_by_role`].
pub(crate) async fn earned_by_role(database: &Database) -> Outcome<Vec<Value>> {
    let client = connect(&database.config("econ_api")).await?;
    analytics::earned_by_role(&client).await.map_err(failure)
}

/// See [`analytics::payouts_confirmed`].
pub(crate) async fn payouts_confirmed(database: &Database) -> Outcome<Value> {
    let client = connect(&database.config("econ_api")).await?;
    analytics::payouts_confirmed(&client).await.map_err(failure)
}

/// See [`analytics::statement`].
pub(crate) async fn statement(database: &Database, payee: AgentId) -> Outcome<Vec<Value>> {
    let client = connect(&database.config("econ_api")).await?;
    analytics::statement(&client, payee).await.map_err(failure)
}

fn failure(error: ReportError) -> Failure {
    match error {
        ReportError::Database(error) => ledger::Error::from(error).into(),
        ReportError::NotJson(error) => Failure::outside(error),
    }
}
