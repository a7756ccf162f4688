//! Following an agent's feed from a cursor, without gap or double.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::market::{self, FeedEvent};
use proto::ids::{AgentId, KeyId};

use super::hub::Listener;
use crate::server::ServerState;
use crate::server::problem::Problem;

/// How long a reader trusts that a hint would have come.
const POLL: Duration = Duration::from_millis(500);
const PAGE: u32 = 200;

/// Where a reader stands: the last event it has, by command and place within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Cursor {
    pub(crate) seq: u64,
    /// `None`: all events of `seq`.
    pub(crate) n: Option<i16>,
}

impl Cursor {
    /// After every event of a command.
    pub(crate) const fn after_seq(seq: u64) -> Self {
        Self { seq, n: None }
    }

    pub(crate) fn of(event: &FeedEvent) -> Self {
        Self { seq: event.seq, n: Some(event.n) }
    }

    /// From where the database must read to see all that comes after this.
    fn read_from(self) -> u64 {
        if self.n.is_some() { self.seq.saturating_sub(1) } else { self.seq }
    }

    fn is_before(self, event: &FeedEvent) -> bool {
        match self.n {
            None => event.seq > self.seq,
            Some(n) => (event.seq, event.n) > (self.seq, n),
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.n {
            None => write!(f, "{}", self.seq),
            Some(n) => write!(f, "{}.{n}", self.seq),
        }
    }
}

impl std::str::FromStr for Cursor {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        let parsed = match text.split_once('.') {
            None => text.parse().ok().map(Self::after_seq),
            Some((seq, n)) => seq.parse().ok().zip(n.parse().ok()).map(|(seq, n)| Self { seq, n: Some(n) }),
        };
        parsed.ok_or_else(|| Problem::new("UB103", "after is a cursor from an earlier event, unchanged"))
    }
}

/// One step along a feed.
#[derive(Debug)]
pub(crate) enum Step {
    /// New events, in log order, at least one.
    Events(Vec<FeedEvent>),
    /// Everything there was has been given; said once.
    CaughtUp(Cursor),
}

/// A reader of one agent's feed.
pub(crate) struct Follower {
    state: Arc<ServerState>,
    actor: AgentId,
    key_id: KeyId,
    ledger_id: u32,
    cursor: Cursor,
    caught_up: bool,
    /// Whether it has to read for itself next.
    reads: bool,
    /// When it last read, or was last told that it need not.
    looked: Instant,
    listener: Listener,
}

impl Follower {
    pub(crate) fn new(
        state: Arc<ServerState>,
        actor: AgentId,
        key_id: KeyId,
        ledger_id: u32,
        after: Cursor,
    ) -> Self {
        let listener = state.hub.listen(ledger_id, actor);
        Self {
            state,
            actor,
            key_id,
            ledger_id,
            cursor: after,
            caught_up: false,
            reads: true,
            looked: Instant::now(),
            listener,
        }
    }

    /// The next step; waits when there is none. Cancelling loses nothing. UI203: the key was revoked meanwhile.
    pub(crate) async fn next(&mut self) -> Result<Step, Problem> {
        loop {
            match self.look().await {
                Ok(Some(step)) => return Ok(step),
                Ok(None) => self.wait().await,
                // A database that is away comes back; the reader keeps its place.
                Err(problem) if problem.may_retry() => tokio::time::sleep(POLL).await,
                Err(problem) => return Err(problem),
            }
        }
    }

    /// Until there may be something to see.
    async fn wait(&mut self) {
        // Counted from the last look, however often this is cancelled: whoever pings without end is told no less.
        let hinted = self.listener.wait(POLL.saturating_sub(self.looked.elapsed())).await;
        // Whoever is handed its events looks for itself only where it was told to, and now and then, should a hint be lost.
        self.reads = !(hinted && self.listener.is_live());
        if !self.reads {
            self.looked = Instant::now();
        }
    }

    async fn look(&mut self) -> Result<Option<Step>, Problem> {
        if !self.reads && !self.listener.has_news() {
            return Ok(None);
        }
        if !self.state.gate.still_valid(self.key_id).await? {
            return Err(Problem::new("UI203", "the signing key was revoked"));
        }
        // Taken and given without a pause in between, in which it could be lost.
        if let Some(step) = self.news(self.listener.take()) {
            return Ok(Some(step));
        }
        loop {
            let was_live = self.listener.is_live();
            let from = self.cursor.read_from();
            let page = market::read_feed(&self.state.reader, self.actor, self.ledger_id, from, PAGE).await?;
            self.looked = Instant::now();
            let is_last = u32::try_from(page.len()).is_ok_and(|count| count < PAGE);
            let step = self.news(page);
            if was_live {
                self.listener.has_read(self.cursor.read_from());
            } else if is_last {
                // What comes from here on is handed over; what came since that page was read is read next.
                self.listener.go_live(self.cursor.read_from());
            }
            if step.is_some() {
                return Ok(step);
            }
            if !self.caught_up {
                self.caught_up = true;
                return Ok(Some(Step::CaughtUp(self.cursor)));
            }
            if was_live {
                self.reads = false;
                return Ok(None);
            }
        }
    }

    /// Those that are new, if any, with the cursor set behind them.
    fn news(&mut self, mut events: Vec<FeedEvent>) -> Option<Step> {
        let last = events.last()?.seq;
        events.retain(|event| self.cursor.is_before(event));
        // Neither a page nor what is handed over parts the events of one seq.
        if last >= self.cursor.seq {
            self.cursor = Cursor::after_seq(last);
        }
        (!events.is_empty()).then_some(Step::Events(events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_garbage_does_not() {
        for text in ["0", "17", "17.2"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in ["", ".", "17.", "-1", "a", "17.2.3", "99999999999999999999999"] {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_cursor_within_a_command_reads_that_command_again() {
        assert_eq!("17".parse::<Cursor>().unwrap().read_from(), 17);
        assert_eq!("17.2".parse::<Cursor>().unwrap().read_from(), 16);
    }
}
