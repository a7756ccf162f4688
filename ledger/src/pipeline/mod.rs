//! The command pipeline: commands in, receipts out.
//!
//! One queue and one writer per ledger. A writer takes what has queued up, has SQL decide it (`base.decide`), signs the
//! receipts, has SQL store them (`receipts.seal`) and commits, two round trips for the whole batch; then it answers. An
//! answer is given only for what is durable. Whoever repeats a request under the same key gets the stored answer.

mod anew;
#[cfg(test)]
mod attacks;
mod checkpoint;
mod drill;
pub(crate) mod entry;
mod forest;
mod keeper;
pub mod rig;
pub(crate) mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use proto::ids::{AgentId, ReceiptId};
use proto::keys::PublicKey;
use proto::note::{INCLUDE_WITHIN_US, include_by_us};
use proto::prost::Message as _;
use proto::{command, dsse, v1};
use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use checkpoint::write_durably;
pub use drill::{Chance, Drill, Stage};
pub use entry::{RULES_VERSION, request_digest};
pub(crate) use forest::name_after as forest_name;

use crate::args;
use crate::clock::Clock;
use crate::error::{Error, http_status};
use crate::house::{Hand, House};
use anew::Anew;
use entry::Entry;
use worker::{Job, Worker};

/// How long a request waits for its batch before it is told that it is still in flight.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Commands that may wait per ledger; more are told to come back.
const QUEUE_LEN: usize = 8_192;
/// A command that has waited longer when it is decided is accepted anew: what is left of its deadline would not be enough.
const WAITED_US_MAX: i64 = INCLUDE_WITHIN_US / 2;

/// What a pipeline needs to run.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// The database, as role `econ_api`.
    pub database: tokio_postgres::Config,
    /// Signs receipts, checkpoints and the house's own commands.
    pub house: House,
    /// The accepting clock.
    pub clock: Clock,
    /// The ledgers that take commands; others answer UB401.
    pub ledger_ids: Vec<u32>,
    /// Where the newest checkpoint of each ledger is kept outside the database.
    pub checkpoint_dir: PathBuf,
    /// Commands per transaction at most.
    pub batch_max: usize,
}

/// An authenticated request: its signature has been verified by whoever submits it.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Which ledger decides.
    pub ledger_id: u32,
    /// The agent that signed.
    pub actor: AgentId,
    /// The key it signed with.
    pub key: PublicKey,
    /// 1 to 255 bytes, scoped to the actor.
    pub idempotency_key: String,
    /// The signature's nonce; `None` only for the house's own commands.
    pub nonce: Option<String>,
    /// Method and target (path and query, without authority).
    pub method_target: (String, String),
    /// As sent.
    pub content_type: String,
    /// SHA-256 of the body as sent.
    pub content_digest: [u8; 32],
    /// The command itself.
    pub body: v1::CommandBody,
    /// Its exact bytes.
    pub body_bytes: bytes::Bytes,
    /// The request's body where it is not `body_bytes` (GraphQL JSON).
    pub signed_body: Option<bytes::Bytes>,
    /// What was signed.
    pub signature_base: Vec<u8>,
    /// Ed25519 over `signature_base`.
    pub signature: [u8; 64],
}

/// The outcome of a command, as its receipt states it. Refusals are answers too.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The ledger that decided.
    pub ledger_id: u32,
    /// Gapless per ledger.
    pub seq: u64,
    /// The command's id.
    pub command_id: Uuid,
    /// "ok" or a code of docs/ERRORS.md.
    pub code: String,
    /// JSON text.
    pub facts: String,
    /// What it was about.
    pub subject_kind: String,
    /// And its id.
    pub subject_id: Uuid,
    /// The receipt's id.
    pub receipt_id: ReceiptId,
    /// Ledger time, Unix microseconds.
    pub at_us: i64,
    /// The stored answer of an earlier, identical request.
    pub replayed: bool,
}

impl Answer {
    /// Not refused.
    pub fn is_ok(&self) -> bool {
        self.code == "ok"
    }

    /// Refused because it raised, whoever was at fault: it was never judged. No refusal of a domain function is of kind 9.
    pub fn is_forced(&self) -> bool {
        !self.is_ok() && http_status(&self.code) == 500
    }

    /// The facts as JSON; null when they are not (which would be our bug).
    pub fn facts_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.facts).unwrap_or_default()
    }

    /// The message of a refusal, or empty.
    pub fn message(&self) -> String {
        self.facts_json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A hint after a commit: these agents have news up to `seq`. Lossy; whoever waits also polls.
#[derive(Debug, Clone)]
pub struct Wake {
    /// Where.
    pub ledger_id: u32,
    /// The command that made the news.
    pub seq: u64,
    /// Whom it concerns.
    pub agents: Arc<[AgentId]>,
}

pub(crate) struct Shared {
    options: PipelineOptions,
    wakes: broadcast::Sender<Wake>,
    anew: Anew,
    stopping: AtomicBool,
    drained: AtomicBool,
    /// The latest time that a checkpoint of these ledgers states, Unix microseconds.
    signed_us: AtomicI64,
    drill: Option<Drill>,
    dead: AtomicBool,
}

impl Shared {
    /// When a command that comes now is accepted: by the clock, but never so early that its receipt would be due at a time
    /// that a checkpoint states already. That matters only when the clock was set back.
    fn accept_us(&self) -> i64 {
        let signed_us = self.signed_us.load(Ordering::Acquire);
        self.options.clock.now_us().max(signed_us.saturating_add(1_000_000 - INCLUDE_WITHIN_US))
    }

    /// Whether the promise to a command that was accepted then can still be kept.
    fn can_promise(&self, accepted_at_us: i64) -> bool {
        self.options.clock.now_us() - accepted_at_us <= WAITED_US_MAX
            && include_by_us(accepted_at_us) > self.signed_us.load(Ordering::Acquire)
    }

    /// The writers are gone: they have answered everything, or a drill has let them die.
    fn drained(&self) -> bool {
        self.drained.load(Ordering::Acquire) || self.dead()
    }

    /// A drill has let this pipeline die: nothing of it does anything any more.
    fn dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Whether a drill lets the pipeline die at this stage; then it is dead.
    fn dies_at(&self, stage: Stage) -> bool {
        let dies = self.drill.as_ref().is_some_and(|drill| (drill.dies)(stage));
        if dies {
            self.dead.store(true, Ordering::Release);
        }
        dies
    }

    /// Chance for a request; a drill's, if it brings its own.
    fn chance(&self, purpose: &str, request_digest: &[u8]) -> [u8; 32] {
        match self.drill.as_ref().and_then(|drill| drill.chance.as_ref()) {
            Some(chance) => chance(&[purpose.as_bytes(), request_digest].concat()),
            None => rand::rng().random(),
        }
    }

    /// A UUIDv7 at the command's own time: derived ids share its timestamp.
    fn command_id(&self, accepted_at_us: i64, request_digest: &[u8]) -> Uuid {
        let ms = u64::try_from(accepted_at_us / 1_000).unwrap_or_default();
        let chance = self.chance("command", request_digest);
        let random: [u8; 10] = std::array::from_fn(|n| chance[n]);
        uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid()
    }

    /// Whatever a command of this kind needs from randomness: recorded with it, so that replay takes the same.
    fn recorded(&self, kind: &str, request_digest: &[u8]) -> String {
        if kind == "accept_offer" {
            let nonce = &self.chance("ticket nonce", request_digest)[..16];
            return serde_json::json!({ "ticket_nonce": hex::encode(nonce) }).to_string();
        }
        "{}".to_owned()
    }

    /// No new commands are taken.
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Handle to the running pipeline; clones share it.
#[derive(Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
    queues: Arc<Mutex<HashMap<u32, mpsc::Sender<Job>>>>,
    writers: Arc<Mutex<Vec<JoinHandle<()>>>>,
    keepers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Pipeline {
    /// Starts a writer for each ledger, the keeper of its checkpoints, the keeper of its books, and the forest's. Must be called inside a tokio runtime.
    pub fn start(options: PipelineOptions) -> Self {
        Self::launch(options, None)
    }

    /// The same for a failure drill, which may let it die.
    pub fn start_drill(options: PipelineOptions, drill: Drill) -> Self {
        Self::launch(options, Some(drill))
    }

    fn launch(options: PipelineOptions, drill: Option<Drill>) -> Self {
        let (wakes, _) = broadcast::channel(4_096);
        let ledger_ids = options.ledger_ids.clone();
        let shared = Arc::new(Shared {
            options,
            wakes,
            anew: Anew::default(),
            stopping: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            signed_us: AtomicI64::new(0),
            drill,
            dead: AtomicBool::new(false),
        });
        let mut queues = HashMap::new();
        let mut writers = Vec::new();
        let mut keepers = Vec::new();
        for ledger_id in ledger_ids {
            let (sender, queue) = mpsc::channel(QUEUE_LEN);
            queues.insert(ledger_id, sender);
            let worker = Worker { shared: shared.clone(), ledger_id, queue, backlog: Default::default() };
            writers.push(tokio::spawn(worker.run()));
            keepers.push(tokio::spawn(checkpoint::keep(shared.clone(), ledger_id)));
            keepers.push(tokio::spawn(keeper::keep(shared.clone(), ledger_id)));
        }
        keepers.push(tokio::spawn(forest::keep(shared.clone())));
        Self {
            shared,
            queues: Arc::new(Mutex::new(queues)),
            writers: Arc::new(Mutex::new(writers)),
            keepers: Arc::new(Mutex::new(keepers)),
        }
    }

    /// Decides one authenticated command and answers once the outcome is durable.
    ///
    /// `Ok` with a code other than "ok" is a refusal that has its receipt. Errors wrote nothing that the sender could not
    /// ask for again under the same key: UB103 body, UB104 idempotency key, UB401 ledger, UB501 still in flight,
    /// UB801 and UB802 database, UB803 queue full or shutting down.
    pub async fn submit(&self, submission: Submission) -> Result<Answer, Error> {
        let (kind, args) = args::of_body(&submission.body, &submission.key)?;
        if submission.idempotency_key.is_empty() || submission.idempotency_key.len() > 255 {
            return Err(Error::new("UB104", "Idempotency-Key must have 1 to 255 bytes"));
        }
        let (method, target) = &submission.method_target;
        let digest = request_digest(method, target, &submission.content_type, &submission.content_digest);
        let nonce = submission.nonce.clone();
        let accepted_at_us = self.shared.accept_us();
        let entry = Entry {
            command_id: self.shared.command_id(accepted_at_us, digest.as_ref()),
            actor_id: submission.actor.as_uuid(),
            key_id: submission.key.id().into(),
            idempotency_key: Some(submission.idempotency_key),
            nonce: nonce.clone(),
            kind: kind.to_owned(),
            args: args.to_string(),
            request_digest: digest.into(),
            body: submission.body_bytes.to_vec(),
            signature_base: submission.signature_base,
            signature: submission.signature.to_vec(),
            content_type: submission.content_type,
            signed_body: submission.signed_body.map(|body| body.to_vec()),
            accepted_at_us,
            simulated: self.shared.options.clock.is_simulated(),
            recorded: self.shared.recorded(kind, digest.as_ref()),
            forced_code: None,
        };
        verify(&entry, submission.ledger_id, &submission.key, nonce)?;
        self.enqueue(submission.ledger_id, entry).await
    }

    /// A command of the house's own, signed by one of its keys (DSSE over `ServiceCommand`). The same key gets the stored
    /// answer, except that what was refused by force is tried anew when its time has come, under a numbered key.
    pub async fn submit_service(
        &self,
        ledger_id: u32,
        hand: Hand,
        idempotency_key: &str,
        body: v1::CommandBody,
    ) -> Result<Answer, Error> {
        let subject = (ledger_id, hand, idempotency_key.to_owned());
        let (mut tries, standing) = self.shared.anew.before(&subject, self.now_us());
        if let Some(standing) = standing {
            return Ok(standing);
        }
        loop {
            let key = anew::key(idempotency_key, tries);
            let answer = self.submit_service_once(ledger_id, hand, &key, body.clone()).await?;
            tries += 1;
            // An earlier server's refusal by force only says that its key is used up.
            if !(answer.replayed && answer.is_forced()) {
                self.shared.anew.after(subject, tries, &answer, self.now_us());
                return Ok(answer);
            }
        }
    }

    async fn submit_service_once(
        &self,
        ledger_id: u32,
        hand: Hand,
        idempotency_key: &str,
        body: v1::CommandBody,
    ) -> Result<Answer, Error> {
        let house = &self.shared.options.house;
        let key = house.key(hand);
        let actor = house.agent(hand);
        let command = v1::ServiceCommand {
            ledger_id,
            actor_id: actor.into(),
            idempotency_key: idempotency_key.to_owned(),
            body: Some(body.clone()),
        };
        let envelope = dsse::sign_message(&command, key);
        let signature = envelope
            .signatures
            .first()
            .and_then(|s| <[u8; 64]>::try_from(s.sig.as_slice()).ok())
            .ok_or_else(|| Error::new("UB900", "the house could not sign its own command"))?;
        self.submit(Submission {
            ledger_id,
            actor,
            key: *key.public(),
            idempotency_key: idempotency_key.to_owned(),
            nonce: None,
            method_target: ("SERVICE".to_owned(), format!("/v1/ledgers/{ledger_id}/commands")),
            content_digest: Sha256::digest(&envelope.payload).into(),
            body_bytes: body.encode_to_vec().into(),
            body,
            signed_body: None,
            signature_base: dsse::pae(&envelope.payload_type, &envelope.payload),
            signature,
            content_type: envelope.payload_type,
        })
        .await
    }

    /// Writes the genesis command if this ledger has none; safe to repeat.
    pub async fn init(&self, ledger_id: u32, origin: &str, market_name: &str) -> Result<Answer, Error> {
        let body = args::genesis_body(origin, market_name, &self.shared.options.house);
        // A ledger has one genesis: there is nothing to try anew.
        self.submit_service_once(ledger_id, Hand::Operator, "genesis", body).await
    }

    /// Before serving: does the log agree with the checkpoints kept outside the database? `UR903` when not.
    pub async fn check_checkpoints(&self) -> Result<(), Error> {
        for ledger_id in &self.shared.options.ledger_ids {
            checkpoint::check(&self.shared, *ledger_id).await?;
        }
        checkpoint::check(&self.shared, crate::receipts::log::FOREST).await
    }

    /// Hints after each commit; see [`Wake`].
    pub fn subscribe_wakes(&self) -> broadcast::Receiver<Wake> {
        self.shared.wakes.subscribe()
    }

    /// The accepting clock's time, Unix microseconds.
    pub fn now_us(&self) -> i64 {
        self.shared.options.clock.now_us()
    }

    /// The accepting clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.options.clock
    }

    /// The ledgers that it writes.
    pub fn ledger_ids(&self) -> &[u32] {
        &self.shared.options.ledger_ids
    }

    /// The house's keys.
    pub fn house(&self) -> &House {
        &self.shared.options.house
    }

    /// Takes no more commands, answers those that wait, writes a last checkpoint.
    pub async fn shutdown(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.queues.lock().await.clear();
        // A task that panicked has said so; there is nothing more to wait for.
        for writer in self.writers.lock().await.drain(..) {
            let _ = writer.await;
        }
        self.shared.drained.store(true, Ordering::Release);
        let mut keepers = self.keepers.lock().await;
        let ended = !keepers.is_empty();
        for keeper in keepers.drain(..) {
            let _ = keeper.await;
        }
        if ended {
            // The last checkpoints are signed now; the forest holds them too.
            forest::make_or_say(&self.shared).await;
        }
    }

    async fn enqueue(&self, ledger_id: u32, entry: Entry) -> Result<Answer, Error> {
        if self.shared.stopping() {
            return Err(Error::new("UB803", "the server is shutting down: send the same request again"));
        }
        let queue = self.queues.lock().await.get(&ledger_id).cloned();
        let queue =
            queue.ok_or_else(|| Error::new("UB401", format!("there is no ledger {ledger_id} here")))?;
        let (reply, answer) = oneshot::channel();
        queue
            .try_send(Job { entry, reply })
            .map_err(|_| Error::new("UB803", "too many commands are waiting: send the same request again"))?;
        drop(queue);
        match tokio::time::timeout(ANSWER_WAIT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                Err(Error::new("UB803", "the server is shutting down: send the same request again"))
            }
            Err(_) => Err(Error::new(
                "UB501",
                "this request is still in flight: ask again with the same Idempotency-Key",
            )),
        }
    }
}

/// Whoever submits has verified the sender's signature; what is logged as signed is verified here once more, because a
/// receipt for something that nobody signed could never be taken back. `UI210`.
fn verify(entry: &Entry, ledger_id: u32, key: &PublicKey, nonce: Option<String>) -> Result<(), Error> {
    let command = crate::verify::stored::signed_command(entry);
    // How a GraphQL request reads is the door's business: without it, the rest is checked.
    let signed = command::check_signed(&command, ledger_id, key, None);
    let refused = |message: &str| Error::new("UI210", format!("the command cannot be logged: {message}"));
    let signed = signed.map_err(|message| refused(&message))?;
    if signed.request_digest.as_ref() != entry.request_digest.as_slice()
        || Some(signed.idempotency_key) != entry.idempotency_key
        || signed.nonce != nonce
        || signed.actor_id.is_some_and(|actor_id| actor_id != entry.actor_id.as_bytes())
    {
        return Err(refused("its signed bytes name another request"));
    }
    Ok(())
}

/// Where the newest checkpoint of a ledger (0: of the forest) is kept outside the database.
pub fn checkpoint_path(dir: &std::path::Path, ledger_id: u32) -> PathBuf {
    checkpoint::path(dir, ledger_id)
}
