//! The one writer of a ledger: takes what has queued up, decides it in one transaction, signs, seals, commits, answers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join;
use proto::ids::{AgentId, ReceiptId};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::entry::{Decided, Entry, RULES_VERSION, Sealed, Statements, receipt_payload, sign_receipt};
use super::{Answer, Shared, Stage, Wake};
use crate::error::{Error, connection_lost, is_transient};

/// A command and where its answer goes.
pub(super) struct Job {
    pub(super) entry: Entry,
    pub(super) reply: oneshot::Sender<Result<Answer, Error>>,
}

/// How often a batch is tried again after a lost connection or a transient failure, and how long between.
const RETRIES_MAX: u32 = 40;
const RETRY_WAIT: Duration = Duration::from_millis(250);

/// Every statement of the pipeline looks rows up by key. Plans are made once per session, often while tables are still
/// small or never analysed; a plan that scans then scans for ever, and the market slows down with every order.
pub(crate) const SESSION: &str = "set application_name = 'econ-pipeline'; set enable_seqscan = off; \
     set enable_hashjoin = off; set enable_mergejoin = off; set jit = off; set plan_cache_mode = force_generic_plan";

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) ledger_id: u32,
    pub(super) queue: mpsc::Receiver<Job>,
    pub(super) backlog: VecDeque<Job>,
}

/// Why a batch did not commit.
enum Failed {
    /// Worth the same batch again, on a new connection if `lost`.
    Again { lost: bool, error: Error },
    /// A statement raised: somebody in the batch is at fault.
    Raised(Error),
    /// A drill ends it here, as the end of the process would.
    Dead,
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        let lost = connection_lost(&error);
        let again = lost || error.code().is_some_and(|state| is_transient(state) || state.code() == "XX000");
        if again {
            return Self::Again { lost, error: error.into() };
        }
        tracing::error!(%error, "a command raised");
        Self::Raised(error.into())
    }
}

impl Worker {
    /// Runs until every handle to the queue is gone.
    pub(super) async fn run(mut self) {
        let mut connection: Option<(Client, Statements)> = None;
        loop {
            let jobs = self.next_batch().await;
            if jobs.is_empty() {
                return;
            }
            self.run_jobs(&mut connection, jobs).await;
            if self.shared.dead() {
                return;
            }
        }
    }

    /// What has queued up, oldest first. One actor may fill at most its quota while others wait; its rest comes next,
    /// still in its order.
    async fn next_batch(&mut self) -> Vec<Job> {
        let batch_max = self.shared.options.batch_max;
        let quota = (batch_max / 4).max(1);
        if self.backlog.is_empty() {
            match self.queue.recv().await {
                Some(job) => self.backlog.push_back(job),
                None => return Vec::new(),
            }
        }
        while self.backlog.len() < batch_max * 4 {
            match self.queue.try_recv() {
                Ok(job) => self.backlog.push_back(job),
                Err(_) => break,
            }
        }
        let mut taken: HashMap<Uuid, usize> = HashMap::new();
        let mut batch = Vec::new();
        let mut rest = VecDeque::new();
        for job in self.backlog.drain(..) {
            let count = taken.entry(job.entry.actor_id).or_default();
            // Once one of an actor's commands is put off, so are its later ones: its order is kept.
            if batch.len() < batch_max && *count < quota {
                *count += 1;
                batch.push(job);
            } else {
                *count = usize::MAX;
                rest.push_back(job);
            }
        }
        self.backlog = rest;
        batch
    }

    async fn run_jobs(&self, connection: &mut Option<(Client, Statements)>, jobs: Vec<Job>) {
        let mut entries: Vec<Entry> = jobs.iter().map(|job| job.entry.clone()).collect();
        match self.commit(connection, &mut entries).await {
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    // The asker may have gone; the answer is stored.
                    let _ = job.reply.send(Ok(answer));
                }
            }
            Err(Failed::Raised(_)) if jobs.len() > 1 => {
                metrics::counter!("econ_batches_split_total").increment(1);
                for job in jobs {
                    if self.shared.dead() {
                        return;
                    }
                    Box::pin(self.run_jobs(connection, vec![job])).await;
                }
            }
            Err(Failed::Raised(error)) => self.refuse_by_force(connection, jobs, error).await,
            Err(Failed::Again { error, .. }) => {
                for job in jobs {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
            Err(Failed::Dead) => {}
        }
    }

    /// A command that raises even alone is logged as refused, so that its sender gets a receipt and the log stays whole.
    async fn refuse_by_force(
        &self,
        connection: &mut Option<(Client, Statements)>,
        jobs: Vec<Job>,
        error: Error,
    ) {
        metrics::counter!("econ_forced_refusals_total").increment(1);
        for job in jobs {
            let mut entry = job.entry.clone();
            let code = if error.code.starts_with('U') { error.code.to_string() } else { "UB900".to_owned() };
            tracing::error!(kind = entry.kind, %code, message = error.message, "refused by force: this is our bug");
            entry.forced_code = Some(code);
            let result = self.commit(connection, &mut [entry]).await;
            let _ = job.reply.send(match result {
                Ok(mut answers) => answers.pop().ok_or_else(|| error.clone()),
                Err(Failed::Raised(error) | Failed::Again { error, .. }) => Err(error),
                Err(Failed::Dead) => return,
            });
        }
    }

    /// One transaction, tried again after transient failures. The same idempotency keys make that safe even when the
    /// connection broke during COMMIT: whatever had committed answers from the log.
    async fn commit(
        &self,
        connection: &mut Option<(Client, Statements)>,
        entries: &mut [Entry],
    ) -> Result<Vec<Answer>, Failed> {
        let mut tries = 0;
        loop {
            for entry in entries.iter_mut().filter(|entry| !self.shared.can_promise(entry.accepted_at_us)) {
                entry.accepted_at_us = self.shared.accept_us();
                entry.command_id = self.shared.command_id(entry.accepted_at_us, &entry.request_digest);
            }
            let failed = match self.connected(connection).await {
                Ok((client, statements)) => match self.try_commit(client, statements, entries).await {
                    Err(Failed::Again { lost, error }) => {
                        if !lost {
                            let _ = client.batch_execute("rollback").await;
                        }
                        Failed::Again { lost, error }
                    }
                    Err(Failed::Raised(error)) => {
                        if client.batch_execute("rollback").await.is_err() {
                            *connection = None;
                        }
                        return Err(Failed::Raised(error));
                    }
                    Err(Failed::Dead) => {
                        *connection = None;
                        return Err(Failed::Dead);
                    }
                    committed => return committed,
                },
                Err(failed) => failed,
            };
            if let Failed::Again { lost: true, .. } = failed {
                *connection = None;
            }
            tries += 1;
            if tries > RETRIES_MAX || self.shared.stopping() {
                return Err(failed);
            }
            // What had committed unseen keeps its command id; an entry without key must not meet its own.
            for entry in entries.iter_mut() {
                entry.command_id = self.shared.command_id(entry.accepted_at_us, &entry.request_digest);
            }
            tokio::time::sleep(RETRY_WAIT).await;
        }
    }

    async fn connected<'a>(
        &self,
        connection: &'a mut Option<(Client, Statements)>,
    ) -> Result<&'a (Client, Statements), Failed> {
        if connection.as_ref().is_none_or(|(client, _)| client.is_closed()) {
            let (client, driver) = self.shared.options.database.connect(NoTls).await?;
            // Ends by itself when the client is dropped or the socket closes.
            tokio::spawn(async move {
                if let Err(error) = driver.await {
                    tracing::warn!(%error, "the pipeline's connection ended");
                }
            });
            client.batch_execute(SESSION).await?;
            let statements = Statements::prepare(&client).await?;
            *connection = Some((client, statements));
        }
        connection.as_ref().ok_or_else(|| Failed::Again {
            lost: true,
            error: Error::new(
                "UB801",
                "the database cannot be reached at this moment: send the same request again",
            ),
        })
    }

    async fn try_commit(
        &self,
        client: &Client,
        statements: &Statements,
        entries: &[Entry],
    ) -> Result<Vec<Answer>, Failed> {
        let ledger_id = i32::try_from(self.ledger_id)
            .map_err(|_| Failed::Raised(Error::new("UB401", "there is no such ledger")))?;
        metrics::histogram!("econ_batch_commands").record(entries.len() as f64);
        let began = Instant::now();
        self.survives(Stage::Taken)?;
        // Both futures are queued before either is awaited: one round trip.
        let (begun, decided) =
            join(client.batch_execute("begin"), statements.decide(client, ledger_id, RULES_VERSION, entries))
                .await;
        begun?;
        let decided = decided?;
        // Asked again while the ledger's row is locked: a checkpoint whose time was taken before this moment states an
        // earlier time than any of these are due, and one whose time is taken later waits for this batch.
        let late = |(entry, row): (&Entry, &Decided)| {
            !row.replayed && !self.shared.can_promise(entry.accepted_at_us)
        };
        if entries.iter().zip(&decided).any(late) {
            let why = "the database was too slow for what a receipt promises: send the same request again";
            return Err(Failed::Again { lost: false, error: Error::new("UB801", why) });
        }
        let answered = Instant::now();
        self.survives(Stage::Decided)?;
        let sealed = self.sign(entries, &decided);
        self.survives(Stage::Signed)?;
        if sealed.is_empty() {
            client.batch_execute("rollback").await?;
        } else if self.shared.dies_at(Stage::Sealed) {
            statements.seal(client, ledger_id, &sealed).await?;
            return Err(Failed::Dead);
        } else {
            let signed = Instant::now();
            // Sent together, answered one after the other. Whoever is late to look sees both answers at once, so the time
            // of sealing is, if anything, too long.
            let sealing = async { (statements.seal(client, ledger_id, &sealed).await, Instant::now()) };
            let ((stored, stored_at), committed) = join(sealing, client.batch_execute("commit")).await;
            // In this order: COMMIT of an aborted transaction succeeds as a rollback.
            stored?;
            committed?;
            metrics::histogram!("econ_decide_seconds").record(answered - began);
            metrics::histogram!("econ_sign_seconds").record(signed - answered);
            metrics::histogram!("econ_seal_seconds").record(stored_at - signed);
            metrics::histogram!("econ_commit_seconds").record(stored_at.elapsed());
        }
        self.survives(Stage::Committed)?;
        self.announce(&decided);
        Ok(self.answers(entries, decided, &sealed))
    }

    fn survives(&self, stage: Stage) -> Result<(), Failed> {
        if self.shared.dead() || self.shared.dies_at(stage) { Err(Failed::Dead) } else { Ok(()) }
    }

    /// Encodes and signs the receipts of a batch; within it, receipts of one subject link to one another.
    fn sign(&self, entries: &[Entry], decided: &[Decided]) -> Vec<Sealed> {
        let mut heads: HashMap<Uuid, ReceiptId> = HashMap::new();
        let key = self.shared.options.house.receipt_key();
        entries
            .iter()
            .zip(decided)
            .filter(|(_, decided)| !decided.replayed)
            .map(|(entry, decided)| {
                let head = heads.get(&decided.subject_id).map(|id| id.as_ref().to_vec());
                let prev = head.or_else(|| decided.prev.clone());
                let payload = receipt_payload(self.ledger_id, entry, decided, prev.as_deref());
                let (receipt_id, envelope) = sign_receipt(payload, key);
                heads.insert(decided.subject_id, receipt_id);
                Sealed { seq: decided.seq, receipt_id, subject_id: decided.subject_id, prev, envelope }
            })
            .collect()
    }

    fn announce(&self, decided: &[Decided]) {
        for row in decided.iter().filter(|row| !row.replayed) {
            let agents: Arc<[AgentId]> =
                row.wake.iter().flatten().map(|id| AgentId::from_uuid(*id)).collect();
            let _ = self.shared.wakes.send(Wake {
                ledger_id: self.ledger_id,
                seq: u64::try_from(row.seq).unwrap_or_default(),
                agents,
            });
        }
    }

    fn answers(&self, entries: &[Entry], decided: Vec<Decided>, sealed: &[Sealed]) -> Vec<Answer> {
        let ids: HashMap<i64, ReceiptId> = sealed.iter().map(|s| (s.seq, s.receipt_id)).collect();
        entries
            .iter()
            .zip(decided)
            .map(|(entry, row)| {
                metrics::counter!("econ_commands_total", "kind" => entry.kind.clone(), "code" => row.code.clone())
                    .increment(1);
                let stored = row.receipt_id.as_deref().and_then(|id| ReceiptId::from_slice(id).ok());
                Answer {
                    ledger_id: self.ledger_id,
                    seq: u64::try_from(row.seq).unwrap_or_default(),
                    command_id: row.command_id,
                    code: row.code,
                    facts: row.facts,
                    subject_kind: row.subject_kind,
                    subject_id: row.subject_id,
                    // A repeat inside its own batch finds the receipt there.
                    receipt_id: stored.or_else(|| ids.get(&row.seq).copied()).unwrap_or(ReceiptId::from_bytes([0; 32])),
                    at_us: row.at_us,
                    replayed: row.replayed,
                }
            })
            .collect()
    }
}
