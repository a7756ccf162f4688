//! Postgres decides, this crate carries: the embedded database, the SQL loader, the command pipeline, and thin mirrors of
//! the SQL domains.

pub mod args;
pub mod artifacts;
pub mod backup;
pub mod base;
pub mod books;
pub mod clock;
pub mod cluster;
pub mod database;
pub mod error;
pub mod evidence;
pub mod house;
pub mod identity;
pub mod loader;
pub mod market;
pub mod metering;
pub mod payouts;
pub mod pipeline;
pub mod posting;
mod reader;
pub mod receipts;
pub mod replay;
pub mod splits;
pub mod testing;
pub mod transparency;
pub mod verify;

pub use error::Error;
pub use reader::Reader;
