//! The integration tests: one binary, so that it links once and shares one Postgres. It belongs to package `api`, because
//! Cargo tells only that package's tests where the built `econ` is (docs/adr).

mod sql;
mod support;
mod tidy;
