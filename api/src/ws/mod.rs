//! Live lanes. WebSocket only: protobuf frames for agents, graphql-transport-ws for people.

pub(crate) mod agent;
pub(crate) mod feed;
pub(crate) mod graphql;
mod hub;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
pub use hub::Hub;

use crate::server::ServerState;
use crate::server::problem::Problem;

/// How often the server asks whether the other end is still there.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Without a sign of life for so long a connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// For the first message, and for each message to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest message that a client may send, bytes.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Live connections at most.
const SOCKETS_MAX: usize = 10_000;

/// A live connection's seat: counted while it is held.
#[derive(Debug)]
pub(crate) struct Seat {
    state: Arc<ServerState>,
    lane: &'static str,
}

impl Seat {
    /// UB701: every seat is taken.
    pub(crate) fn take(state: &Arc<ServerState>, lane: &'static str) -> Result<Self, Problem> {
        use std::sync::atomic::Ordering;
        let seat = Self { state: state.clone(), lane };
        metrics::gauge!("econ_websocket_connections", "lane" => lane).increment(1.0);
        if state.sockets.fetch_add(1, Ordering::Relaxed) >= SOCKETS_MAX {
            return Err(Problem::new("UB701", "too many live connections: come back later"));
        }
        Ok(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.state.sockets.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        metrics::gauge!("econ_websocket_connections", "lane" => self.lane).decrement(1.0);
    }
}

/// The connection is gone, or its other end does not take what it is sent.
#[derive(Debug)]
pub(crate) struct Gone;

/// Sends a message, for at most [`PATIENCE`].
pub(crate) async fn send(socket: &mut WebSocket, message: Message) -> Result<(), Gone> {
    match tokio::time::timeout(PATIENCE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

/// Says goodbye. Whether it arrives does not matter any more.
pub(crate) async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    let reason: String = reason.chars().take(100).collect();
    let _ = send(socket, Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}

/// Pings and the silence between answers.
#[derive(Debug)]
pub(crate) struct Pulse {
    ticks: tokio::time::Interval,
    heard: Instant,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { ticks, heard: Instant::now() }
    }

    /// The other end said something.
    pub(crate) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Until the next ping is due. Cancelling loses nothing.
    pub(crate) async fn tick(&mut self) -> Result<(), Gone> {
        self.ticks.tick().await;
        if self.heard.elapsed() > SILENCE_MAX { Err(Gone) } else { Ok(()) }
    }
}
