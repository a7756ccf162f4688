//! One buyer's live lane: its events come over one WebSocket and are handed to whoever waits for that RFQ.
//!
//! A connection that breaks is opened again from the last cursor, so nothing is missed and nothing comes twice. Events are
//! still only news: whoever acts on one may as well have asked the house.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::ids::RfqId;
use provider_agent::client::ClientError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::market::{Event, Market};

/// Pause before a broken connection is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

type Waiting = Arc<Mutex<HashMap<RfqId, mpsc::UnboundedSender<Event>>>>;

/// A buyer's live lane. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Hub {
    waiting: Waiting,
    listener: JoinHandle<()>,
}

impl Hub {
    /// Listens for `market`'s own agent, from its first event on.
    pub(crate) fn start(market: Market) -> Self {
        let waiting = Waiting::default();
        let listener = tokio::spawn(listen(market, waiting.clone()));
        Self { waiting, listener }
    }

    /// The events of one RFQ and its order, from now on.
    pub(crate) fn follow(&self, rfq_id: RfqId) -> Follower {
        let (sender, events) = mpsc::unbounded_channel();
        self.waiting.lock().insert(rfq_id, sender);
        Follower { rfq_id, events, waiting: self.waiting.clone() }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// The events of one RFQ. Stops following when dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    rfq_id: RfqId,
    events: mpsc::UnboundedReceiver<Event>,
    waiting: Waiting,
}

impl Follower {
    /// The next event, or `None` when there is none within `limit`.
    pub(crate) async fn next(&mut self, limit: Duration) -> Option<Event> {
        tokio::time::timeout(limit, self.events.recv()).await.ok().flatten()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.rfq_id);
    }
}

async fn listen(market: Market, waiting: Waiting) {
    let mut cursor = "0".to_owned();
    loop {
        match market.events(&cursor).await {
            Ok(mut events) => loop {
                match events.next().await {
                    Ok(event) => {
                        cursor.clone_from(&event.cursor);
                        let follower = event.rfq_id.and_then(|rfq_id| waiting.lock().get(&rfq_id).cloned());
                        if let Some(follower) = follower {
                            // It may have stopped following in this very moment.
                            let _ = follower.send(event);
                        }
                    }
                    Err(error) => {
                        broke(&error, &cursor);
                        break;
                    }
                }
            },
            Err(error) => broke(&error, &cursor),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// A house that is away is nothing to speak of; anything else is.
fn broke(error: &ClientError, cursor: &str) {
    if error.is_passing() {
        tracing::debug!(%error, cursor, "the live lane broke");
    } else {
        tracing::warn!(%error, cursor, "the live lane broke");
    }
}
