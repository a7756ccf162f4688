//! What of a replay needs no database: signatures, digests, arguments, leaves. It is done on other threads while Postgres
//! decides what came before, a bounded number of batches ahead and in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::ids::ReceiptId;
use proto::keys::PublicKey;
use proto::merkle::{TreeHash, leaf_hash};
use proto::note::{Checkpoint, NoteName, parse_and_verify};
use proto::prost::Message as _;
use proto::{dsse, v1};
use tokio::sync::mpsc;

use super::source::{Item, LedgerInfo, Log, What, bytes_of};
use super::{ReplayOptions, Until};
use crate::error::Error;
use crate::pipeline::entry::{Entry, Sealed};
use crate::verify::Problem;
use crate::verify::stored::{self, Keys, Rederive, Stored};

/// A batch ends when it has so many bytes, whatever its number of commands.
const BATCH_BYTES: usize = 32 << 20;
/// Kinds that write what ledgers share: agents, keys and assets.
const SHARED: [&str; 3] = ["genesis", "register_agent", "revoke_key"];
/// What is said of a log whose genesis names no receipt key.
pub(super) const NO_KEY: &str = "no receipt key was registered at genesis";
/// Fewer commands are not worth a thread.
const THREAD_COMMANDS: usize = 16;

/// What goes to whoever drives the database.
pub(super) enum Step {
    /// Commands to decide, in one transaction.
    Decide(Batch),
    /// A checkpoint that covers everything of its ledger up to here.
    Checkpoint { ledger_id: u32, promise: Promise },
    /// Leaves behind the end of the replay, which the next checkpoint of their ledger covers.
    Beyond { ledger_id: u32, leaves: Vec<TreeHash> },
}

/// Commands of one ledger and one version of the rules.
pub(super) struct Batch {
    pub(super) ledger_id: u32,
    pub(super) rules_version: i32,
    /// As they go into `base.decide`.
    pub(super) entries: Vec<Entry>,
    /// The stored receipts as they are sealed again.
    pub(super) sealed: Vec<Sealed>,
    pub(super) commands: Vec<Checked>,
    /// The checkpoints that end among or behind these commands.
    pub(super) promises: Vec<Promise>,
    /// Where the log cannot be believed: what comes after it is not replayed.
    pub(super) problem: Option<Problem>,
    /// The first receipt that is not signed by the receipt key.
    pub(super) unsigned: Option<Problem>,
}

/// A checkpoint of the log.
pub(super) struct Promise {
    /// Where it is in the log.
    pub(super) size: i64,
    /// What it says, if the receipt key signed it in the log's name.
    pub(super) said: Result<Checkpoint, String>,
}

/// A command whose signed bytes say what was executed.
pub(super) struct Checked {
    pub(super) at_us: i64,
    pub(super) seq: i64,
    /// Of the stored receipt: what must come out again.
    pub(super) payload: Vec<u8>,
    pub(super) leaf: TreeHash,
}

/// What the check of one command gives.
struct Good {
    checked: Checked,
    entry: Entry,
    sealed: Sealed,
    /// Why the receipt key did not sign its receipt.
    unsigned: Option<String>,
}

/// A batch that is being gathered.
#[derive(Default)]
struct Gathered {
    commands: Vec<Stored>,
    /// Sizes and notes.
    checkpoints: Vec<(i64, String)>,
    bytes: usize,
}

/// What a ledger's receipts and checkpoints are judged by.
#[derive(Clone)]
struct Judge {
    ledger_id: u32,
    origin: Result<NoteName, String>,
    receipt_key: Option<PublicKey>,
}

impl Judge {
    fn promise(&self, size: i64, note: &str) -> Promise {
        let said = match (&self.origin, &self.receipt_key) {
            (Err(why), _) => Err(why.clone()),
            (Ok(_), None) => Err(NO_KEY.to_owned()),
            (Ok(origin), Some(key)) => parse_and_verify(note, origin, key).map_err(|error| error.to_string()),
        };
        Promise { size, said }
    }
}

/// Reads the log, checks it and hands it on, until its end, until the end that was asked for (and from there to each ledger's
/// next checkpoint), or until nobody listens any more.
pub(super) async fn run(
    log: &mut Log<'_>,
    options: &ReplayOptions,
    steps: mpsc::Sender<Step>,
) -> Result<(), Error> {
    let several = log.ledgers().len() > 1;
    let mut run = Run {
        options,
        steps,
        judges: log.ledgers().iter().map(|ledger| (ledger.ledger_id, judge(ledger, options))).collect(),
        waiting: BTreeMap::new(),
        several,
        keys: log.keys(),
        ended: false,
        unpromised: log.ledgers().iter().map(|ledger| ledger.ledger_id).collect(),
    };
    loop {
        let items = log.chunk().await?;
        if items.is_empty() {
            return run.flush_all().await.map(drop);
        }
        run.keys = log.keys();
        for item in items {
            if !run.take(item).await? {
                return Ok(());
            }
        }
    }
}

struct Run<'a> {
    options: &'a ReplayOptions,
    steps: mpsc::Sender<Step>,
    judges: BTreeMap<u32, Judge>,
    /// What is gathered for each ledger's next batch.
    waiting: BTreeMap<u32, Gathered>,
    several: bool,
    keys: Arc<Keys>,
    /// The end that was asked for is behind us.
    ended: bool,
    /// Ledgers whose next checkpoint after the end has not come yet.
    unpromised: Vec<u32>,
}

impl Run<'_> {
    /// False: nobody needs more.
    async fn take(&mut self, item: Item) -> Result<bool, Error> {
        if !self.ended && self.options.until.is_before(&item) {
            self.ended = true;
            if !self.flush_all().await? {
                return Ok(false);
            }
        }
        let goes_on = if self.ended { self.beyond(item).await? } else { self.within(item).await? };
        Ok(goes_on && !(self.ended && self.unpromised.is_empty()))
    }

    async fn within(&mut self, item: Item) -> Result<bool, Error> {
        let ledger_id = item.ledger_id;
        let command = match item.what {
            What::Checkpoint { size, note } => {
                // It does not end a batch: a quiet ledger has a checkpoint behind each command.
                if let Some(waiting) = self.waiting.get_mut(&ledger_id) {
                    waiting.checkpoints.push((size, note));
                    return Ok(true);
                }
                let promise = self.judge(ledger_id).promise(size, &note);
                return Ok(self.send(Step::Checkpoint { ledger_id, promise }).await);
            }
            What::Command(command) => command,
        };
        if command.seq == 1 {
            self.learn_receipt_key(ledger_id, &command);
        }
        // What ledgers share is written in the order of ledger time; between two such commands, ledgers do not see one another.
        let shared = self.several && SHARED.contains(&command.entry.kind.as_str());
        if shared && !self.flush_all().await? {
            return Ok(false);
        }
        let last = self.options.until.is_at(ledger_id, command.seq);
        let waiting = self.waiting.get(&ledger_id).and_then(|waiting| waiting.commands.last());
        if waiting.is_some_and(|before| before.rules_version != command.rules_version)
            && !self.flush(ledger_id).await?
        {
            return Ok(false);
        }
        let waiting = self.waiting.entry(ledger_id).or_default();
        waiting.bytes += bytes_of(&command);
        waiting.commands.push(*command);
        let full = waiting.commands.len() >= self.options.batch.max(1) || waiting.bytes >= BATCH_BYTES;
        if (full || shared) && !self.flush(ledger_id).await? {
            return Ok(false);
        }
        if last {
            self.ended = true;
            return self.flush_all().await;
        }
        Ok(true)
    }

    async fn beyond(&mut self, item: Item) -> Result<bool, Error> {
        let ledger_id = item.ledger_id;
        if !self.unpromised.contains(&ledger_id) {
            return Ok(true);
        }
        let step = match item.what {
            What::Checkpoint { size, note } => {
                self.unpromised.retain(|id| *id != ledger_id);
                Step::Checkpoint { ledger_id, promise: self.judge(ledger_id).promise(size, &note) }
            }
            What::Command(command) => {
                let leaves = command.receipt.iter().map(|receipt| leaf_hash(&receipt.envelope)).collect();
                Step::Beyond { ledger_id, leaves }
            }
        };
        Ok(self.send(step).await)
    }

    async fn flush_all(&mut self) -> Result<bool, Error> {
        let ledgers: Vec<u32> = self.waiting.keys().copied().collect();
        for ledger_id in ledgers {
            if !self.flush(ledger_id).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn flush(&mut self, ledger_id: u32) -> Result<bool, Error> {
        let Some(gathered) = self.waiting.remove(&ledger_id) else { return Ok(true) };
        let (keys, judge) = (Arc::clone(&self.keys), self.judge(ledger_id));
        let rederive = Arc::clone(&self.options.rederive);
        let batch = tokio::task::spawn_blocking(move || check(gathered, &judge, &keys, rederive.as_ref()))
            .await
            .map_err(|error| Error::new("UB900", format!("checking a log was given up: {error}")))?;
        let whole = batch.problem.is_none();
        Ok(self.send(Step::Decide(batch)).await && whole)
    }

    fn judge(&self, ledger_id: u32) -> Judge {
        let unknown = || Judge {
            ledger_id,
            origin: Err(format!("there is no ledger {ledger_id} in this log")),
            receipt_key: None,
        };
        self.judges.get(&ledger_id).cloned().unwrap_or_else(unknown)
    }

    async fn send(&self, step: Step) -> bool {
        self.steps.send(step).await.is_ok()
    }

    fn learn_receipt_key(&mut self, ledger_id: u32, genesis: &Stored) {
        if let Some(judge) = self.judges.get_mut(&ledger_id) {
            judge.receipt_key = judge.receipt_key.or_else(|| receipt_key_of(&genesis.entry.body));
        }
    }
}

/// The receipt key that a genesis registers.
pub(super) fn receipt_key_of(body: &[u8]) -> Option<PublicKey> {
    let body = v1::CommandBody::decode(body).ok()?;
    let Some(v1::command_body::Kind::Genesis(genesis)) = body.kind else { return None };
    let key = genesis.keys.into_iter().find(|key| key.purpose() == v1::KeyPurpose::Receipt)?;
    PublicKey::from_slice(&key.public_key).ok()
}

impl Until {
    /// Whether the end lies before this item.
    fn is_before(&self, item: &Item) -> bool {
        // A checkpoint has the time of the command before it.
        matches!(self, Self::Time(us) if item.at_us > *us)
    }

    /// Whether the end is this command.
    fn is_at(&self, ledger_id: u32, seq: i64) -> bool {
        *self == Self::Seq { ledger_id: Some(ledger_id), seq }
    }
}

fn judge(ledger: &LedgerInfo, options: &ReplayOptions) -> Judge {
    Judge {
        ledger_id: ledger.ledger_id,
        origin: ledger.origin.parse::<NoteName>().map_err(|error| error.to_string()),
        receipt_key: options.receipt_key,
    }
}

fn check(gathered: Gathered, judge: &Judge, keys: &Keys, rederive: &Rederive) -> Batch {
    let Gathered { commands, checkpoints, .. } = gathered;
    let rules_version = commands.first().map_or(0, |command| command.rules_version);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = commands.len().div_ceil(threads).max(THREAD_COMMANDS);
    let one = |command: &Stored| check_one(command, judge, keys, rederive);
    let mut results: Vec<Result<Good, Problem>> = Vec::with_capacity(commands.len());
    std::thread::scope(|scope| {
        let mut parts = commands.chunks(part);
        // The first part is this thread's own.
        let first = parts.next().unwrap_or_default();
        let others: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(one).collect::<Vec<_>>())).collect();
        results.extend(first.iter().map(one));
        for other in others {
            match other.join() {
                Ok(checked) => results.extend(checked),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let mut batch = Batch {
        ledger_id: judge.ledger_id,
        rules_version,
        promises: checkpoints.iter().map(|(size, note)| judge.promise(*size, note)).collect(),
        entries: Vec::with_capacity(results.len()),
        sealed: Vec::with_capacity(results.len()),
        commands: Vec::with_capacity(results.len()),
        problem: None,
        unsigned: None,
    };
    for result in results {
        match result {
            Ok(good) => {
                if let (None, Some(message)) = (&batch.unsigned, good.unsigned) {
                    let place = format!("receipts.receipts seq {}", good.checked.seq);
                    batch.unsigned = Some(Problem { place, message });
                }
                batch.entries.push(good.entry);
                batch.sealed.push(good.sealed);
                batch.commands.push(good.checked);
            }
            Err(problem) => {
                batch.problem = Some(problem);
                break;
            }
        }
    }
    batch
}

fn check_one(command: &Stored, judge: &Judge, keys: &Keys, rederive: &Rederive) -> Result<Good, Problem> {
    let at =
        |table: &str, message: String| Problem { place: format!("{table} seq {}", command.seq), message };
    let signed = stored::check_signed(command, judge.ledger_id, keys, rederive)
        .map_err(|message| at("base.commands", message))?;
    let entry =
        stored::replayable(command, &signed).map_err(|error| at("base.commands", error.to_string()))?;
    let receipt =
        command.receipt.as_ref().ok_or_else(|| at("receipts.receipts", "this receipt is missing".into()))?;
    let envelope = v1::Envelope::decode(receipt.envelope.as_slice())
        .map_err(|error| at("receipts.receipts", format!("its envelope does not decode: {error}")))?;
    let unsigned = match &judge.receipt_key {
        None => Some(NO_KEY.to_owned()),
        Some(key) => {
            let trusted = |key_id: &proto::ids::KeyId| (*key_id == key.id()).then_some(*key);
            dsse::verify(&envelope, &dsse::payload_type::<v1::Receipt>(), trusted)
                .err()
                .map(|e| e.to_string())
        }
    };
    // From the payload, not from the columns: what replay seals must be what the receipt says.
    let stated = v1::Receipt::decode(envelope.payload.as_slice())
        .map_err(|error| at("receipts.receipts", format!("its payload is not a Receipt: {error}")))?;
    let sealed = Sealed {
        seq: command.seq,
        receipt_id: ReceiptId::of(&envelope.payload),
        subject_id: uuid::Uuid::from_slice(&stated.subject_id).unwrap_or_default(),
        prev: (!stated.prev.is_empty()).then_some(stated.prev),
        envelope: receipt.envelope.clone(),
    };
    let leaf = leaf_hash(&receipt.envelope);
    let checked = Checked { at_us: command.at_us, seq: command.seq, payload: envelope.payload, leaf };
    Ok(Good { checked, entry, sealed, unsigned })
}
