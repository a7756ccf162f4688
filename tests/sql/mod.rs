//! SQL domains, one file per domain and subject: by themselves, and through the pipeline as signed commands.

mod base_divergence;
mod base_drill;
mod base_golden;
mod base_guards;
mod base_ledgers;
mod base_log_file;
mod base_pipeline;
mod base_replay;
mod base_until;
mod identity_permits;
mod ledger_batch;
mod ledger_books;
mod ledger_commands;
mod ledger_exports;
mod ledger_history;
mod ledger_keeper;
mod ledger_model;
mod market_amounts;
mod market_cycle;
mod market_walk;
mod payouts_rail;
mod receipts_tamper;
