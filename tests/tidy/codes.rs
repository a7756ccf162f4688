//! Every error code is written down once, and nothing that is written down is gone.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::{files, none, part, read};

/// The codes that some part of the program can answer, with one place each.
fn used() -> BTreeMap<String, String> {
    // Quoted, as a literal: prose and tests may speak of any code.
    let quoted = Regex::new(r#"['"](U[BILRMEPCTWNA][1-9][0-9]{2})['"]"#).unwrap();
    let sources = files("sql/functions", ".sql")
        .into_iter()
        .chain(files("sql/schema", ".sql"))
        .chain(
            ["ledger/src", "api/src", "splitter/src", "provider-agent/src"]
                .iter()
                .flat_map(|f| files(f, ".rs")),
        )
        .filter(|name| !name.ends_with("tests.rs") && !name.contains("/tests/"));
    let mut used = BTreeMap::new();
    for name in sources {
        let text = read(&name);
        // A test module at a file's end may make codes up.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for found in quoted.captures_iter(text) {
            // A match on a code (its hint) does not answer it.
            if text[found.get(0).unwrap().end()..].trim_start().starts_with("=>") {
                continue;
            }
            used.entry(found[1].to_owned()).or_insert_with(|| name.clone());
        }
    }
    used
}

/// The rows of docs/ERRORS.md: code and HTTP status.
fn listed() -> Vec<(String, String)> {
    let row = Regex::new(r"(?m)^\| `(U[A-Z][0-9]{3})` \| ([0-9]{3}) \| [^|]+ \| [^|]+ \|$").unwrap();
    row.captures_iter(&read("docs/ERRORS.md"))
        .map(|found| (found[1].to_owned(), found[2].to_owned()))
        .collect()
}

#[test]
fn every_code_in_use_is_listed() {
    let listed: BTreeSet<String> = listed().into_iter().map(|(code, _)| code).collect();
    let findings: Vec<String> = used()
        .into_iter()
        .filter(|(code, _)| !listed.contains(code))
        .map(|(code, name)| format!("{code} ({name})"))
        .collect();
    none("codes missing in docs/ERRORS.md", &findings);
}

#[test]
fn every_listed_code_is_in_use_and_listed_once() {
    let used = used();
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for (code, _) in listed() {
        if !used.contains_key(&code) {
            findings.push(format!("{code}: nothing answers it"));
        }
        if !seen.insert(code.clone()) {
            findings.push(format!("{code}: listed twice"));
        }
    }
    none("rows of docs/ERRORS.md", &findings);
    assert!(seen.len() > 20, "the table was not understood");
}

/// The kind digit says the status, except where HTTP has one of its own and the code is sent with that.
#[test]
fn a_code_says_its_own_status() {
    let own = Regex::new(r#"with_status\((4[0-9]{2}), "(U[A-Z][0-9]{3})""#).unwrap();
    let server: String = files("api/src", ".rs").iter().map(|name| read(name)).collect();
    let own: BTreeMap<String, String> =
        own.captures_iter(&server).map(|found| (found[2].to_owned(), found[1].to_owned())).collect();
    let findings: Vec<String> = listed()
        .into_iter()
        .filter(|(code, status)| {
            *own.get(code).unwrap_or(&ledger::error::http_status(code).to_string()) != *status
        })
        .map(|(code, status)| format!("{code} is listed with {status}"))
        .collect();
    none("kind digit and status disagree", &findings);
}

#[test]
fn the_codes_that_a_function_may_refuse_with_are_in_its_comment() {
    let quoted = Regex::new(r"'(U[A-Z][1-8][0-9]{2})'").unwrap();
    let mut findings = Vec::new();
    for name in files("sql/functions", ".sql") {
        let text = read(&name);
        // What a person reads before calling it: the COMMENT that psql shows, and the header above.
        let header = text.lines().filter(|line| line.starts_with("--"));
        let shown = text
            .split("comment on function")
            .skip(1)
            .map(|rest| rest.split("';\n").next().unwrap_or_default());
        let comments: String = header.chain(shown).collect();
        // It may name a run of codes: "UM101 to UM105".
        let codes: BTreeSet<String> = quoted.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        for code in codes {
            if !comments.contains(&code) && !in_a_run(&comments, &code) {
                findings.push(format!("{name}: {code}"));
            }
        }
    }
    none("codes that no COMMENT names", &findings);
}

fn in_a_run(comments: &str, code: &str) -> bool {
    let run = Regex::new(r"(U[A-Z][0-9]{3}) (?:to|-|–|\.\.) (U[A-Z][0-9]{3})").unwrap();
    run.captures_iter(comments).any(|found| found[1] <= *code && *code <= found[2])
}

#[test]
fn every_result_of_a_transfer_is_listed() {
    let page = read("docs/ERRORS.md");
    let result = Regex::new(r"(?:then|else|:=) '([a-z]+(?:_[a-z]+)+)'").unwrap();
    let source: String = files("sql/functions/ledger", ".sql")
        .iter()
        .filter(|name| part(name, 3).starts_with("judge"))
        .map(|name| read(name))
        .collect();
    let kinds = ["post_pending", "void_pending", "expire_pending"];
    let mut seen = 0;
    let mut findings = Vec::new();
    for found in result.captures_iter(&source) {
        let name = &found[1];
        if kinds.contains(&name) {
            continue;
        }
        seen += 1;
        let listed = page.contains(&format!("`{name}`"))
            || name
                .strip_prefix("exists_with_different_")
                .is_some_and(|field| page.contains(&format!("`…_{field}`")));
        if !listed {
            findings.push(name.to_owned());
        }
    }
    none("results of post_transfers missing in docs/ERRORS.md", &findings);
    assert!(seen > 40, "the source was not understood");
}
