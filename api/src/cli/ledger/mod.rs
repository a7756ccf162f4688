//! `econ ledger`: the books themselves.

mod attempt;
mod journal;
mod post;

use super::failure::Outcome;

/// What to do with the books.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum LedgerCommand {
    /// Post a journal of transfers from a CSV file: all of it, or nothing (the operator's key)
    Post(post::PostArgs),
}

/// `econ ledger …`.
pub(crate) async fn run(command: LedgerCommand) -> Outcome {
    match command {
        LedgerCommand::Post(args) => post::run(args).await,
    }
}
