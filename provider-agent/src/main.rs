//! The provider's agent as a program of its own. `econ agent` is the same code.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use provider_agent::agent::{self, AgentOptions};
use tracing_subscriber::EnvFilter;

/// Offers this machine's compute to a market, executes what is ordered, and is paid for it
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: AgentOptions,
    /// Log lines as JSON
    #[arg(long)]
    log_json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if arguments.log_json {
        log.json().init();
    } else {
        log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    }
    match agent::run(arguments.options).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the agent cannot go on");
            ExitCode::FAILURE
        }
    }
}
