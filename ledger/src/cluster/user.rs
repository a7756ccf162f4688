//! Whom Postgres runs as. It refuses root, so a root econ runs it as the data dir's owner, `postgres` or `nobody`. Users are
//! never created, and nothing above the data dir is opened up.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

use super::ClusterError;

/// The operating system user that owns and runs a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetUser {
    uid: u32,
    gid: u32,
    name: String,
    /// We are root and must become this user; otherwise it is ourselves.
    switch: bool,
}

impl TargetUser {
    /// Decides whom Postgres runs as for `data_dir`, which exists.
    pub(crate) fn for_data_dir(data_dir: &Path) -> Result<TargetUser, ClusterError> {
        let me = Uid::effective();
        // An existing cluster stays its owner's, also when a user `postgres` has appeared since.
        let not_root = |owner: &(u32, u32)| owner.0 != 0;
        let owner = owner_of(&data_dir.join("pg"))?.filter(not_root).or(owner_of(data_dir)?.filter(not_root));
        if !me.is_root() {
            if let Some((uid, _)) = owner_of(&data_dir.join("pg"))?
                && uid != me.as_raw()
            {
                return Err(ClusterError::DataDir(format!(
                    "the database in {} belongs to user {}, and this is user {}: run as that user or as root",
                    data_dir.display(),
                    name_of(uid),
                    name_of(me.as_raw())
                )));
            }
            return Ok(TargetUser {
                uid: me.as_raw(),
                gid: Gid::effective().as_raw(),
                name: name_of(me.as_raw()),
                switch: false,
            });
        }
        if let Some((uid, gid)) = owner {
            return Ok(TargetUser { uid, gid, name: name_of(uid), switch: true });
        }
        for name in ["postgres", "nobody"] {
            if let Ok(Some(user)) = User::from_name(name) {
                return Ok(TargetUser {
                    uid: user.uid.as_raw(),
                    gid: user.gid.as_raw(),
                    name: user.name,
                    switch: true,
                });
            }
        }
        Err(ClusterError::DataDir(
            "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as: \
             give the data dir to an ordinary user, or run as one"
                .into(),
        ))
    }

    /// A command that runs as this user, from `/` (the current folder may be closed to it), without our `PG*` variables.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // English messages, whatever the terminal's language: some are read by this program.
        command.env("LC_ALL", "C");
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Makes `path` a directory of this user with mode 0700. Only what is new or empty is chowned.
    pub(crate) fn own_dir(&self, path: &Path) -> Result<(), ClusterError> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(ClusterError::io("cannot create", path)(error)),
        }
        let meta = fs::symlink_metadata(path).map_err(ClusterError::io("cannot look at", path))?;
        if !meta.is_dir() {
            return Err(ClusterError::DataDir(format!("{} is not a directory", path.display())));
        }
        if meta.uid() != self.uid {
            let empty = fs::read_dir(path).map_err(ClusterError::io("cannot read", path))?.next().is_none();
            if !self.switch || !empty {
                return Err(ClusterError::DataDir(format!(
                    "{} belongs to user {}, but PostgreSQL would run as {}: give it to that user, or choose another --data-dir",
                    path.display(),
                    name_of(meta.uid()),
                    self.name
                )));
            }
            lchown(path, Some(self.uid), Some(self.gid)).map_err(ClusterError::io("cannot chown", path))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(ClusterError::io("cannot set the mode of", path))
    }

    /// Sees to it that this user can walk into `data_dir`: opens the data dir itself to the user's group when need be, and
    /// says which folder is closed when it is one above.
    pub(crate) fn ensure_reach(&self, data_dir: &Path) -> Result<(), ClusterError> {
        if !self.switch || self.can_enter(data_dir)? {
            return Ok(());
        }
        let meta = fs::metadata(data_dir).map_err(ClusterError::io("cannot look at", data_dir))?;
        if meta.uid() != self.uid {
            // Search permission for that group only: narrower than giving the folder away or opening it to everybody.
            chown(data_dir, None, Some(self.gid)).map_err(ClusterError::io("cannot chgrp", data_dir))?;
            fs::set_permissions(data_dir, fs::Permissions::from_mode(meta.mode() & 0o7777 | 0o010))
                .map_err(ClusterError::io("cannot set the mode of", data_dir))?;
            if self.can_enter(data_dir)? {
                return Ok(());
            }
        }
        let mut closed = data_dir;
        for parent in data_dir.ancestors().skip(1) {
            if !self.can_enter(parent)? {
                closed = parent;
            }
        }
        Err(ClusterError::DataDir(format!(
            "PostgreSQL would run as user {}, who cannot enter {}: choose a --data-dir that it can reach, such as /var/lib/econ",
            self.name,
            closed.display()
        )))
    }

    fn can_enter(&self, path: &Path) -> Result<bool, ClusterError> {
        let shell = Path::new("/bin/sh");
        self.command(shell)
            .args(["-c", "cd -- \"$1\" 2>/dev/null", "sh"])
            .arg(path)
            .status()
            .map(|status| status.success())
            .map_err(ClusterError::io("cannot run", shell))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// To whom files must be given; `None` when whatever we write is this user's already.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.switch.then_some((self.uid, self.gid))
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }
}

/// Creates the data dir when it is missing: private for an ordinary user, walkable for Postgres' user when we are root.
pub(crate) fn create_data_dir(data_dir: &Path) -> Result<(), ClusterError> {
    let mode = if Uid::effective().is_root() { 0o755 } else { 0o700 };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(data_dir)
        .map_err(ClusterError::io("cannot create the data dir", data_dir))
}

/// As root: gives `file` to the owner of `data_dir`, so that this user can work on it later. Otherwise does nothing.
pub(crate) fn give_to_owner_of(data_dir: &Path, file: &Path) -> Result<(), ClusterError> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    match owner_of(data_dir)? {
        Some((uid, gid)) if uid != 0 => {
            lchown(file, Some(uid), Some(gid)).map_err(ClusterError::io("cannot chown", file))
        }
        _ => Ok(()),
    }
}

fn owner_of(path: &Path) -> Result<Option<(u32, u32)>, ClusterError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some((meta.uid(), meta.gid()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ClusterError::io("cannot look at", path)(error)),
    }
}

fn name_of(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("#{uid}"),
    }
}
