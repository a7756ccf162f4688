//! The integration tests: one binary, so that it links once and shares one Postgres. It belongs to package `api`, because
//! Cargo tells only that package's tests where the built `econ` is (docs/adr).

#![allow(
    unreachable_pub,
    reason = "nothing is exported from a test binary: pub says what other modules here use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation of a test is a failed test"
)]

mod api;
mod e2e;
mod race;
mod sql;
mod support;
mod tidy;
