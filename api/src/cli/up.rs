//! `econ up`: the server, from an empty folder to a market that answers, and back to a clean stop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::server::{self, ServerOptions, ServerState};
use api::witness::submit::{self, Peer};
use ledger::Reader;
use ledger::backup::{Archive, Archiver};
use ledger::clock::Clock;
use ledger::cluster::{DataDirLock, EconState};
use ledger::house::House;
use ledger::pipeline::{Pipeline, PipelineOptions};
use serde_json::json;
use splitter::payouts::PayoutOptions;

use super::backup::source_of;
use super::failure::{Failure, Outcome};
use super::place::{Database, PlaceArgs};
use super::{say, stop};

/// The port that the API has unless it is taken.
pub(crate) const PORT: u16 = 8420;
/// Folder of the newest checkpoints, in the data dir and outside the database.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// Folder of job inputs and outputs, in the data dir.
pub(super) const ARTIFACTS: &str = "artifacts";
/// The one ledger of a new market.
pub(super) const LEDGER: u32 = 1;
/// Commands per transaction at most: throughput hardly grows beyond, waiting times do.
const BATCH: usize = 256;
/// Connections for reads. With the pipeline's own they stay well under the embedded Postgres' limit.
const READERS: usize = 16;
/// How often the file with the simulated clock's offset is looked at.
const CLOCK_INTERVAL: Duration = Duration::from_millis(20);
/// Pause before a Postgres that cannot be started again is tried once more.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// How long running requests and live connections get to end: with Postgres' own stop it stays below five seconds.
const GOODBYE: Duration = Duration::from_secs(3);
/// Restarts of Postgres in a row that may fail.
const RESTARTS_MAX: u32 = 10;

/// Options of `econ up`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Address to listen on; anything but a loopback address is open to others, and there is no TLS in here
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Port to listen on; another one when it is taken
    #[arg(long, value_name = "PORT", default_value_t = PORT)]
    port: u16,
    /// Name under which others reach this server, such as https://market.example; their requests are signed for it
    #[arg(long, env = "ECON_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// What a new market is called
    #[arg(long, value_name = "NAME", default_value = "market")]
    name: String,
    /// Archive PostgreSQL's log into this folder for backups, for restores to any moment; remembered by later starts
    #[arg(long, value_name = "DIR")]
    wal_archive: Option<PathBuf>,
    /// End the archiving that an earlier start began
    #[arg(long, conflicts_with = "wal_archive")]
    no_wal_archive: bool,
    /// Have each checkpoint cosigned by this witness (`econ witness` says its URL and key); may be given several times
    #[arg(long = "witness", value_name = "URL=KEY")]
    witnesses: Vec<Peer>,
    /// Take the time from the system's clock plus the microseconds in this file, which may change
    #[arg(long, value_name = "FILE", hide = true)]
    clock_file: Option<PathBuf>,
    /// End when the parent process does
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    /// Print one line of JSON when ready
    #[arg(long, hide = true)]
    ready_json: bool,
}

/// Options of `econ init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// What the market is called
    #[arg(long, value_name = "NAME", default_value = "market")]
    name: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A market with its database and pipeline, before anybody is served.
pub(super) struct Market {
    database: Database,
    /// Of an external database's data dir; an embedded cluster holds its own.
    _lock: Option<DataDirLock>,
    data_dir: PathBuf,
    pub(super) pipeline: Pipeline,
    /// When the WAL is archived.
    archiver: Option<Archiver>,
    pub(super) reader: Reader,
    origin: String,
    /// Whether it was made now.
    is_new: bool,
}

/// `econ init`.
pub(crate) async fn init(args: InitArgs) -> Outcome {
    let market = Market::open(&args.place, Clock::real(), &args.name).await?;
    let (origin, is_new, data_dir) = (market.origin.clone(), market.is_new, market.data_dir.clone());
    market.close().await?;
    if args.json {
        say(
            json!({ "ledger_id": LEDGER, "origin": origin, "new": is_new, "data_dir": data_dir.display().to_string() }),
        );
    } else {
        let made = if is_new { "made" } else { "was there already" };
        say(format_args!("ledger {LEDGER} ({origin}) {made} in {}", data_dir.display()));
        say(format_args!(
            "Back up {}: whoever has those keys is this market.",
            data_dir.join("keys").display()
        ));
    }
    Ok(())
}

/// `econ up`.
pub(crate) async fn run(args: UpArgs) -> Outcome {
    // Before anything slow, so that a signal during the start is not lost.
    let told = stop::told_to_stop(args.exit_with_parent);
    tokio::pin!(told);
    let clock = Clock::real();
    if let Some(file) = &args.clock_file {
        follow_clock(file.clone(), clock.clone())?;
    }
    let mut market = tokio::select! {
        market = Market::open(&args.place, clock, &args.name) => market?,
        why = &mut told => {
            tracing::info!(why = why?, "stopped during the start");
            return Ok(());
        }
    };
    let served = match market.archive(&args).await {
        Ok(()) => serve(&args, &market, told).await,
        Err(failure) => Err(failure),
    };
    let closed = market.close().await;
    served.and(closed)
}

impl Market {
    /// Starts the database, loads what this binary brings, and makes the ledger if there is none.
    pub(super) async fn open(place: &PlaceArgs, clock: Clock, name: &str) -> Outcome<Self> {
        let (database, lock) = Database::serve(place).await?;
        let data_dir = place.data_dir()?;
        database.load().await?;
        let reader = Reader::new(database.config("econ_api"), READERS)?;
        let known = ledger::base::read_ledgers(&reader).await?;
        let known = known.into_iter().find(|known| known.ledger_id == LEDGER && known.last_seq > 0);
        let promised = ledger::pipeline::checkpoint_path(&data_dir.join(CHECKPOINTS), LEDGER).exists();
        let keys = data_dir.join("keys");
        let house = if known.is_some() || promised {
            House::load(&keys).map_err(|error| {
                let why = format!("{error}. This market exists: put its keys back from your backup, new ones are not its own");
                Failure::new("UB603", why)
            })?
        } else {
            House::load_or_create(&keys)?
        };
        let pipeline = Pipeline::start(PipelineOptions {
            database: database.config("econ_api"),
            house: house.clone(),
            clock,
            ledger_ids: vec![LEDGER],
            checkpoint_dir: data_dir.join(CHECKPOINTS),
            batch_max: BATCH,
        });
        // A log that was cut off is not served, and nothing is appended to it.
        pipeline.check_checkpoints().await?;
        let origin = origin(&house);
        let is_new = known.is_none();
        match known {
            Some(known) if known.origin != origin => {
                return Err(Failure::new(
                    "UB603",
                    format!(
                        "the keys in {} are not the keys of ledger {}: put the right ones back from your backup",
                        data_dir.join("keys").display(),
                        known.origin
                    ),
                ));
            }
            Some(_) => {}
            None => {
                let answer = pipeline.init(LEDGER, &origin, name).await?;
                if !answer.is_ok() {
                    return Err(Failure::new(answer.code.clone(), answer.message()));
                }
            }
        }
        Ok(Self { database, _lock: lock, data_dir, pipeline, archiver: None, reader, origin, is_new })
    }

    /// Archives the WAL from here on, if somebody said so now or at an earlier start; or ends that.
    async fn archive(&mut self, args: &UpArgs) -> Outcome {
        let source = source_of(&self.database, &args.place);
        if args.no_wal_archive {
            if source.embedded && Archive::end(&source, &self.data_dir).await? {
                tracing::info!("WAL is not archived any more");
            }
            return Ok(());
        }
        if let Some(repository) = Archive::wanted(&self.data_dir, args.wal_archive.as_deref())? {
            let key = self.pipeline.house().receipt_key().clone();
            match Archiver::start(source, repository, self.data_dir.clone(), key).await {
                Ok(archiver) => self.archiver = Some(archiver),
                // The market does not wait for an archive that nobody has asked for just now.
                Err(error) if args.wal_archive.is_none() => {
                    metrics::counter!("econ_wal_archive_failures_total").increment(1);
                    tracing::error!(%error, "WAL is not archived until the next start");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes down where this econ is, for clients and people.
    fn write_state(&self, api_url: Option<String>) -> Outcome {
        match &self.database {
            Database::Embedded(cluster) => Ok(cluster.write_state(api_url)?),
            Database::External(_) => {
                let state =
                    EconState { pid: std::process::id(), socket_dir: PathBuf::new(), port: 0, api_url };
                Ok(state.write(&self.data_dir)?)
            }
        }
    }

    /// Answers what waits, writes a last checkpoint, stops Postgres.
    pub(super) async fn close(self) -> Outcome {
        self.pipeline.shutdown().await;
        if let Some(archiver) = self.archiver {
            archiver.close().await;
        }
        // Its connections would complain about a Postgres that ends under them.
        drop(self.reader);
        self.database.close().await
    }
}

/// Names an instance in its checkpoints: no two markets share a receipt key.
fn origin(house: &House) -> String {
    let key_id = house.receipt_key().id().to_string();
    format!("econ.local/{}/ledger/{LEDGER}", &key_id[..16])
}

/// Serves until somebody says stop.
async fn serve(args: &UpArgs, market: &Market, told: impl Future<Output = Outcome<&'static str>>) -> Outcome {
    let options = ServerOptions {
        public_url: args.public_url.clone(),
        ..ServerOptions::new(market.data_dir.join(ARTIFACTS))
    };
    let state = ServerState::new(market.pipeline.clone(), market.reader.clone(), options)
        .map_err(Failure::outside)?;
    let wanted = SocketAddr::new(args.bind, args.port);
    let (listener, address) = server::bind(wanted)
        .await
        .map_err(|error| Failure::outside(format!("cannot listen on {wanted}: {error}")))?;
    let started = api::house::start(&state, LEDGER, PayoutOptions::default()).await;
    started.map_err(|problem| Failure::new(problem.code.into_owned(), problem.detail))?;
    submit::start(&state, args.witnesses.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server::serve(state, listener, async {
        // Dropped or sent: both mean stop.
        let _ = stopped.await;
    }));
    tokio::pin!(serving, told);
    market.write_state(Some(url_of(address)))?;
    announce(args, market, address);
    let ended = tokio::select! {
        why = &mut told => why.map(|why| tracing::info!(why, "closing down")),
        failure = keep_postgres(&market.database) => Err(failure),
        ended = &mut serving => {
            let why = ended.map_or_else(|error| error.to_string(), |ended| format!("{ended:?}"));
            return Err(Failure::outside(format!("the server ended by itself: {why}")));
        }
    };
    drop(stop);
    match tokio::time::timeout(GOODBYE, serving).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the listener ended badly"),
        Ok(Err(error)) => tracing::warn!(%error, "the server ended badly"),
        Err(_) => tracing::warn!("some connections did not end in time and were cut off"),
    }
    ended
}

/// Where clients on this machine reach an address that was bound.
fn url_of(address: SocketAddr) -> String {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

fn announce(args: &UpArgs, market: &Market, address: SocketAddr) {
    let url = url_of(address);
    if args.ready_json {
        let postgres = match &market.database {
            Database::Embedded(cluster) => Some(cluster.pid()),
            Database::External(_) => None,
        };
        say(json!({
            "url": url, "pid": std::process::id(), "postgres_pid": postgres, "ledger_id": LEDGER, "origin": market.origin,
            "data_dir": market.data_dir.display().to_string(),
        }));
        return;
    }
    if args.port != 0 && address.port() != args.port {
        say(format_args!("port {} is taken, so another one is used", args.port));
    }
    say(format_args!("the market is open at {url}"));
    say(format_args!("  look      {url}/   {url}/graphql   {url}/openapi.json   {url}/metrics"));
    say(format_args!("  data      {}", market.data_dir.display()));
    say(format_args!("  sell      econ agent --api {url} --home FOLDER --region here --price-per-unit 1200"));
    say("  buy       econ key new, econ register, econ rfq open --tokens 2000,30 --max-price 1");
    if !address.ip().is_loopback() {
        say("  beware    others can reach this address, and nothing is encrypted: put a TLS proxy in front");
    }
    say("Ctrl-C stops it.");
}

/// Starts the embedded Postgres again whenever it dies. Ends only when that does not work any more.
async fn keep_postgres(database: &Database) -> Failure {
    let Database::Embedded(cluster) = database else { return std::future::pending().await };
    let mut failures = 0;
    loop {
        cluster.died().await;
        match cluster.ensure_running().await {
            Ok(_) => failures = 0,
            Err(error) => {
                failures += 1;
                tracing::error!(%error, failures, "PostgreSQL cannot be started again");
                if failures == RESTARTS_MAX {
                    return error.into();
                }
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        }
    }
}

/// Keeps `clock` at the system's time plus what `file` says. Fails when the file says nothing usable at the start.
fn follow_clock(file: PathBuf, clock: Clock) -> Outcome {
    let read = |file: &Path| -> Option<i64> { std::fs::read_to_string(file).ok()?.trim().parse().ok() };
    let first = read(&file).ok_or_else(|| {
        Failure::usage(format!("{} does not hold an offset in microseconds", file.display()))
    })?;
    clock.simulate(first);
    tokio::spawn(async move {
        let mut last = first;
        loop {
            tokio::time::sleep(CLOCK_INTERVAL).await;
            // A file that is being replaced reads as before: the next look finds it.
            if let Some(offset_us) = read(&file).filter(|offset_us| *offset_us != last) {
                clock.simulate(offset_us);
                last = offset_us;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_everybody_is_reached_over_loopback() {
        for (bound, url) in [
            ("0.0.0.0:8420", "http://127.0.0.1:8420"),
            ("[::]:8420", "http://[::1]:8420"),
            ("10.1.2.3:80", "http://10.1.2.3:80"),
        ] {
            assert_eq!(url_of(bound.parse().unwrap()), url);
        }
    }

    #[test]
    fn an_origin_names_the_receipt_key() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::load_or_create(&dir.path().join("keys")).unwrap();
        let origin = origin(&house);
        assert!(origin.starts_with("econ.local/") && origin.ends_with("/ledger/1"), "{origin}");
        assert_eq!(origin.split('/').nth(1).map(str::len), Some(16));
    }
}
