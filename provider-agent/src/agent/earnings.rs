//! What the agent earned, by its own count. The house's statement is the authority; this is for the eyes.

use std::collections::BTreeMap;
use std::fmt;

use proto::ids::OrderId;
use proto::money::Amount;
use serde::{Deserialize, Serialize};

/// Totals over all orders that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earnings {
    /// Minor units earned, by asset.
    pub earned: BTreeMap<u32, Amount>,
    /// Orders that were settled.
    pub settled: u64,
    /// Orders that were refunded, by cause.
    pub refunded: BTreeMap<String, u64>,
}

/// How one order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) settled: bool,
    pub(super) cause: String,
    pub(super) asset_id: u32,
    pub(super) earned: Amount,
}

impl Earnings {
    fn add(&mut self, closed: &Closed) {
        if closed.settled {
            self.settled += 1;
            let earned = self.earned.entry(closed.asset_id).or_default();
            // More than 28 digits is more than the house can have paid.
            *earned = earned.checked_add(closed.earned).unwrap_or(Amount::MAX);
        } else {
            *self.refunded.entry(closed.cause.clone()).or_default() += 1;
        }
    }
}

impl fmt::Display for Earnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} settled, {} refunded", self.settled, self.refunded.values().sum::<u64>())?;
        for (asset_id, earned) in &self.earned {
            write!(f, ", earned {earned} minor units of asset {asset_id}")?;
        }
        Ok(())
    }
}

/// Earnings that are counted once although frames may come again: what lies behind the stored cursor is in
/// the stored totals, what lies before it is kept singly until the cursor has passed.
#[derive(Debug, Default)]
pub(super) struct Counter {
    stored: Stored,
    ahead: BTreeMap<OrderId, (u64, Closed)>,
}

/// What a counter needs in its next life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Everything up to here is in the totals.
    pub(super) cursor: u64,
    pub(super) earnings: Earnings,
    /// Orders counted at the border. The house numbers the earlier of two frames of one command one lower,
    /// and which is the earlier may change: so an end told at the border may be told again just behind it.
    pub(super) border: BTreeMap<OrderId, u64>,
}

impl Counter {
    pub(super) fn new(stored: Stored) -> Self {
        Self { stored, ahead: BTreeMap::new() }
    }

    /// Counts an ending; false when it was counted before.
    pub(super) fn add(&mut self, cursor: u64, order: OrderId, closed: Closed) -> bool {
        let new = cursor > self.stored.cursor
            && !self.stored.border.contains_key(&order)
            && !self.ahead.contains_key(&order);
        if new {
            self.ahead.insert(order, (cursor, closed));
        }
        new
    }

    /// The totals up to `cursor`, to be stored.
    pub(super) fn up_to(&mut self, cursor: u64) -> &Stored {
        let Stored { cursor: stored, earnings, border } = &mut self.stored;
        *stored = cursor.max(*stored);
        self.ahead.retain(|order, (at, closed)| {
            let passed = *at <= *stored;
            if passed {
                earnings.add(closed);
                border.insert(*order, *at);
            }
            !passed
        });
        border.retain(|_, at| *at >= *stored);
        &self.stored
    }

    /// Everything so far.
    pub(super) fn total(&self) -> Earnings {
        let mut total = self.stored.earnings.clone();
        self.ahead.values().for_each(|(_, closed)| total.add(closed));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(n: u8) -> OrderId {
        OrderId::from_bytes([n; 16])
    }

    fn paid(earned: u64) -> Closed {
        Closed { settled: true, cause: String::new(), asset_id: 1, earned: Amount::from_u64(earned) }
    }

    #[test]
    fn an_order_is_counted_once_however_often_its_end_is_told() {
        let mut counter = Counter::default();
        assert!(counter.add(5, order(1), paid(10)));
        assert!(!counter.add(5, order(1), paid(10)));
        assert!(counter.add(5, order(2), paid(7)), "one command may end two orders");
        assert!(counter.add(9, order(3), paid(100)));
        assert_eq!(counter.up_to(8).earnings.earned[&1], Amount::from_u64(17));
        assert!(!counter.add(5, order(1), paid(10)), "told again after the totals were stored");
        assert_eq!(counter.total().earned[&1], Amount::from_u64(117));

        // Another life of the process, from what was stored: 9 comes again and counts.
        let mut counter = Counter::new(counter.up_to(8).clone());
        assert!(counter.add(9, order(3), paid(100)));
        assert_eq!(counter.total().settled, 3);
        assert_eq!(counter.total().to_string(), "3 settled, 0 refunded, earned 117 minor units of asset 1");
    }

    #[test]
    fn an_end_told_again_under_the_next_number_is_counted_once() {
        let mut counter = Counter::default();
        assert!(counter.add(7, order(1), paid(10)));
        assert!(!counter.add(8, order(1), paid(10)));
        let stored = serde_json::to_string(counter.up_to(7)).unwrap();
        let mut counter = Counter::new(serde_json::from_str(&stored).unwrap());
        assert!(!counter.add(8, order(1), paid(10)));
        assert!(counter.up_to(9).border.is_empty(), "nobody tells it any more");
        assert_eq!(counter.total().settled, 1);
    }

    #[test]
    fn refunds_are_counted_by_cause_and_earn_nothing() {
        let mut counter = Counter::default();
        let refunded = Closed { settled: false, cause: "timeout".to_owned(), ..paid(0) };
        assert!(counter.add(1, order(1), refunded.clone()));
        assert!(counter.add(2, order(2), refunded));
        let total = counter.total();
        assert_eq!((total.refunded["timeout"], total.settled, total.earned.len()), (2, 0, 0));
        let stored: Earnings = serde_json::from_str(&serde_json::to_string(&total).unwrap()).unwrap();
        assert_eq!(stored, total);
    }
}
