//! What the reporting views say, as JSON rows. A connection per question: the demo outlives a Postgres that is killed.

use serde_json::Value;

use super::failure::{Failure, Outcome};
use super::place::{Database, connect};

/// Every row of one of the `transparency` or `finance` views.
pub(crate) async fn rows(database: &Database, view: &str) -> Outcome<Vec<Value>> {
    read(database, &format!("select to_jsonb(v)::text from {view} v")).await
}

/// Per role, what settlements gave to how many payees and legs: `role`, `payees`, `legs`, `amount_minor`.
pub(crate) async fn earned_by_role(database: &Database) -> Outcome<Vec<Value>> {
    read(
        database,
        "select jsonb_build_object('role', s.role, 'asset', s.asset, 'payees', count(distinct s.payee_id), 'legs', count(*),
           'amount_minor', sum(s.amount_minor)::text)::text
         from finance.statements s group by s.role, s.asset order by sum(s.amount_minor) desc",
    )
    .await
}

/// How many confirmed payouts there are, and their sum: `payouts`, `payees`, `amount_minor`.
pub(crate) async fn payouts_confirmed(database: &Database) -> Outcome<Value> {
    let rows = read(
        database,
        "select jsonb_build_object('payouts', count(distinct s.payout_id), 'payees', count(distinct s.payee_id),
           'amount_minor', coalesce(sum(s.amount_minor), 0)::text)::text
         from finance.statements s where s.payout_state = 'confirmed'",
    )
    .await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// A payee's statement, with the names that the API gives its lines.
pub(crate) async fn statement(database: &Database, payee: proto::ids::AgentId) -> Outcome<Vec<Value>> {
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
    read(database, &sql).await
}

async fn read(database: &Database, sql: &str) -> Outcome<Vec<Value>> {
    let client = connect(&database.config("econ_api")).await?;
    let rows = client.query(sql, &[]).await.map_err(ledger::Error::from)?;
    rows.iter()
        .map(|row| {
            let text: &str = row.try_get(0).map_err(ledger::Error::from)?;
            serde_json::from_str(text).map_err(Failure::outside)
        })
        .collect()
}

/// A whole number that a view gives as a JSON number or as text, as minor units or a count; 0 where there is none.
pub(crate) fn whole(value: &Value) -> u128 {
    match value {
        Value::Number(number) => {
            number.as_u64().map_or_else(|| number.to_string().parse().unwrap_or_default(), u128::from)
        }
        Value::String(text) => text.parse().unwrap_or_default(),
        _ => 0,
    }
}
