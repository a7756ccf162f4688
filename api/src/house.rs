//! The house's own hand: timers, settlement, judgement of outputs, payouts. Everything it does is a signed command; this
//! module only notices what is due. Commands are keyed by their subject, so a repeated one gets its stored answer.

mod judge;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::house::Hand;
use ledger::market::{self, Due};
use ledger::pipeline::Wake;
use proto::v1::command_body::Kind;
use proto::v1::{CommandBody, ExpireOrder, ExpireRfq, RecordPresence, SettleOrder};
use splitter::payouts::{self, PayoutOptions};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::erasure;
use crate::server::ServerState;
use crate::server::problem::Problem;

/// How long a timer trusts that a hint would have come.
const POLL: Duration = Duration::from_millis(100);
/// Shortest pause between two looks: many commits bring many hints.
const BREATH: Duration = Duration::from_millis(4);
/// Subjects of each kind in one look.
const PAGE: u32 = 100;
/// What was refused or failed is not tried again for so long.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(30);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Judgements at the same time: each computes.
const JUDGES: usize = 2;

/// Starts the house for one ledger: to be called before the server takes connections, since it first records as gone
/// whatever connections the log still calls reachable. Timers and payouts then run until the server stops; what an earlier
/// server had begun to erase is finished meanwhile.
pub async fn start(state: &Arc<ServerState>, ledger_id: u32, payouts: PayoutOptions) -> Result<(), Problem> {
    forget_connections(state, ledger_id).await?;
    erasure::start(state, ledger_id);
    let timers = state.clone();
    state.spawn(move |stop| run(timers, ledger_id, stop));
    let (pipeline, reader) = (state.pipeline.clone(), state.reader.clone());
    state.spawn(move |stop| async move {
        payouts::run(pipeline, reader, ledger_id, payouts, stop.cancelled()).await;
    });
    Ok(())
}

/// A server that starts has no connection yet, so every one on record died with an earlier server.
async fn forget_connections(state: &ServerState, ledger_id: u32) -> Result<(), Problem> {
    loop {
        let stale = market::read_reachable(&state.reader, ledger_id, PAGE).await?;
        if stale.is_empty() {
            return Ok(());
        }
        for (agent_id, connection_id) in stale {
            let gone = RecordPresence {
                agent_id: agent_id.into(),
                reachable: false,
                connection_id: connection_id.as_bytes().to_vec(),
            };
            let key = format!("presence:{connection_id}:gone");
            let body = CommandBody { kind: Some(Kind::RecordPresence(gone)) };
            let answer = state.pipeline.submit_service(ledger_id, Hand::Service, &key, body).await?;
            if !answer.is_ok() {
                return Err(Problem::refused(&answer));
            }
        }
    }
}

/// When a subject may be tried next; `None` while it is being worked on.
type Busy = HashMap<Due, Option<Instant>>;

async fn run(state: Arc<ServerState>, ledger_id: u32, stop: CancellationToken) {
    let mut wakes = state.pipeline.subscribe_wakes();
    let mut busy = Busy::new();
    let mut jobs: JoinSet<(Due, Outcome)> = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(finished) = jobs.join_next() => note(&mut busy, finished),
            () = hint(&mut wakes, ledger_id) => {}
        }
        while let Some(finished) = jobs.try_join_next() {
            note(&mut busy, finished);
        }
        let now = Instant::now();
        busy.retain(|_, next| next.is_none_or(|next| next > now));
        match market::due(&state.reader, ledger_id, state.pipeline.now_us(), PAGE).await {
            Ok(dues) => {
                for due in dues {
                    let judging = busy.keys().filter(|due| matches!(due, Due::Judge(_))).count();
                    if busy.contains_key(&due) || (matches!(due, Due::Judge(_)) && judging >= JUDGES) {
                        continue;
                    }
                    busy.insert(due, None);
                    let state = state.clone();
                    jobs.spawn(async move { (due, act(&state, ledger_id, due).await) });
                }
            }
            Err(error) => tracing::warn!(ledger_id, %error, "timers wait"),
        }
        tokio::time::sleep(BREATH).await;
    }
    // Commands in flight get their answers; what is not sent yet is still due for the next server.
    while jobs.join_next().await.is_some() {}
}

/// Until this ledger has news, or for [`POLL`].
async fn hint(wakes: &mut Receiver<Wake>, ledger_id: u32) {
    let news = async {
        loop {
            match wakes.recv().await {
                Ok(wake) if wake.ledger_id != ledger_id => {}
                Ok(_) | Err(RecvError::Lagged(_)) => return,
                // The pipeline is gone; the stop comes from elsewhere.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    // Either way the timer looks again.
    let _ = tokio::time::timeout(POLL, news).await;
}

/// How a job ended.
enum Outcome {
    Done,
    Refused,
    Failed,
}

fn note(busy: &mut Busy, finished: Result<(Due, Outcome), tokio::task::JoinError>) {
    match finished {
        Ok((due, outcome)) => {
            let pause = match outcome {
                Outcome::Done => Duration::ZERO,
                Outcome::Refused => PAUSE_AFTER_REFUSAL,
                Outcome::Failed => PAUSE_AFTER_FAILURE,
            };
            busy.insert(due, Some(Instant::now() + pause));
        }
        Err(error) => {
            // Nobody knows whose job it was: everything that is being worked on may be tried again later.
            tracing::error!(%error, "a timer's job panicked");
            let later = Instant::now() + PAUSE_AFTER_REFUSAL;
            busy.values_mut().for_each(|next| *next = next.or(Some(later)));
        }
    }
}

async fn act(state: &Arc<ServerState>, ledger_id: u32, due: Due) -> Outcome {
    let (action, hand, key, kind) = match due {
        Due::ExpireRfq(id) => (
            "expire_rfq",
            Hand::Service,
            format!("expire:{id}"),
            Kind::ExpireRfq(ExpireRfq { rfq_id: id.into() }),
        ),
        Due::ExpireOrder(id) => (
            "expire_order",
            Hand::Service,
            format!("expire:{id}"),
            Kind::ExpireOrder(ExpireOrder { order_id: id.into() }),
        ),
        Due::Settle(id) => (
            "settle",
            Hand::Service,
            format!("settle:{id}"),
            Kind::SettleOrder(SettleOrder { order_id: id.into() }),
        ),
        Due::Judge(id) => match judge::judge(state, ledger_id, id).await {
            Ok(Some(judgement)) => {
                ("judge", Hand::Verifier, format!("judge:{id}"), Kind::ResolveDispute(judgement))
            }
            // Somebody else has settled the matter meanwhile.
            Ok(None) => return Outcome::Done,
            Err(problem) => {
                tracing::warn!(order = %id, code = %problem.code, detail = problem.detail, "a judgement waits");
                return Outcome::Failed;
            }
        },
    };
    let body = CommandBody { kind: Some(kind) };
    let (code, outcome) = match state.pipeline.submit_service(ledger_id, hand, &key, body).await {
        Ok(answer) if answer.is_ok() => (answer.code, Outcome::Done),
        Ok(answer) => {
            // A party was faster, most likely. If it is still due after the pause, the log shows it again.
            tracing::debug!(
                key,
                code = answer.code,
                message = answer.message(),
                "a timer's command was refused"
            );
            (answer.code, Outcome::Refused)
        }
        Err(error) => {
            tracing::warn!(key, %error, "a timer's command failed");
            (error.code.into_owned(), Outcome::Failed)
        }
    };
    metrics::counter!("econ_house_commands_total", "action" => action, "code" => code).increment(1);
    outcome
}
