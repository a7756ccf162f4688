//! Postgres decides, this crate carries: the embedded database, the SQL loader, the command pipeline, and thin mirrors of
//! the SQL domains.

pub mod args;
pub mod clock;
pub mod cluster;
pub mod error;
pub mod house;
pub mod loader;
pub mod pipeline;
pub mod testing;

pub use error::Error;
pub mod replay;
pub mod verify;
