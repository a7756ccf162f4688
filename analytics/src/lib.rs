//! Reports of the market: what the views `transparency` and `finance` say, as JSON rows, and the books in the formats of
//! others. Reads views, nothing else, and
//! writes nothing.

pub mod export;

use proto::ids::AgentId;
use serde_json::Value;
use tokio_postgres::Client;

/// A view could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The database refused or was away.
    #[error(transparent)]
    Database(#[from] tokio_postgres::Error),
    /// A row was not the JSON that it should be.
    #[error("a view gave something that is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
}

/// Every row of one of the `transparency` or `finance` views.
pub async fn rows(client: &Client, view: &str) -> Result<Vec<Value>, ReportError> {
    read(client, &format!("select to_jsonb(v)::text from {view} v")).await
}

/// Per role, what settlements gave to how many payees and legs: `role`, `payees`, `legs`, `amount_minor`.
pub async fn earned_by_role(client: &Client) -> Result<Vec<Value>, ReportError> {
    read(
        client,
        "select jsonb_build_object('role', s.role, 'asset', s.asset, 'payees', count(distinct s.payee_id), 'legs', count(*),
           'amount_minor', sum(s.amount_minor)::text)::text
         from finance.statements s group by s.role, s.asset order by sum(s.amount_minor) desc",
    )
    .await
}

/// How many confirmed payouts there are, and their sum: `payouts`, `payees`, `amount_minor`.
pub async fn payouts_confirmed(client: &Client) -> Result<Value, ReportError> {
    let rows = read(
        client,
        "select jsonb_build_object('payouts', count(distinct s.payout_id), 'payees', count(distinct s.payee_id),
           'amount_minor', coalesce(sum(s.amount_minor), 0)::text)::text
         from finance.statements s where s.payout_state = 'confirmed'",
    )
    .await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// A payee's statement, with the names that the API gives its lines.
pub async fn statement(client: &Client, payee: AgentId) -> Result<Vec<Value>, ReportError> {
    let us = |column: &str| format!("(extract(epoch from s.{column}) * 1000000)::bigint");
    // An id is hexadecimal digits and hyphens: it needs no quoting.
    let sql = format!(
        "select jsonb_build_object('payableId', s.payable_id, 'earnedAtUs', {}, 'orderId', s.order_id, 'role', s.role,
           'asset', s.asset, 'scale', s.scale, 'amount', s.amount_minor::text, 'payoutId', s.payout_id,
           'payoutState', s.payout_state, 'paidAtUs', {})::text
         from finance.statements s where s.payee_id = '{payee}' order by s.earned_at, s.payable_id",
        us("earned_at"),
        us("paid_at"),
    );
    read(client, &sql).await
}

async fn read(client: &Client, sql: &str) -> Result<Vec<Value>, ReportError> {
    let rows = client.query(sql, &[]).await?;
    rows.iter().map(|row| Ok(serde_json::from_str(row.try_get(0)?)?)).collect()
}

/// A whole number that a view gives as a JSON number or as text, as minor units or a count; 0 where there is none.
pub fn whole(value: &Value) -> u128 {
    match value {
        Value::Number(number) => {
            number.as_u64().map_or_else(|| number.to_string().parse().unwrap_or_default(), u128::from)
        }
        Value::String(text) => text.parse().unwrap_or_default(),
        _ => 0,
    }
}
