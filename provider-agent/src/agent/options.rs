//! What an agent is told when it starts.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use proto::ids::AgentId;
use proto::money::Amount;

use crate::executor::{CpuExecutor, ExecError, Executor};
use crate::fault::FaultPlan;

/// Options of an agent: the same for `econ agent`, for its own binary and inside a process.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentOptions {
    /// Where the house is: http://host:port
    #[arg(long = "api", value_name = "URL")]
    pub api: String,
    /// Folder with the agent's key and everything it must not forget; created when missing
    #[arg(long, value_name = "DIR")]
    pub home: PathBuf,
    /// Ledger to work on [default: the house's first]
    #[arg(long = "ledger", value_name = "ID")]
    pub ledger_id: Option<u32>,
    /// Asset to be paid in [default: the house's first]
    #[arg(long = "asset", value_name = "ID")]
    pub asset_id: Option<u32>,
    /// Price per work unit (65,536 multiply-adds), in whole minor units of the asset
    #[arg(long, value_name = "UNITS", default_value = "10", value_parser = parse_amount)]
    pub price_per_unit: Amount,
    /// Region to advertise: a-z, 0-9 and -
    #[arg(long, default_value = "local")]
    pub region: String,
    /// Devices to advertise
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub devices: u32,
    /// Orders to run at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub concurrency: u32,
    /// Largest job to take, in work units
    #[arg(long, value_name = "UNITS", default_value_t = 1 << 22)]
    pub max_work_units: u64,
    /// How long an offer stays good, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    pub offer_valid_ms: u32,
    /// What executes: cpu, or zero, which runs only the 1x1x1 job of the benchmarks
    #[arg(long, value_enum, default_value_t = ExecutorKind::Cpu)]
    pub executor: ExecutorKind,
    /// Threads of the CPU executor [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Agent that in the end earns [default: this one]
    #[arg(long = "owner", value_name = "AGENT_ID")]
    pub beneficial_owner: Option<AgentId>,
    /// Key that run tickets must be signed by, 64 hex digits [default: the one met first, kept in the home]
    #[arg(long, value_name = "HEX")]
    pub service_key: Option<String>,
    /// Faults on purpose, for demos: crash=0.03,timeout=0.02,wrong=0.03,over=0.03,vanish=0.02,seed=7
    #[arg(long, value_name = "SPEC", default_value = "")]
    pub faults: FaultPlan,
    /// Exit when the parent process does, or when standard input ends
    #[arg(long)]
    pub exit_with_parent: bool,
}

/// The executors there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExecutorKind {
    /// Every job, on the host's cores.
    Cpu,
    /// Only the 1×1×1 job.
    Zero,
}

impl AgentOptions {
    /// Options with every default, for agents inside a process.
    pub fn new(api: impl Into<String>, home: impl Into<PathBuf>) -> Self {
        Self {
            api: api.into(),
            home: home.into(),
            ledger_id: None,
            asset_id: None,
            price_per_unit: Amount::from_u64(10),
            region: "local".to_owned(),
            devices: 1,
            concurrency: 2,
            max_work_units: 1 << 22,
            offer_valid_ms: 60_000,
            executor: ExecutorKind::Cpu,
            threads: None,
            beneficial_owner: None,
            service_key: None,
            faults: FaultPlan::default(),
            exit_with_parent: false,
        }
    }

    /// The executor that these options ask for.
    ///
    /// # Errors
    /// [`ExecError::Device`] when the system refuses the threads.
    pub fn executor(&self) -> Result<Executor, ExecError> {
        match self.executor {
            ExecutorKind::Cpu => {
                let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
                Ok(Executor::Cpu(CpuExecutor::new(self.threads.unwrap_or_else(cores))?))
            }
            ExecutorKind::Zero => Ok(Executor::Zero(CpuExecutor::new(NonZeroUsize::MIN)?)),
        }
    }
}

fn parse_amount(text: &str) -> Result<Amount, String> {
    match Amount::parse_minor(text) {
        Ok(amount) if amount.is_zero() => Err("a price is above zero".to_owned()),
        Ok(amount) => Ok(amount),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: AgentOptions,
    }

    #[test]
    fn the_defaults_of_the_command_line_and_of_a_process_agree() {
        let parsed = Command::try_parse_from(["agent", "--api", "http://a", "--home", "/h"]).unwrap().options;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", AgentOptions::new("http://a", "/h")));
    }

    #[test]
    fn a_wrong_option_says_what_is_wrong() {
        for (option, value, expected) in [
            ("--price-per-unit", "0", "above zero"),
            ("--price-per-unit", "1.5", "fraction"),
            ("--faults", "crash=2", "no share"),
            ("--owner", "me", "AgentId"),
            ("--threads", "0", "zero"),
        ] {
            let parsed = Command::try_parse_from(["agent", "--api", "u", "--home", "h", option, value]);
            let error = parsed.err().unwrap().to_string();
            assert!(error.contains(expected), "{option} {value}: {error:?} does not say {expected:?}");
        }
    }
}
