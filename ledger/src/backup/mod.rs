//! Backup and restore: copies of a database that can prove themselves, and the way back.
//!
//! ```text
//! <folder>/                     one folder for backups, outside the data dir
//!   lock                        held while a set is made
//!   sets/<name>/                a backup set; under this name it is whole
//!     manifest.json             what it is: versions, ledgers, time and WAL range
//!     manifest.note             the receipt key's statement about manifest.json
//!     files.b3                  BLAKE3 of every file, as `b3sum --check` reads it
//!     checkpoints/              the signed checkpoint of each ledger when it was begun
//!     pg/                       kind base: what pg_basebackup wrote
//!     database.dump             kind logical: what pg_dump wrote
//!     artifacts/                if asked for, sealed
//!   artifact-keys/              what opens them, a mirror without history
//!   wal/<stretch>/              Postgres' log without a gap, from one moment on
//!     <segment>, <segment>.seal a whole segment, and the receipt key's statement about it
//!     <segment>.partial         the one being received
//!     tail.seal                 how far that one is stated to be right
//!     ledger-<n>.checkpoint     the newest signed checkpoint
//! ```
//!
//! Private keys are in none of it. Whoever comes to write to the folder can take copies away, but can add nothing: before
//! Postgres reads a byte of a copy, the byte is compared with what the receipt key signed. Until it is signed nobody else may be
//! able to write there, so folders that others can write to are refused.

mod archive;
mod artifacts;
mod choose;
mod error;
mod files;
mod logical;
mod make;
mod manifest;
mod outside;
mod repository;
mod restore;
mod seal;
mod segments;
mod settings;
#[cfg(test)]
mod tests;
mod tools;
mod wal;

pub use archive::{Archive, Archiver};
pub use error::BackupError;
pub use make::{Made, MakeOptions, make};
pub use manifest::{Kind, LedgerState, Manifest};
pub use outside::{Loss, LossAccepted, Verdict};
pub use repository::{Removable, Repository};
pub use restore::{Restore, RestoreOptions, Restored, Target, refuse_unfinished};

use std::path::PathBuf;

use proto::keys::PublicKey;
use proto::note::NoteName;
use tokio_postgres::Config;

use crate::cluster::Cluster;
use crate::error::Error;

/// Why nothing here can be done to a database that somebody else runs.
const NOT_OURS: &str = "this database is run by somebody else, who makes its base backups and archives its WAL: use their \
                        tools, or make a logical backup with --logical";

/// A running database that copies are made of.
#[derive(Debug, Clone)]
pub struct Source {
    /// As who may read everything: the superuser of an embedded cluster, the login of an external database.
    pub admin: Config,
    /// As `econ_api`.
    pub api: Config,
    /// Whether it is an embedded cluster; of an external database there are logical copies only.
    pub embedded: bool,
    /// A folder of Postgres' programs to look in first.
    pub bin_dir: Option<PathBuf>,
    /// Postgres' major version.
    pub major: u32,
}

impl Source {
    /// Of an embedded cluster's database `dbname`.
    #[must_use]
    pub fn of_cluster(cluster: &Cluster, dbname: &str) -> Source {
        Source {
            admin: cluster.config(dbname, cluster.superuser()),
            api: cluster.config(dbname, "econ_api"),
            embedded: true,
            bin_dir: Some(cluster.bin_dir().to_path_buf()),
            major: cluster.major_version(),
        }
    }

    /// `UB608` for an external database.
    fn must_be_ours(&self) -> Result<(), BackupError> {
        if self.embedded { Ok(()) } else { Err(BackupError::new("UB608", NOT_OURS)) }
    }
}

/// The name under which a receipt key makes statements about copies. No log has it: origins end with their ledger.
fn signer(receipt_key: &PublicKey) -> Result<NoteName, BackupError> {
    let id = receipt_key.id().to_string();
    format!("econ.local/{}/backup", &id[..16])
        .parse()
        .map_err(|error| Error::new("UB900", format!("the receipt key has no name: {error}")).into())
}
