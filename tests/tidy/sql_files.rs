//! How SQL files are named and what each function states about itself.

use regex::Regex;

use super::{DOMAINS, READ_SCHEMAS, files, none, part, read};

/// One `create or replace function` statement, down to the line that ends its body.
struct Function {
    schema: String,
    name: String,
    /// From `create` to `as $$`.
    head: String,
    /// Lines of the whole statement.
    lines: usize,
}

fn functions(text: &str) -> Vec<Function> {
    let create = Regex::new(r"(?m)^create (or replace )?function ([a-z_]+)\.([a-z_0-9]+)\s*\(").unwrap();
    create
        .captures_iter(text)
        .map(|found| {
            let at = found.get(0).unwrap().start();
            let rest = &text[at..];
            let head_end = rest.find("$$").unwrap_or(rest.len());
            let body_end = rest[head_end..].find("$$;");
            let end = body_end.map_or(rest.len(), |end| head_end + end);
            Function {
                schema: found[2].to_owned(),
                name: found[3].to_owned(),
                head: rest[..head_end].to_owned(),
                lines: rest[..end].lines().count(),
            }
        })
        .collect()
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let names = files("sql/schema", "");
    let shape = Regex::new(r"^sql/schema/V([0-9]{4})__[a-z0-9_]+\.sql$").unwrap();
    let mut findings = Vec::new();
    for (i, name) in names.iter().enumerate() {
        match shape.captures(name) {
            Some(found) if found[1] == format!("{:04}", i + 1) => {}
            Some(_) => findings.push(format!("{name}: number {:04} expected here", i + 1)),
            None => {
                findings.push(format!("{name}: not V0001__name.sql, so the loader would refuse to start"))
            }
        }
    }
    none("misnamed migrations", &findings);
    assert!(!names.is_empty());
}

#[test]
fn sql_folders_are_the_domains() {
    let mut findings = Vec::new();
    for name in files("sql/functions", "").iter().chain(&files("sql/views", "")) {
        let domain = part(name, 2);
        let known = DOMAINS.contains(&domain)
            || (READ_SCHEMAS.contains(&domain) && part(name, 1) == "views")
            || name.ends_with(".md");
        if !known || name.split('/').count() != 4 && !name.ends_with(".md") {
            findings.push(name.clone());
        }
    }
    none("files outside sql/<functions|views>/<domain>/", &findings);
}

#[test]
fn a_function_file_holds_one_function_of_its_name_and_helpers_prefixed_with_it() {
    let mut findings = Vec::new();
    for name in files("sql/functions", ".sql") {
        let own = part(&name, 3).trim_end_matches(".sql").to_owned();
        let all = functions(&read(&name));
        if all.first().is_none_or(|first| first.name != own) {
            findings.push(format!("{name}: its first function is not {own}"));
        }
        for function in &all {
            if function.schema != part(&name, 2) {
                findings.push(format!("{name}: {}.{} is of another domain", function.schema, function.name));
            }
            if function.name != own && !function.name.starts_with(&format!("{own}_")) {
                findings.push(format!("{name}: {} belongs in a file of its own", function.name));
            }
        }
    }
    none("functions in the wrong file", &findings);
}

#[test]
fn every_function_says_why_and_is_commented() {
    let mut findings = Vec::new();
    for name in files("sql/functions", ".sql") {
        let text = read(&name);
        if !text.starts_with("-- ") {
            findings.push(format!("{name}: no header that gives the contract and the reason"));
        }
        for function in functions(&text) {
            let what = format!("comment on function {}.{}(", function.schema, function.name);
            if !text.contains(&what) {
                findings.push(format!("{name}: no COMMENT ON {}", function.name));
            }
        }
    }
    none("unexplained functions", &findings);
}

#[test]
fn volatility_security_and_search_path_are_written_down() {
    let mut findings = Vec::new();
    for name in files("sql/functions", ".sql") {
        for function in functions(&read(&name)) {
            let head = function.head.to_lowercase();
            let says = |word: &str| head.contains(word);
            let at = format!("{name}: {}", function.name);
            if !["volatile", "stable", "immutable"].into_iter().any(says) {
                findings.push(format!("{at} leaves its volatility to the default"));
            }
            // Pinning costs a few microseconds a call. What changes rows or lends its owner's rights pays them; a private helper
            // that only looks or computes runs under its caller's pinned path.
            let matters = says("security definer") || (says("language plpgsql") && says("volatile"));
            if matters && !says("set search_path = pg_catalog, pg_temp") {
                findings.push(format!("{at} does not pin search_path"));
            }
            if matters && !says("security definer") && !says("security invoker") {
                findings.push(format!("{at} leaves its security to the default"));
            }
        }
    }
    none("functions with implicit attributes", &findings);
}

#[test]
fn functions_read_no_clock_no_randomness_and_no_sequence() {
    let forbidden = Regex::new(
        r"(?i)\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday|random|gen_random_uuid|uuidv7|nextval|setval|txid_current|pg_current_xact_id)\s*\(|\bcurrent_(timestamp|date|time)\b|\blocaltime",
    )
    .unwrap();
    let mut findings = Vec::new();
    for name in files("sql/functions", ".sql") {
        for (n, line) in read(&name).lines().enumerate() {
            let code = line.split("--").next().unwrap_or_default();
            if let Some(found) = forbidden.find(code) {
                findings.push(format!("{name}:{}: {}", n + 1, found.as_str()));
            }
        }
    }
    none("what replay could not repeat", &findings);
}

#[test]
fn every_exception_carries_a_code() {
    let raise = Regex::new(r"(?is)raise exception\b(.*?);").unwrap();
    let mut findings = Vec::new();
    for name in files("sql", ".sql") {
        for found in raise.captures_iter(&read(&name)) {
            if !found[1].contains("errcode = 'U") {
                findings
                    .push(format!("{name}: raise exception{}", found[1].lines().next().unwrap_or_default()));
            }
        }
    }
    none("bare exceptions", &findings);
}

#[test]
fn functions_stay_readable() {
    // judge is one function on purpose: its arrays would be copied if they were passed on (see its header).
    // decide names 19 parallel arrays twice, post_batch 14 of them five times.
    let long = ["judge", "post_batch", "decide"];
    let findings: Vec<String> = files("sql/functions", ".sql")
        .iter()
        .flat_map(|name| functions(&read(name)).into_iter().map(move |function| (name.clone(), function)))
        .filter(|(_, function)| function.lines > 110 && !long.contains(&function.name.as_str()))
        .map(|(name, function)| format!("{name}: {} has {} lines", function.name, function.lines))
        .collect();
    none("functions to split", &findings);
}
