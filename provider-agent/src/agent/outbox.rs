//! Delivery: to the house while it is there, into the spool while it is not, always in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::client::{Answer, Client, ClientError, Refusal, Retry};
use crate::spool::{Item, Spool, SpoolError};

const COMMAND: &str = "command";
const ARTIFACT: &str = "artifact";

/// What has to reach the house.
#[derive(Debug, Clone)]
pub(super) enum Message {
    /// The bytes of a `CommandBody`, under an idempotency key.
    Command {
        key: String,
        body: Bytes,
    },
    Artifact(Bytes),
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Delivery {
    /// The house took the command (the answer) or the artifact (none).
    Answered(Option<Answer>),
    /// The house said no; it will say so again.
    Refused(Refusal),
    /// The house is away: the message waits in the spool and will be sent in its turn.
    Spooled,
}

/// The way to one ledger of the house.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    /// Patient: for messages whose answer somebody waits for.
    client: Client,
    ledger_id: u32,
    /// None after [`Outbox::close`].
    spool: Arc<Mutex<Option<Spool>>>,
    /// Messages in the spool, readable while a disk is being waited for under its lock.
    waiting: Arc<AtomicUsize>,
    /// Something was spooled, or the house is back.
    stir: Arc<Notify>,
}

impl Outbox {
    pub(super) fn new(client: Client, ledger_id: u32, spool: Spool) -> Self {
        let waiting = Arc::new(AtomicUsize::new(spool.len()));
        let (spool, stir) = (Arc::new(Mutex::new(Some(spool))), Arc::new(Notify::new()));
        Self { client, ledger_id, spool, waiting, stir }
    }

    /// Sends `message`, or spools it while the house is away or something spooled is still before it: what
    /// one caller delivers in turn arrives in turn.
    ///
    /// # Errors
    /// [`ClientError::Local`] and the like: this message can never be sent. While the house is away and the
    /// spool is full, it waits.
    pub(super) async fn deliver(&self, message: Message) -> Result<Delivery, ClientError> {
        let mut warned = false;
        loop {
            if self.waiting() == 0 {
                match self.send(&self.client, &message).await {
                    Ok(answer) => return Ok(Delivery::Answered(answer)),
                    Err(error) if error.is_passing() => {
                        tracing::info!(%error, "the house is away: spooling");
                    }
                    Err(ClientError::Refused(refusal)) => return Ok(Delivery::Refused(refusal)),
                    Err(error) => return Err(error),
                }
            }
            match self.append(&message).await {
                Ok(()) => {
                    self.stir.notify_one();
                    return Ok(Delivery::Spooled);
                }
                Err(error) => {
                    if !warned {
                        tracing::error!(%error, "cannot spool: waiting for the house or for room");
                        warned = true;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// The house can be reached again: do not wait for the next try.
    pub(super) fn stir(&self) {
        self.stir.notify_one();
    }

    /// Messages waiting.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Sends what was spooled, oldest first, for ever.
    pub(super) async fn drain(&self) {
        let once = self.client.clone().with_retry(Retry::never());
        let patience = Retry { longest_pause: Duration::from_secs(5), ..Retry::default() };
        let mut failed = 0;
        loop {
            match self.drain_one(&once).await {
                Ok(true) => failed = 0,
                Ok(false) => self.stir.notified().await,
                Err(reason) => {
                    failed += 1;
                    tracing::debug!(reason, waiting = self.waiting(), "the spool cannot be drained yet");
                    let pause = tokio::time::sleep(patience.pause_after(failed));
                    tokio::select! {
                        () = pause => {}
                        () = self.stir.notified() => {}
                    }
                }
            }
        }
    }

    /// Sends the oldest message; false when there is none.
    async fn drain_one(&self, client: &Client) -> Result<bool, String> {
        let oldest = self.with_spool(Spool::oldest).await.map_err(|e| e.to_string())?;
        let Some((seq, item)) = oldest else { return Ok(false) };
        let key = item.idempotency_key.clone();
        match message_of(item) {
            Some(message) => match self.send(client, &message).await {
                Ok(answer) => {
                    let replayed = answer.is_some_and(|answer| answer.replayed);
                    tracing::info!(key, replayed, waiting = self.waiting() - 1, "sent from the spool");
                }
                Err(error) if error.is_passing() => return Err(error.to_string()),
                // The house has decided, or the request can never be sent: waiting changes nothing.
                Err(error) => tracing::warn!(key, %error, "a spooled message was turned down"),
            },
            None => tracing::warn!(key, "a spooled message is of a kind this version does not know"),
        }
        self.with_spool(move |spool| spool.ack(seq)).await.map_err(|e| e.to_string())?;
        Ok(true)
    }

    /// Lets go of the spool, so that the next agent in this folder can have it at once.
    pub(super) async fn close(&self) {
        let spool = self.spool.clone();
        let closed = tokio::task::spawn_blocking(move || drop(spool.lock().take())).await;
        closed.unwrap_or_else(|error| tracing::error!(%error, "cannot close the spool"));
    }

    async fn send(&self, client: &Client, message: &Message) -> Result<Option<Answer>, ClientError> {
        match message {
            Message::Command { key, body } => {
                client.command_bytes(self.ledger_id, key, body.clone()).await.map(Some)
            }
            Message::Artifact(bytes) => client.put_artifact(bytes.clone()).await.map(|_| None),
        }
    }

    async fn append(&self, message: &Message) -> Result<(), SpoolError> {
        let item = match message {
            Message::Command { key, body } => {
                Item { kind: COMMAND.to_owned(), idempotency_key: key.clone(), body: body.to_vec() }
            }
            Message::Artifact(bytes) => {
                Item { kind: ARTIFACT.to_owned(), idempotency_key: String::new(), body: bytes.to_vec() }
            }
        };
        self.with_spool(move |spool| spool.append(&item)).await.map(drop)
    }

    /// Runs `work` where waiting for a disk holds up nobody else.
    async fn with_spool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let (spool, waiting) = (self.spool.clone(), self.waiting.clone());
        let done = tokio::task::spawn_blocking(move || {
            let mut spool = spool.lock();
            let Some(spool) = spool.as_mut() else {
                return Err(SpoolError::Interrupted("the agent is closing down".to_owned()));
            };
            let done = work(spool);
            waiting.store(spool.len(), Ordering::Release);
            done
        })
        .await;
        done.unwrap_or_else(|panic| Err(SpoolError::Interrupted(panic.to_string())))
    }
}

fn message_of(item: Item) -> Option<Message> {
    match item.kind.as_str() {
        COMMAND => Some(Message::Command { key: item.idempotency_key, body: item.body.into() }),
        ARTIFACT => Some(Message::Artifact(item.body.into())),
        _ => None,
    }
}
