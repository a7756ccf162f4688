//! The agent itself: joins a market, offers, executes, meters, reports, and survives the house being away.
//!
//! What it owes to nobody's memory but its own folder's is little, because almost everything it sends is
//! derived: ids and idempotency keys follow from the RFQ or ticket they belong to. An agent that is killed
//! and started again asks for what it has not handled, walks the same ways again, and the house answers
//! what it answered before. What it does keep, and why, is told in `home.rs`.

mod attempt;
mod cursor;
mod earnings;
#[cfg(test)]
mod fake_house;
mod home;
mod ledger_time;
mod live;
mod options;
mod outbox;
#[cfg(test)]
mod tests;
mod ticket;
mod watch;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use proto::ids::{AgentId, OrderId, RunTicketId};
use proto::keys::{KeyFileError, KeyPair, PublicKey};
use proto::prost::Message;
use proto::v1::command_body::Kind;
use proto::v1::{CapabilityAd, CommandBody, Key, KeyPurpose, PublishCapability, RegisterAgent};
use tokio::sync::Semaphore;

use crate::client::{Client, ClientError, Info, LedgerInfo, Retry};
use crate::executor::{Device, ExecError, Executor};
use crate::files::FileError;
use crate::spool::SpoolError;
use cursor::Cursor;
use earnings::Counter;
use home::{Home, LedgerHome, SavedAd};
use ledger_time::LedgerTime;
use outbox::Outbox;

pub use earnings::Earnings;
pub use options::{AgentOptions, ExecutorKind};
pub use ticket::{Expected, Ticket, TicketError};

/// What this agent runs: integer GEMM jobs of [`crate::job`].
pub const WORK_CLASS: &str = "gemm.int8";

/// RFQs answered at a time.
const OFFERS_AT_A_TIME: usize = 16;

/// Why an agent cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its folder is used by another agent.
    #[error("{} is in use by another agent: give each agent a --home of its own", path.display())]
    HomeInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The executor cannot be used.
    #[error(transparent)]
    Executor(#[from] ExecError),
    /// The house turned the agent away, or is none.
    #[error("cannot {what}: {source}")]
    House {
        /// What was tried.
        what: &'static str,
        /// What came back.
        source: Box<ClientError>,
    },
    /// The house has not what the options name.
    #[error("the house at {url} has no {what}")]
    Missing {
        /// The house.
        url: String,
        /// What is missing.
        what: String,
    },
    /// The house signs with another key than before, or than the options say.
    #[error(
        "the house signs tickets with {offered}, but this agent trusts {kept}: somebody may be standing in \
         for it; if the operator confirms a new key, remove {}", path.display()
    )]
    OtherServiceKey {
        /// The key this agent trusts.
        kept: String,
        /// The key the house names.
        offered: String,
        /// Where the trusted key is kept.
        path: PathBuf,
    },
    /// No handler for signals could be set up.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs an agent until Ctrl-C, SIGTERM or, if its options say so, its parent's end. Returns what it earned.
///
/// # Errors
/// [`AgentError`]: it cannot start, or the house turned it away for good. A house that is merely away is
/// waited for.
pub async fn run(options: AgentOptions) -> Result<Earnings, AgentError> {
    let with_parent = options.exit_with_parent;
    let (failed, mut failure) = tokio::sync::oneshot::channel();
    let stop = async move {
        match watch::told_to_stop(with_parent).await {
            Ok(why) => tracing::info!(why, "closing down"),
            // The receiver lives until `run` returns.
            Err(error) => drop(failed.send(error)),
        }
    };
    let earnings = run_until(options, stop).await?;
    match failure.try_recv() {
        Ok(error) => Err(AgentError::Signals(error)),
        Err(_) => Ok(earnings),
    }
}

/// Runs an agent until `stop`: for agents inside a process. Returns what it earned.
///
/// # Errors
/// As [`run`].
pub async fn run_until(
    options: AgentOptions,
    stop: impl Future<Output = ()>,
) -> Result<Earnings, AgentError> {
    // Locked until the end of this function.
    let home = Home::open(&options.home)?;
    tokio::pin!(stop);
    let agent = tokio::select! {
        () = &mut stop => return Ok(Earnings::default()),
        joined = Agent::join(options, &home) => Arc::new(joined?),
    };
    // Executions notice this at their next report, also when this future is dropped; everything else is
    // dropped with `live`.
    let stopping = StopOnDrop(agent.stopping.clone());
    let ended = tokio::select! {
        () = &mut stop => Ok(()),
        ended = live::live(&agent) => ended,
    };
    drop(stopping);
    agent.save_progress()?;
    agent.outbox.close().await;
    let earnings = agent.earnings();
    tracing::info!(%earnings, spooled = agent.outbox.waiting(), "closed");
    ended.map(|()| earnings)
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An agent that has joined a market.
struct Agent {
    options: AgentOptions,
    home: LedgerHome,
    key: Arc<KeyPair>,
    agent_id: AgentId,
    service_key: PublicKey,
    client: Client,
    ledger_id: u32,
    asset_id: u32,
    executor: Arc<Executor>,
    device: Device,
    /// Names this life of the process in metering rows.
    boot_id: [u8; 16],
    outbox: Outbox,
    time: LedgerTime,
    /// Orders at a time.
    permits: Semaphore,
    offers: Semaphore,
    cursor: Mutex<Cursor>,
    counter: Mutex<Counter>,
    /// Orders being executed; the flag says that one has ended meanwhile.
    active: Mutex<HashMap<OrderId, Arc<AtomicBool>>>,
    /// Attempts whose files can go once the cursor has passed them.
    done: Mutex<Vec<(u64, RunTicketId)>>,
    /// One at a time stores how far the agent is.
    saving: Mutex<()>,
    /// Apart from the agent, so that an execution that is still running keeps nothing else of it.
    stopping: Arc<AtomicBool>,
}

impl Agent {
    /// Gets to know the house, registers and advertises.
    async fn join(options: AgentOptions, folder: &Home) -> Result<Self, AgentError> {
        let executor = Arc::new(options.executor()?);
        let device = executor.device();
        let key = folder.key.clone();
        let house = |what| move |e| AgentError::House { what, source: Box::new(e) };
        let client = Client::new(&options.api, key.clone()).map_err(house("use the house's address"))?;
        let info = patiently("find the house", || client.info()).await?;
        let missing = |what: String| AgentError::Missing { url: client.base_url().to_owned(), what };
        let ledger = info.ledger(options.ledger_id).ok_or_else(|| {
            missing(options.ledger_id.map_or("ledger".to_owned(), |id| format!("ledger {id}")))
        })?;
        let asset = match options.asset_id {
            Some(id) => info.asset(id).ok_or_else(|| missing(format!("asset {id}")))?,
            None => info.assets.first().ok_or_else(|| missing("asset".to_owned()))?,
        };
        let home = folder.ledger(&ledger.origin)?;
        let service_key = trusted_key(&options, &home, &info)?;
        let saved = home.progress()?;
        home.forget_attempts(saved.cursor)?;
        let agent = Self {
            agent_id: AgentId::of_first_key(key.public()),
            service_key,
            ledger_id: ledger.ledger_id,
            asset_id: asset.asset_id,
            executor,
            device,
            boot_id: uuid::Uuid::now_v7().into_bytes(),
            outbox: Outbox::new(client.clone(), ledger.ledger_id, home.spool()?),
            time: LedgerTime::new(info.ledger_time_us, info.simulated),
            permits: Semaphore::new(usize::try_from(options.concurrency.max(1)).unwrap_or(1)),
            offers: Semaphore::new(OFFERS_AT_A_TIME),
            cursor: Mutex::new(Cursor::after(saved.cursor)),
            counter: Mutex::new(Counter::new(saved)),
            active: Mutex::new(HashMap::new()),
            done: Mutex::new(Vec::new()),
            saving: Mutex::new(()),
            stopping: Arc::new(AtomicBool::new(false)),
            client,
            key,
            home,
            options,
        };
        agent.register().await?;
        agent.advertise().await?;
        agent.say_hello(ledger);
        Ok(agent)
    }

    fn say_hello(&self, ledger: &LedgerInfo) {
        tracing::info!(
            agent = %self.agent_id,
            house = self.client.base_url(),
            ledger = ledger.name,
            device = self.device.name,
            price_per_unit = %self.options.price_per_unit,
            "open for work"
        );
    }

    /// Registers: signed by the key that it registers, the same every time.
    async fn register(&self) -> Result<(), AgentError> {
        let owner = self.options.beneficial_owner;
        let body = command(Kind::RegisterAgent(RegisterAgent {
            key: Some(Key {
                public_key: self.key.public().as_bytes().to_vec(),
                purpose: KeyPurpose::Provider.into(),
            }),
            name_commitment: Vec::new(),
            beneficial_owner_id: owner.map(Into::into).unwrap_or_default(),
        }));
        let register = || self.client.command(self.ledger_id, "register", &body);
        patiently("register", register).await.map(drop)
    }

    /// Publishes the ad, unless the house has taken the same one already.
    async fn advertise(&self) -> Result<(), AgentError> {
        let body = command(Kind::PublishCapability(PublishCapability {
            ad: Some(CapabilityAd {
                work_class: WORK_CLASS.to_owned(),
                region: self.options.region.clone(),
                device_count: self.options.devices,
                device_kind: self.device.kind.to_owned(),
                asset_id: self.asset_id,
                price_per_unit: self.options.price_per_unit.to_string(),
                max_concurrency: self.options.concurrency,
                max_work_units: self.options.max_work_units,
                // The registered one counts.
                beneficial_owner_id: Vec::new(),
                active: true,
            }),
        }));
        let hash = blake3::hash(&body.encode_to_vec()).to_hex().to_string();
        let last = self.home.ad()?;
        if last.hash == hash && last.taken {
            return Ok(());
        }
        let number = if last.hash == hash { last.number } else { last.number + 1 };
        let ad = SavedAd { number, hash, taken: false };
        self.home.save_ad(&ad)?;
        let key = format!("ad:{number}");
        patiently("advertise", || self.client.command(self.ledger_id, &key, &body)).await?;
        Ok(self.home.save_ad(&SavedAd { taken: true, ..ad })?)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn earnings(&self) -> Earnings {
        self.counter.lock().total()
    }

    fn attempt_done(&self, cursor: u64, ticket: RunTicketId) {
        self.done.lock().push((cursor, ticket));
    }

    /// Stores cursor and earnings, then forgets the attempts that lie behind it. Waits for the disk.
    fn save_progress(&self) -> Result<(), FileError> {
        let _turn = self.saving.lock();
        let cursor = self.cursor.lock().handled();
        let progress = self.counter.lock().up_to(cursor).clone();
        self.home.save_progress(&progress)?;
        let mut passed = Vec::new();
        self.done.lock().retain(|(at, ticket)| {
            let stays = *at > cursor;
            if !stays {
                passed.push(*ticket);
            }
            stays
        });
        passed.into_iter().try_for_each(|ticket| self.home.forget_attempt(ticket))
    }
}

/// Asks until there is an answer that is not "away".
async fn patiently<T, F: Future<Output = Result<T, ClientError>>>(
    what: &'static str,
    ask: impl Fn() -> F,
) -> Result<T, AgentError> {
    let patience = Retry { longest_pause: std::time::Duration::from_secs(5), ..Retry::default() };
    let mut tried = 0;
    loop {
        match ask().await {
            Err(error) if error.is_passing() => {
                tried += 1;
                if tried == 1 {
                    tracing::warn!(%error, what, "waiting for the house");
                }
                tokio::time::sleep(patience.pause_after(tried)).await;
            }
            answer => return answer.map_err(|e| AgentError::House { what, source: Box::new(e) }),
        }
    }
}

/// The key that tickets must be signed by: as the options say, as it is kept, or as the house says first.
fn trusted_key(options: &AgentOptions, home: &LedgerHome, info: &Info) -> Result<PublicKey, AgentError> {
    let unusable = |e: String| AgentError::Missing {
        url: options.api.clone(),
        what: format!("usable service key: {e}"),
    };
    let offered: PublicKey =
        info.service_key.parse().map_err(|e: proto::keys::PublicKeyError| unusable(e.to_string()))?;
    match &options.service_key {
        Some(kept) if *kept != offered.to_string() => Err(AgentError::OtherServiceKey {
            kept: kept.clone(),
            offered: offered.to_string(),
            path: "--service-key".into(),
        }),
        _ => home.pin_service_key(offered),
    }
}

fn command(kind: Kind) -> CommandBody {
    CommandBody { kind: Some(kind) }
}

/// Ten bytes that follow from `parts` under `label`: the random part of an id that must come out the same
/// in another life of this agent.
fn derived_bytes(label: &str, parts: &[&[u8]]) -> [u8; 10] {
    let mut hasher = blake3::Hasher::new_derive_key("openagents econ agent v1 derived id");
    hasher.update(label.as_bytes());
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; 10];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Unix milliseconds of a ledger time; 0 for times before 1970.
fn unix_ms(us: i64) -> u64 {
    u64::try_from(us / 1000).unwrap_or(0)
}
