//! The provider's agent: a library, so that `econ agent` and the agent's own binary run the same code.
//!
//! A run goes through these rooms in order. The buyer's input artifact is a [`job`]; an [`executor`] turns
//! it into the output artifact and counts the work; the buyer's side (or any verifier) checks that output
//! with [`freivalds`], far cheaper than running the job again; and whatever the agent has to tell the API
//! while the API is away waits in the [`spool`].
//!
//! What this crate never contains: a Postgres driver. An agent knows the house only by its public API.

pub mod agent;
pub mod client;
pub mod executor;
pub mod fault;
pub mod files;
pub mod freivalds;
pub mod job;
pub mod metering;
pub mod spool;

pub use executor::{CpuExecutor, ExecError, Executor, Output, Progress};
pub use fault::{Fault, FaultPlan};
pub use job::{JobError, JobSpec};
pub use spool::{Item, Spool, SpoolError};
