//! The command line: what `econ` can be told, and how it answers.
//!
//! Text is for people, `--json` for programs. Errors are one line on standard error with a code and what to do; the exit
//! status is 0 for yes, 1 for a refusal, a failure or a check that did not hold, 2 for input that was not understood.

pub(crate) mod amount;
mod backup;
pub(crate) mod client;
mod erase;
mod evidence;
mod export;
mod export_tiles;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod keys;
mod ledger;
pub(crate) mod market;
pub(crate) mod money;
pub(crate) mod place;
mod psql;
mod receipts;
mod replay;
mod restore;
pub(crate) mod stop;
pub(crate) mod table;
mod trade;
pub(crate) mod up;
pub(crate) mod verify;
pub(crate) mod views;
mod witness;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use provider_agent::agent::{self, AgentOptions};
use tracing_subscriber::EnvFilter;

use crate::{bench, demo};
use failure::{Failure, Outcome};

/// An economy of agents on one Postgres: a market that clears, a ledger that balances, receipts for everything
#[derive(Debug, clap::Parser)]
#[command(name = "econ", version, arg_required_else_help = true, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant)] // One is made per process.
enum Command {
    /// Show a whole market: start one, replay demand, settle, pay out, and prove that it balances
    Demo(demo::DemoArgs),
    /// Run the server until Ctrl-C
    Up(up::UpArgs),
    /// Make a new market and stop: keys, database, genesis. `up` and `demo` do it by themselves
    Init(up::InitArgs),
    /// Watch somebody's logs until Ctrl-C: cosign their checkpoints as long as each extends the one before
    Witness(witness::WitnessArgs),
    /// Run a provider's agent until Ctrl-C
    Agent(AgentOptions),
    /// Prove that the database is what its command log says, and that everything balances
    Verify(verify::VerifyArgs),
    /// Write everything that proves an order, for `econ verify bundle` on any machine
    Evidence(evidence::EvidenceArgs),
    /// Rebuild everything from the command log alone, and compare it
    Replay(replay::ReplayArgs),
    /// List and remove the databases that `econ replay --keep` left
    #[command(subcommand)]
    Kept(replay::KeptCommand),
    /// Bring the database up to this program
    Migrate(verify::MigrateArgs),
    /// Copy the database, so that it can be restored and proven
    Backup(backup::BackupArgs),
    /// Restore a backup into a data dir without a database, and prove it
    Restore(restore::RestoreArgs),
    /// Open psql on the ledger, for reading
    Psql(psql::PsqlArgs),
    /// Read the books, and post to them
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Write the books for hledger, Beancount, a spreadsheet or an analyst
    Export(export::ExportArgs),
    /// Remove what is stored of an agent, an order or an artifact (the operator's key)
    Erase(erase::EraseArgs),
    /// Measure the system
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Make and show keys
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Make your key known to a market
    Register(money::RegisterArgs),
    /// Book money that arrived from outside (the operator's key)
    Deposit(money::DepositArgs),
    /// Show your accounts
    Balance(money::BalanceArgs),
    /// Ask for offers
    #[command(subcommand)]
    Rfq(trade::RfqCommand),
    /// Show the offers to a request
    Offers(trade::OffersArgs),
    /// Accept an offer; show an order; fetch and check its output
    Order(trade::OrderArgs),
    /// Show your orders
    Orders(trade::OrdersArgs),
    /// Accept an order's output: its provider is paid
    Accept(trade::OneOrder),
    /// Dispute an order's output: a verifier judges
    Reject(trade::RejectArgs),
    /// Settle an accepted order now; the house does it by itself
    Settle(trade::OneOrder),
    /// Show receipts that you may see, and check their signatures
    Receipts(receipts::ReceiptsArgs),
    /// Show one receipt, and check its signature and its place in the signed log
    Receipt(receipts::ReceiptArgs),
    /// Show what a payee earned, and what became of it
    Statement(money::StatementArgs),
}

impl Command {
    /// Whether an error should be an object on standard output too.
    fn wants_json(&self) -> bool {
        std::env::args_os().any(|arg| arg == "--json" || arg == "--ready-json")
    }

    /// How much a command says of itself when RUST_LOG does not decide.
    const fn log_level(&self) -> &'static str {
        match self {
            Self::Agent(_) => "info",
            Self::Up(_) | Self::Witness(_) => "info",
            _ => "warn",
        }
    }
}

/// Parses the command line, runs it, and says how it went.
pub(crate) fn main() -> ExitCode {
    let command = Cli::parse().command;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(command.log_level()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let json = command.wants_json();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(&Failure::outside(format!("cannot start: {error}")), json),
    };
    let ended = runtime.block_on(run(command));
    // Blocking reads of standard input or a closing pool must not hold the process.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(failure) => tell(&failure, json),
    }
}

async fn run(command: Command) -> Outcome<ExitCode> {
    let yes_or_no = |good: bool| if good { ExitCode::SUCCESS } else { ExitCode::from(1) };
    match command {
        Command::Demo(args) => return demo::run(args).await.map(yes_or_no),
        Command::Up(args) => up::run(args).await?,
        Command::Init(args) => up::init(args).await?,
        Command::Witness(args) => witness::run(args).await?,
        Command::Agent(options) => {
            agent::run(options).await.map_err(Failure::outside)?;
        }
        Command::Verify(args) => return verify::verify(args).await.map(yes_or_no),
        Command::Evidence(args) => evidence::evidence(args).await?,
        Command::Replay(args) => return replay::replay(args).await.map(yes_or_no),
        Command::Kept(command) => replay::run_kept(command).await?,
        Command::Migrate(args) => verify::migrate(args).await?,
        Command::Backup(args) => backup::run(args).await?,
        Command::Restore(args) => restore::run(args).await?,
        Command::Psql(args) => return psql::run(args).await,
        Command::Ledger(command) => ledger::run(command).await?,
        Command::Export(args) => export::run(args).await?,
        Command::Erase(args) => erase::run(args).await?,
        Command::Bench(command) => bench::run(command).await?,
        Command::Key(command) => keys::run(command)?,
        Command::Register(args) => money::register(args).await?,
        Command::Deposit(args) => money::deposit(args).await?,
        Command::Balance(args) => money::balance(args).await?,
        Command::Rfq(command) => trade::rfq(command).await?,
        Command::Offers(args) => trade::offers(args).await?,
        Command::Order(args) => trade::order(args).await?,
        Command::Orders(args) => trade::orders(args).await?,
        Command::Accept(args) => trade::accept(args).await?,
        Command::Reject(args) => trade::reject(args).await?,
        Command::Settle(args) => trade::settle(args).await?,
        Command::Receipts(args) => receipts::list(args).await?,
        Command::Receipt(args) => receipts::show(args).await?,
        Command::Statement(args) => money::statement(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how it failed, and with which exit status.
fn tell(failure: &Failure, json: bool) -> ExitCode {
    if json {
        say(failure.to_json());
    }
    // Nothing can be said about an unwritable standard error.
    let _ = writeln!(std::io::stderr(), "econ: {failure}");
    failure.exit_code()
}

/// Writes a line of output. Whoever closed the pipe (`| head`) has heard enough.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_order_is_an_offer_to_accept_or_a_word_about_an_order() {
        let id = "0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f";
        for good in [
            vec!["econ", "order", id],
            vec!["econ", "order", "show", id],
            vec!["econ", "order", "output", id, "-o", "x"],
        ] {
            assert!(Cli::try_parse_from(&good).is_ok(), "{good:?}");
        }
        for bad in [
            vec!["econ", "order"],
            vec!["econ", "order", "nonsense"],
            vec!["econ", "reject", id, "--reason", "ugly"],
        ] {
            assert!(Cli::try_parse_from(&bad).is_err(), "{bad:?}");
        }
    }
}
