//! Where a cluster is put together that becomes a data dir's own only when it is whole: `<data>/restore.new`, a data dir in
//! itself, renamed at the end.

use std::fs::{self, File};
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::postmaster::{self, Layout, PidFile, wait_until};
use super::user::{TargetUser, give_to_owner_of};
use super::{ClusterError, DataDirLock};

/// The folder's name in the data dir.
const NAME: &str = "restore.new";

/// The folder of a restore, under the data dir's lock.
#[derive(Debug)]
pub(crate) struct Staging {
    lock: DataDirLock,
    user: TargetUser,
    dir: PathBuf,
}

impl Staging {
    /// Whether a restore into `data_dir` was begun and has not ended.
    pub(crate) fn exists(data_dir: &Path) -> bool {
        data_dir.join(NAME).exists()
    }

    /// Takes the data dir's lock. Nothing is made or removed yet.
    pub(crate) fn of(data_dir: &Path) -> Result<Staging, ClusterError> {
        let lock = DataDirLock::acquire(data_dir)?;
        let user = TargetUser::for_data_dir(lock.data_dir())?;
        let dir = lock.data_dir().join(NAME);
        Ok(Staging { lock, user, dir })
    }

    /// The data dir, absolute.
    pub(crate) fn data_dir(&self) -> &Path {
        self.lock.data_dir()
    }

    /// The folder of the restore: a data dir in itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Postgres' data directory in it.
    pub(crate) fn pg(&self) -> PathBuf {
        self.dir.join("pg")
    }

    /// Makes the folder anew, empty. A Postgres that a killed restore has left running in it is ended.
    pub(crate) async fn clear(&self) -> Result<(), ClusterError> {
        let layout = Layout::of(&self.dir);
        if let Some(file) = PidFile::read(&layout)
            && file.is_running(&layout)
        {
            postmaster::signal(file.pid, Signal::SIGQUIT);
            let limit = Duration::from_secs(15);
            if !wait_until(limit, || !file.is_running(&layout)).await {
                return Err(ClusterError::NotStopped { pid: file.pid, seconds: limit.as_secs() });
            }
        }
        self.user.ensure_reach(self.data_dir())?;
        // The folder itself stays, so that at no moment it looks as if no restore had been begun.
        self.user.own_dir(&self.dir)?;
        for entry in fs::read_dir(&self.dir).map_err(ClusterError::io("cannot read", &self.dir))? {
            let path = entry.map_err(ClusterError::io("cannot read", &self.dir))?.path();
            let removed = if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(ClusterError::io("cannot remove", &path))?;
        }
        sync_dir(self.data_dir())
    }

    /// Makes the folder for a copied cluster.
    pub(crate) fn make_pg(&self) -> Result<PathBuf, ClusterError> {
        let pg = self.pg();
        self.user.own_dir(&pg)?;
        Ok(pg)
    }

    /// Gives everything in the copied cluster to the user whom Postgres runs as, private.
    pub(crate) fn own_pg(&self) -> Result<(), ClusterError> {
        self.own_tree(&self.pg())
    }

    fn own_tree(&self, path: &Path) -> Result<(), ClusterError> {
        if let Some((uid, gid)) = self.user.owner() {
            lchown(path, Some(uid), Some(gid)).map_err(ClusterError::io("cannot chown", path))?;
        }
        let meta = fs::symlink_metadata(path).map_err(ClusterError::io("cannot look at", path))?;
        if meta.is_dir() {
            for entry in fs::read_dir(path).map_err(ClusterError::io("cannot read", path))? {
                self.own_tree(&entry.map_err(ClusterError::io("cannot read", path))?.path())?;
            }
        }
        Ok(())
    }

    /// Gives a file or folder beside the cluster to the data dir's owner.
    pub(crate) fn give(&self, path: &Path) -> Result<(), ClusterError> {
        give_to_owner_of(self.data_dir(), path)
    }

    /// The one step that makes the restored cluster the data dir's own; done already, it does nothing.
    pub(crate) fn install_pg(&self) -> Result<(), ClusterError> {
        let (from, to) = (self.pg(), self.data_dir().join("pg"));
        if from.exists() {
            fs::rename(&from, &to).map_err(ClusterError::io("cannot rename to", &to))?;
        }
        sync_dir(self.data_dir())
    }

    /// Removes the folder: the restore has ended.
    pub(crate) fn remove(self) -> Result<(), ClusterError> {
        fs::remove_dir_all(&self.dir).map_err(ClusterError::io("cannot remove", &self.dir))?;
        sync_dir(self.data_dir())
    }
}

fn sync_dir(dir: &Path) -> Result<(), ClusterError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(ClusterError::io("cannot sync", dir))
}
