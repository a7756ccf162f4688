//! Golden logs: what each release of the rules logged, and what its tables then held, replayed by today's program.
//!
//! `tests/golden/README.md` says how one is made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::pipeline::RULES_VERSION;
use ledger::replay::{ReplayOptions, Source, export};
use ledger::verify::{self, Expected, Extent, TEXT_FORMS};

use super::base_replay::busy;
use crate::support::checks::rows;
use crate::support::program::{Folder, must};
use crate::support::replays::{BATCHES, rederive, replayed};

/// A log in the repository stays small.
const BYTES_MAX: u64 = 300_000;
/// Names the environment variable that makes the logs of the current rules.
const MAKE: &str = "ECON_GOLDEN";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// Every golden log, by name.
fn logs() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut logs: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "econlog"))
        .collect();
    logs.sort();
    logs
}

/// The version of the rules that a log's name says: `rules-2-demo.econlog`.
fn rules_of(path: &Path) -> i32 {
    let name = path.file_stem().unwrap().to_str().unwrap();
    name.split('-').nth(1).and_then(|version| version.parse().ok()).unwrap_or_else(|| panic!("{name}"))
}

/// With `ECON_GOLDEN=1`: makes the logs of the current rules, which must not be there yet. With `ECON_GOLDEN=since-NAME`: one
/// more of everything, for kinds of command that came without new rules.
async fn make(asked: &str) {
    let path = |what: &str, ending: &str| folder().join(format!("rules-{RULES_VERSION}-{what}.{ending}"));
    let everything = match asked {
        "1" => "everything".to_owned(),
        since => format!("everything-{since}"),
    };
    for what in [&*everything, "demo"].into_iter().take(if asked == "1" { 2 } else { 1 }) {
        assert!(!path(what, "econlog").exists(), "{} is frozen", path(what, "econlog").display());
    }
    let market = busy().await;
    let client = market.db.client("econ_auditor").await;
    client.batch_execute(TEXT_FORMS).await.unwrap();
    let mut file = std::fs::File::create(path(&everything, "econlog")).unwrap();
    export(&client, &mut file).await.unwrap();
    let mut expected = Expected::default();
    for table in verify::tables(&client).await.unwrap() {
        let digest = verify::digest(&client, &table).await.unwrap();
        expected.insert(&table, digest);
    }
    std::fs::write(path(&everything, "digests"), expected.to_string()).unwrap();
    if asked != "1" {
        return;
    }
    let demo = Folder::new();
    demo.played(12).await;
    let (log, digests) = (path("demo", "econlog"), path("demo", "digests"));
    let (log, digests) = (log.to_str().unwrap(), digests.to_str().unwrap());
    must(&["export", "log", log, "--digests", digests, "--data-dir", demo.text()]).await;
}

#[tokio::test]
async fn the_log_of_every_release_gives_the_tables_that_it_had_in_batches_of_any_size() {
    if let Ok(asked) = std::env::var(MAKE) {
        make(&asked).await;
    }
    // Kinds of command that no log of the current rules has yet.
    let mut unseen: Option<BTreeSet<String>> = None;
    let mut versions = BTreeSet::new();
    for path in logs() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes <= BYTES_MAX, "{name} has {bytes} bytes");
        let expected = std::fs::read_to_string(path.with_extension("digests")).unwrap();
        let expected = Expected::parse(&expected).unwrap();
        let mut kinds = Vec::new();
        for batch in BATCHES {
            let options = ReplayOptions::new(batch, Arc::new(rederive));
            let again = replayed(&Source::File(path.clone()), options, Some(expected.clone())).await;
            let problems = again.proof.problems();
            assert!(again.proof.passed(), "{name}, batches of {batch}: {problems:#?}");
            let compared = again.proof.tables.iter().filter(|table| table.extent == Extent::Whole).count();
            assert!(compared > 25, "{name}: {compared} tables of {}", expected.names().count());
            let ran = rows(&again.db, "select distinct rules_version::text from base.commands").await;
            assert_eq!(ran, [rules_of(&path).to_string()], "{name}");
            kinds = rows(
                &again.db,
                "select k.kind from base.command_kinds k where not exists (select from base.commands c where c.kind = k.kind and c.code = 'ok')",
            )
            .await;
            again.drop().await;
        }
        if rules_of(&path) == RULES_VERSION {
            let lacking: BTreeSet<String> = kinds.into_iter().collect();
            unseen = Some(unseen.map_or(lacking.clone(), |unseen| &unseen & &lacking));
        }
        versions.insert((rules_of(&path), name.contains("-everything")));
    }
    assert_eq!(unseen, Some(BTreeSet::new()), "kinds of command that no log of the current rules has");
    let wanted: BTreeSet<(i32, bool)> =
        (1..=RULES_VERSION).flat_map(|version| [(version, false), (version, true)]).collect();
    assert_eq!(versions, wanted, "a release of the rules without its golden logs: make them with {MAKE}=1");
}
