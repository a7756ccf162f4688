//! Who may do what, and what the parties agreed on: under their own signatures, not as the market retells it.

use std::collections::HashMap;

use super::order::{Order, is_about};
use super::{Genesis, Item, Judgement, text};
use crate::ids::{AgentId, Hash32, KeyId};
use crate::keys::PublicKey;
use crate::v1::command_body::Kind;
use crate::v1::{AcceptOffer, EvidenceBundle, KeyPurpose, OpenRfq, SubmitOffer};

impl Order<'_> {
    /// The request that the order came from.
    pub(super) fn rfq_of<'i>(&self, items: &'i [Item<'_>]) -> Option<&'i OpenRfq> {
        let (rfq, _) = self.find(items, |kind| match kind {
            Kind::OpenRfq(rfq) if hyphened(&rfq.rfq_id) == text(&self.made.facts, "rfq_id") => Some(rfq),
            _ => None,
        })?;
        Some(rfq)
    }

    fn find<'i, T>(
        &self,
        items: &'i [Item<'_>],
        wanted: impl Fn(&'i Kind) -> Option<T>,
    ) -> Option<(T, &'i Item<'i>)> {
        let taken = items.iter().filter(|item| item.is_ok() && !item.is_repeat());
        taken.filter_map(|item| Some((wanted(item.body.kind.as_ref()?)?, item))).next()
    }
}

/// An id as facts write it; empty when it is none.
fn hyphened(bytes: &[u8]) -> String {
    AgentId::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}

/// The facts of the order against the signed request, the signed offer and the signed acceptance.
pub(super) fn terms(
    order: &Order<'_>,
    items: &[Item<'_>],
    keys: &HashMap<KeyId, PublicKey>,
    judgement: &mut Judgement,
) {
    let facts = &order.made.facts;
    let Some(rfq) = order.rfq_of(items) else {
        return judgement.note(
            "bundle.terms",
            "the bundle",
            "the request (RFQ) that the order came from is missing",
        );
    };
    let Some(Kind::AcceptOffer(accepted)) = &order.made.body.kind else {
        return judgement.note("bundle.terms", order.made.place(), "its command accepts no offer");
    };
    let offered = order.find(items, |kind| match kind {
        Kind::SubmitOffer(offer) if offer.offer_id == accepted.offer_id => Some(offer),
        _ => None,
    });
    let Some((offer, offered)) = offered else {
        return judgement.note("bundle.terms", "the bundle", "the offer that was accepted is missing");
    };
    judgement.count("bundle.terms");
    let provider_key = order.provider_key.and_then(|id| KeyId::from_slice(id.as_ref()).ok());
    let key_is_providers = provider_key
        .and_then(|id| keys.get(&id))
        .is_some_and(|key| AgentId::of_first_key(key).to_string() == order.provider);
    let signed_with = Hash32::from_slice(&offered.receipt.key_id).ok();
    let wrong = differing(order, rfq, offer, accepted).or_else(|| {
        if text(facts, "offer_id") != hyphened(&accepted.offer_id) || offer.rfq_id != rfq.rfq_id {
            Some("the order is of another offer or request than the one accepted")
        } else if hyphened(&offered.receipt.actor_id) != order.provider {
            Some("the provider named did not make the offer")
        } else if !key_is_providers || signed_with != order.provider_key {
            Some("the provider's key named is not the one that signed the offer")
        } else {
            None
        }
    });
    if let Some(message) = wrong {
        judgement.note("bundle.terms", order.made.place(), message);
    }
}

fn differing(
    order: &Order<'_>,
    rfq: &OpenRfq,
    offer: &SubmitOffer,
    accepted: &AcceptOffer,
) -> Option<&'static str> {
    let most = |text: &str| super::whole(text).unwrap_or_default();
    if super::whole(&offer.price_per_unit) != Some(order.price_per_unit) {
        Some("the price is not the one that the provider offered")
    } else if u128::from(rfq.work_units) != order.work_units {
        Some("the units are not those that the buyer asked for")
    } else if u64::from(rfq.asset_id) != order.asset_id {
        Some("the asset is not the one that the buyer named")
    } else if order.held > most(&rfq.max_price) || order.held > most(&accepted.spend_cap) {
        Some("more is held than the buyer allowed")
    } else {
        None
    }
}

/// What stands in a bundle without being about the order itself: its ledger's beginning, who its parties are, what they agreed.
fn belongs(item: &Item<'_>, n: usize, order: &Order<'_>, rfq: Option<&OpenRfq>) -> bool {
    let of_order = match &item.body.kind {
        Some(Kind::Genesis(_)) => n == 0,
        Some(Kind::RegisterAgent(_) | Kind::RevokeKey(_)) => true,
        Some(Kind::OpenRfq(asked)) => Some(asked) == rfq,
        Some(Kind::SubmitOffer(offer)) => hyphened(&offer.offer_id) == text(&order.made.facts, "offer_id"),
        _ => false,
    };
    of_order && item.is_ok()
}

/// Each step about the order, and the request and the genesis before it: by whom, and about what.
pub(super) fn steps(
    order: &Order<'_>,
    items: &[Item<'_>],
    bundle: &EvidenceBundle,
    genesis: Option<&Genesis>,
    judgement: &mut Judgement,
) {
    let is_house = |purpose, actor: &str| {
        genesis.is_some_and(|genesis| genesis.agents(purpose).any(|id| id.to_string() == actor))
    };
    let rfq = order.rfq_of(items);
    let mut reported: Option<&[u8]> = None;
    for (n, item) in items.iter().enumerate() {
        let about = is_about(item, bundle);
        if !about && !belongs(item, n, order, rfq) {
            judgement.note("bundle.steps", item.place(), "it is no part of this order's story");
        }
        if !item.is_ok() {
            continue;
        }
        let actor = hyphened(&item.receipt.actor_id);
        let Some(kind) = &item.body.kind else { continue };
        let (may, names) = match kind {
            Kind::Genesis(_) => (is_house(KeyPurpose::Operator, &actor), true),
            Kind::OpenRfq(asked) if Some(asked) == rfq => (actor == order.buyer, true),
            _ if !about => continue,
            Kind::AcceptOffer(_) => (actor == order.buyer, true),
            Kind::StartAttempt(start) => (
                actor == order.provider,
                hyphened(&start.run_ticket_id) == order.run_ticket_id
                    && Some(hyphened(&start.attempt_id)) == order.attempt_id,
            ),
            // Its rows are compared one by one.
            Kind::RecordMetering(_) => (actor == order.provider, true),
            Kind::ReportOutput(report) => {
                reported = Some(&report.output_hash);
                let names = hyphened(&report.run_ticket_id) == order.run_ticket_id
                    && Some(hyphened(&report.attempt_id)) == order.attempt_id
                    && text(&item.facts, "output_hash") == hex::encode(&report.output_hash);
                (actor == order.provider, names || item.is_repeat())
            }
            Kind::FailAttempt(failed) => {
                (actor == order.provider, hyphened(&failed.run_ticket_id) == order.run_ticket_id)
            }
            Kind::AcceptOutput(accepted) => (
                actor == order.buyer,
                accepted.order_id == bundle.order_id && reported == Some(&accepted.output_hash),
            ),
            Kind::RejectOutput(rejected) => (
                actor == order.buyer,
                rejected.order_id == bundle.order_id && reported == Some(&rejected.output_hash),
            ),
            Kind::ResolveDispute(verdict) => {
                (is_house(KeyPurpose::Verifier, &actor), verdict.order_id == bundle.order_id)
            }
            Kind::SettleOrder(settle) => (
                actor == order.buyer || is_house(KeyPurpose::Service, &actor),
                settle.order_id == bundle.order_id,
            ),
            Kind::ExpireOrder(expire) => {
                (is_house(KeyPurpose::Service, &actor), expire.order_id == bundle.order_id)
            }
            _ => (false, true),
        };
        judgement.count("bundle.steps");
        if !may {
            judgement.note("bundle.steps", item.place(), "this step is not this agent's to take");
        } else if !names {
            let message = "its signed command is about another order, attempt or output";
            judgement.note("bundle.steps", item.place(), message);
        }
    }
}
