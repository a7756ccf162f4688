//! `econ psql`: Postgres' own shell on the ledger, with the rights of one of the reading roles.

use std::ffi::OsString;
use std::path::PathBuf;

use ledger::cluster::libpq_environment;
use ledger::replay::kept_database;
use tokio_postgres::Config;

use super::failure::{Failure, Outcome};
use super::place::{Database, PlaceArgs};

/// Whose eyes to look with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// The views of schema `transparency`.
    Analyst,
    /// The views of schema `finance`.
    Finance,
    /// Everything, for reading.
    Auditor,
}

/// Options of `econ psql`.
#[derive(Debug, clap::Args)]
pub(crate) struct PsqlArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Whose rights to have; none of them can change anything
    #[arg(long, value_enum, default_value_t = Role::Analyst)]
    role: Role,
    /// Look into a replay that was kept under this name (`econ replay --keep`) instead
    #[arg(long, value_name = "NAME")]
    kept: Option<String>,
    /// Passed on to psql, such as -c 'table transparency.outcomes'
    #[arg(last = true, value_name = "PSQL-OPTIONS")]
    rest: Vec<OsString>,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Analyst => "econ_analyst",
            Self::Finance => "econ_finance",
            Self::Auditor => "econ_auditor",
        }
    }

    /// So that `\dv` shows something.
    const fn search_path(self) -> &'static str {
        match self {
            Self::Analyst => "transparency",
            Self::Finance => "finance",
            Self::Auditor => {
                "transparency,finance,base,identity,ledger,market,metering,splits,payouts,receipts"
            }
        }
    }
}

/// Runs psql until it ends, and passes its exit status on.
pub(crate) async fn run(args: PsqlArgs) -> Outcome<std::process::ExitCode> {
    let database = Database::open(&args.place).await?;
    let config = match config(&database, &args).await {
        Ok(config) => config,
        Err(failure) => {
            database.close().await?;
            return Err(failure);
        }
    };
    let program = match &database {
        Database::Embedded(cluster) => Some(cluster.bin_dir().join("psql")).filter(|path| path.exists()),
        Database::External(_) => None,
    };
    let program = program.unwrap_or_else(|| PathBuf::from("psql"));
    let mut command = tokio::process::Command::new(&program);
    for (name, value) in environment(&config, args.role) {
        command.env(name, value);
    }
    // psql handles Ctrl-C itself; this process must not die under it and take Postgres along.
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(|error| Failure::outside(format!("cannot listen for Ctrl-C: {error}")))?;
    let mut child = command.args(&args.rest).spawn().map_err(|error| {
        Failure::outside(format!(
            "cannot run {} ({error}): install PostgreSQL's client programs",
            program.display()
        ))
    })?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            _ = interrupts.recv() => {}
        }
    };
    database.close().await?;
    let status = status.map_err(|error| Failure::outside(format!("psql: {error}")))?;
    Ok(std::process::ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The ledger's database, or one that a replay left.
async fn config(database: &Database, args: &PsqlArgs) -> Outcome<Config> {
    let mut config = database.config(args.role.name());
    if let Some(name) = &args.kept {
        config.dbname(kept_database(&database.admin(), name).await?);
    }
    Ok(config)
}

/// How to connect, and with whose eyes to look.
fn environment(config: &Config, role: Role) -> Vec<(&'static str, OsString)> {
    let mut config = config.clone();
    let mut options = config.get_options().map(|given| format!("{given} ")).unwrap_or_default();
    options.push_str(&format!("-c search_path={} -c default_transaction_read_only=on", role.search_path()));
    config.options(options);
    let mut set = libpq_environment(&config);
    set.push(("PGAPPNAME", "econ psql".into()));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psql_is_told_everything_through_its_environment() {
        let config: Config =
            "postgres://me:secret@db.example:6543/books?options=-c%20role%3Decon_finance".parse().unwrap();
        let set = environment(&config, Role::Finance);
        let value =
            |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_str().unwrap().to_owned());
        assert_eq!(value("PGHOST").as_deref(), Some("db.example"));
        assert_eq!(value("PGPORT").as_deref(), Some("6543"));
        assert_eq!(value("PGDATABASE").as_deref(), Some("books"));
        assert_eq!(value("PGPASSWORD").as_deref(), Some("secret"));
        let options = value("PGOPTIONS").unwrap();
        assert!(
            options.starts_with("-c role=econ_finance ") && options.contains("read_only=on"),
            "{options}"
        );
    }
}
