//! SQL domains, one file per domain and subject: by themselves, and through the pipeline as signed commands.

mod artifacts_erasure;
mod base_guards;
mod base_pipeline;
mod base_replay;
mod identity_permits;
mod ledger_batch;
mod ledger_books;
mod ledger_commands;
mod ledger_exports;
mod ledger_history;
mod ledger_keeper;
mod ledger_model;
mod ledger_poster;
mod market_amounts;
mod market_cycle;
mod market_walk;
mod payouts_rail;
mod receipts_tamper;
