//! Finds a Postgres that the target user can run.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::user::TargetUser;
use super::{ClusterError, fetch};

/// The oldest major version whose SQL dialect this house uses.
pub(crate) const OLDEST_MAJOR: u32 = 15;

/// A folder with `initdb`, `postgres` and their friends, proven to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    pub(crate) dir: PathBuf,
    pub(crate) major: u32,
}

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// `--pg-bin` or the environment: then nothing else is considered.
    pub(crate) pg_bin: Option<&'a Path>,
    /// The major version of an existing data dir.
    pub(crate) major: Option<u32>,
    /// Whether fetching from a package index is allowed.
    pub(crate) fetch: bool,
}

impl Wanted<'_> {
    fn describe(&self) -> String {
        match self.major {
            Some(major) => format!("{major} (the version that wrote this data dir)"),
            None => format!("{OLDEST_MAJOR} or newer"),
        }
    }

    fn accepts(&self, major: u32) -> Result<(), String> {
        match self.major {
            Some(wanted) if wanted != major => {
                Err(format!("is version {major}, but the data dir needs {wanted}"))
            }
            _ if major < OLDEST_MAJOR => Err(format!("is version {major}, older than {OLDEST_MAJOR}")),
            _ => Ok(()),
        }
    }
}

/// Returns the first candidate that runs as `user`, in this order: the one named, our cache, the system, fetched.
pub(crate) fn find(wanted: Wanted<'_>, user: &TargetUser) -> Result<Binaries, ClusterError> {
    let mut tried = Vec::new();
    let mut consider = |dir: &Path| match probe(dir, user)
        .and_then(|major| wanted.accepts(major).map(|()| Binaries { dir: dir.to_path_buf(), major }))
    {
        Ok(found) => Some(found),
        Err(reason) => {
            tried.push(format!("  {}: {reason}", dir.display()));
            None
        }
    };
    if let Some(dir) = wanted.pg_bin {
        if let Some(found) = consider(dir) {
            return Ok(found);
        }
        return Err(ClusterError::NoBinaries { wanted: wanted.describe(), tried: tried.join("\n") });
    }
    let cached = fetch::cached().into_iter().filter(|dir| dir.is_dir());
    for dir in cached.chain(system()) {
        if let Some(found) = consider(&dir) {
            return Ok(found);
        }
    }
    if wanted.major.is_some_and(|major| major != fetch::MAJOR) {
        tried.push(format!("  package indexes: offer version {} only", fetch::MAJOR));
    } else if wanted.fetch {
        for source in fetch::SOURCES {
            match source.fetch() {
                Ok(dir) => {
                    if let Some(found) = probe(&dir, user).ok().filter(|major| wanted.accepts(*major).is_ok())
                    {
                        return Ok(Binaries { dir, major: found });
                    }
                    tried.push(format!("  {}: fetched, but does not run here", source.name()));
                }
                Err(reason) => tried.push(format!("  {}: {reason}", source.name())),
            }
        }
    }
    if tried.is_empty() {
        tried.push("  nothing: no PostgreSQL is installed in a usual place".into());
    }
    Err(ClusterError::NoBinaries { wanted: wanted.describe(), tried: tried.join("\n") })
}

/// Runs both programs as the user they will run as: a candidate may be unreadable for it, or built for other libraries.
fn probe(dir: &Path, user: &TargetUser) -> Result<u32, String> {
    let mut major = 0;
    for tool in ["initdb", "postgres"] {
        let output = user
            .command(&dir.join(tool))
            .arg("--version")
            .output()
            .map_err(|error| format!("{tool} does not run as user {}: {error}", user.name()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(format!("{tool} --version failed as user {}: {why}", user.name()));
        }
        major =
            parse_major(&text).ok_or_else(|| format!("{tool} does not say its version: {}", text.trim()))?;
    }
    Ok(major)
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` is 15; so is `initdb (PostgreSQL) 15beta1`.
fn parse_major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("(PostgreSQL) ")?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn system() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix, suffix) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/libexec", "postgresql", ""),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
    ] {
        found.extend(versioned(Path::new(parent), prefix, suffix));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output()
        && output.status.success()
    {
        found.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    found.push(PathBuf::from("/usr/bin"));
    found.retain(|dir| dir.join("initdb").exists());
    let mut seen = Vec::new();
    found.retain(|dir| {
        let new = !seen.contains(dir);
        seen.push(dir.clone());
        new
    });
    found
}

/// A program of Postgres beside the server: in the server's own folder, else the nearest of at least that major version
/// (client packages come without `initdb`, so they are not among the servers).
pub(crate) fn client_program(name: &str, server: Option<&Path>, major: u32) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    let own = server.map(Path::to_path_buf);
    let versioned = versioned(Path::new("/usr/lib/postgresql"), "", "bin").into_iter().chain(versioned(
        Path::new("/usr"),
        "pgsql-",
        "bin",
    ));
    let folders = own.into_iter().chain(fetch::cached()).chain(system()).chain(versioned);
    for dir in folders.chain([PathBuf::from("/usr/bin")]) {
        let program = dir.join(name);
        let Some(its) = program.exists().then(|| version_of(&program)).flatten() else { continue };
        if its == major {
            return Some(program);
        }
        if its > major {
            found.push((its, program));
        }
    }
    found.into_iter().min_by_key(|(its, _)| *its).map(|(_, program)| program)
}

fn version_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").env("LC_ALL", "C").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// `<parent>/<prefix><number>/<suffix>`, newest first.
fn versioned(parent: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(suffix)))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, dir)| dir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_every_spelling() {
        for (text, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("initdb (PostgreSQL) 18.6", Some(18)),
            ("postgres (PostgreSQL) 19beta1", Some(19)),
            ("postgres 15", None),
        ] {
            assert_eq!(parse_major(text), major, "{text}");
        }
    }

    #[test]
    fn a_named_folder_without_postgres_is_refused_by_name_and_nothing_else_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let user = TargetUser::for_data_dir(dir.path()).unwrap();
        let wanted = Wanted { pg_bin: Some(dir.path()), major: None, fetch: false };
        let message = find(wanted, &user).unwrap_err().to_string();
        assert!(message.contains(&dir.path().display().to_string()), "{message}");
        assert_eq!(message.lines().filter(|line| line.starts_with("  /")).count(), 1, "{message}");
    }

    #[test]
    fn only_the_version_that_wrote_the_data_dir_will_do() {
        let wanted = Wanted { pg_bin: None, major: Some(16), fetch: false };
        assert!(wanted.accepts(16).is_ok());
        assert!(wanted.accepts(17).is_err());
        assert!(Wanted { major: None, ..wanted }.accepts(14).is_err());
        assert!(Wanted { major: None, ..wanted }.accepts(18).is_ok());
    }
}
