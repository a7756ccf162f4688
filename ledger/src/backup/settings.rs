//! Settings of a copied cluster are ours, never the copy's: they name commands and libraries, and pg_verifybackup does not look
//! at them.

use std::path::Path;

use super::{BackupError, files};
use crate::cluster::{ClusterError, HBA};

/// What initdb chooses for our locale; everything else is said when Postgres starts. Some of its words are read by this program.
const CONF: &str = "# Written by econ restore.
lc_messages = 'C'
lc_monetary = 'C'
lc_numeric = 'C'
lc_time = 'C'
datestyle = 'iso, mdy'
default_text_search_config = 'pg_catalog.english'
";
const NONE: &str = "# Written by econ restore.\n";
/// What a copy has no use for, and what would make Postgres or us do something else than to recover.
const REMOVED: [&str; 4] = ["standby.signal", "recovery.signal", "postmaster.opts", "postmaster.pid"];

/// Recovery runs and loads nothing but Postgres. Said at its start, where no file can say otherwise.
pub(super) const IN_RECOVERY: [(&str, &str); 8] = [
    ("archive_cleanup_command", ""),
    ("archive_command", ""),
    ("archive_library", ""),
    ("archive_mode", "off"),
    ("recovery_end_command", ""),
    ("shared_preload_libraries", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
];

/// Replaces the settings of a copied cluster.
pub(super) fn replace(pg: &Path) -> Result<(), BackupError> {
    let ours = [
        ("postgresql.conf", CONF),
        ("postgresql.auto.conf", NONE),
        ("pg_hba.conf", HBA),
        ("pg_ident.conf", NONE),
    ];
    for (name, text) in ours {
        files::write_durably(&pg.join(name), text.as_bytes())?;
    }
    for path in REMOVED.map(|name| pg.join(name)) {
        if path.exists() {
            std::fs::remove_file(&path).map_err(ClusterError::io("cannot remove", &path))?;
        }
    }
    Ok(())
}
