//! Backups of a market, and restores of them, as a person makes them.

use std::path::{Path, PathBuf};
use std::process::Output;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::program::{Folder, both, econ, json, must, say, until};

/// Where a market is backed up to: one place for backups, one for keys.
pub struct Copies {
    pub folder: Folder,
}

impl Copies {
    pub fn new() -> Copies {
        Copies { folder: Folder::new() }
    }

    /// The folder for backups.
    pub fn backups(&self) -> String {
        self.folder.file("backups")
    }

    /// The folder for keys.
    pub fn keys(&self) -> String {
        self.folder.file("keys")
    }

    /// `econ backup` of a data dir; what it says.
    pub async fn make(&self, of: &Folder, more: &[&str]) -> Value {
        let (to, keys) = (self.backups(), self.keys());
        let args = ["backup", "--data-dir", of.text(), "--to", &to, "--keys-to", &keys];
        json(&[&args[..], more].concat()).await
    }

    /// `econ restore` into a folder, from the folder for backups.
    pub async fn restore(&self, into: &Folder, more: &[&str]) -> Output {
        self.restore_from(&self.backups(), into, more).await
    }

    /// `econ restore` of one set or folder.
    pub async fn restore_from(&self, from: &str, into: &Folder, more: &[&str]) -> Output {
        let keys = self.keys();
        let args = ["restore", "--json", "--from", from, "--data-dir", into.text(), "--keys", &keys];
        say(&[&args[..], more].concat()).await
    }

    /// Insists that a restore succeeds; what was restored.
    pub async fn restored(&self, into: &Folder, more: &[&str]) -> Value {
        restored(&self.restore(into, more).await)
    }

    /// Insists that a restore is refused with this code, and puts nothing in place; the message.
    pub async fn refused(&self, into: &Folder, code: &str, more: &[&str]) -> String {
        refused(&self.restore(into, more).await, into, code)
    }

    /// Takes the keys out of a data dir, as a person keeps them elsewhere.
    pub fn take_keys(&self, of: &Folder) {
        copy_tree(Path::new(&of.file("keys")), Path::new(&self.keys()));
    }

    /// Waits for a set, which a server that archives its WAL makes by itself.
    pub async fn until_sets(&self, count: usize) {
        until("a base", async || (self.sets().len() >= count).then_some(())).await;
    }

    /// Whole sets, oldest first.
    pub fn sets(&self) -> Vec<PathBuf> {
        let all = below(&Path::new(&self.backups()).join("sets"));
        all.into_iter().filter(|set| !set.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
    }

    /// Stretches of archived WAL, oldest first.
    pub fn stretches(&self) -> Vec<PathBuf> {
        below(&Path::new(&self.backups()).join("wal"))
    }
}

/// A copy of a folder, owners and modes included.
pub fn copy_tree(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{}", from.display());
}

/// Changes a file by one bit, at this part of its length.
pub fn flip(path: &Path, numerator: usize, denominator: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() * numerator / denominator;
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Empties a data dir, as a lost disk does.
pub fn lose(folder: &Folder) {
    for gone in below(Path::new(folder.text())) {
        if gone.is_dir() {
            std::fs::remove_dir_all(gone).unwrap();
        } else {
            std::fs::remove_file(gone).unwrap();
        }
    }
}

/// What is in a folder, sorted; nothing when there is none.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// The promises of this size that restores gave up and kept.
pub fn lost_promises(folder: &Folder, size: u64) -> Vec<String> {
    let start = format!("ledger-1.lost-{size}-");
    let all = below(Path::new(&folder.file("checkpoints"))).into_iter();
    let lost = all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&start));
    lost.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Insists that it succeeded.
pub fn restored(said: &Output) -> Value {
    assert!(said.status.success(), "{}", both(said));
    let answer: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", both(said)));
    assert_eq!(answer["verify"]["passed"], true, "{answer}");
    answer["restored"].clone()
}

/// Insists that it was refused, with nothing in place that looks like a database.
pub fn refused(said: &Output, into: &Folder, code: &str) -> String {
    assert_eq!(said.status.code(), Some(1), "{code}: {}", both(said));
    let answer: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", both(said)));
    assert_eq!(answer["error"]["code"], code, "{}", both(said));
    assert!(!Path::new(&into.file("pg")).exists(), "{code}: a database was put in place");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

/// Size of ledger 1 in an answer.
pub fn size(restored: &Value) -> u64 {
    restored["ledgers"][0]["size"].as_u64().unwrap_or_else(|| panic!("{restored}"))
}

/// A buyer without a market of its own: something to deposit to.
pub struct Buyer {
    key: String,
    pub id: String,
}

impl Buyer {
    /// Makes a key and registers it.
    pub async fn register(home: &Folder, url: &str) -> Buyer {
        let key = home.file("buyer.pem");
        let made = json(&["key", "new", &key]).await;
        must(&["register", "--api", url, "--key", &key]).await;
        Buyer { key, id: made["agent_id"].as_str().unwrap().to_owned() }
    }

    /// One command of the operator's: whole units of USD into the buyer's wallet.
    pub async fn deposit(&self, market: &Folder, amount: u32, reference: &str) {
        let amount = amount.to_string();
        must(&["deposit", &self.id, &amount, "--reference", reference, "--data-dir", market.text()]).await;
    }

    /// What is in the wallet, minor units.
    pub async fn wallet(&self, url: &str) -> u64 {
        let rows = json(&["balance", "--api", url, "--key", &self.key]).await;
        let of = |row: &&Value| row["purpose"] == "wallet";
        let row = rows.as_array().unwrap().iter().find(of);
        row.map_or(0, |row| row["posted"].as_str().unwrap().parse().unwrap())
    }
}

/// `econ verify`, and how often a stated loss was seen.
pub async fn verified(folder: &Folder) -> u64 {
    let report = json(&["verify", "--data-dir", folder.text()]).await;
    assert_eq!(report["passed"], true, "{report}");
    let checks = report["checks"].as_array().unwrap();
    let losses = checks.iter().find(|check| check["name"] == "checkpoints.losses").unwrap();
    losses["count"].as_u64().unwrap()
}

/// The newest seq in a market that runs.
pub async fn last_seq(folder: &Folder) -> u64 {
    let db = folder.client("econ_auditor").await.expect("the market runs");
    let row = db.query_one("select last_seq from base.ledgers", &[]).await.unwrap();
    u64::try_from(row.get::<_, i64>(0)).unwrap()
}

/// A process of ours that is killed when it has come to some point.
pub fn spawn(args: &[&str]) -> tokio::process::Child {
    econ(args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
}

/// Stops a process where it is, until it is killed; false: it had ended before.
pub async fn stands_still(child: &tokio::process::Child) -> bool {
    let Some(id) = child.id() else { return false };
    let pid = Pid::from_raw(i32::try_from(id).unwrap());
    if kill(pid, Signal::SIGSTOP).is_err() {
        return false;
    }
    // Its state stands behind its name, which is in parentheses.
    until("a process that stands still", async || {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        match stat.rsplit_once(") ")?.1.chars().next()? {
            'T' => Some(true),
            'Z' | 'X' => Some(false),
            _ => None,
        }
    })
    .await
}
