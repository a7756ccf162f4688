//! A restored log against what was promised: the checkpoints that are kept outside the database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proto::keys::{KeyPair, PublicKey};
use proto::merkle::TreeHash;
use proto::note::{Checkpoint, NoteName, extensions, parse_and_verify, sign_checkpoint_with};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::manifest::LedgerState;
use super::repository::names;
use super::{BackupError, files};
use crate::receipts::log::FOREST;

/// First word of the extension line by which a log states that it was restored to an earlier point.
const RESTORED: &str = "restored ";

/// What was promised, and a restored log does not hold: commands, or entries of the forest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Which ledger; 0: the forest.
    pub ledger_id: u32,
    /// Size of the restored log.
    pub kept: u64,
    /// Size that a signed checkpoint names.
    pub promised: u64,
    /// Root at that size, base64 as in the checkpoint.
    pub root: String,
    /// Where that checkpoint was found.
    pub place: String,
}

impl Loss {
    /// The line that every later checkpoint carries: kept, promised, root of what was promised.
    fn line(&self) -> String {
        format!("{RESTORED}{} {} {}", self.kept, self.promised, self.root)
    }

    /// Whether commands are lost, or only entries of the forest, which are about checkpoints.
    #[must_use]
    pub fn is_of_commands(&self) -> bool {
        self.ledger_id != FOREST
    }

    /// What is lost, in words.
    #[must_use]
    pub fn what(&self) -> String {
        let (first, last) = (self.kept + 1, self.promised);
        match self.ledger_id {
            FOREST => format!("forest: entries {first} to {last}"),
            id => format!("ledger {id}: commands {first} to {last}"),
        }
    }
}

/// The statements of loss in checkpoints, each once, in order. Whoever signs the next checkpoint repeats them.
pub(crate) fn stated<'a>(notes: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in notes.into_iter().flat_map(extensions).filter(|line| line.starts_with(RESTORED)) {
        if !lines.iter().any(|known| known == line) {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// A checkpoint from outside the database, and where it was found.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    pub(super) place: String,
    pub(super) note: String,
}

impl Outside {
    /// The log that it says it is of.
    fn origin(&self) -> Option<&str> {
        self.note.lines().next()
    }
}

/// Every `ledger-<n>.checkpoint` and `forest.checkpoint` in a folder.
pub(super) fn in_folder(dir: &Path) -> Result<Vec<Outside>, BackupError> {
    let log = |name: &String| name.starts_with("ledger-") || name.starts_with("forest.");
    let checkpoint = |name: &String| log(name) && name.ends_with(".checkpoint");
    // Those that were given up by an earlier restore are kept beside as `ledger-<n>.lost-<size>.checkpoint`.
    let current = |name: &String| checkpoint(name) && !name.contains(".lost-");
    names(dir)?.into_iter().filter(current).map(|name| in_file(&dir.join(name))).collect()
}

/// One file.
pub(super) fn in_file(path: &Path) -> Result<Outside, BackupError> {
    let bytes = files::read_small(path)?;
    let place = path.display().to_string();
    match String::from_utf8(bytes) {
        Ok(note) => Ok(Outside { place, note }),
        Err(_) => Err(BackupError::new("UR906", format!("{place} is not a checkpoint: it is no text"))),
    }
}

/// What a restored database is, beside what was promised.
#[derive(Debug)]
pub struct Verdict {
    /// Each ledger as it was restored.
    pub ledgers: Vec<LedgerState>,
    /// The same of the forest, if there is one yet.
    forest: Option<LedgerState>,
    /// What is missing, the largest promise per ledger.
    pub losses: Vec<Loss>,
    /// How many checkpoints from outside were compared.
    pub compared: usize,
    /// Per ledger the largest checkpoint that the log agrees with.
    agreed: BTreeMap<u32, (u64, String)>,
    /// Checkpoints beyond the restored logs, by the name under which they are kept.
    pub(super) lost_notes: BTreeMap<String, String>,
    /// Statements of earlier losses, per ledger.
    stated: BTreeMap<u32, Vec<String>>,
}

impl Verdict {
    /// Nothing to compare with.
    pub(super) fn uncompared(ledgers: Vec<LedgerState>) -> Verdict {
        Verdict {
            ledgers,
            forest: None,
            losses: Vec::new(),
            compared: 0,
            agreed: BTreeMap::new(),
            lost_notes: BTreeMap::new(),
            stated: BTreeMap::new(),
        }
    }

    /// The question to the operator, one line per ledger that lacks commands; none: nothing has to be asked. A forest alone is
    /// only somewhat younger than its ledgers: nobody's command is missing, and it states it all the same.
    #[must_use]
    pub fn question(&self) -> Vec<String> {
        let time = |us: Option<i64>| {
            us.and_then(|us| jiff::Timestamp::from_microsecond(us).ok())
                .map_or_else(|| "no time".to_owned(), |at| at.to_string())
        };
        self.losses
            .iter()
            .filter(|loss| loss.is_of_commands())
            .map(|loss| {
                let at = self.ledgers.iter().find(|ledger| ledger.ledger_id == loss.ledger_id);
                format!(
                    "ledger {}: the restored log ends at seq {} (ledger time {}), but the checkpoint in {} says {}: the commands \
                     {} to {}, for which others may hold receipts, would be lost",
                    loss.ledger_id,
                    loss.kept,
                    time(at.and_then(|ledger| ledger.last_time_us)),
                    loss.place,
                    loss.promised,
                    loss.kept + 1,
                    loss.promised
                )
            })
            .collect()
    }
}

/// Compares every ledger's log with the checkpoints from outside. A promise that goes beyond a log is a loss; one that the log
/// contradicts is `UR903`, and no word helps: that is another history.
pub(super) async fn compare(
    api: &Client,
    ledgers: Vec<LedgerState>,
    outside: &[Outside],
    key: &PublicKey,
) -> Result<Verdict, BackupError> {
    let mut verdict = Verdict::uncompared(ledgers);
    verdict.forest = forest(api).await?;
    // A database that is older than its forest makes it anew; what was promised of it is kept as lost.
    let unmade = match (&verdict.forest, verdict.ledgers.first()) {
        (None, Some(first)) => Some(crate::pipeline::forest_name(&first.origin)),
        _ => None,
    };
    let (of_no_forest, outside): (Vec<_>, Vec<_>) =
        outside.iter().partition(|found| unmade.is_some() && found.origin() == unmade.as_deref());
    for found in of_no_forest {
        verdict.lost_notes.insert("forest.lost.checkpoint".to_owned(), found.note.clone());
    }
    let logs: Vec<LedgerState> = verdict.ledgers.iter().chain(&verdict.forest).cloned().collect();
    let of_none = |found: &&&Outside| logs.iter().all(|log| found.origin() != Some(&log.origin));
    if let Some(found) = outside.iter().find(of_none) {
        let message = format!("the checkpoint in {} is of no log in this backup", found.place);
        return Err(BackupError::new("UR906", message));
    }
    for ledger in logs {
        let origin: NoteName = name_of(&ledger)?;
        let id = i32::try_from(ledger.ledger_id).unwrap_or_default();
        let inside = api.query_opt("select note from receipts.read_checkpoint($1)", &[&id]).await?;
        let inside: Option<String> = inside.map(|row| row.try_get(0)).transpose()?;
        let inside = inside.filter(|note| parse_and_verify(note, &origin, key).is_ok());
        let known = stated(inside.as_deref());
        let own = outside.iter().filter(|found| found.origin() == Some(origin.as_str()));
        let mut worst: Option<Loss> = None;
        for found in own.clone() {
            let promise = parse_and_verify(&found.note, &origin, key)
                .map_err(|error| BackupError::new("UR906", format!("{}: {error}", found.place)))?;
            verdict.compared += 1;
            let loss = Loss {
                ledger_id: ledger.ledger_id,
                kept: ledger.size,
                promised: promise.size,
                root: BASE64.encode(promise.root.0),
                place: found.place.clone(),
            };
            if promise.size > ledger.size {
                let name = match ledger.ledger_id {
                    FOREST => format!("forest.lost-{}.checkpoint", promise.size),
                    id => format!("ledger-{id}.lost-{}.checkpoint", promise.size),
                };
                verdict.lost_notes.insert(name, found.note.clone());
                if worst.as_ref().is_none_or(|worst| worst.promised < loss.promised) {
                    worst = Some(loss);
                }
                continue;
            }
            if root_at(api, id, promise.size).await? == Some(promise.root) {
                let agreed = verdict.agreed.entry(ledger.ledger_id).or_default();
                if promise.size >= agreed.0 {
                    *agreed = (promise.size, found.note.clone());
                }
            } else if !known.iter().any(|line| line.ends_with(&format!(" {} {}", loss.promised, loss.root))) {
                return Err(BackupError::new(
                    "UR903",
                    format!(
                        "the restored log {origin} is not the one that the checkpoint in {} is about: at size {} they differ. \
                         It is another history, not an earlier point of the same one",
                        found.place, promise.size
                    ),
                ));
            }
        }
        verdict
            .stated
            .insert(ledger.ledger_id, stated(own.map(|found| found.note.as_str()).chain(inside.as_deref())));
        verdict.losses.extend(worst);
    }
    Ok(verdict)
}

async fn forest(api: &Client) -> Result<Option<LedgerState>, BackupError> {
    let Some(row) = api.query_opt("select origin, size, root from receipts.read_forest()", &[]).await? else {
        return Ok(None);
    };
    Ok(Some(LedgerState {
        ledger_id: FOREST,
        origin: row.try_get(0)?,
        size: u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default(),
        root: hex::encode(row.try_get::<_, Vec<u8>>(2)?),
        last_time_us: None,
    }))
}

async fn root_at(api: &Client, ledger_id: i32, size: u64) -> Result<Option<TreeHash>, BackupError> {
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let row = api.query_one("select receipts.root_at($1, $2)", &[&ledger_id, &size]).await?;
    let root: Option<Vec<u8>> = row.try_get(0)?;
    Ok(root.and_then(|root| TreeHash::from_slice(&root).ok()))
}

fn name_of(ledger: &LedgerState) -> Result<NoteName, BackupError> {
    ledger
        .origin
        .parse()
        .map_err(|error| BackupError::new("UR904", format!("ledger {}: {error}", ledger.ledger_id)))
}

/// Proof that the operator gave the word for what is lost.
#[derive(Debug, Clone, Copy)]
pub struct LossAccepted;

/// The checkpoints that the restored database goes on from, by file name. What is lost is stated in them.
pub(super) fn to_keep(
    verdict: &Verdict,
    word: Option<LossAccepted>,
    key: Option<&KeyPair>,
) -> Result<BTreeMap<String, String>, BackupError> {
    let mut notes = BTreeMap::new();
    let file = |ledger_id: u32| {
        let path: PathBuf = crate::pipeline::checkpoint_path(Path::new(""), ledger_id);
        path.display().to_string()
    };
    for (ledger_id, (_, note)) in &verdict.agreed {
        notes.insert(file(*ledger_id), note.clone());
    }
    for loss in &verdict.losses {
        let said = word.is_some() || !loss.is_of_commands();
        let (true, Some(key)) = (said, key) else {
            return Err(BackupError::new("UR601", verdict.question().join("; ")));
        };
        let mut logs = verdict.ledgers.iter().chain(&verdict.forest);
        let Some(ledger) = logs.find(|ledger| ledger.ledger_id == loss.ledger_id) else {
            continue;
        };
        let root = ledger.root.parse().map_err(|_| BackupError::new("UR904", "a log's root is no hash"))?;
        let checkpoint = Checkpoint { origin: name_of(ledger)?, size: ledger.size, root };
        let mut lines = verdict.stated.get(&loss.ledger_id).cloned().unwrap_or_default();
        lines.push(loss.line());
        notes.insert(file(loss.ledger_id), sign_checkpoint_with(&checkpoint, &lines, key));
    }
    Ok(notes)
}
