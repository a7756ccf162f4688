//! SQL domains by themselves, one file per domain and subject.

mod ledger_commands;
mod ledger_model;
