//! Whole runs of the built `econ`: what a stranger types, and what may befall it.

mod backup;
mod backup_artifacts;
mod backup_logical;
mod backup_losses;
mod backup_wal;
mod books_cli;
mod cli;
mod crash;
mod demo;
mod erase_cli;
mod evidence_cli;
mod kill;
mod ledger_cli;
mod receipts_cli;
mod replay_cli;
mod witness_cli;
