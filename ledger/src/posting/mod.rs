//! Posting transfers without commands: a queue per ledger that turns what many callers ask for into few, large commits.
//!
//! For programs that embed the books without a market, and for measuring them. There is no signature and no receipt, so
//! this connects as `econ_engine` and works only in ledgers without a command log; a market posts by command
//! ([`crate::pipeline`]). Calls `ledger.post_direct`.

mod columns;
pub mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proto::ids::{AccountId, JournalId, TransferId};
use proto::money::Amount;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio_postgres::{Client, NoTls, Statement};

use crate::clock::Clock;
use crate::error::{Error, connection_lost, is_transient};
use columns::Columns;

/// Most transfers of one commit.
pub const BATCH_MAX: usize = 8_190;
/// From here on a second session prepares its batch while the first one's is being posted. With fewer waiting, one larger
/// batch does more than two small ones.
const SECOND_SESSION_FROM: usize = 2_048;
/// Callers who have just been answered ask again at once, but not all at the same moment: a session waits so long, at most, for
/// as many as it had last time. Without it a batch of few goes first and all others wait for it.
const GATHER_WAIT: Duration = Duration::from_micros(300);
const RETRIES_MAX: u32 = 40;
const RETRY_WAIT: Duration = Duration::from_millis(250);

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Moves at once.
    #[default]
    Plain,
    /// Reserves.
    Pending,
    /// Moves all or part of a reservation and releases the rest.
    PostPending,
    /// Releases a reservation.
    VoidPending,
}

impl Kind {
    /// Its name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Pending => "pending",
            Self::PostPending => "post_pending",
            Self::VoidPending => "void_pending",
        }
    }
}

/// [`NewTransfer::flags`]: `amount` is the most to move; less if the debit account cannot spare it.
pub const BALANCING_DEBIT: i16 = 1;
/// [`NewTransfer::flags`]: `amount` is the most to move; less if the credit account may not receive it.
pub const BALANCING_CREDIT: i16 = 2;
/// [`NewTransfer::flags`]: the hold closes its debit account until it is voided.
pub const CLOSING_DEBIT: i16 = 4;
/// [`NewTransfer::flags`]: the hold closes its credit account until it is voided.
pub const CLOSING_CREDIT: i16 = 8;

/// A transfer to post. docs/ERRORS.md lists what each field must be for each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTransfer {
    /// UUIDv7 made by the caller: a retry with the same id is safe.
    pub transfer_id: TransferId,
    /// What it does.
    pub kind: Kind,
    /// Where it leaves; `None`: as in the reservation that it ends.
    pub debit_account_id: Option<AccountId>,
    /// Where it arrives.
    pub credit_account_id: Option<AccountId>,
    /// The asset of both accounts.
    pub asset_id: Option<i32>,
    /// Minor units; `None`: all that is reserved, or all that can be spared.
    pub amount: Option<Amount>,
    /// The reservation that it ends.
    pub pending_id: Option<TransferId>,
    /// How long it reserves, milliseconds; 0: until it is ended.
    pub timeout_ms: i64,
    /// Succeeds or fails together with the next item.
    pub linked: bool,
    /// Sum of the flags above.
    pub flags: i16,
    /// The posted transfer that it takes back.
    pub reverses_id: Option<TransferId>,
    /// Event time, Unix microseconds, where it is earlier than now.
    pub effective_at_us: Option<i64>,
    /// Why, a short fixed word.
    pub reason: &'static str,
    /// The business event that it belongs to; `None`: it is one of its own.
    pub journal_id: Option<JournalId>,
}

impl NewTransfer {
    /// A plain transfer.
    pub fn plain(
        transfer_id: TransferId,
        debit: AccountId,
        credit: AccountId,
        asset_id: i32,
        amount: Amount,
        reason: &'static str,
    ) -> Self {
        Self {
            transfer_id,
            kind: Kind::Plain,
            debit_account_id: Some(debit),
            credit_account_id: Some(credit),
            asset_id: Some(asset_id),
            amount: Some(amount),
            pending_id: None,
            timeout_ms: 0,
            linked: false,
            flags: 0,
            reverses_id: None,
            effective_at_us: None,
            reason,
            journal_id: None,
        }
    }
}

/// What became of one transfer: a result name of docs/ERRORS.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferResult(pub String);

impl TransferResult {
    /// Posted now, or before with the same content.
    pub fn is_posted(&self) -> bool {
        self.0 == "ok" || self.0 == "exists"
    }
}

/// What a caller asked for, kept together in one commit.
struct Job {
    transfers: Vec<NewTransfer>,
    reply: oneshot::Sender<Result<Vec<TransferResult>, Error>>,
}

struct Shared {
    config: tokio_postgres::Config,
    ledger_id: i32,
    queue: Mutex<Queue>,
    /// Transfers in the queue.
    waiting: AtomicUsize,
    more: Notify,
}

struct Queue {
    jobs: mpsc::UnboundedReceiver<Job>,
    /// Taken from the channel and too large for the batch before.
    next: Option<Job>,
}

/// The queue of one ledger. Cheap to clone; the sessions end when the last handle is gone.
#[derive(Clone)]
pub struct Poster {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Poster {
    /// Starts the sessions; they connect when there is something to post. `config` must name a role that may act as
    /// `econ_engine`.
    pub fn start(config: tokio_postgres::Config, ledger_id: i32) -> Self {
        Self::with_sessions(config, ledger_id, 2)
    }

    /// The same with one session, or with two.
    pub fn with_sessions(config: tokio_postgres::Config, ledger_id: i32, sessions: usize) -> Self {
        let (jobs, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            config,
            ledger_id,
            queue: Mutex::new(Queue { jobs: queue, next: None }),
            waiting: AtomicUsize::new(0),
            more: Notify::new(),
        });
        for first in [true, false].into_iter().take(sessions) {
            tokio::spawn(Session { shared: shared.clone(), first, last_jobs: 0, connection: None }.run());
        }
        Self { shared, jobs }
    }

    /// Posts transfers in one commit with whatever others have queued; result `i` belongs to transfer `i`. At most
    /// [`BATCH_MAX`]. A chain ends with the call. After a lost connection the same batch is sent again: what had committed unseen
    /// answers as any retry does, `exists` for a transfer by itself and for the first of a chain, whose others then are
    /// `linked_event_failed`; whoever must know reads the transfer.
    /// `UL103` for none or too many, `UB801` when the database cannot be reached, and what the SQL raises.
    pub async fn post(&self, transfers: Vec<NewTransfer>) -> Result<Vec<TransferResult>, Error> {
        if transfers.is_empty() || transfers.len() > BATCH_MAX {
            let text = format!("a batch has 1 to {BATCH_MAX} transfers, not {}: split it", transfers.len());
            return Err(Error::new("UL103", text));
        }
        let (reply, answer) = oneshot::channel();
        let waiting = self.shared.waiting.fetch_add(transfers.len(), Ordering::AcqRel) + transfers.len();
        let gone = || Error::new("UB801", "the posting sessions have ended: start them again");
        self.jobs.send(Job { transfers, reply }).map_err(|_| gone())?;
        if waiting >= SECOND_SESSION_FROM {
            self.shared.more.notify_one();
        }
        answer.await.map_err(|_| gone())?
    }
}

struct Session {
    shared: Arc<Shared>,
    first: bool,
    /// How many jobs the last batch had.
    last_jobs: usize,
    connection: Option<(Client, Statement)>,
}

impl Session {
    async fn run(mut self) {
        loop {
            if !self.first && self.shared.waiting.load(Ordering::Acquire) < SECOND_SESSION_FROM {
                tokio::select! {
                    () = self.shared.more.notified() => {}
                    // Nobody posts any more: the handles' Arc is the only other sign.
                    () = tokio::time::sleep(Duration::from_secs(1)) => {
                        if self.shared.queue.lock().await.jobs.is_closed() {
                            return;
                        }
                    }
                }
                continue;
            }
            let Some(jobs) = self.take().await else { return };
            if !jobs.is_empty() {
                self.post(jobs).await;
            }
        }
    }

    /// What has queued up, in order, as much as fits one commit. `None`: no handle is left.
    async fn take(&mut self) -> Option<Vec<Job>> {
        let mut queue = self.shared.queue.lock().await;
        let first = match queue.next.take() {
            Some(job) => job,
            None if self.first => queue.jobs.recv().await?,
            // The second session never waits in the queue: it would take single transfers that belong together.
            None => match queue.jobs.try_recv() {
                Ok(job) => job,
                Err(mpsc::error::TryRecvError::Empty) => return Some(Vec::new()),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
            },
        };
        let mut count = first.transfers.len();
        let mut jobs = vec![first];
        let began = Instant::now();
        // An open chain must end its batch, or it would run on into another caller's transfers.
        let is_open = |jobs: &[Job]| {
            jobs.last().and_then(|job| job.transfers.last()).is_some_and(|transfer| transfer.linked)
        };
        while !is_open(&jobs) {
            match queue.jobs.try_recv() {
                Ok(job) if count + job.transfers.len() > BATCH_MAX => {
                    queue.next = Some(job);
                    break;
                }
                Ok(job) => {
                    count += job.transfers.len();
                    jobs.push(job);
                }
                Err(_) if jobs.len() < self.last_jobs && began.elapsed() < GATHER_WAIT => {
                    tokio::task::yield_now().await;
                }
                Err(_) => break,
            }
        }
        self.last_jobs = jobs.len();
        self.shared.waiting.fetch_sub(count, Ordering::AcqRel);
        Some(jobs)
    }

    async fn post(&mut self, jobs: Vec<Job>) {
        let columns = Columns::of(jobs.iter().flat_map(|job| &job.transfers));
        match self.commit(&columns).await {
            Ok(results) => {
                let mut results = results.into_iter().map(TransferResult);
                for job in jobs {
                    let own = results.by_ref().take(job.transfers.len()).collect();
                    let _ = job.reply.send(Ok(own));
                }
            }
            // Somebody in the batch is at fault: each is asked alone.
            Err(error) if jobs.len() > 1 && error.http_status() != 503 => {
                for job in jobs {
                    let columns = Columns::of(job.transfers.iter());
                    let result = self.commit(&columns).await;
                    let _ =
                        job.reply.send(result.map(|names| names.into_iter().map(TransferResult).collect()));
                }
            }
            Err(error) => {
                for job in jobs {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
        }
    }

    async fn commit(&mut self, columns: &Columns) -> Result<Vec<String>, Error> {
        let mut tries = 0;
        loop {
            match self.commit_once(columns).await {
                Ok(results) => return Ok(results),
                Err(error) => {
                    let lost = connection_lost(&error);
                    // A distributed Postgres may say XX000 of a transaction that has committed.
                    let again = lost
                        || error.code().is_some_and(|state| is_transient(state) || state.code() == "XX000");
                    if lost {
                        self.connection = None;
                    }
                    if !again || tries == RETRIES_MAX {
                        return Err(error.into());
                    }
                    tries += 1;
                    tokio::time::sleep(RETRY_WAIT).await;
                }
            }
        }
    }

    async fn commit_once(&mut self, columns: &Columns) -> Result<Vec<String>, tokio_postgres::Error> {
        let (client, statement) = match self.connection.take() {
            Some(connection) if !connection.0.is_closed() => self.connection.insert(connection),
            _ => self.connection.insert(connect(&self.shared.config).await?),
        };
        let row = columns.query(client, statement, self.shared.ledger_id, Clock::real().now_us()).await?;
        row.try_get(0)
    }
}

async fn connect(config: &tokio_postgres::Config) -> Result<(Client, Statement), tokio_postgres::Error> {
    let (client, driver) = config.connect(NoTls).await?;
    tokio::spawn(driver);
    client.batch_execute(crate::pipeline::worker::SESSION).await?;
    client.batch_execute("set role econ_engine; set application_name = 'econ-posting'").await?;
    let statement = client.prepare(columns::SQL).await?;
    Ok((client, statement))
}
