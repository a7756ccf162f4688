//! A restored log against what was promised: the checkpoints that are kept outside the database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proto::keys::{KeyPair, PublicKey};
use proto::merkle::{Frontier, TreeHash};
use proto::note::{Checkpoint, NoteName, StatedLoss, parse_and_verify, sign_checkpoint_with, stated_losses};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::manifest::LedgerState;
use super::repository::names;
use super::{BackupError, files};
use crate::receipts::log::FOREST;

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
    /// As every later checkpoint states it.
    fn statement(&self) -> Result<StatedLoss, BackupError> {
        let root = BASE64.decode(&self.root).ok().and_then(|bytes| TreeHash::from_slice(&bytes).ok());
        let root =
            root.ok_or_else(|| BackupError::new("UR904", "the root of what was promised is no hash"))?;
        Ok(StatedLoss { kept: self.kept, promised: self.promised, root })
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

/// A checkpoint from outside the database, and where it was found.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    pub(super) place: String,
    pub(super) note: String,
    /// Whether somebody named it or vouches for it; what lies in a folder for backups may be anybody's and is passed over then.
    pub(super) vouched: bool,
}

impl Outside {
    /// The log that it says it is of.
    fn origin(&self) -> Option<&str> {
        self.note.lines().next()
    }
}

/// Every `ledger-<n>.checkpoint` and `forest.checkpoint` in a data dir's folder, and those that an earlier restore gave up.
pub(super) fn in_folder(dir: &Path) -> Result<Vec<Outside>, BackupError> {
    checkpoints(dir)?.iter().map(|path| in_file(path)).collect()
}

/// Every checkpoint in a folder for backups, of whatever set or stretch of WAL: what was promised does not depend on which set
/// is restored.
pub(super) fn in_repository(dir: &Path) -> Result<Vec<Outside>, BackupError> {
    let mut found = Vec::new();
    for (parent, below) in [("sets", "checkpoints"), ("wal", "")] {
        for name in names(&dir.join(parent))? {
            for path in checkpoints(&dir.join(parent).join(name).join(below)).unwrap_or_default() {
                match in_file(&path) {
                    Ok(outside) => found.push(Outside { vouched: false, ..outside }),
                    Err(error) => {
                        tracing::warn!(%error, "a checkpoint in the folder for backups is passed over")
                    }
                }
            }
        }
    }
    Ok(found)
}

fn checkpoints(dir: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let log = |name: &String| name.starts_with("ledger-") || name.starts_with("forest.");
    let checkpoint = |name: &String| log(name) && name.ends_with(".checkpoint");
    Ok(names(dir)?.into_iter().filter(checkpoint).map(|name| dir.join(name)).collect())
}

/// One file.
pub(super) fn in_file(path: &Path) -> Result<Outside, BackupError> {
    let bytes = files::read_small(path)?;
    let place = path.display().to_string();
    match String::from_utf8(bytes) {
        Ok(note) => Ok(Outside { place, note, vouched: true }),
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
    stated: BTreeMap<u32, Vec<StatedLoss>>,
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

    fn logs(&self) -> impl Iterator<Item = &LedgerState> {
        self.ledgers.iter().chain(&self.forest)
    }

    fn lines(&self, ledger_id: u32) -> &[StatedLoss] {
        self.stated.get(&ledger_id).map_or(&[], Vec::as_slice)
    }

    /// Whether no checkpoint that the log agrees with states every loss of before.
    fn must_sign(&self, ledger_id: u32) -> bool {
        let agreed = self.agreed.get(&ledger_id).map(|(_, note)| stated_losses([note.as_str()]));
        self.lines(ledger_id).iter().any(|loss| agreed.as_ref().is_none_or(|agreed| !agreed.contains(loss)))
    }

    /// Whether the receipt key has to state something.
    pub(super) fn has_to_state(&self) -> bool {
        !self.losses.is_empty() || self.logs().any(|log| self.must_sign(log.ledger_id))
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
    verdict.forest = match (forest(api).await?, verdict.ledgers.first()) {
        // A database from before its forest was made: an empty one, which may have been promised more.
        (None, Some(first)) => Some(LedgerState {
            ledger_id: FOREST,
            origin: crate::pipeline::forest_name(&first.origin),
            size: 0,
            root: hex::encode(Frontier::new().root().0),
            last_time_us: None,
        }),
        (forest, _) => forest,
    };
    let logs: Vec<LedgerState> = verdict.logs().cloned().collect();
    for found in outside.iter().filter(|found| logs.iter().all(|log| found.origin() != Some(&log.origin))) {
        let message = format!("the checkpoint in {} is of no log in this backup", found.place);
        if found.vouched {
            return Err(BackupError::new("UR906", message));
        }
        tracing::warn!("{message}: it is passed over");
    }
    for ledger in logs {
        let origin: NoteName = name_of(&ledger)?;
        let id = i32::try_from(ledger.ledger_id).unwrap_or_default();
        let inside = api.query_opt("select note from receipts.read_checkpoint($1)", &[&id]).await?;
        let inside: Option<String> = inside.map(|row| row.try_get(0)).transpose()?;
        let inside = inside.filter(|note| parse_and_verify(note, &origin, key).is_ok());
        let mut own = Vec::new();
        for found in outside.iter().filter(|found| found.origin() == Some(origin.as_str())) {
            match parse_and_verify(&found.note, &origin, key) {
                Ok(promise) => own.push((found, promise)),
                Err(error) if found.vouched => {
                    return Err(BackupError::new("UR906", format!("{}: {error}", found.place)));
                }
                Err(error) => tracing::warn!(place = found.place, %error, "a checkpoint is passed over"),
            }
        }
        let said = own.iter().map(|(found, _)| found.note.as_str()).chain(inside.as_deref());
        let stated = stated_losses(said);
        for loss in stated.iter().filter(|loss| loss.promised <= ledger.size) {
            if root_at(api, id, loss.promised).await? == Some(loss.root) {
                return Err(BackupError::new(
                    "UR903",
                    format!(
                        "the restored log {origin} is the branch that an earlier restore gave up from size {} on: name a set that was \
                         made after that restore, or a moment before it",
                        loss.kept
                    ),
                ));
            }
        }
        // Promises of a branch that was given up by word, and that the log states ever since, are not missed again.
        let given_up = |promise: &Checkpoint, note: &str| {
            let own = stated_losses([note]);
            let of = |loss: &&StatedLoss| loss.kept < promise.size && promise.size <= loss.promised;
            stated.iter().filter(of).any(|loss| !own.contains(loss))
        };
        let mut worst: Option<Loss> = None;
        for (found, promise) in &own {
            verdict.compared += 1;
            if promise.size > ledger.size {
                if given_up(promise, &found.note) {
                    continue;
                }
                verdict.lost_notes.insert(lost_name(ledger.ledger_id, promise), found.note.clone());
                if worst.as_ref().is_none_or(|worst| worst.promised < promise.size) {
                    worst = Some(Loss {
                        ledger_id: ledger.ledger_id,
                        kept: ledger.size,
                        promised: promise.size,
                        root: BASE64.encode(promise.root.0),
                        place: found.place.clone(),
                    });
                }
            } else if root_at(api, id, promise.size).await? == Some(promise.root) {
                let said = |note: &str| (promise.size, stated_losses([note]).len());
                let agreed = verdict.agreed.get(&ledger.ledger_id);
                let better = |(size, note): &(u64, String)| {
                    said(&found.note) >= (*size, stated_losses([note.as_str()]).len())
                };
                if agreed.is_none_or(better) {
                    verdict.agreed.insert(ledger.ledger_id, (promise.size, found.note.clone()));
                }
            } else if !given_up(promise, &found.note) {
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
        verdict.stated.insert(ledger.ledger_id, stated);
        verdict.losses.extend(worst);
    }
    Ok(verdict)
}

/// Where a promise that a restore gave up is kept: a name for each, so that none takes another's place.
fn lost_name(ledger_id: u32, promise: &Checkpoint) -> String {
    let root = hex::encode(&promise.root.0[..4]);
    match ledger_id {
        FOREST => format!("forest.lost-{}-{root}.checkpoint", promise.size),
        id => format!("ledger-{id}.lost-{}-{root}.checkpoint", promise.size),
    }
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
    for log in verdict.logs() {
        let id = log.ledger_id;
        let loss = verdict.losses.iter().find(|loss| loss.ledger_id == id);
        let lines = verdict.lines(id);
        let agreed = verdict.agreed.get(&id).map(|(_, note)| note);
        if loss.is_none() && !verdict.must_sign(id) {
            notes.extend(agreed.map(|note| (file(id), note.clone())));
            continue;
        }
        let said = word.is_some() || loss.is_none_or(|loss| !loss.is_of_commands());
        let (true, Some(key)) = (said, key) else {
            return Err(BackupError::new("UR601", verdict.question().join("; ")));
        };
        let root = log.root.parse().map_err(|_| BackupError::new("UR904", "a log's root is no hash"))?;
        let checkpoint = Checkpoint { origin: name_of(log)?, size: log.size, root };
        let mut lines: Vec<String> = lines.iter().map(StatedLoss::to_string).collect();
        if let Some(loss) = loss {
            lines.push(loss.statement()?.to_string());
        }
        notes.insert(file(id), sign_checkpoint_with(&checkpoint, &lines, key));
    }
    Ok(notes)
}
