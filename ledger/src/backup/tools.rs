//! Postgres' own programs, as children that end with us.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio_postgres::Config;

use super::BackupError;
use crate::cluster::{ClusterError, client_program, last_lines, libpq_environment};

/// Looks for a program of at least this major version, first beside the server's. `UB414` when there is none.
pub(super) async fn find(
    name: &'static str,
    bin_dir: Option<&Path>,
    major: u32,
) -> Result<PathBuf, BackupError> {
    let dir = bin_dir.map(Path::to_path_buf);
    let found = tokio::task::spawn_blocking(move || client_program(name, dir.as_deref(), major)).await?;
    found.ok_or_else(|| {
        BackupError::new(
            "UB414",
            format!(
                "PostgreSQL's program {name} (version {major} or newer) is not on this machine: install its client programs \
                 (Debian: `apt-get install postgresql-client-{major}`), or name a folder that has them with --pg-bin"
            ),
        )
    })
}

/// A command that connects as `config` says and asks nobody for a password.
pub(super) fn command(program: &Path, config: Option<&Config>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    if let Some(config) = config {
        command.envs(libpq_environment(config));
    }
    // Some of its words are read by this program.
    command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it to its end; what it wrote to standard output. Its last words, when it fails.
pub(super) async fn run(tool: &'static str, command: &mut Command) -> Result<Vec<u8>, BackupError> {
    let output = command.output().await.map_err(ClusterError::io("cannot run", tool))?;
    if !output.status.success() {
        let said = last_lines(&String::from_utf8_lossy(&output.stderr), 8);
        return Err(ClusterError::Tool { tool, status: output.status.to_string(), output: said }.into());
    }
    Ok(output.stdout)
}
