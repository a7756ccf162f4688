//! One ticket from start to report.
//!
//! Everything sent here has an idempotency key that follows from the ticket, and the execution gives the
//! same output every time: so the whole way can be walked again after a crash at any step, by this process
//! or the next, and the house sees one attempt.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::ids::{AttemptId, Hash32};
use proto::prost::Message as _;
use proto::v1::command_body::Kind;
use proto::v1::{FailAttempt, RecordMetering, ReportOutput, StartAttempt};
use tokio::sync::watch;

use super::home::{SavedAttempt, Stage};
use super::outbox::{Delivery, Message};
use super::ticket::Ticket;
use super::{Agent, AgentError, command};
use crate::client::{ClientError, Retry};
use crate::executor::{ExecError, Output, Progress};
use crate::fault::Fault;
use crate::job::{JobSpec, OUTPUT_HEADER_BYTES};
use crate::metering::{Attempt, Chain, Moment};

/// A job that runs longer posts a row this often.
const METERING_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 250 });
/// What an over-reporting agent claims, as a multiple of the truth.
const OVER_REPORT_FACTOR: u64 = 3;

/// Why a run under a ticket ended without a report.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// The house will not have it, and has said why.
    #[error("turned down: {0}")]
    TurnedDown(ClientError),
    /// The agent gives up and says so.
    #[error("given up: {why}")]
    GivenUp {
        /// A reason of `FailAttempt`.
        reason: &'static str,
        why: String,
    },
    /// The order ended meanwhile, or the agent is closing down.
    #[error("stopped")]
    Stopped,
    /// A fault of the plan.
    #[error("fault on purpose: {0}")]
    Fault(Fault),
    /// The agent's own folder or request is broken.
    #[error("{0}")]
    Broken(String),
}

impl From<AgentError> for Ended {
    fn from(error: AgentError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// One run under one ticket.
pub(super) struct Run {
    pub(super) agent: Arc<Agent>,
    pub(super) ticket: Ticket,
    /// Set when the order has ended: whatever is still running is for nothing.
    pub(super) over: Arc<AtomicBool>,
    fault: Option<Fault>,
    attempt_id: AttemptId,
    saved: SavedAttempt,
    chain: Chain,
    deadline: Instant,
}

impl Run {
    /// Prepares a run; None when an earlier life of this agent has finished it.
    pub(super) fn prepare(
        agent: Arc<Agent>,
        ticket: Ticket,
        cursor: u64,
        over: Arc<AtomicBool>,
    ) -> Result<Option<Self>, AgentError> {
        let saved = agent.home.attempt(ticket.run_ticket_id)?;
        let saved = saved.unwrap_or_else(|| SavedAttempt::new(ticket.run_ticket_id, cursor));
        if saved.stage == Stage::Done {
            return Ok(None);
        }
        let attempt_id = ticket.attempt_id();
        let attempt = Attempt {
            run_ticket_id: ticket.run_ticket_id,
            attempt_id,
            job_hash: *ticket.input_hash.as_bytes(),
            device_kind: agent.device.kind.to_owned(),
            boot_id: agent.boot_id,
        };
        let chain = Chain::resume(attempt, Moment::now(), saved.next_seq, *saved.last_hash.as_bytes());
        let fault = agent.options.faults.pick(ticket.input_hash.as_bytes());
        let deadline = Instant::now() + ticket.max_duration;
        Ok(Some(Self { agent, ticket, over, fault, attempt_id, saved, chain, deadline }))
    }

    /// Walks the whole way and says in the log how it ended.
    pub(super) async fn walk(mut self) {
        let order = self.ticket.order_id;
        if let Some(fault) = self.fault {
            tracing::info!(%order, %fault, "this run goes wrong on purpose");
        }
        let ended = self.attempt().await;
        match &ended {
            Ok(work_units) => tracing::info!(%order, work_units, "executed and reported"),
            Err(ended @ (Ended::Fault(_) | Ended::Stopped)) => tracing::info!(%order, %ended, "no report"),
            Err(ended) => tracing::warn!(%order, %ended, "no report"),
        }
        if let Err(Ended::GivenUp { reason, .. }) = ended {
            self.say_failed(reason).await;
        }
        if matches!(ended, Err(Ended::Stopped)) && self.agent.is_stopping() {
            // Not done: the next life of this agent goes on.
            return;
        }
        self.saved.stage = Stage::Done;
        self.save().unwrap_or_else(|error| tracing::error!(%order, %error, "cannot keep the attempt's end"));
        self.agent.attempt_done(self.saved.cursor, self.ticket.run_ticket_id);
    }

    async fn attempt(&mut self) -> Result<u64, Ended> {
        if self.fault == Some(Fault::Vanish) {
            return Err(Ended::Fault(Fault::Vanish));
        }
        let agent = self.agent.clone();
        // Held to the end: an order is running until its output is reported.
        let _permit = agent.permits.acquire().await.map_err(|_| Ended::Stopped)?;
        self.start().await?;
        if !self.saved.last_command.is_empty() {
            // Whether the last life got it through is unknown; the house knows it by its key.
            let body = hex::decode(&self.saved.last_command).map_err(|e| Ended::Broken(e.to_string()))?;
            self.meter_with(body.into()).await?;
        }
        let spec = self.job().await?;
        let mut output = self.execute(spec).await?;
        if self.fault == Some(Fault::WrongOutput) {
            spoil(&mut output);
        }
        let usage = output.usage.counted_on_from(&self.saved.usage);
        let bytes = Bytes::from(std::mem::take(&mut output.bytes));
        if self.saved.stage == Stage::Running {
            let hash = (self.fault != Some(Fault::Timeout)).then_some(output.hash);
            let metering = self.add_row(&usage, hash)?;
            if self.fault == Some(Fault::Timeout) {
                self.meter_with(metering).await?;
                return Err(Ended::Fault(Fault::Timeout));
            }
            // The output may travel beside the last rows, but the report only after both: from the report
            // on rows no longer count, and the buyer looks for the output.
            let (metered, stored) = tokio::join!(self.meter_with(metering), self.store(bytes));
            metered?;
            stored?;
        } else {
            self.store(bytes).await?;
        }
        self.report(output.hash).await?;
        Ok(usage.work_units_done)
    }

    /// Redeems the ticket. Waits for a house that is away as long as there is time.
    async fn start(&self) -> Result<(), Ended> {
        let body = command(Kind::StartAttempt(StartAttempt {
            run_ticket_id: self.ticket.run_ticket_id.into(),
            attempt_id: self.attempt_id.into(),
        }));
        let key = format!("start:{}", self.ticket.run_ticket_id);
        let started = self
            .while_there_is_time(async || self.agent.client.command(self.agent.ledger_id, &key, &body).await);
        started.await.map(drop).map_err(Ended::TurnedDown)
    }

    /// Fetches the input and reads the job.
    async fn job(&self) -> Result<JobSpec, Ended> {
        let hash = self.ticket.input_hash;
        let input = self.while_there_is_time(|| self.agent.client.get_artifact(hash)).await;
        let given_up = |reason, why: String| Ended::GivenUp { reason, why };
        let reason = |e: &ClientError| if e.is_passing() { "cancelled" } else { "input_missing" };
        let input = input.map_err(|e| given_up(reason(&e), e.to_string()))?;
        let spec = JobSpec::decode(&input).map_err(|e| given_up("unsupported", e.to_string()))?;
        if spec.work_units() > self.ticket.max_work_units {
            let (needed, allowed) = (spec.work_units(), self.ticket.max_work_units);
            let why = format!("the job has {needed} work units, the ticket allows {allowed}");
            return Err(given_up("unsupported", why));
        }
        Ok(spec)
    }

    /// Executes, posting a row now and then, until the end, the deadline or the order's end.
    async fn execute(&mut self, spec: JobSpec) -> Result<Output, Ended> {
        let (tell, mut told) = watch::channel(Progress::default());
        let (executor, over) = (self.agent.executor.clone(), self.over.clone());
        let stopping = self.agent.stopping.clone();
        let (deadline, crash) = (self.deadline, self.fault == Some(Fault::Crash));
        let mut execution = tokio::task::spawn_blocking(move || {
            executor.execute(&spec, &mut |progress| {
                tell.send_replace(progress);
                let on = !crash
                    && Instant::now() < deadline
                    && !over.load(Ordering::Relaxed)
                    && !stopping.load(Ordering::Relaxed);
                if on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        });
        let mut ticks =
            tokio::time::interval_at(tokio::time::Instant::now() + METERING_INTERVAL, METERING_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let earlier = self.saved.usage;
        let done = loop {
            tokio::select! {
                done = &mut execution => break done,
                _ = ticks.tick() => {
                    let progress = *told.borrow_and_update();
                    // Only what goes beyond an earlier life's last row is news.
                    let news = self.saved.stage == Stage::Running
                        && progress.work_units_done > self.saved.usage.work_units_done;
                    if news {
                        let body = self.add_row(&progress.counted_on_from(&earlier), None)?;
                        self.meter_with(body).await?;
                    }
                }
            }
        };
        // The counters of this life are counted on from the last one's, not from this life's own rows.
        self.saved.usage = earlier;
        let given_up = |reason, why: String| Ended::GivenUp { reason, why };
        match done {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(ExecError::Stopped { .. })) if crash => Err(given_up("crash", "on purpose".to_owned())),
            Ok(Err(ExecError::Stopped { .. })) if Instant::now() >= self.deadline => {
                Err(given_up("cancelled", "it took longer than the ticket allows".to_owned()))
            }
            Ok(Err(ExecError::Stopped { .. })) => Err(Ended::Stopped),
            Ok(Err(error @ (ExecError::Unsupported(_) | ExecError::Job(_)))) => {
                Err(given_up("unsupported", error.to_string()))
            }
            Ok(Err(error @ ExecError::Device(_))) => Err(given_up("crash", error.to_string())),
            Err(panic) => Err(given_up("crash", panic.to_string())),
        }
    }

    /// Adds a row to the chain and keeps it; returns the command that posts it.
    fn add_row(&mut self, usage: &Progress, output_hash: Option<[u8; 32]>) -> Result<Bytes, Ended> {
        let mut claimed = *usage;
        if self.fault == Some(Fault::OverReport) {
            claimed.work_units_done = claimed.work_units_done.saturating_mul(OVER_REPORT_FACTOR);
        }
        self.chain.add(&claimed, Moment::now(), output_hash);
        let runs = self.chain.take_run(&self.agent.key).into_iter().collect();
        let body = command(Kind::RecordMetering(RecordMetering { runs })).encode_to_vec();
        let (next_seq, last_hash) = self.chain.position();
        self.saved.next_seq = next_seq;
        self.saved.last_hash = Hash32::from_bytes(last_hash);
        self.saved.usage = *usage;
        self.saved.last_command = hex::encode(&body);
        if output_hash.is_some() {
            self.saved.stage = Stage::Metered;
        }
        self.save()?;
        Ok(body.into())
    }

    /// Posts the rows up to `next_seq`.
    async fn meter_with(&self, body: Bytes) -> Result<(), Ended> {
        let key = format!("meter:{}:{}", self.attempt_id, self.saved.next_seq);
        match self.deliver(Message::Command { key, body }).await? {
            // A refused row is the house's loss of evidence, not a reason to withhold the output.
            Delivery::Refused(refusal) => {
                let (order, code, detail) = (self.ticket.order_id, &refusal.code, &refusal.detail);
                tracing::warn!(%order, code, detail, "metering was turned down");
            }
            Delivery::Answered(Some(answer)) => {
                let quarantined = answer.facts["quarantined"].as_object();
                let count: u64 =
                    quarantined.into_iter().flat_map(|kinds| kinds.values()).filter_map(|n| n.as_u64()).sum();
                if count > 0 {
                    let (order, facts) = (self.ticket.order_id, &answer.facts["quarantined"]);
                    tracing::info!(%order, %facts, "metering rows were quarantined");
                }
            }
            Delivery::Answered(None) | Delivery::Spooled => {}
        }
        Ok(())
    }

    async fn store(&self, output: Bytes) -> Result<(), Ended> {
        match self.deliver(Message::Artifact(output)).await? {
            Delivery::Refused(refusal) => Err(Ended::TurnedDown(ClientError::Refused(refusal))),
            Delivery::Answered(_) | Delivery::Spooled => Ok(()),
        }
    }

    async fn report(&self, output_hash: [u8; 32]) -> Result<(), Ended> {
        let report = ReportOutput {
            run_ticket_id: self.ticket.run_ticket_id.into(),
            attempt_id: self.attempt_id.into(),
            output_hash: output_hash.to_vec(),
        };
        let key = format!("report:{}", self.attempt_id);
        let body = command(Kind::ReportOutput(report)).encode_to_vec().into();
        match self.deliver(Message::Command { key, body }).await? {
            Delivery::Refused(refusal) => Err(Ended::TurnedDown(ClientError::Refused(refusal))),
            Delivery::Answered(_) | Delivery::Spooled => Ok(()),
        }
    }

    async fn say_failed(&self, reason: &'static str) {
        let failed = FailAttempt {
            run_ticket_id: self.ticket.run_ticket_id.into(),
            attempt_id: self.attempt_id.into(),
            reason: reason.to_owned(),
        };
        let key = format!("fail:{}", self.ticket.run_ticket_id);
        let body = command(Kind::FailAttempt(failed)).encode_to_vec().into();
        let order = self.ticket.order_id;
        match self.deliver(Message::Command { key, body }).await {
            Ok(Delivery::Refused(refusal)) => {
                tracing::warn!(%order, code = refusal.code, detail = refusal.detail, "cannot give up");
            }
            Ok(Delivery::Answered(_) | Delivery::Spooled) => {}
            Err(error) => tracing::error!(%order, %error, "cannot give up"),
        }
    }

    async fn deliver(&self, message: Message) -> Result<Delivery, Ended> {
        self.agent.outbox.deliver(message).await.map_err(|e| Ended::Broken(e.to_string()))
    }

    /// Repeats `ask` while the house is away and the ticket has time left.
    async fn while_there_is_time<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, ClientError> {
        let patience = Retry::default();
        let mut tried = 0;
        loop {
            match ask().await {
                Err(error) if error.is_passing() && Instant::now() < self.deadline => {
                    tried += 1;
                    tokio::time::sleep(patience.pause_after(tried)).await;
                }
                answer => return answer,
            }
        }
    }

    /// A long job waits for the disk here four times a second; a short one writes to memory.
    fn save(&self) -> Result<(), AgentError> {
        Ok(self.agent.home.save_attempt(&self.saved)?)
    }
}

/// Changes the lowest bit of the first element: wrong, and wrong consistently with its hash.
fn spoil(output: &mut Output) {
    if let Some(byte) = output.bytes.get_mut(OUTPUT_HEADER_BYTES) {
        *byte ^= 1;
    }
    output.hash = *blake3::hash(&output.bytes).as_bytes();
}
