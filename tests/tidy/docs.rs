//! Documents point at things that exist.

use regex::Regex;

use super::{files, none, read, root};

#[test]
fn relative_links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut findings = Vec::new();
    for name in files("", ".md") {
        let text = read(&name);
        let folder = root().join(&name).parent().unwrap().to_owned();
        for found in link.captures_iter(&text) {
            let target = found[1].split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                findings.push(format!("{name}: {target}"));
            }
        }
    }
    none("links to nothing", &findings);
}

#[test]
fn decisions_are_dated_and_complete() {
    let shape = Regex::new(r"^docs/adr/[0-9]{4}-[0-9]{2}-[0-9]{2}-[a-z0-9-]+\.md$").unwrap();
    let mut findings = Vec::new();
    for name in files("docs/adr", "") {
        let text = read(&name);
        if !shape.is_match(&name) {
            findings.push(format!("{name}: not YYYY-MM-DD-title.md"));
        }
        for section in ["## Decision", "## Why", "## Rejected"] {
            if !text.contains(section) {
                findings.push(format!("{name}: no {section}"));
            }
        }
    }
    none("decision records", &findings);
}

#[test]
fn paths_named_in_the_documents_exist() {
    // `ledger/src/x.rs`, `sql/functions/base/decide.sql`, `tests/tidy/`: anything in backticks that starts with a folder of ours.
    let path = Regex::new(
        r"`((?:proto|sql|ledger|splitter|provider-agent|analytics|api|tests|docs|\.ci)/[A-Za-z0-9_./-]*)`",
    )
    .unwrap();
    let mut findings = Vec::new();
    for name in files("docs", ".md").into_iter().chain(["README.md".to_owned()]) {
        for found in path.captures_iter(&read(&name)) {
            if !root().join(&found[1]).exists() {
                findings.push(format!("{name}: {}", &found[1]));
            }
        }
    }
    none("paths that are gone", &findings);
}
