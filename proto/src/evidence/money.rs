//! The order's arithmetic, done again.

use serde_json::Value;

use super::metering::Units;
use super::order::Order;
use super::{Genesis, Item, Judgement, number, text};
use crate::ids::AgentId;
use crate::v1::{KeyPurpose, SplitRole};

const PPM: u128 = 1_000_000;

/// Checks what was held against what came of it.
pub(super) fn check(
    order: &Order<'_>,
    genesis: Option<&Genesis>,
    items: &[Item<'_>],
    units: Units,
    judgement: &mut Judgement,
) {
    let wrong = |judgement: &mut Judgement, message: String| {
        judgement.note("bundle.money", format!("order {}", order.id), message)
    };
    judgement.count("bundle.money");
    if order.price_per_unit.checked_mul(order.work_units) != Some(order.held) {
        wrong(
            judgement,
            format!("{} units at {} are not the {} held", order.work_units, order.price_per_unit, order.held),
        );
    }
    let Some(closed) = order.closed else { return };
    let facts = &closed.facts;
    judgement.count("bundle.money");
    if facts.get("asset_id").and_then(Value::as_u64) != Some(order.asset_id) {
        wrong(judgement, format!("asset {} was held, but another one moved", order.asset_id));
    }
    if closed.receipt.kind != "settle_order" {
        // A refund gives all of it back.
        if number(facts, "refunded") != Some(order.held) || number(facts, "paid") != Some(0) {
            wrong(judgement, format!("{} were held, but {} refunded", order.held, text(facts, "refunded")));
        }
        return;
    }
    let (Some(held), Some(paid), Some(refunded), Some(billed)) = (
        number(facts, "held"),
        number(facts, "paid"),
        number(facts, "refunded"),
        number(facts, "billed_units"),
    ) else {
        return wrong(judgement, "the settlement's facts state no whole amounts".into());
    };
    if held != order.held || paid.checked_add(refunded) != Some(held) {
        wrong(judgement, format!("{paid} paid and {refunded} refunded are not the {} held", order.held));
    }
    if billed > order.work_units
        || billed.checked_mul(order.price_per_unit).map(|cost| cost.min(order.held)) != Some(paid)
    {
        wrong(
            judgement,
            format!(
                "{billed} of {} units at {} do not cost the {paid} paid",
                order.work_units, order.price_per_unit
            ),
        );
    }
    let stated = stated_units(order, items);
    if stated.min(order.work_units) > billed {
        wrong(judgement, format!("the market had stated {stated} metered units, and billed {billed}"));
    }
    let metered = units.counters.iter().any(|counter| u128::from(*counter) == billed)
        || units.counters.iter().any(|counter| u128::from(*counter) > billed && billed == order.work_units);
    if billed > 0 && !metered {
        wrong(judgement, format!("no signed metering row reports the {billed} units that were billed"));
    }
    if units.counters.iter().any(|counter| u128::from(*counter) > billed) {
        judgement.claim(format!("units beyond the {billed} billed were reported too late or beyond the ticket: the market set them aside"));
    }
    let legs: Vec<(&str, &str, Option<u128>)> = facts
        .get("legs")
        .and_then(Value::as_array)
        .map(|legs| {
            legs.iter().map(|leg| (text(leg, "role"), text(leg, "payee_id"), number(leg, "amount"))).collect()
        })
        .unwrap_or_default();
    let sum = legs.iter().try_fold(0_u128, |sum, (_, _, amount)| sum.checked_add((*amount)?));
    if sum != Some(paid) {
        wrong(judgement, format!("the shares do not sum to the {paid} paid"));
    }
    match expected(order, genesis, items, facts.get("policy_id").and_then(Value::as_u64), paid) {
        Some(expected) => {
            let found: Vec<(String, String, u128)> = legs
                .iter()
                .map(|(role, payee, amount)| {
                    ((*role).to_owned(), (*payee).to_owned(), amount.unwrap_or_default())
                })
                .collect();
            if found != expected {
                wrong(judgement, "the shares are not what the genesis' split policy gives".into());
            }
        }
        // No command makes a second policy.
        None => wrong(judgement, "the settlement names another split policy than the genesis' one".into()),
    }
}

/// The most units that a receipt about the order stated as metered.
fn stated_units(order: &Order<'_>, items: &[Item<'_>]) -> u128 {
    let attempt = order.attempt_id.as_deref().unwrap_or_default();
    let metered = items.iter().filter(|item| item.is_ok() && item.receipt.kind == "record_metering");
    metered
        .filter_map(|item| number(item.facts.get("attempts")?.get(attempt)?, "work_units"))
        .max()
        .unwrap_or_default()
}

/// The legs that the genesis' policy gives: floor first, then one unit each in written order to those with a share. A role
/// that nobody holds passes its share to the provider.
fn expected(
    order: &Order<'_>,
    genesis: Option<&Genesis>,
    items: &[Item<'_>],
    policy_id: Option<u64>,
    paid: u128,
) -> Option<Vec<(String, String, u128)>> {
    let genesis = genesis.filter(|_| policy_id == Some(1))?;
    let policy = genesis.default_policy.as_ref()?;
    let agent = |bytes: &[u8]| AgentId::from_slice(bytes).ok().map(|id| id.to_string());
    let operator = genesis.agents(KeyPurpose::Operator).next().map(|id| id.to_string());
    let rfq = order.rfq_of(items)?;
    let holders: Vec<(&str, u128, Option<String>)> = policy
        .shares
        .iter()
        .map(|share| {
            let ppm = u128::from(share.share_ppm);
            match SplitRole::try_from(share.role) {
                Ok(SplitRole::Creator) => ("creator", ppm, agent(&rfq.creator_id)),
                Ok(SplitRole::Provider) => ("provider", ppm, Some(order.provider.clone())),
                Ok(SplitRole::Operator) => ("operator", ppm, operator.clone()),
                _ => ("referrer", ppm, agent(&rfq.referrer_id)),
            }
        })
        .collect();
    let unheld: u128 = holders.iter().filter(|(_, _, holder)| holder.is_none()).map(|(_, ppm, _)| ppm).sum();
    let mut legs: Vec<(String, String, u128, u128)> = holders
        .into_iter()
        .map(|(role, ppm, holder)| {
            let ppm = match (&holder, role) {
                (None, _) => 0,
                (_, "provider") => ppm + unheld,
                _ => ppm,
            };
            (role.to_owned(), holder.unwrap_or_default(), ppm, paid / PPM * ppm + paid % PPM * ppm / PPM)
        })
        .collect();
    let mut rest = paid.checked_sub(legs.iter().map(|leg| leg.3).sum())?;
    for leg in legs.iter_mut().filter(|leg| leg.2 > 0) {
        if rest > 0 {
            leg.3 += 1;
            rest -= 1;
        }
    }
    (rest == 0).then(|| {
        legs.into_iter()
            .filter(|leg| leg.3 > 0)
            .map(|(role, payee, _, amount)| (role, payee, amount))
            .collect()
    })
}
