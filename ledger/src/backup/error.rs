//! Why a backup or a restore ended.

use crate::cluster::ClusterError;
use crate::error::Error;

/// A refusal with its code, or what befell a process, a file or Postgres.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// With a code of docs/ERRORS.md and what to do.
    #[error(transparent)]
    Refused(#[from] Error),
    /// Something outside the house.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl BackupError {
    /// A refusal.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> BackupError {
        Error::new(code, message).into()
    }
}

impl From<tokio_postgres::Error> for BackupError {
    fn from(error: tokio_postgres::Error) -> BackupError {
        BackupError::Cluster(error.into())
    }
}

impl From<tokio::task::JoinError> for BackupError {
    fn from(error: tokio::task::JoinError) -> BackupError {
        BackupError::Cluster(error.into())
    }
}
