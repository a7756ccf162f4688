//! The server from outside: HTTP and WebSocket on a real port, one file per subject.

mod artifacts;
mod authority;
mod erasure;
mod graphql;
mod history;
mod limits;
mod log;
mod paid_run;
mod receipts;
mod refusals;
mod rest;
mod streams;
