//! Who waits for news: the pipeline's hints, handed to the connections of the agents they concern.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledger::pipeline::Pipeline;
use parking_lot::Mutex;
use proto::ids::AgentId;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

type Waiting = HashMap<(u32, AgentId), Vec<(u64, Arc<Notify>)>>;

/// Hands hints to listeners. A hint may be lost; whoever listens polls as well.
#[derive(Debug, Default)]
pub struct Hub {
    waiting: Mutex<Waiting>,
    next: AtomicU64,
}

impl Hub {
    /// Starts handing out the hints of `pipeline`, until the pipeline is gone.
    pub fn start(pipeline: &Pipeline) -> Arc<Self> {
        let hub = Arc::new(Self::default());
        let mut wakes = pipeline.subscribe_wakes();
        let handing = Arc::downgrade(&hub);
        tokio::spawn(async move {
            loop {
                let received = wakes.recv().await;
                let Some(hub) = handing.upgrade() else { return };
                match received {
                    Ok(wake) => hub.wake(wake.ledger_id, &wake.agents),
                    // Hints were dropped: nobody knows whose, so everybody looks.
                    Err(RecvError::Lagged(_)) => hub.wake_all(),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        hub
    }

    /// From now on, hints about `agent` in this ledger.
    pub(crate) fn listen(self: &Arc<Self>, ledger_id: u32, agent: AgentId) -> Listener {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let notify = Arc::new(Notify::new());
        let key = (ledger_id, agent);
        self.waiting.lock().entry(key).or_default().push((id, notify.clone()));
        Listener { hub: self.clone(), key, id, notify }
    }

    fn wake(&self, ledger_id: u32, agents: &[AgentId]) {
        let waiting = self.waiting.lock();
        let listeners = agents.iter().filter_map(|agent| waiting.get(&(ledger_id, *agent))).flatten();
        // notify_one keeps a permit, so a hint that comes while its reader reads is not lost.
        listeners.for_each(|(_, notify)| notify.notify_one());
    }

    fn wake_all(&self) {
        self.waiting.lock().values().flatten().for_each(|(_, notify)| notify.notify_one());
    }
}

/// One reader's place among the waiting; left when dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    hub: Arc<Hub>,
    key: (u32, AgentId),
    id: u64,
    notify: Arc<Notify>,
}

impl Listener {
    /// Until a hint comes, but no longer than `at_most`.
    pub(crate) async fn wait(&self, at_most: Duration) {
        // Either way the reader looks again.
        let _ = tokio::time::timeout(at_most, self.notify.notified()).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut waiting = self.hub.waiting.lock();
        if let Some(listeners) = waiting.get_mut(&self.key) {
            listeners.retain(|(id, _)| *id != self.id);
            if listeners.is_empty() {
                waiting.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(byte: u8) -> AgentId {
        AgentId::from_bytes([byte; 16])
    }

    /// Whether a hint is waiting right now.
    fn woken(listener: &Listener) -> bool {
        use futures_util::FutureExt as _;
        listener.notify.notified().now_or_never().is_some()
    }

    #[test]
    fn a_hint_reaches_every_listener_of_its_agent_and_nobody_else() {
        let hub = Arc::new(Hub::default());
        let (one, two) = (hub.listen(1, agent(1)), hub.listen(1, agent(1)));
        let (other, elsewhere) = (hub.listen(1, agent(2)), hub.listen(2, agent(1)));
        hub.wake(1, &[agent(1)]);
        assert!(woken(&one) && woken(&two));
        assert!(!woken(&other) && !woken(&elsewhere));
        // It was taken: no second one is waiting.
        assert!(!woken(&one));
        hub.wake_all();
        assert!(woken(&other) && woken(&elsewhere));
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let hub = Arc::new(Hub::default());
        drop((hub.listen(1, agent(1)), hub.listen(1, agent(1))));
        assert!(hub.waiting.lock().is_empty());
    }
}
