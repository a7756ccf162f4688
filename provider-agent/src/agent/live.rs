//! The agent at work: listens on the socket, and starts a task for whatever it hears.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proto::ids::{OfferId, OrderId, RfqId};
use proto::money::Amount;
use proto::v1::agent_frame::Frame;
use proto::v1::command_body::Kind;
use proto::v1::{OrderClosed, RfqInvitation, SubmitOffer, TicketIssued};
use tokio::task::JoinSet;

use super::attempt::Run;
use super::earnings::Closed;
use super::ticket::{Expected, Ticket, TicketError};
use super::{Agent, AgentError, WORK_CLASS, command, derived_bytes, trusted_key, unix_ms};
use crate::client::{AgentSocket, ClientError, Retry};

/// How often cursor and earnings are stored. What was handled since is handled again after a crash, to the
/// same effect.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// How often the earnings are said, if they have changed.
const EARNINGS_INTERVAL: Duration = Duration::from_secs(30);

/// Works until dropped, or until the house is another than it was.
pub(super) async fn live(agent: &Arc<Agent>) -> Result<(), AgentError> {
    let mut tasks = JoinSet::new();
    let drained = agent.clone();
    tasks.spawn(async move { drained.outbox.drain().await });
    tasks.spawn(keep_progress(agent.clone()));
    let patience = Retry { longest_pause: Duration::from_secs(5), ..Retry::default() };
    let mut failed = 0;
    loop {
        let after = agent.cursor.lock().received();
        let error = match agent.client.agent_socket(agent.ledger_id, after).await {
            Ok(socket) => {
                failed = 0;
                agent.outbox.stir();
                listen(agent, socket, &mut tasks).await
            }
            Err(error) => error,
        };
        failed += 1;
        tracing::warn!(%error, "the connection is gone; will connect again");
        tokio::time::sleep(patience.pause_after(failed)).await;
        // Whoever answers now must be the house that was there before.
        if let Ok(info) = agent.client.info().await {
            trusted_key(&agent.options, &agent.home, &info)?;
            agent.time.observe(info.ledger_time_us, info.simulated);
        }
    }
}

/// Handles what comes over one connection, until it ends; says why it did.
async fn listen(agent: &Arc<Agent>, mut socket: AgentSocket, tasks: &mut JoinSet<()>) -> ClientError {
    loop {
        tokio::select! {
            frame = socket.next() => match frame {
                Ok(frame) => handle(agent, frame, tasks),
                Err(error) => return error,
            },
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a task of the agent died");
                }
            }
        }
    }
}

fn handle(agent: &Arc<Agent>, frame: Frame, tasks: &mut JoinSet<()>) {
    match frame {
        Frame::Welcome(_) => tracing::info!("connected"),
        Frame::Rfq(rfq) => {
            agent.time.observe_frame(rfq.opened_at_us);
            agent.cursor.lock().begin(rfq.cursor);
            let agent = agent.clone();
            tasks.spawn(async move {
                if let Err(why) = offer(&agent, &rfq).await {
                    tracing::debug!(rfq = hex::encode(&rfq.rfq_id), why, "no offer");
                }
                agent.cursor.lock().finish(rfq.cursor);
            });
        }
        Frame::Ticket(ticket) => {
            agent.cursor.lock().begin(ticket.cursor);
            match take(agent, &ticket) {
                Some(run) => {
                    let agent = agent.clone();
                    tasks.spawn(async move {
                        let order = run.ticket.order_id;
                        run.walk().await;
                        if !agent.is_stopping() {
                            agent.active.lock().remove(&order);
                            agent.cursor.lock().finish(ticket.cursor);
                        }
                    });
                }
                None => agent.cursor.lock().finish(ticket.cursor),
            }
        }
        Frame::Closed(closed) => {
            agent.cursor.lock().begin(closed.cursor);
            close(agent, &closed);
            agent.cursor.lock().finish(closed.cursor);
        }
        Frame::CaughtUp(caught_up) => agent.cursor.lock().caught_up(caught_up.cursor),
        Frame::Problem(problem) => {
            tracing::warn!(code = problem.code, message = problem.message, "the house complains");
        }
        Frame::Hello(_) => tracing::warn!("the house says hello, which is ours to say"),
    }
}

/// Answers an invitation, if the price is right; otherwise says why not.
async fn offer(agent: &Agent, rfq: &RfqInvitation) -> Result<(), String> {
    let rfq_id = RfqId::from_slice(&rfq.rfq_id).map_err(|e| e.to_string())?;
    let most = Amount::parse_minor(&rfq.max_price).map_err(|e| e.to_string())?;
    let price = agent.options.price_per_unit.checked_mul(rfq.work_units);
    for (fits, why) in [
        (rfq.work_class == WORK_CLASS, "another work class"),
        (rfq.asset_id == agent.asset_id, "another asset"),
        (rfq.work_units <= agent.options.max_work_units, "too large a job"),
        (price.is_some_and(|price| price <= most), "too low a price"),
        (rfq.expires_at_us > agent.time.at_least_us(), "too late"),
    ] {
        if !fits {
            return Err(why.to_owned());
        }
    }
    let _permit = agent.offers.acquire().await.map_err(|e| e.to_string())?;
    // Derived from the RFQ and made at its time: the same offer again is the same request.
    let key_id = agent.key.id();
    let random = derived_bytes("offer", &[&rfq_id.to_bytes(), key_id.as_bytes()]);
    let body = command(Kind::SubmitOffer(SubmitOffer {
        offer_id: OfferId::v7_at(unix_ms(rfq.opened_at_us), random).into(),
        rfq_id: rfq_id.into(),
        price_per_unit: agent.options.price_per_unit.to_string(),
        valid_for_ms: agent.options.offer_valid_ms,
    }));
    // Not spooled: an offer that comes late is no offer.
    let offered = agent.client.command(agent.ledger_id, &format!("offer:{rfq_id}"), &body).await;
    offered.map(drop).map_err(|e| e.to_string())
}

/// Judges a ticket and prepares its run; None when there is nothing to run.
fn take(agent: &Arc<Agent>, frame: &TicketIssued) -> Option<Run> {
    let expected = Expected {
        service_key: &agent.service_key,
        agent_id: agent.agent_id,
        key_id: agent.key.id(),
        ledger_id: agent.ledger_id,
        work_class: WORK_CLASS,
        ledger_time_us: agent.time.at_least_us(),
    };
    let ticket = match Ticket::verify(&frame.ticket_envelope, &expected) {
        Ok(ticket) => ticket,
        Err(error @ TicketError::Expired { .. }) => {
            tracing::info!(cursor = frame.cursor, %error, "a ticket is too old to run");
            return None;
        }
        Err(error) => {
            tracing::warn!(cursor = frame.cursor, %error, "a ticket is not for this agent");
            return None;
        }
    };
    agent.time.observe_frame(ticket.issued_at_us);
    let order = ticket.order_id;
    let over = Arc::new(AtomicBool::new(false));
    {
        let mut active = agent.active.lock();
        if active.contains_key(&order) {
            // It came again after a broken connection; the first one is still being run.
            return None;
        }
        active.insert(order, over.clone());
    }
    let run = Run::prepare(agent.clone(), ticket, frame.cursor, over).unwrap_or_else(|error| {
        tracing::error!(%order, %error, "cannot run a ticket");
        None
    });
    if run.is_none() {
        agent.active.lock().remove(&order);
    }
    run
}

/// Counts what an order brought, and stops working on it.
fn close(agent: &Agent, frame: &OrderClosed) {
    // Nothing said is nothing earned.
    let earned = if frame.earned.is_empty() { Ok(Amount::ZERO) } else { Amount::parse_minor(&frame.earned) };
    let (order, earned) = match (OrderId::from_slice(&frame.order_id), earned) {
        (Ok(order), Ok(earned)) => (order, earned),
        (Err(error), _) => return tracing::warn!(%error, "an order's end without its id"),
        (_, Err(error)) => return tracing::warn!(%error, "an order's end without what it earned"),
    };
    if let Some(over) = agent.active.lock().get(&order) {
        over.store(true, Ordering::Relaxed);
    }
    let closed = Closed {
        settled: frame.state == "settled",
        cause: frame.cause.clone(),
        asset_id: frame.asset_id,
        earned,
    };
    if agent.counter.lock().add(frame.cursor, order, closed) {
        tracing::info!(%order, state = frame.state, cause = frame.cause, %earned, "order closed");
    }
}

/// Stores cursor and earnings now and then, and says the earnings.
async fn keep_progress(agent: Arc<Agent>) {
    let mut ticks = tokio::time::interval(SAVE_INTERVAL);
    let (mut saved, mut said, mut said_at) = (0, agent.earnings(), Instant::now());
    loop {
        ticks.tick().await;
        let handled = agent.cursor.lock().handled();
        if handled > saved {
            let saver = agent.clone();
            match tokio::task::spawn_blocking(move || saver.save_progress()).await {
                Ok(Ok(())) => saved = handled,
                Ok(Err(error)) => tracing::error!(%error, "cannot store how far the agent is"),
                Err(error) => tracing::error!(%error, "cannot store how far the agent is"),
            }
        }
        let earnings = agent.earnings();
        if said_at.elapsed() >= EARNINGS_INTERVAL && earnings != said {
            tracing::info!(%earnings, "so far");
            (said, said_at) = (earnings, Instant::now());
        }
    }
}
