//! Splits and payouts.
//!
//! * [`allocate()`]: how an amount divides by shares, exactly; the same arithmetic as `splits.allocate` in SQL.
//! * [`payouts`]: the service that gathers open payables into payouts and sends them over their rail.

mod allocate;
pub mod payouts;

pub use allocate::{AllocateError, SHARES_TOTAL_PPM, allocate};
