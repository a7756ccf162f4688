//! What a buyer does: asks, chooses, waits, looks at the output, and pays or disputes.
//!
//! Every step can be repeated: keys and ids follow from the run, and where an order stands is asked of the house, never
//! remembered. So it does not matter where an earlier process was cut off.

use std::time::Duration;

use proto::ids::{AgentId, OfferId, OrderId, RfqId};
use proto::money::Amount;
use provider_agent::client::ClientError;

use super::hub::{Follower, Hub};
use super::plan::Planned;
use crate::cli::market::{Checked, EventKind, Market, NewRfq, Order, is_closed};

/// How long a run may take once its ticket is out. Honest jobs take milliseconds, on a busy machine more.
const MAX_DURATION_MS: u32 = 20_000;
/// The same for runs that end by the clock alone and hold money that long: nobody watches a demo for that.
const MAX_DURATION_BY_CLOCK_MS: u32 = 4_000;
/// How long offers are taken.
const VALID_FOR_MS: u32 = 10_000;
/// After the first offer, the others get this long.
const OFFERS_PATIENCE: Duration = Duration::from_millis(150);
/// When nobody could be asked, how long until the next try.
const NOBODY_PAUSE: Duration = Duration::from_millis(250);
/// Without news for this long, the house is asked.
const NEWS_PATIENCE: Duration = Duration::from_secs(3);
/// RFQs opened for one order at most. The house is down, or nobody sells, when so many found no taker.
pub(crate) const TRIES_MAX: u32 = 60;

/// A buyer with its lane and the parties it names.
#[derive(Debug)]
pub(crate) struct Buyer {
    pub(crate) market: Market,
    pub(crate) hub: Hub,
    pub(crate) asset_id: u32,
    pub(crate) creators: Vec<AgentId>,
    pub(crate) referrers: Vec<AgentId>,
}

/// Where a bought order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// settled or refunded.
    pub(crate) state: String,
    pub(crate) cause: Option<String>,
}

/// Why an order could not be brought to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuyerError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("nobody took order {0} after {TRIES_MAX} requests for offers")]
    NoTaker(usize),
}

impl Buyer {
    /// Buys `planned`, or goes on with the order that an earlier process made of it. `rfq_id` gives the id of try n.
    pub(crate) async fn buy(
        &self,
        planned: &Planned,
        known: Option<Order>,
        rfq_id: impl Fn(u32) -> RfqId,
    ) -> Result<Ended, BuyerError> {
        if let Some(order) = known {
            let follower = self.hub.follow(order.rfq_id);
            return self.see_through(planned, order.order_id, Some(order.state), follower).await;
        }
        for attempt in 0..TRIES_MAX {
            let rfq_id = rfq_id(attempt);
            // Before the RFQ is opened, so that not one event is missed.
            let mut follower = self.hub.follow(rfq_id);
            if let Some(order_id) = self.order_from(planned, rfq_id, &mut follower).await? {
                return self.see_through(planned, order_id, None, follower).await;
            }
        }
        Err(BuyerError::NoTaker(planned.index))
    }

    /// From an RFQ to an order; `None` when this RFQ will not become one.
    async fn order_from(
        &self,
        planned: &Planned,
        rfq_id: RfqId,
        follower: &mut Follower,
    ) -> Result<Option<OrderId>, BuyerError> {
        let input_hash = self.market.put_job(&planned.job).await?;
        let party = |list: &[AgentId], n: Option<usize>| n.and_then(|n| list.get(n).copied());
        let rfq = NewRfq {
            rfq_id,
            region: planned.region.map(str::to_owned),
            input_hash,
            work_units: planned.job.work_units(),
            asset_id: self.asset_id,
            max_price: Amount::from_u64(planned.max_price()),
            valid_for_ms: VALID_FOR_MS,
            max_duration_ms: if planned.ends_by_clock() { MAX_DURATION_BY_CLOCK_MS } else { MAX_DURATION_MS },
            creator_id: party(&self.creators, planned.creator),
            referrer_id: party(&self.referrers, planned.referrer),
        };
        let opened = self.market.open_rfq(&rfq).await?;
        let mut offers = Vec::new();
        if opened.replayed || opened.facts["exists"] == true {
            // An earlier process opened it: where does it stand?
            match self.market.rfq(rfq_id).await? {
                Some(found) if found.order_id.is_some() => return Ok(found.order_id),
                Some(found) if found.state == "open" => {
                    let found = self.market.offers(rfq_id).await?;
                    offers.extend(
                        found.into_iter().filter_map(|offer| Some((price(&offer.price)?, offer.offer_id))),
                    );
                }
                _ => return Ok(None),
            }
        }
        let invited = opened.facts["invited"].as_array().map_or(0, Vec::len);
        if invited == 0 && offers.is_empty() {
            // Everybody is busy or away. The RFQ stays open until its time is over, and counts as unfilled.
            tokio::time::sleep(NOBODY_PAUSE).await;
            return Ok(None);
        }
        self.gather(&mut offers, invited, follower).await;
        let Some((_, offer_id)) = offers.into_iter().min() else { return Ok(None) };
        match self.market.accept_offer(offer_id, &rfq.max_price.to_string()).await {
            Ok(accepted) => Ok(accepted.facts["order_id"].as_str().and_then(|id| id.parse().ok())),
            // Too late for this offer or this RFQ, or the provider has withdrawn: ask again.
            Err(error) if matches!(error.code(), Some("UM601" | "UM602" | "UM606" | "UM607")) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the offers of those who were asked: until all have come, or a little after the first.
    async fn gather(&self, offers: &mut Vec<(u128, OfferId)>, invited: usize, follower: &mut Follower) {
        let mut limit = Duration::from_millis(u64::from(VALID_FOR_MS));
        while offers.len() < invited {
            if !offers.is_empty() {
                limit = OFFERS_PATIENCE;
            }
            let Some(event) = follower.next(limit).await else { return };
            match event.kind {
                EventKind::Offer => {
                    let offer = event.price.as_deref().and_then(price).zip(event.offer_id);
                    offers.extend(offer.filter(|offer| !offers.contains(offer)));
                }
                EventKind::RfqClosed => return,
                _ => {}
            }
        }
    }

    /// From an order to its end.
    async fn see_through(
        &self,
        planned: &Planned,
        order_id: OrderId,
        state: Option<String>,
        mut follower: Follower,
    ) -> Result<Ended, BuyerError> {
        let mut state = state.unwrap_or_else(|| "ordered".to_owned());
        loop {
            if state == "reported" {
                self.judge(planned, order_id).await?;
                state = "judged".to_owned();
            } else if is_closed(&state) {
                let order = self.order(order_id).await?;
                return Ok(Ended { state: order.state, cause: order.cause });
            }
            state = match follower.next(NEWS_PATIENCE).await {
                Some(event) if event.order_id == Some(order_id) => event.state.unwrap_or(state),
                Some(_) => state,
                None => self.order(order_id).await?.state,
            };
        }
    }

    /// Looks at a reported output and at what was metered, and says what it found.
    async fn judge(&self, planned: &Planned, order_id: OrderId) -> Result<(), BuyerError> {
        let order = self.order(order_id).await?;
        let (Some(output), "reported") = (order.output_hash, order.state.as_str()) else { return Ok(()) };
        let reason = match self.market.checked_output(&order, planned.job).await? {
            Checked::Missing => Some("missing_output"),
            Checked::Wrong(..) => Some("wrong_output"),
            // A run of this job has exactly this many units. What was claimed beyond was set aside by the house.
            Checked::Right(_) if order.metered_units != Some(planned.job.work_units()) => Some("over_report"),
            Checked::Right(_) => None,
        };
        let said = match reason {
            Some(reason) => self.market.reject_output(order_id, output, reason).await,
            None => self.market.accept_output(order_id, output).await,
        };
        match said {
            // Somebody was faster: the verifier, or an earlier process of ours.
            Err(error) if error.code() == Some("UM604") => Ok(()),
            other => other.map(drop).map_err(BuyerError::from),
        }
    }

    async fn order(&self, order_id: OrderId) -> Result<Order, BuyerError> {
        let found = self.market.order(order_id).await?;
        found.ok_or_else(|| ClientError::Unintelligible(format!("order {order_id} has disappeared")).into())
    }
}

fn price(minor: &str) -> Option<u128> {
    Amount::parse_minor(minor).ok().map(Amount::as_u128)
}
