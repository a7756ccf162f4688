//! `econ ledger`: the books themselves.

mod accounts;
mod attempt;
mod journal;
mod listing;
mod name;
mod post;
mod statement;
mod transfers;
mod trial_balance;

pub(crate) use listing::moment;

use super::failure::Outcome;

/// What to do with the books.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum LedgerCommand {
    /// Show accounts and what is in them (all of them with the operator's key)
    Accounts(accounts::AccountsArgs),
    /// Show transfers, newest first
    Transfers(transfers::TransfersArgs),
    /// Show what moved in an account, newest first, and the balance after each entry
    Statement(statement::StatementArgs),
    /// Show debits and credits per asset, now or at a moment, and whether they are equal
    TrialBalance(trial_balance::TrialBalanceArgs),
    /// Post a journal of transfers from a CSV file: all of it, or nothing (the operator's key)
    Post(post::PostArgs),
}

/// `econ ledger …`.
pub(crate) async fn run(command: LedgerCommand) -> Outcome {
    match command {
        LedgerCommand::Accounts(args) => accounts::run(args).await,
        LedgerCommand::Transfers(args) => transfers::run(args).await,
        LedgerCommand::Statement(args) => statement::run(args).await,
        LedgerCommand::TrialBalance(args) => trial_balance::run(args).await,
        LedgerCommand::Post(args) => post::run(args).await,
    }
}
