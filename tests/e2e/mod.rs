//! Whole runs of the built `econ`: what a stranger types, and what may befall it.

mod cli;
mod demo;
mod kill;
mod ledger_cli;
