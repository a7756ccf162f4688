//! The house's own rules, as tests: names, comments, layers, error codes, rights. What a reviewer would have to remember
//! is looked up here instead.

mod catalog;
mod codes;
mod contracts;
mod docs;
mod layers;
mod queries;
mod rights;
mod sql_files;

use std::fs;
use std::path::{Path, PathBuf};

/// The SQL domains that hold commands and state; each is a Postgres schema.
const DOMAINS: [&str; 9] =
    ["base", "identity", "ledger", "receipts", "market", "metering", "splits", "payouts", "artifacts"];
/// The schemas made for people: views only.
const READ_SCHEMAS: [&str; 2] = ["transparency", "finance"];
/// The crates of the workspace.
const CRATES: [&str; 6] = ["proto", "ledger", "splitter", "provider-agent", "analytics", "api"];

/// The repository's other folders.
const FOLDERS: [&str; 4] = ["sql", "tests", "docs", ".ci"];

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The repository's files below `folder` (path from the root, or empty) that end in `extension`, sorted, as paths from the
/// root with `/`. From the root only our own folders are walked: a checkout may hold build output, data dirs, whatever.
fn files(folder: &str, extension: &str) -> Vec<String> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !path.is_dir() {
                out.push(path);
            } else if dir != root() || CRATES.contains(&name.as_str()) || FOLDERS.contains(&name.as_str()) {
                walk(&path, out);
            }
        }
    }
    let root = root();
    let mut paths = Vec::new();
    walk(&if folder.is_empty() { root.clone() } else { root.join(folder) }, &mut paths);
    let mut names: Vec<String> = paths
        .iter()
        .map(|path| path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"))
        .filter(|name| name.ends_with(extension))
        .collect();
    names.sort();
    names
}

/// The text of a file of the repository.
fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Fails with every finding at once: a list is easier to work off than one failure per run.
fn none(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

/// The object that a file of `sql/functions` or `sql/views` is named after: `sql/views/a/10_b.sql` is `a.b`. The number only
/// orders views that build on one another.
fn object(name: &str) -> String {
    let stem = part(name, 3).trim_end_matches(".sql");
    let own = stem.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{}.{}", part(name, 2), if own == stem { stem } else { own.trim_start_matches('_') })
}

/// Part of a path.
fn part(name: &str, n: usize) -> &str {
    name.split('/').nth(n).unwrap_or_default()
}
