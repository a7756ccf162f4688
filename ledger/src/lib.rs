//! Postgres decides, this crate carries: the embedded database, the SQL loader, the command pipeline, and thin mirrors of
//! the SQL domains.

pub mod args;
pub mod clock;
pub mod error;
pub mod house;
pub mod pipeline;

pub use error::Error;
