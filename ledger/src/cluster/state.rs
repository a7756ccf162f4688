//! `<data>/econ.json`: where the running econ and its Postgres are to be found, for `econ psql`, `econ verify` and people.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ClusterError;
use super::user::give_to_owner_of;

/// What a running econ writes down about itself. A hint: after a crash it may name things that are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EconState {
    /// The econ process.
    pub pid: u32,
    /// Folder of Postgres' socket.
    pub socket_dir: PathBuf,
    /// Port number in the socket's name.
    pub port: u16,
    /// Where the API listens, once it does.
    pub api_url: Option<String>,
}

impl EconState {
    /// Reads `<data_dir>/econ.json`; `None` when there is none or it is unreadable as such.
    #[must_use]
    pub fn read(data_dir: &Path) -> Option<EconState> {
        let text = std::fs::read(data_dir.join("econ.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes `<data_dir>/econ.json`, whole or not at all.
    ///
    /// # Errors
    /// [`ClusterError::Io`].
    pub fn write(&self, data_dir: &Path) -> Result<(), ClusterError> {
        let path = data_dir.join("econ.json");
        let new = data_dir.join("econ.json.new");
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| ClusterError::io("cannot encode", &path)(error.into()))?;
        std::fs::write(&new, text).map_err(ClusterError::io("cannot write", &new))?;
        give_to_owner_of(data_dir, &new)?;
        std::fs::rename(&new, &path).map_err(ClusterError::io("cannot replace", &path))
    }

    /// Removes the file, when a clean stop has made it untrue.
    pub(crate) fn remove(data_dir: &Path) {
        // Left behind it is a stale hint, which every reader must survive anyway.
        let _ = std::fs::remove_file(data_dir.join("econ.json"));
    }
}
