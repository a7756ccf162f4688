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
    stored: Earnings,
    stored_cursor: u64,
    ahead: BTreeMap<(u64, OrderId), Closed>,
}

impl Counter {
    pub(super) fn new(stored: Earnings, stored_cursor: u64) -> Self {
        Self { stored, stored_cursor, ahead: BTreeMap::new() }
    }

    /// Counts an ending; false when it was counted before.
    pub(super) fn add(&mut self, cursor: u64, order: OrderId, closed: Closed) -> bool {
        cursor > self.stored_cursor && self.ahead.insert((cursor, order), closed).is_none()
    }

    /// The totals as they are to be stored together with `cursor`.
    pub(super) fn up_to(&mut self, cursor: u64) -> &Earnings {
        while let Some(entry) = self.ahead.first_entry() {
            if entry.key().0 > cursor {
                break;
            }
            self.stored.add(&entry.remove());
        }
        self.stored_cursor = self.stored_cursor.max(cursor);
        &self.stored
    }

    /// Everything so far.
    pub(super) fn total(&self) -> Earnings {
        let mut total = self.stored.clone();
        self.ahead.values().for_each(|closed| total.add(closed));
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
        assert_eq!(counter.up_to(8).earned[&1], Amount::from_u64(17));
        assert!(!counter.add(5, order(1), paid(10)), "told again after the totals were stored");
        assert_eq!(counter.total().earned[&1], Amount::from_u64(117));

        // Another life of the process, from what was stored: 9 comes again and counts.
        let mut counter = Counter::new(counter.up_to(8).clone(), 8);
        assert!(counter.add(9, order(3), paid(100)));
        assert_eq!(counter.total().settled, 3);
        assert_eq!(counter.total().to_string(), "3 settled, 0 refunded, earned 117 minor units of asset 1");
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
