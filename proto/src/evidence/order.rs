//! The order: its chain of receipts, its states, and who took part.

use std::collections::HashMap;

use serde_json::Value;

use super::{Item, Judgement, number, text};
use crate::ids::Hash32;
use crate::v1::EvidenceBundle;
use crate::v1::command_body::Kind;

/// What the making of an order states.
pub(super) struct Order<'a> {
    pub(super) id: String,
    pub(super) buyer: String,
    pub(super) provider: String,
    pub(super) provider_key: Option<Hash32>,
    pub(super) run_ticket_id: String,
    pub(super) asset_id: u64,
    pub(super) price_per_unit: u128,
    pub(super) work_units: u128,
    pub(super) held: u128,
    /// The step that made it.
    pub(super) made: &'a Item<'a>,
    /// The step that closed it, and what it says; `None`: it is open.
    pub(super) closed: Option<&'a Item<'a>>,
    pub(super) attempt_id: Option<String>,
}

/// Reads the order from the step that made it.
pub(super) fn read<'a>(
    items: &'a [Item<'a>],
    bundle: &EvidenceBundle,
    judgement: &mut Judgement,
) -> Option<Order<'a>> {
    let id = judgement.order_id.map(|id| id.to_string());
    let made = items.iter().find(|item| {
        item.is_ok()
            && item.receipt.kind == "accept_offer"
            && item.receipt.subject_id == bundle.order_id
            && item.facts.get("held").is_some()
    });
    let (Some(id), Some(made)) = (id, made) else {
        judgement.note("bundle.order", "the bundle", "the accepted offer that made the order is missing");
        return None;
    };
    let facts = &made.facts;
    let key = text(facts, "provider_key_id").parse::<Hash32>().ok();
    let (Some(price_per_unit), Some(work_units), Some(held), true) = (
        number(facts, "price_per_unit"),
        number(facts, "work_units"),
        number(facts, "held"),
        text(facts, "order_id") == id,
    ) else {
        judgement.note("bundle.order", made.place(), "its facts do not state the order");
        return None;
    };
    judgement.count("bundle.order");
    let closed = items.iter().rfind(|item| {
        let moved = is_about(item, bundle).then(|| item.moved(&id)).flatten();
        moved.is_some_and(|moved| matches!(moved.2, "settled" | "refunded"))
    });
    let started = items
        .iter()
        .find(|item| item.is_ok() && item.receipt.kind == "start_attempt" && is_about(item, bundle));
    Some(Order {
        made,
        buyer: text(facts, "buyer_id").to_owned(),
        provider: text(facts, "provider_id").to_owned(),
        provider_key: key,
        run_ticket_id: text(facts, "run_ticket_id").to_owned(),
        asset_id: facts.get("asset_id").and_then(Value::as_u64).unwrap_or_default(),
        price_per_unit,
        work_units,
        held,
        closed,
        id,
        attempt_id: started.map(|item| text(&item.facts, "attempt_id").to_owned()),
    })
}

pub(super) fn is_about(item: &Item<'_>, bundle: &EvidenceBundle) -> bool {
    item.receipt.subject_id == bundle.order_id
}

/// Each receipt of the order names the one before it; the first names none.
pub(super) fn links(items: &[Item<'_>], bundle: &EvidenceBundle, judgement: &mut Judgement) {
    let mut before: Option<&[u8]> = None;
    for item in items.iter().filter(|item| is_about(item, bundle)) {
        judgement.count("bundle.links");
        if item.receipt.prev.as_slice() != before.unwrap_or_default() {
            let message = if before.is_none() || !item.receipt.prev.is_empty() {
                "a receipt of this order before it is missing"
            } else {
                "it says that it is the order's first receipt, but it is not"
            };
            judgement.note("bundle.links", item.place(), message);
        }
        before = item.source.receipt.as_ref().map(|stored| stored.receipt_id.as_slice());
    }
}

/// The moves that an order may make: from, event, to. The same as in `base.state_moves`, which a test holds them to.
pub const MOVES: [(&str, &str, &str); 14] = [
    ("", "accept_offer", "ordered"),
    ("ordered", "start_attempt", "running"),
    ("ordered", "expire_order", "refunded"),
    ("ordered", "fail_attempt", "refunded"),
    ("running", "report_output", "reported"),
    ("running", "fail_attempt", "refunded"),
    ("running", "expire_order", "refunded"),
    ("reported", "accept_output", "accepted"),
    ("reported", "reject_output", "disputed"),
    ("reported", "judge_valid", "accepted"),
    ("reported", "judge_invalid", "refunded"),
    ("disputed", "judge_valid", "accepted"),
    ("disputed", "judge_invalid", "refunded"),
    ("accepted", "settle_order", "settled"),
];

/// Each transition starts from the state in which the one before left its subject; the order's are legal moves, and each step
/// of it makes one.
pub(super) fn moves(items: &[Item<'_>], bundle: &EvidenceBundle, judgement: &mut Judgement) {
    let id = judgement.order_id.map(|id| id.to_string()).unwrap_or_default();
    let mut states: HashMap<(String, String), String> = HashMap::new();
    for item in items.iter().filter(|item| item.is_ok()) {
        let transitions = item.facts.get("transitions").and_then(Value::as_array);
        for step in transitions.into_iter().flatten() {
            let subject = (text(step, "machine").to_owned(), text(step, "id").to_owned());
            let (from, to) = (text(step, "from"), text(step, "to"));
            judgement.count("bundle.moves");
            // Offers that lapsed are other providers' to prove: their beginning is not in the bundle.
            let known = states.get(&subject).map(String::as_str);
            if known.is_some_and(|state| state != from)
                || (known.is_none() && subject.0 == "order" && !from.is_empty())
            {
                let message = format!(
                    "{} {} moves from {from:?}, but it was {:?}",
                    subject.0,
                    subject.1,
                    known.unwrap_or("")
                );
                judgement.note("bundle.moves", item.place(), message);
            }
            states.insert(subject, to.to_owned());
        }
        if !is_about(item, bundle) {
            continue;
        }
        let event = match (&item.body.kind, item.receipt.kind.as_str()) {
            (Some(Kind::ResolveDispute(verdict)), _) if verdict.output_valid => "judge_valid",
            (_, "resolve_dispute") => "judge_invalid",
            (_, kind) => kind,
        };
        match item.moved(&id) {
            Some((from, stated, to)) if stated != event || !MOVES.contains(&(from, event, to)) => {
                let message = format!("{event} does not move an order from {from:?} to {to:?} by {stated:?}");
                judgement.note("bundle.moves", item.place(), message);
            }
            None if event != "record_metering" && !item.is_repeat() => {
                let message = "it says ok, but neither moves the order nor repeats an earlier step";
                judgement.note("bundle.moves", item.place(), message);
            }
            _ => {}
        }
    }
    judgement.state = states
        .remove(&("order".to_owned(), id))
        .map(|state| super::report::printable(&state, 32))
        .unwrap_or_default();
}

/// Says in words what follows from all checks, and what does not.
pub(super) fn weigh(
    items: &[Item<'_>],
    order: Option<&Order<'_>>,
    bundle: &EvidenceBundle,
    judgement: &mut Judgement,
) {
    let all_hold = |judgement: &Judgement, names: &[&str]| names.iter().all(|name| judgement.holds(name));
    if all_hold(judgement, &["bundle.checkpoint", "bundle.receipts", "bundle.ledger", "bundle.log"]) {
        judgement.prove(format!("the market signed all {} receipts and has them in its log", items.len()));
    }
    if all_hold(judgement, &["bundle.commands", "bundle.content"]) {
        judgement.prove("each command came from the agent named, word for word");
    }
    if all_hold(judgement, &["bundle.links", "bundle.moves", "bundle.order"]) {
        judgement.prove("no receipt of the order was left out before the newest one here");
    }
    if all_hold(judgement, &["bundle.commands", "bundle.content", "bundle.terms", "bundle.steps"]) {
        judgement.prove("the buyer asked, the provider offered, and each took its own steps, at the price and for the units stated");
    }
    if judgement.holds("bundle.metering") {
        judgement.prove("the provider reported these counters, and no others for the rows here");
        judgement.claim("the work was done as metered: the counters are the provider's own measurement");
    }
    if judgement.holds("bundle.money") {
        judgement.prove("what was held was paid and refunded to the smallest unit");
    }
    judgement.claim("the times: they are the market's clock");
    judgement
        .claim("the signed requests were meant for this market: a signature names a URL, not a receipt key");
    if items.iter().any(|item| item.is_ok() && item.receipt.kind == "resolve_dispute") {
        judgement.claim("the verdict on the output: the verifier's word, signed by it");
    }
    if items.iter().any(|item| item.receipt.simulated) {
        judgement.claim("nothing of this happened at the times stated: the market ran on a simulated clock");
    }
    if let Some(order) = order {
        match order.closed {
            None => judgement
                .lack("the order's end: it is still open in this bundle, or later receipts were left out"),
            Some(_) => judgement.claim("nothing happened to the order after its last receipt here"),
        }
        if order.attempt_id.is_some() && bundle.metering.is_empty() {
            judgement.lack("metering rows: the attempt has none in this bundle");
        }
    }
    if judgement.holds("bundle.forest") {
        judgement.prove("the checkpoint is in the log over all of the market's ledgers (forest)");
    } else if bundle.forest.is_none() {
        judgement
            .lack("a proof that this checkpoint is in the log over all of the market's ledgers (forest)");
    }
    judgement.lack("the input and output themselves: the bundle has only their hashes");
    judgement.lack("whether and when the payees were paid out: payouts are theirs to prove");
}
