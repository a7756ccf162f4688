//! What tests share: parties that sign, a market to act in, and questions that every market must answer well.

pub mod books;
pub mod checks;
pub mod copies;
pub mod direct;
pub mod evidence;
pub mod evidence_cases;
pub mod http;
pub mod kinds;
pub mod market;
pub mod party;
pub mod program;
pub mod replays;
pub mod server;
