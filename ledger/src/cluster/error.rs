//! What can go wrong with a cluster, worded for the person who has to act on it.

use std::path::PathBuf;

/// Why a cluster could not be found, started, attached to, stopped or accepted.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The data dir's lock is held by a live process.
    #[error(
        "the data dir {data_dir} is in use by econ process {pid}: stop that process (Ctrl-C, or `kill {pid}`), \
         or choose another --data-dir"
    )]
    Locked {
        /// The data dir.
        data_dir: PathBuf,
        /// Who holds it, as that process wrote down.
        pid: u32,
    },
    /// No usable Postgres was found, and none could be fetched. Holds one line per candidate.
    #[error(
        "no usable PostgreSQL {wanted} was found. Install one (Debian, Ubuntu: `apt-get install postgresql`; Fedora: \
         `dnf install postgresql-server`; macOS: `brew install postgresql@18`), or name its folder with --pg-bin. Tried:\n{tried}"
    )]
    NoBinaries {
        /// Which major versions would do.
        wanted: String,
        /// One line per candidate, with the reason why it was passed over.
        tried: String,
    },
    /// A file operation failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was attempted, as a verb phrase.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A tool of Postgres ended badly. Holds its last words.
    #[error("{tool} failed ({status}): {output}")]
    Tool {
        /// Which program.
        tool: &'static str,
        /// Its exit status.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// The data dir cannot be used as it is: wrong owner, or not reachable for the user that Postgres runs as.
    #[error("{0}")]
    DataDir(String),
    /// Postgres ended, or did not get ready in time. Holds the end of its log.
    #[error("PostgreSQL did not get ready: {reason}. The end of {log}:\n{tail}")]
    NotReady {
        /// What was seen.
        reason: String,
        /// Path of its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Nothing runs on this data dir.
    #[error("no PostgreSQL is running on {0}: start one with `econ up --data-dir {0}`")]
    NotRunning(PathBuf),
    /// Postgres did not stop in time.
    #[error("PostgreSQL (process {pid}) did not stop within {seconds} s")]
    NotStopped {
        /// The postmaster.
        pid: i32,
        /// How long it was given.
        seconds: u64,
    },
    /// An external database is not fit for this ledger. Holds one line per finding.
    #[error("the external database cannot be used:\n{}", .0.join("\n"))]
    Unfit(Vec<String>),
    /// Connecting or a query failed.
    #[error("PostgreSQL answered: {}", crate::cluster::describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// A helper task was cancelled or panicked.
    #[error("a helper task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl ClusterError {
    /// Wraps an I/O error with what was attempted and where.
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> ClusterError {
        let path = path.into();
        move |source| ClusterError::Io { what, path, source }
    }
}
