//! The news desk: after each commit it reads, once for all live readers whom it concerns, what there is to tell them.
//!
//! A reader that has caught up says so ([`Listener::go_live`]) and is handed its events from then on. Whatever goes wrong here
//! (lost hints, a failed read, a reader that does not keep up), the reader is told to read for itself again, from its own
//! cursor: nothing depends on the desk but speed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use ledger::Reader;
use ledger::market::{self, FeedEvent};
use ledger::pipeline::{Pipeline, Wake};
use parking_lot::Mutex;
use proto::ids::AgentId;
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Agents whose events are read in one statement.
const AGENTS_AT_ONCE: usize = 64;
/// Reads of one ledger at a time.
const READS_AT_ONCE: usize = 4;
/// Longest that the readers of a ledger wait for such a read before each reads for itself.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// Events of an agent in one read; whoever has more to hear reads the rest for itself.
const PAGE: u32 = 50;
/// Events that may wait for their reader, who may be one of a thousand that do not read at all; one that is slower than that
/// reads for itself.
const WAITING_MAX: usize = 100;

type Key = (u32, AgentId);

/// Hands news to listeners. A hint may be lost; whoever listens polls as well.
#[derive(Debug, Default)]
pub struct Hub {
    listeners: Mutex<HashMap<Key, Vec<Arc<Place>>>>,
    next: AtomicU64,
}

/// Where one reader is found.
#[derive(Debug)]
struct Place {
    id: u64,
    stirred: Notify,
    inbox: Mutex<Inbox>,
}

/// What a reader was handed and has not taken yet.
#[derive(Debug, Default)]
struct Inbox {
    /// The reader has, or finds here, all of its events up to this seq; `None`: it reads for itself.
    given: Option<u64>,
    /// Shared with the agent's other readers.
    events: VecDeque<Arc<FeedEvent>>,
}

impl Place {
    /// From now on it reads for itself; what it was handed is in order and stays.
    fn leave_alone(&self) {
        self.inbox.lock().given = None;
        // notify_one keeps a permit, so a hint that comes while its reader reads is not lost.
        self.stirred.notify_one();
    }

    /// All events of its agent after `after`, in order, and whether there are more.
    fn hand(&self, after: u64, events: &[Arc<FeedEvent>], more: bool) {
        let mut inbox = self.inbox.lock();
        let Some(given) = inbox.given else { return };
        if given < after {
            // It came while this was being read, from further back.
            inbox.given = None;
        } else {
            let news = events.iter().filter(|event| event.seq > given);
            inbox.events.extend(news.cloned());
            inbox.given = events.last().map_or(given, |last| last.seq.max(given)).into();
            if inbox.events.len() > WAITING_MAX {
                *inbox = Inbox::default();
            } else if more {
                inbox.given = None;
            }
        }
        drop(inbox);
        self.stirred.notify_one();
    }
}

/// Whom the hints of a moment concern.
enum Concerned {
    Agents(HashSet<AgentId>),
    /// Hints were lost: nobody knows whose.
    Everybody,
}

impl Concerned {
    /// Waits for a hint of this ledger and takes all others that are there by then; `None`: there will be no more.
    async fn next(wakes: &mut Receiver<Wake>, ledger_id: u32) -> Option<Self> {
        let mut agents = HashSet::new();
        loop {
            match wakes.recv().await {
                Ok(wake) if wake.ledger_id == ledger_id => {
                    agents.extend(wake.agents.iter().copied());
                    break;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return Some(Self::Everybody),
                Err(RecvError::Closed) => return None,
            }
        }
        loop {
            match wakes.try_recv() {
                Ok(wake) if wake.ledger_id == ledger_id => agents.extend(wake.agents.iter().copied()),
                Ok(_) => {}
                Err(TryRecvError::Lagged(_)) => return Some(Self::Everybody),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(Self::Agents(agents)),
            }
        }
    }
}

impl Hub {
    /// Starts handing out the news of `pipeline`, read by `reader`, until the pipeline is gone. Ledgers do not wait for each
    /// other.
    pub fn start(pipeline: &Pipeline, reader: &Reader) -> Arc<Self> {
        let hub = Arc::new(Self::default());
        for ledger_id in pipeline.ledger_ids().iter().copied() {
            let (mut wakes, reader) = (pipeline.subscribe_wakes(), reader.clone());
            let handing = Arc::downgrade(&hub);
            tokio::spawn(async move {
                while let Some(concerned) = Concerned::next(&mut wakes, ledger_id).await {
                    let Some(hub) = handing.upgrade() else { return };
                    match concerned {
                        Concerned::Agents(agents) => hub.tell(&reader, ledger_id, agents).await,
                        Concerned::Everybody => hub.leave_all_alone(ledger_id),
                    }
                }
            });
        }
        hub
    }

    /// From now on, hints about `agent` in this ledger.
    pub(crate) fn listen(self: &Arc<Self>, ledger_id: u32, agent: AgentId) -> Listener {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(Place { id, stirred: Notify::new(), inbox: Mutex::default() });
        let key = (ledger_id, agent);
        self.listeners.lock().entry(key).or_default().push(place.clone());
        Listener { hub: self.clone(), key, place }
    }

    async fn tell(&self, reader: &Reader, ledger_id: u32, agents: HashSet<AgentId>) {
        let wanted = self.wanted(ledger_id, agents);
        let telling = wanted.chunks(AGENTS_AT_ONCE).map(|wanted| async move {
            let reading = market::read_feeds(reader, ledger_id, wanted, PAGE);
            match tokio::time::timeout(READ_LIMIT, reading).await {
                Ok(Ok(events)) => return self.hand_out(ledger_id, wanted, events),
                // Each reader meets it by itself, and has its own patience.
                Ok(Err(error)) => tracing::debug!(ledger_id, code = %error.code, "news could not be read"),
                Err(_) => tracing::debug!(ledger_id, "reading news took too long"),
            }
            wanted.iter().for_each(|(agent, _)| self.each(ledger_id, *agent, Place::leave_alone));
        });
        futures_util::stream::iter(telling).for_each_concurrent(READS_AT_ONCE, |told| told).await;
    }

    /// Whose events are to be read, and after which seq. Readers that read for themselves are woken.
    fn wanted(&self, ledger_id: u32, agents: HashSet<AgentId>) -> Vec<(AgentId, u64)> {
        let mut wanted = Vec::new();
        for agent in agents {
            let mut after: Option<u64> = None;
            self.each(ledger_id, agent, |place| match place.inbox.lock().given {
                Some(given) => after = Some(after.map_or(given, |least| least.min(given))),
                None => place.stirred.notify_one(),
            });
            wanted.extend(after.map(|after| (agent, after)));
        }
        wanted
    }

    /// Hands `events` to the listeners of the agents that they were read for.
    fn hand_out(&self, ledger_id: u32, wanted: &[(AgentId, u64)], events: Vec<(AgentId, FeedEvent)>) {
        let mut of: HashMap<AgentId, Vec<Arc<FeedEvent>>> = HashMap::new();
        for (agent, event) in events {
            of.entry(agent).or_default().push(Arc::new(event));
        }
        for (agent, after) in wanted {
            let events = of.remove(agent).unwrap_or_default();
            let more = u32::try_from(events.len()).is_ok_and(|count| count >= PAGE);
            self.each(ledger_id, *agent, |place| place.hand(*after, &events, more));
        }
    }

    fn leave_all_alone(&self, ledger_id: u32) {
        let listeners = self.listeners.lock();
        let concerned = listeners.iter().filter(|((ledger, _), _)| *ledger == ledger_id);
        concerned.flat_map(|(_, places)| places).for_each(|place| place.leave_alone());
    }

    fn each(&self, ledger_id: u32, agent: AgentId, told: impl FnMut(&Place)) {
        let listeners = self.listeners.lock();
        listeners.get(&(ledger_id, agent)).into_iter().flatten().map(Arc::as_ref).for_each(told);
    }
}

/// One reader's place among the listening; left when dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    hub: Arc<Hub>,
    key: Key,
    place: Arc<Place>,
}

impl Listener {
    /// Until something came, or a hint, but no longer than `at_most`; whether it did.
    pub(crate) async fn wait(&self, at_most: Duration) -> bool {
        tokio::time::timeout(at_most, self.place.stirred.notified()).await.is_ok()
    }

    /// From now on it is handed its events after `seq`. Whatever was committed before this, the reader has to have read, or to
    /// read afterwards.
    pub(crate) fn go_live(&self, seq: u64) {
        *self.place.inbox.lock() = Inbox { given: Some(seq), events: VecDeque::new() };
    }

    /// It has read by itself all of its events up to `seq`.
    pub(crate) fn has_read(&self, seq: u64) {
        let mut inbox = self.place.inbox.lock();
        inbox.given = inbox.given.map(|given| given.max(seq));
    }

    /// Whether it is handed its events.
    pub(crate) fn is_live(&self) -> bool {
        self.place.inbox.lock().given.is_some()
    }

    /// Whether something is there to [`Listener::take`].
    pub(crate) fn has_news(&self) -> bool {
        !self.place.inbox.lock().events.is_empty()
    }

    /// What it was handed since it last asked, in log order without a gap since [`Listener::go_live`].
    pub(crate) fn take(&self) -> Vec<FeedEvent> {
        let taken = std::mem::take(&mut self.place.inbox.lock().events);
        taken.into_iter().map(Arc::unwrap_or_clone).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.hub.listeners.lock();
        if let Some(places) = listeners.get_mut(&self.key) {
            places.retain(|place| place.id != self.place.id);
            if places.is_empty() {
                listeners.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::market::FeedKind;

    use super::*;

    fn agent(byte: u8) -> AgentId {
        AgentId::from_bytes([byte; 16])
    }

    fn event(seq: u64, n: i16) -> FeedEvent {
        FeedEvent {
            seq,
            n,
            kind: FeedKind::Rfq,
            subject_id: uuid::Uuid::nil(),
            at_us: 0,
            rfq_id: None,
            offer_id: None,
            order_id: None,
            payout_id: None,
            state: None,
            cause: None,
            asset_id: None,
            work_class: None,
            work_units: None,
            max_price: None,
            opened_at_us: None,
            expires_at_us: None,
            output_hash: None,
            provider_id: None,
            price: None,
            paid: None,
            refunded: None,
            earned: None,
            amount: None,
            ticket: None,
        }
    }

    /// What the log holds for agent 1 from one seq to another, two events of each.
    fn log(seqs: std::ops::RangeInclusive<u64>) -> Vec<(AgentId, FeedEvent)> {
        seqs.flat_map(|seq| [0, 1].map(|n| (agent(1), event(seq, n)))).collect()
    }

    fn seqs(events: &[FeedEvent]) -> Vec<(u64, i16)> {
        events.iter().map(|event| (event.seq, event.n)).collect()
    }

    /// Whether a hint is waiting right now.
    fn woken(listener: &Listener) -> bool {
        use futures_util::FutureExt as _;
        listener.place.stirred.notified().now_or_never().is_some()
    }

    fn one(byte: u8) -> HashSet<AgentId> {
        HashSet::from([agent(byte)])
    }

    #[test]
    fn a_hint_reaches_every_listener_of_its_agent_and_nobody_else() {
        let hub = Arc::new(Hub::default());
        let (first, second) = (hub.listen(1, agent(1)), hub.listen(1, agent(1)));
        let (other, elsewhere) = (hub.listen(1, agent(2)), hub.listen(2, agent(1)));
        assert!(hub.wanted(1, one(1)).is_empty(), "they read for themselves");
        assert!(woken(&first) && woken(&second));
        assert!(!woken(&other) && !woken(&elsewhere));
        // It was taken: no second one is waiting.
        assert!(!woken(&first));
        hub.leave_all_alone(1);
        assert!(woken(&other) && !woken(&elsewhere));
    }

    #[test]
    fn what_is_read_once_is_handed_to_each_from_where_it_stands() {
        let hub = Arc::new(Hub::default());
        let (behind, ahead) = (hub.listen(1, agent(1)), hub.listen(1, agent(1)));
        behind.go_live(4);
        ahead.go_live(6);
        let wanted = hub.wanted(1, one(1));
        assert_eq!(wanted, [(agent(1), 4)]);
        hub.hand_out(1, &wanted, log(5..=7));
        assert_eq!(seqs(&behind.take()), [(5, 0), (5, 1), (6, 0), (6, 1), (7, 0), (7, 1)]);
        assert_eq!(seqs(&ahead.take()), [(7, 0), (7, 1)]);
        assert!(woken(&behind) && woken(&ahead) && behind.is_live() && ahead.is_live());
        // What one of them has read by itself is read for it no more.
        ahead.has_read(9);
        hub.hand_out(1, &[(agent(1), 6)], log(7..=9));
        assert_eq!(seqs(&behind.take()), [(8, 0), (8, 1), (9, 0), (9, 1)]);
        assert!(!ahead.has_news());
        // The next read goes on there, and nothing comes twice.
        assert_eq!(hub.wanted(1, one(1)), [(agent(1), 9)]);
        hub.hand_out(1, &[(agent(1), 8)], log(9..=10));
        assert_eq!(seqs(&behind.take()), [(10, 0), (10, 1)]);
        // A read without news stirs nobody's place.
        hub.hand_out(1, &[(agent(1), 10)], Vec::new());
        assert_eq!((behind.has_news(), hub.wanted(1, one(1))), (false, vec![(agent(1), 10)]));
    }

    #[test]
    fn whoever_came_from_further_back_than_was_read_reads_for_itself() {
        let hub = Arc::new(Hub::default());
        let there = hub.listen(1, agent(1));
        there.go_live(5);
        let wanted = hub.wanted(1, one(1));
        let late = hub.listen(1, agent(1));
        late.go_live(3);
        hub.hand_out(1, &wanted, log(6..=6));
        assert_eq!(seqs(&there.take()), [(6, 0), (6, 1)]);
        assert!(!late.has_news() && !late.is_live() && woken(&late));
    }

    #[test]
    fn a_full_page_a_slow_reader_and_a_failed_read_send_it_back_to_the_log_without_a_gap() {
        let hub = Arc::new(Hub::default());
        let reader = hub.listen(1, agent(1));
        // More than a page: what came is in order, the rest it reads behind that.
        reader.go_live(0);
        hub.hand_out(1, &[(agent(1), 0)], log(1..=u64::from(PAGE / 2)));
        assert!(!reader.is_live() && woken(&reader));
        assert_eq!(reader.take().last().map(|event| event.seq), Some(u64::from(PAGE / 2)));
        // Handed more than may wait: none of it, so that the rest has no hole before it.
        reader.go_live(100);
        for seq in 101..=100 + WAITING_MAX as u64 {
            hub.hand_out(1, &[(agent(1), 100)], log(seq..=seq));
        }
        assert!(!reader.is_live() && woken(&reader) && !reader.has_news());
        // The read failed: what was handed before stays, the rest it reads.
        reader.go_live(2_000);
        hub.hand_out(1, &[(agent(1), 2_000)], log(2_001..=2_001));
        assert!(woken(&reader));
        hub.each(1, agent(1), Place::leave_alone);
        assert!(!reader.is_live() && woken(&reader));
        assert_eq!(seqs(&reader.take()), [(2_001, 0), (2_001, 1)]);
    }

    #[test]
    fn who_leaves_is_forgotten() {
        let hub = Arc::new(Hub::default());
        drop((hub.listen(1, agent(1)), hub.listen(1, agent(1))));
        assert!(hub.listeners.lock().is_empty());
    }
}
