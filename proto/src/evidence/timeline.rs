//! The order's story, in words a person can follow.

use serde_json::Value;

use super::order::Order;
use super::report::printable;
use super::{Genesis, Item, Judgement, Step, number, text};
use crate::ids::AgentId;
use crate::money::Amount;
use crate::v1::command_body::Kind;

/// Writes one step per item.
pub(super) fn tell(
    items: &[Item<'_>],
    order: Option<&Order<'_>>,
    genesis: Option<&Genesis>,
    judgement: &mut Judgement,
) {
    let commands_hold = judgement.holds("bundle.commands") && judgement.holds("bundle.content");
    for item in items {
        let words = words(item, order, genesis);
        let actor = AgentId::from_slice(&item.receipt.actor_id).map(|id| id.to_string()).unwrap_or_default();
        let who = match order {
            Some(order) if actor == order.buyer => "buyer".to_owned(),
            Some(order) if actor == order.provider => "provider".to_owned(),
            _ => match item.receipt.kind.as_str() {
                "genesis" => "operator".to_owned(),
                "resolve_dispute" => "verifier".to_owned(),
                "settle_order" | "expire_order" | "expire_rfq" => "house".to_owned(),
                _ => actor.chars().take(8).collect(),
            },
        };
        judgement.timeline.push(Step {
            seq: item.receipt.seq,
            at_us: item.receipt.ledger_time_us,
            who,
            kind: printable(&item.receipt.kind, 40),
            code: printable(&item.receipt.code, 12),
            text: printable(&words, 300),
            proven: item.sealed && commands_hold,
        });
    }
}

fn words(item: &Item<'_>, order: Option<&Order<'_>>, genesis: Option<&Genesis>) -> String {
    let facts = &item.facts;
    if !item.is_ok() {
        return facts.get("error").map(|error| text(error, "message").to_owned()).unwrap_or_default();
    }
    let money = |facts: &Value, name: &str| {
        let asset_id = facts.get("asset_id").and_then(Value::as_u64).or(order.map(|order| order.asset_id));
        amount(number(facts, name), asset_id, genesis)
    };
    let again = if item.is_repeat() { " (again: nothing changed)" } else { "" };
    let said = match &item.body.kind {
        Some(Kind::Genesis(genesis)) => format!("the ledger begins: {}", genesis.market_name),
        Some(Kind::RegisterAgent(_)) => format!("registers as a {}", text(facts, "purpose")),
        Some(Kind::RevokeKey(revoked)) => {
            format!("revokes key {}: {}", hex::encode(&revoked.key_id), revoked.reason)
        }
        Some(Kind::OpenRfq(rfq)) => {
            format!(
                "asks for {} units of {}, for at most {}",
                rfq.work_units,
                rfq.work_class,
                money(facts, "max_price")
            )
        }
        Some(Kind::SubmitOffer(offer)) => format!("offers them at {} minor units each", offer.price_per_unit),
        Some(Kind::AcceptOffer(_)) => format!(
            "orders: {} go into escrow, ticket {}",
            money(facts, "held"),
            text(facts, "run_ticket_id")
        ),
        Some(Kind::StartAttempt(_)) => "redeems the ticket and starts".to_owned(),
        Some(Kind::RecordMetering(metering)) => {
            metered(metering.runs.iter().map(|run| run.rows.len()).sum(), facts)
        }
        Some(Kind::ReportOutput(_)) => format!("reports output {}", text(facts, "output_hash")),
        Some(Kind::FailAttempt(failed)) => format!("gives up: {}", failed.reason),
        Some(Kind::AcceptOutput(_)) => "accepts the output".to_owned(),
        Some(Kind::RejectOutput(rejected)) => {
            format!("disputes output {}: {}", hex::encode(&rejected.output_hash), rejected.reason)
        }
        Some(Kind::ResolveDispute(verdict)) => {
            let valid = if verdict.output_valid { "the output is valid" } else { "the output is not valid" };
            format!("judges: {valid} ({})", verdict.finding)
        }
        Some(Kind::SettleOrder(_)) if facts.get("paid").is_some() => {
            format!(
                "settles: {} units, {} paid, {} back to the buyer",
                text(facts, "billed_units"),
                money(facts, "paid"),
                money(facts, "refunded")
            )
        }
        Some(Kind::ExpireOrder(_)) => "the ticket's time is over".to_owned(),
        _ => String::new(),
    };
    let refund = if item.receipt.kind != "settle_order" && facts.get("refunded").is_some() {
        format!("; {} back to the buyer", money(facts, "refunded"))
    } else {
        String::new()
    };
    format!("{said}{refund}{again}")
}

fn metered(rows: usize, facts: &Value) -> String {
    let units = facts
        .get("attempts")
        .and_then(Value::as_object)
        .and_then(|attempts| attempts.values().next())
        .map(|attempt| text(attempt, "work_units").to_owned())
        .unwrap_or_default();
    let set_aside: u64 = facts
        .get("quarantined")
        .and_then(Value::as_object)
        .map(|reasons| reasons.values().filter_map(Value::as_u64).sum())
        .unwrap_or_default();
    let aside = if set_aside > 0 {
        format!(", {set_aside} of them set aside as not to be believed")
    } else {
        String::new()
    };
    format!("meters {rows} rows, {units} units so far{aside}")
}

/// Minor units as a decimal of their asset, or as they are.
fn amount(units: Option<u128>, asset_id: Option<u64>, genesis: Option<&Genesis>) -> String {
    let Some(units) = units else { return "an unstated amount".to_owned() };
    let asset = genesis
        .and_then(|genesis| genesis.assets.iter().find(|asset| Some(u64::from(asset.asset_id)) == asset_id));
    match (asset, Amount::parse_minor(&units.to_string())) {
        (Some(asset), Ok(amount)) => {
            let scale = u8::try_from(asset.scale).unwrap_or_default();
            format!("{} {}", amount.to_decimal_string(scale), asset.code)
        }
        _ => format!("{units} minor units"),
    }
}
