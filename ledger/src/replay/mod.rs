//! Rebuilds all state from the command log and public keys, into an empty database, and makes every receipt's payload again.
//!
//! Nothing is signed here: stored signatures are put back over payloads that came out byte for byte the same. Batch
//! borders do not matter; whoever calls chooses the batch size. While Postgres decides one batch, the next ones are read and
//! their signatures checked.

mod check;
mod file;
mod proof;
mod scratch;
mod source;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join3;
use proto::ids::ReceiptId;
use proto::keys::PublicKey;
use proto::merkle::{Frontier, TreeHash};
use proto::note::{Checkpoint, NoteName, parse_and_verify};
use tokio::sync::mpsc;
use tokio_postgres::Client;
use uuid::Uuid;

pub use file::{Exported, FileLog, export, export_snapshot};
pub(crate) use proof::as_auditor;
pub use proof::{Proof, ProofOptions, Rate, Source, prove, rate};
pub(crate) use scratch::connect;
pub use scratch::{Kept, Scratch, drop_kept, kept, kept_database, prepare, session};
pub use source::{DatabaseLog, LedgerInfo, Log};

use crate::error::Error;
use crate::pipeline::entry::{Decided, Entry, Sealed, Statements, receipt_payload};
use crate::verify::log::difference;
use crate::verify::report::{First, Problem};
use crate::verify::stored::Rederive;
use check::{Batch, Checked, Promise, Step};

/// Batches that are checked ahead of the one that is decided.
const AHEAD: usize = 2;

/// How far to replay. Everything before the end is replayed, of all ledgers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The whole log.
    End,
    /// Commands whose ledger time is at most this, Unix microseconds.
    Time(i64),
    /// Up to and with this command, and what other ledgers took before it.
    Seq {
        /// The command's ledger; `None`: the only one there is.
        ledger_id: Option<u32>,
        /// Its place there.
        seq: i64,
    },
}

/// How to replay.
#[derive(Clone)]
pub struct ReplayOptions {
    /// Commands per transaction at most; the result must not depend on it.
    pub batch: usize,
    /// How far.
    pub until: Until,
    /// The receipt key as kept outside; `None`: the one that each ledger's genesis registers.
    pub receipt_key: Option<PublicKey>,
    /// From signed GraphQL JSON to command bytes.
    pub rederive: Arc<Rederive>,
    /// Signed checkpoints that are kept outside the log, by ledger.
    pub outside: BTreeMap<u32, String>,
    /// Counts the commands that are done, for whoever watches.
    pub progress: Arc<AtomicU64>,
}

impl ReplayOptions {
    /// The whole log, believing its own receipt key.
    pub fn new(batch: usize, rederive: Arc<Rederive>) -> Self {
        Self {
            batch,
            until: Until::End,
            receipt_key: None,
            rederive,
            outside: BTreeMap::new(),
            progress: Arc::default(),
        }
    }
}

/// How far a replay came.
#[derive(Debug, Clone, Default)]
pub struct Replayed {
    /// Commands that were decided again.
    pub commands: u64,
    /// What that took, without making the database.
    pub elapsed: Duration,
    /// Where each ledger ended.
    pub ledgers: Vec<LedgerEnd>,
    /// Where the log stopped giving what is stored; the replay ends there.
    pub problem: Option<Problem>,
    /// The first receipt that is not signed by the receipt key.
    pub unsigned: Option<Problem>,
    /// The first checkpoint that is not signed, or does not agree with the log.
    pub checkpoint_problem: Option<Problem>,
}

/// Where a ledger ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEnd {
    /// The ledger.
    pub ledger_id: u32,
    /// seq of the last command that was replayed; 0: none.
    pub seq: i64,
    /// Its ledger time, Unix microseconds.
    pub at_us: i64,
    /// Root of the log there.
    pub root: TreeHash,
    /// How many checkpoints were checked against the log.
    pub checkpoints: u64,
    /// Size of the newest checkpoint that the replay reached.
    pub checkpoint_before: Option<i64>,
    /// Size of the first checkpoint after the end: the log that it promises begins with what was replayed.
    pub checkpoint_after: Option<i64>,
}

/// Replays a log into `target`, which holds the schema and nothing else (see [`prepare`]). `Err` only when the replay could
/// not be made; what it found is in the answer. `UB132`: the end is a command, and there are several ledgers; `UB432`: there
/// is nothing at or before the end that was asked for.
pub async fn replay(log: &mut Log<'_>, target: &Client, options: &ReplayOptions) -> Result<Replayed, Error> {
    let options = &ReplayOptions { until: options.until.of(log.ledgers())?, ..options.clone() };
    let began = Instant::now();
    let (sender, mut steps) = mpsc::channel(AHEAD);
    let mut driver = Driver::new(target, log.ledgers(), options).await?;
    let reading = check::run(log, options, sender);
    let driving = async {
        while let Some(step) = steps.recv().await {
            if !driver.step(step).await? {
                // The reader is told by the closed channel.
                steps.close();
                while steps.recv().await.is_some() {}
            }
        }
        Ok::<_, Error>(())
    };
    futures_util::try_join!(reading, driving)?;
    let mut replayed = driver.finish().await?;
    replayed.elapsed = began.elapsed();
    if replayed.commands == 0 && replayed.problem.is_none() && options.until != Until::End {
        return Err(Error::new("UB432", "no command of this log is as old as that: choose a later --until"));
    }
    Ok(replayed)
}

impl Until {
    /// The same with its ledger named, if there is such a command.
    fn of(self, ledgers: &[LedgerInfo]) -> Result<Self, Error> {
        let Self::Seq { ledger_id, seq } = self else { return Ok(self) };
        let ledger = match (ledger_id, ledgers) {
            (None, [only]) => only,
            (None, _) => {
                let known: Vec<String> = ledgers.iter().map(|ledger| ledger.ledger_id.to_string()).collect();
                let known = known.join(", ");
                return Err(Error::new(
                    "UB132",
                    format!("a command's number needs its ledger, one of {known}: name it with --ledger"),
                ));
            }
            (Some(id), _) => ledgers
                .iter()
                .find(|ledger| ledger.ledger_id == id)
                .ok_or_else(|| Error::new("UB401", format!("there is no ledger {id} in this log")))?,
        };
        let (id, last) = (ledger.ledger_id, ledger.last_seq);
        if seq < 1 || seq > last {
            return Err(Error::new("UB432", format!("ledger {id} has commands 1 to {last}, and no {seq}")));
        }
        Ok(Self::Seq { ledger_id: Some(id), seq })
    }
}

/// One ledger on the way.
struct Progress {
    origin: Result<NoteName, String>,
    frontier: Frontier,
    end: LedgerEnd,
    receipt_key: Option<PublicKey>,
    /// The log is read beyond the end that was asked for.
    beyond: bool,
    outside: Option<Outside>,
}

/// A checkpoint that is kept outside the log.
struct Outside {
    note: String,
    /// As it says, believed only to know where to look.
    size: u64,
    /// The log's root there.
    found: Option<TreeHash>,
}

impl Outside {
    fn of(note: &str) -> Self {
        let size = note.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or_default();
        Self { note: note.to_owned(), size, found: None }
    }
}

struct Driver<'a> {
    target: &'a Client,
    statements: Statements,
    options: &'a ReplayOptions,
    ledgers: BTreeMap<u32, Progress>,
    commands: u64,
    problem: Option<Problem>,
    unsigned: First,
    checkpoints: First,
}

impl<'a> Driver<'a> {
    async fn new(
        target: &'a Client,
        ledgers: &[LedgerInfo],
        options: &'a ReplayOptions,
    ) -> Result<Self, Error> {
        let progress = |ledger: &LedgerInfo| Progress {
            origin: ledger.origin.parse::<NoteName>().map_err(|error| error.to_string()),
            frontier: Frontier::new(),
            end: LedgerEnd {
                ledger_id: ledger.ledger_id,
                seq: 0,
                at_us: 0,
                root: Frontier::new().root(),
                checkpoints: 0,
                checkpoint_before: None,
                checkpoint_after: None,
            },
            receipt_key: options.receipt_key,
            beyond: false,
            outside: options.outside.get(&ledger.ledger_id).map(|note| Outside::of(note)),
        };
        Ok(Self {
            target,
            statements: Statements::prepare(target).await?,
            options,
            ledgers: ledgers.iter().map(|ledger| (ledger.ledger_id, progress(ledger))).collect(),
            commands: 0,
            problem: None,
            unsigned: First::default(),
            checkpoints: First::default(),
        })
    }

    /// False: the replay ends here.
    async fn step(&mut self, step: Step) -> Result<bool, Error> {
        match step {
            Step::Decide(batch) => return self.decide(batch).await,
            Step::Checkpoint { ledger_id, promise } => {
                if let Some(ledger) = self.ledgers.get_mut(&ledger_id) {
                    ledger.keep(promise, &mut self.checkpoints);
                }
            }
            Step::Beyond { ledger_id, leaves } => {
                if let Some(ledger) = self.ledgers.get_mut(&ledger_id) {
                    ledger.beyond = true;
                    leaves.into_iter().for_each(|leaf| ledger.append(leaf));
                }
            }
        }
        Ok(true)
    }

    async fn decide(&mut self, batch: Batch) -> Result<bool, Error> {
        if let Some(unsigned) = batch.unsigned {
            self.unsigned.note(unsigned.place, unsigned.message);
        }
        let ledger_id = batch.ledger_id;
        let id = i32::try_from(ledger_id).map_err(|_| Error::new("UB401", "there is no such ledger"))?;
        let commands = batch.commands;
        self.problem = batch.problem;
        if commands.is_empty() {
            return Ok(false);
        }
        let (entries, sealed) = (batch.entries, batch.sealed);
        // The receipts are known beforehand, so they go along with the question: one round trip, and Postgres stores while the
        // answers are compared. Nothing is committed before they are.
        let (begun, found, stored) = join3(
            self.target.batch_execute("begin"),
            async {
                let decided = self.statements.decide(self.target, id, batch.rules_version, &entries).await;
                decided.map(|decided| differs(ledger_id, &commands, &entries, &sealed, &decided))
            },
            self.statements.seal(self.target, id, &sealed),
        )
        .await;
        begun?;
        let found = match found {
            Ok(found) => found,
            Err(error) => Some(raised(&commands, error)?),
        };
        if found.is_some() {
            self.problem = found;
            self.target.batch_execute("rollback").await?;
            return Ok(false);
        }
        stored?;
        self.target.batch_execute("commit").await?;
        self.commands += commands.len() as u64;
        self.options.progress.fetch_add(commands.len() as u64, Ordering::Relaxed);
        if let Some(ledger) = self.ledgers.get_mut(&ledger_id) {
            if let (None, Some(genesis)) = (ledger.receipt_key, entries.first()) {
                ledger.receipt_key = check::receipt_key_of(&genesis.body);
            }
            let mut promises = batch.promises.into_iter().peekable();
            for checked in &commands {
                ledger.append(checked.leaf);
                while let Some(promise) = promises.next_if(|promise| promise.size <= checked.seq) {
                    ledger.keep(promise, &mut self.checkpoints);
                }
            }
            // One that promises more than there is.
            promises.for_each(|promise| ledger.keep(promise, &mut self.checkpoints));
            if let Some(last) = commands.last() {
                (ledger.end.seq, ledger.end.at_us) = (last.seq, last.at_us);
                ledger.end.root = ledger.frontier.root();
            }
        }
        Ok(self.problem.is_none())
    }

    async fn finish(mut self) -> Result<Replayed, Error> {
        let mut ends = Vec::new();
        for (ledger_id, ledger) in &mut self.ledgers {
            if self.problem.is_none() {
                ledger.check_outside(*ledger_id, self.options.until, &mut self.checkpoints);
                if ledger.end.seq > 0 {
                    self.problem = log_differs(self.target, &ledger.end).await?;
                }
            }
            ends.push(ledger.end.clone());
        }
        Ok(Replayed {
            commands: self.commands,
            elapsed: Duration::ZERO,
            ledgers: ends,
            problem: self.problem,
            unsigned: self.unsigned.0,
            checkpoint_problem: self.checkpoints.0,
        })
    }
}

impl Progress {
    fn append(&mut self, leaf: TreeHash) {
        self.frontier.append(leaf);
        if self.outside.as_ref().is_some_and(|outside| outside.size == self.frontier.size()) {
            let root = self.frontier.root();
            if let Some(outside) = &mut self.outside {
                outside.found = Some(root);
            }
        }
    }

    /// Holds a checkpoint against the log, which has been read to where it ends.
    fn keep(&mut self, promise: Promise, checkpoints: &mut First) {
        let size = promise.size;
        let place = format!("receipts.checkpoints size {size}");
        match promise.said {
            Err(why) => checkpoints.note(place, why),
            Ok(said) => {
                let found = (self.frontier.size(), self.frontier.root());
                if u64::try_from(size).ok() != Some(said.size) || found != (said.size, said.root) {
                    let why = format!("its root is not the log's root at size {}", said.size);
                    return checkpoints.note(place, why);
                }
                self.end.checkpoints += 1;
                if self.beyond {
                    self.end.checkpoint_after = Some(size);
                } else {
                    self.end.checkpoint_before = Some(size);
                }
            }
        }
    }

    /// A checkpoint of this ledger, if the receipt key signed it.
    fn read(&self, note: &str) -> Result<Checkpoint, String> {
        let origin = self.origin.as_ref().map_err(Clone::clone)?;
        let key = self.receipt_key.ok_or(check::NO_KEY)?;
        parse_and_verify(note, origin, &key).map_err(|error| error.to_string())
    }

    /// The checkpoint that is kept outside must be in the log as well, unless the replay ended before it.
    fn check_outside(&mut self, ledger_id: u32, until: Until, checkpoints: &mut First) {
        let Some(outside) = &self.outside else { return };
        let place = format!("the checkpoint of ledger {ledger_id} kept outside");
        match self.read(&outside.note) {
            Err(why) => checkpoints.note(place, why),
            Ok(promised) if promised.size > self.frontier.size() => {
                if until == Until::End {
                    let (promised, held) = (promised.size, self.frontier.size());
                    let why = format!(
                        "it promises {promised} receipts, the log holds {held}: the tail was cut off"
                    );
                    checkpoints.note(place, why);
                }
            }
            Ok(promised) if outside.found != Some(promised.root) && promised.size > 0 => {
                checkpoints.note(place, format!("its root is not the log's root at size {}", promised.size));
            }
            Ok(_) => self.end.checkpoints += 1,
        }
    }
}

/// The first command whose outcome or receipt is not the stored one.
fn differs(
    ledger_id: u32,
    commands: &[Checked],
    entries: &[Entry],
    sealed: &[Sealed],
    decided: &[Decided],
) -> Option<Problem> {
    let mut heads: HashMap<Uuid, ReceiptId> = HashMap::new();
    for (((checked, entry), sealed), decided) in commands.iter().zip(entries).zip(sealed).zip(decided) {
        if decided.replayed || decided.seq != checked.seq {
            let message = format!("replay gives it seq {}", decided.seq);
            return Some(Problem { place: format!("base.commands seq {}", checked.seq), message });
        }
        let head = heads.get(&decided.subject_id).map(|id| id.as_ref().to_vec());
        let prev = head.or_else(|| decided.prev.clone());
        let payload = receipt_payload(ledger_id, entry, decided, prev.as_deref());
        if payload != checked.payload {
            let place = format!("receipts.receipts seq {}", checked.seq);
            return Some(Problem { place, message: difference(&payload, &checked.payload) });
        }
        heads.insert(decided.subject_id, sealed.receipt_id);
    }
    None
}

/// What raised in the database, as a finding; a lost connection is none.
fn raised(commands: &[Checked], error: tokio_postgres::Error) -> Result<Problem, Error> {
    let Some(said) = error.as_db_error() else { return Err(error.into()) };
    let (first, last) = (commands.first().map_or(0, |c| c.seq), commands.last().map_or(0, |c| c.seq));
    let place = format!("base.commands seq {first} to {last}");
    Ok(Problem { place, message: format!("replay raised: {}", said.message()) })
}

/// The log that SQL kept must be the one that was computed here.
async fn log_differs(target: &Client, end: &LedgerEnd) -> Result<Option<Problem>, Error> {
    let id = i32::try_from(end.ledger_id).unwrap_or_default();
    let row = target.query_opt("select size, root from receipts.read_log($1)", &[&id]).await?;
    let kept: Option<(i64, Vec<u8>)> =
        row.map(|row| Ok::<_, Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?;
    if kept == Some((end.seq, end.root.0.to_vec())) {
        return Ok(None);
    }
    let message = format!("the log of ledger {} that replay made has another root", end.ledger_id);
    Ok(Some(Problem { place: "receipts.logs".into(), message }))
}
