//! `/v1/agent/ws`: what a provider's agent is told, as protobuf frames. Nothing here changes the market's state except
//! presence, which the service records itself; whatever an agent decides it sends as an HTTP command.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::response::{IntoResponse as _, Response};
use ledger::house::Hand;
use ledger::market::{FeedEvent, FeedKind, Ticket};
use proto::dsse;
use proto::httpsig::Coverage;
use proto::ids::OrderId;
use proto::prost::Message as _;
use proto::v1::agent_frame::Frame;
use proto::v1::command_body::Kind;
use proto::v1::{self, AgentFrame};
use uuid::Uuid;

use super::feed::{Cursor, Follower, Step};
use super::{Gone, MESSAGE_BYTES_MAX, PATIENCE, Pulse, Seat, close, send};
use crate::auth::Signer;
use crate::server::ServerState;
use crate::server::problem::Problem;

/// The upgrade: signed like any GET, provider keys only.
pub(crate) async fn upgrade(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let signer = state.gate.check(&parts, Coverage::Read, None).await?;
    if signer.purpose.as_deref() != Some("provider") {
        return Err(Problem::new("UI304", "only a provider key may open the agents' connection"));
    }
    let seat = Seat::take(&state, "agent")?;
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX),
        Err(refused) => return Ok(refused.into_response()),
    };
    Ok(upgrade.on_upgrade(move |socket| {
        let tracker = state.tasks.clone();
        tracker.track_future(async move {
            serve(&state, signer, socket).await;
            drop(seat);
        })
    }))
}

async fn serve(state: &Arc<ServerState>, signer: Signer, mut socket: WebSocket) {
    let Some(hello) = hello(&mut socket).await else {
        close(&mut socket, 1002, "the first frame must be Hello").await;
        return;
    };
    let connection = Connection { state, signer, ledger_id: hello.ledger_id, connection_id: Uuid::now_v7() };
    if let Err(problem) = connection.record_presence(true).await {
        connection.tell_problem(&mut socket, &problem).await;
        return;
    }
    tracing::debug!(agent = %connection.signer.agent_id, connection = %connection.connection_id, "agent connected");
    // Whatever ended it, presence is recorded.
    let ended = connection.follow(&mut socket, hello.after_cursor).await;
    if let Err(Ended::Problem(problem)) = &ended {
        connection.tell_problem(&mut socket, problem).await;
    }
    if let Err(Ended::ShuttingDown) = ended {
        close(&mut socket, 1001, "the server is shutting down").await;
    }
    if let Err(problem) = connection.record_presence(false).await {
        tracing::warn!(code = %problem.code, detail = problem.detail, "an agent's leaving could not be recorded");
    }
}

/// The client's first frame, within [`PATIENCE`].
async fn hello(socket: &mut WebSocket) -> Option<v1::Hello> {
    let first = async {
        loop {
            match socket.recv().await? {
                Ok(Message::Binary(bytes)) => return Some(bytes),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                _ => return None,
            }
        }
    };
    let bytes = tokio::time::timeout(PATIENCE, first).await.ok()??;
    match AgentFrame::decode(bytes).ok()?.frame? {
        Frame::Hello(hello) => Some(hello),
        _ => None,
    }
}

enum Ended {
    Gone,
    ShuttingDown,
    Problem(Problem),
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

struct Connection<'s> {
    state: &'s Arc<ServerState>,
    signer: Signer,
    ledger_id: u32,
    connection_id: Uuid,
}

impl Connection<'_> {
    async fn follow(&self, socket: &mut WebSocket, after: u64) -> Result<(), Ended> {
        let agent_id = self.signer.agent_id;
        let welcome =
            v1::Welcome { agent_id: agent_id.into(), connection_id: self.connection_id.as_bytes().to_vec() };
        send_frame(socket, Frame::Welcome(welcome)).await?;
        let key_id = self.signer.key.id();
        let after = Cursor::after_seq(after);
        let mut feed = Follower::new(self.state.clone(), agent_id, key_id, self.ledger_id, after);
        let mut pulse = Pulse::new();
        loop {
            tokio::select! {
                step = feed.next() => match step? {
                    Step::Events(events) => {
                        for frame in self.frames(&events) {
                            send_frame(socket, frame).await?;
                        }
                    }
                    Step::CaughtUp(cursor) => {
                        send_frame(socket, Frame::CaughtUp(v1::CaughtUp { cursor: cursor.seq })).await?;
                    }
                },
                received = socket.recv() => match received {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => pulse.heard(),
                    Some(Ok(Message::Binary(_) | Message::Text(_))) => {
                        let detail = "only Hello is taken here; commands are HTTP requests";
                        return Err(Problem::new("UB109", detail).into());
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Ended::Gone),
                },
                tick = pulse.tick() => {
                    tick?;
                    send(socket, Message::Ping(Default::default())).await?;
                }
                () = self.state.stopping.cancelled() => return Err(Ended::ShuttingDown),
            }
        }
    }

    /// The frames of a page of events, in order. Of one command only the last frame carries its seq: an agent that stores
    /// its cursor between two of them is told both again rather than one of them never.
    fn frames(&self, events: &[FeedEvent]) -> Vec<Frame> {
        let ended: HashSet<OrderId> = events
            .iter()
            .filter(|event| event.kind == FeedKind::Closed)
            .filter_map(|event| event.order_id)
            .collect();
        let now_us = self.state.pipeline.now_us();
        let mut frames: Vec<(u64, Frame)> = Vec::with_capacity(events.len());
        for event in events {
            let frame = match event.kind {
                // What can no longer be answered is not worth telling.
                FeedKind::Rfq if event.expires_at_us.is_some_and(|at| at > now_us) => invitation(event),
                FeedKind::Ticket if !event.order_id.is_some_and(|order| ended.contains(&order)) => {
                    event.ticket.as_ref().map(|ticket| self.ticket(event.seq, ticket))
                }
                FeedKind::Closed => event.order_id.map(|order_id| {
                    Frame::Closed(v1::OrderClosed {
                        cursor: event.seq,
                        order_id: order_id.into(),
                        state: event.state.clone().unwrap_or_default(),
                        cause: event.cause.clone().unwrap_or_default(),
                        earned: event.earned.map(|earned| earned.to_string()).unwrap_or_default(),
                        asset_id: event.asset_id.unwrap_or_default(),
                    })
                }),
                _ => None,
            };
            frames.extend(frame.map(|frame| (event.seq, frame)));
        }
        let mut next = None;
        for (seq, frame) in frames.iter_mut().rev() {
            if next == Some(*seq) {
                set_cursor(frame, seq.saturating_sub(1));
            }
            next = Some(*seq);
        }
        frames.into_iter().map(|(_, frame)| frame).collect()
    }

    /// The signed run ticket. Ed25519 is deterministic, so the same row gives the same bytes each time it is sent.
    fn ticket(&self, cursor: u64, ticket: &Ticket) -> Frame {
        let message = v1::RunTicket {
            run_ticket_id: ticket.run_ticket_id.into(),
            order_id: ticket.order_id.into(),
            provider_id: ticket.provider_id.into(),
            provider_key_id: ticket.provider_key_id.into(),
            input_hash: ticket.input_hash.into(),
            work_class: ticket.work_class.clone(),
            max_work_units: ticket.max_work_units,
            asset_id: ticket.asset_id,
            max_spend: ticket.max_spend.to_string(),
            max_duration_ms: u32::try_from(ticket.max_duration_ms).unwrap_or(u32::MAX),
            issued_at_us: ticket.issued_at_us,
            expires_at_us: ticket.expires_at_us,
            nonce: ticket.nonce.clone(),
            ledger_id: self.ledger_id,
        };
        let envelope = dsse::sign_message(&message, self.state.pipeline.house().key(Hand::Service));
        Frame::Ticket(v1::TicketIssued { cursor, ticket_envelope: envelope.encode_to_vec() })
    }

    async fn record_presence(&self, reachable: bool) -> Result<(), Problem> {
        let presence = v1::RecordPresence {
            agent_id: self.signer.agent_id.into(),
            reachable,
            connection_id: self.connection_id.as_bytes().to_vec(),
        };
        let key = format!("presence:{}:{}", self.connection_id, if reachable { "up" } else { "gone" });
        let body = v1::CommandBody { kind: Some(Kind::RecordPresence(presence)) };
        let answer = self.state.pipeline.submit_service(self.ledger_id, Hand::Service, &key, body).await?;
        if answer.is_ok() { Ok(()) } else { Err(Problem::refused(&answer)) }
    }

    async fn tell_problem(&self, socket: &mut WebSocket, problem: &Problem) {
        let frame = v1::Problem { code: problem.code.to_string(), message: problem.detail.clone() };
        // The close says it too, and whether either arrives does not matter any more.
        let _ = send_frame(socket, Frame::Problem(frame)).await;
        close(socket, 1008, &problem.detail).await;
    }
}

fn invitation(event: &FeedEvent) -> Option<Frame> {
    Some(Frame::Rfq(v1::RfqInvitation {
        cursor: event.seq,
        rfq_id: event.rfq_id?.into(),
        work_class: event.work_class.clone()?,
        work_units: u64::try_from(event.work_units?).ok()?,
        asset_id: event.asset_id?,
        max_price: event.max_price?.to_string(),
        expires_at_us: event.expires_at_us?,
        opened_at_us: event.opened_at_us?,
    }))
}

fn set_cursor(frame: &mut Frame, cursor: u64) {
    match frame {
        Frame::Rfq(rfq) => rfq.cursor = cursor,
        Frame::Ticket(ticket) => ticket.cursor = cursor,
        Frame::Closed(closed) => closed.cursor = cursor,
        Frame::Hello(_) | Frame::Welcome(_) | Frame::CaughtUp(_) | Frame::Problem(_) => {}
    }
}

async fn send_frame(socket: &mut WebSocket, frame: Frame) -> Result<(), Gone> {
    let bytes = AgentFrame { frame: Some(frame) }.encode_to_vec();
    send(socket, Message::Binary(bytes.into())).await
}
