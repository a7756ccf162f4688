//! The server behind `econ`: REST, GraphQL, WebSocket, pages, and the house's timers. It holds no SQL: it authenticates,
//! passes commands on and shows what the database shows.
//!
//! To run one: a [`ledger::pipeline::Pipeline`] and a [`ledger::Reader`] make a [`server::ServerState`]; [`house::start`]
//! begins the timers; [`server::bind`] and [`server::serve`] take requests until told to stop.

pub mod artifacts;
pub mod auth;
pub mod erasure;
pub mod graphql;
pub mod house;
pub mod rest;
pub mod server;
pub mod witness;
pub mod ws;
