//! What the same Postgres does without us: `pgbench`'s simple-update, eight clients, durable commits.

use std::time::Duration;

use ledger::cluster::Cluster;
use tokio::process::Command;

use crate::cli::failure::{Failure, Outcome};

/// The baseline's name in every output.
pub(crate) const NAME: &str = "pgbench_simple_update.8";
/// pgbench's own database in the bench's cluster.
const DATABASE: &str = "pgbench";
/// Rows of its accounts, in hundreds of thousands: few enough to stay in memory, many enough not to collide.
const SCALE: &str = "10";

/// Transactions per second of `pgbench --builtin=simple-update` at 8 clients for `seconds`.
pub(crate) async fn run(cluster: &Cluster, seconds: u64) -> Outcome<f64> {
    initialize(cluster).await?;
    simple_update(cluster, 8, seconds).await
}

/// Makes pgbench's database and tables.
pub(crate) async fn initialize(cluster: &Cluster) -> Outcome {
    let admin = cluster.config("postgres", cluster.superuser());
    ledger::database::ensure(&admin, DATABASE).await?;
    pgbench(cluster, &["--initialize", "--quiet", "--scale", SCALE], Duration::from_secs(120)).await?;
    Ok(())
}

/// Transactions per second of simple-update at so many clients, after [`initialize`].
pub(crate) async fn simple_update(cluster: &Cluster, clients: u32, seconds: u64) -> Outcome<f64> {
    let time = seconds.max(1).to_string();
    let (client, jobs) = (format!("--client={clients}"), format!("--jobs={}", clients.min(2)));
    let args = ["--builtin=simple-update", &client, &jobs, "--protocol=prepared", "--time", &time];
    let said = pgbench(cluster, &args, Duration::from_secs(seconds + 60)).await?;
    rate(&said).ok_or_else(|| Failure::outside(format!("pgbench said nothing about its rate: {said:?}")))
}

async fn pgbench(cluster: &Cluster, args: &[&str], limit: Duration) -> Outcome<String> {
    let program = cluster.bin_dir().join("pgbench");
    if !program.exists() {
        return Err(Failure::outside(format!(
            "the baseline needs pgbench, and {} has none: install PostgreSQL's contrib programs, or name another folder with --pg-bin",
            cluster.bin_dir().display()
        )));
    }
    let mut command = Command::new(&program);
    command
        .args(args)
        .env("PGHOST", cluster.socket_dir())
        .env("PGPORT", cluster.port().to_string())
        .env("PGUSER", cluster.superuser())
        .env("LC_ALL", "C")
        .arg(DATABASE)
        .kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| Failure::outside(format!("pgbench did not end within {limit:?}")))?
        .map_err(|error| Failure::outside(format!("cannot run {}: {error}", program.display())))?;
    if !output.status.success() {
        return Err(Failure::outside(format!(
            "pgbench failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `tps = 1234.567 (without initial connection time)`.
fn rate(said: &str) -> Option<f64> {
    said.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_pgbench_prints() {
        let said = "transaction type: <builtin: simple update>\nnumber of clients: 8\n\
                    latency average = 6.480 ms\ntps = 1234.567000 (without initial connection time)\n";
        assert_eq!(rate(said), Some(1234.567));
        assert_eq!(rate("nothing"), None);
    }
}
