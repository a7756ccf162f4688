//! The scene of a demo: its data dir, the server, the providers, the buyers with their money, the calendar.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use proto::ids::AgentId;
use proto::keys::KeyPair;
use proto::money::Amount;
use proto::v1::KeyPurpose;
use provider_agent::client::{AssetInfo, Client, Retry};
use tokio::sync::{Mutex, mpsc};

use super::buyer::Buyer;
use super::children::{Notice, Spec, Watched};
use super::hub::Hub;
use super::plan::{CREATORS, PROVIDERS, Plan, REFERRERS, Run};
use super::progress::line;
use crate::cli::client::operator_key;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::market::Market;
use crate::cli::place::{Database, PlaceArgs};
use crate::cli::{files, keys, views};

/// The demo trades in dollars.
const ASSET: &str = "USD";
/// A restarting server is waited for about a minute.
const PATIENCE: Retry =
    Retry { tries_max: 80, first_pause: Duration::from_millis(50), longest_pause: Duration::from_secs(1) };
/// How long the server of a demo that was just killed may still hold the data dir.
const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// How long the providers may take to be reachable.
const PROVIDERS_LIMIT: Duration = Duration::from_secs(120);
/// How long the server may take to see the calendar's new day.
const CLOCK_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// Takes a data dir for a demo. Refuses one that holds a real market, and one where a demo runs already.
pub(crate) fn claim(data_dir: &Path) -> Outcome<File> {
    if data_dir.join("keys").exists() && !Run::path(data_dir).exists() {
        return Err(Failure::usage(format!(
            "{} holds a market that is no demo, and a demo would trade in it: choose another --data-dir",
            data_dir.display()
        )));
    }
    if let Some(above) = data_dir.parent() {
        std::fs::create_dir_all(above).map_err(Failure::io("cannot create", above))?;
    }
    keys::make_private(&data_dir.join("demo"))?;
    let path = data_dir.join("demo").join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Failure::io("cannot open", &path))?;
    file.try_lock().map_err(|_| {
        Failure::new(
            "UB503",
            format!(
                "another demo is running on {}: wait for it, or choose another --data-dir",
                data_dir.display()
            ),
        )
    })?;
    Ok(file)
}

/// A running demo market.
#[derive(Debug)]
pub(crate) struct Stage {
    data_dir: PathBuf,
    database: Database,
    url: String,
    asset: AssetInfo,
    /// Speaks for nobody.
    anybody: Client,
    /// Ledger time ahead of this machine's, microseconds.
    ahead_us: AtomicI64,
    notices: mpsc::UnboundedSender<Notice>,
    server: Watched,
    providers: Mutex<Vec<Watched>>,
}

impl Stage {
    /// Starts the server and waits until it is ready.
    pub(crate) async fn start(
        place: &PlaceArgs,
        plan: &Plan,
        port: u16,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Outcome<Self> {
        let data_dir = place.data_dir()?;
        line(&format!(
            "starting Postgres and the server (its log: {})",
            data_dir.join("demo/log/server.log").display()
        ));
        if plan.run.days > 0 && !clock_file(&data_dir).exists() {
            // Before the first command: no ledger time may be later than this.
            write_clock(&data_dir, plan.clock_offset_us(0))?;
        }
        let server = start_server(place, &data_dir, plan, port, &notices).await?;
        let url = server.ready["url"].as_str().unwrap_or_default().to_owned();
        let anybody = Client::anonymous(&url)?.with_retry(PATIENCE);
        let info = anybody.info().await?;
        let asset = crate::cli::amount::asset(&info, ASSET)?.clone();
        line(&format!("the market is open at {url}"));
        let ahead_us = AtomicI64::new(info.ledger_time_us - ledger::clock::system_now_us());
        let database = Database::open(place).await?;
        Ok(Self {
            data_dir,
            database,
            url,
            asset,
            anybody,
            ahead_us,
            notices,
            server,
            providers: Mutex::default(),
        })
    }

    /// The data dir.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The market's database, for its reporting views.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// What is paid in.
    pub(crate) fn asset(&self) -> &AssetInfo {
        &self.asset
    }

    /// Ledger time now, Unix milliseconds.
    pub(crate) fn ledger_ms(&self) -> u64 {
        let us = ledger::clock::system_now_us() + self.ahead_us.load(Ordering::Relaxed);
        u64::try_from(us / 1_000).unwrap_or_default()
    }

    /// What to open and to type next.
    pub(crate) fn urls(&self, data_dir: &Path, serving: bool) -> Vec<(String, String)> {
        let at = |path: &str| format!("{}{path}", self.url);
        // The URL may hold a password: it is not repeated.
        let database =
            if matches!(self.database, Database::External(_)) { " --database-url URL" } else { "" };
        let place = format!("--data-dir {}{database}", data_dir.display());
        let mut look = Vec::new();
        if serving {
            look.push(("page", at("/")));
            look.push(("graphql", at("/graphql")));
            look.push(("rest", at("/openapi.json")));
            look.push(("metrics", at("/metrics")));
        } else {
            look.push(("serve", format!("econ up {place}")));
        }
        look.push(("sql", format!("econ psql {place} --role auditor")));
        look.push(("prove", format!("econ verify {place}")));
        look.into_iter().map(|(name, what)| (name.to_owned(), what)).collect()
    }

    /// The buyers: known to the market, funded, listening. Whatever was done before is not done twice.
    pub(crate) async fn buyers(&self, plan: &Plan) -> Outcome<Vec<Arc<Buyer>>> {
        let operator = self.market(Arc::new(KeyPair::load(&operator_key(&self.data_dir))?)).await?;
        let creators = self.payees("creator", CREATORS).await?;
        let referrers = self.payees("referrer", REFERRERS).await?;
        let mut buyers = Vec::new();
        for n in 0..plan.run.buyers as usize {
            let key = keys::load_or_make(&self.key_path(&format!("buyer-{n:03}")))?;
            let market = operator.with_client(self.client(key)?);
            market.register(KeyPurpose::Buyer, None).await?;
            let budget = plan.budget(n);
            if budget > 0 {
                let reference = format!("demo-{}-buyer-{n:03}", &plan.run.run_id[..12]);
                operator
                    .deposit(
                        market.me()?,
                        self.asset.asset_id,
                        Amount::from_u64(whole_units(budget, &self.asset)),
                        &reference,
                    )
                    .await?;
            }
            let hub = Hub::start(market.clone());
            let (creators, referrers) = (creators.clone(), referrers.clone());
            buyers.push(Arc::new(Buyer { market, hub, asset_id: self.asset.asset_id, creators, referrers }));
        }
        line(&format!(
            "{} buyers are funded, {CREATORS} creators and {REFERRERS} referrers are known",
            buyers.len()
        ));
        Ok(buyers)
    }

    /// Starts the providers' agents and waits until all of them can be reached.
    pub(crate) async fn open_providers(&self, plan: &Plan) -> Outcome {
        let owners = self.payees("owner", u32::try_from(PROVIDERS.len()).unwrap_or_default()).await?;
        for (provider, owner) in PROVIDERS.iter().zip(owners) {
            let home = self.data_dir.join("demo").join("agents").join(provider.name);
            let mut args: Vec<OsString> = vec!["agent".into(), "--home".into(), home.into()];
            for (option, value) in [
                ("--api", self.url.clone()),
                ("--region", provider.region.to_owned()),
                ("--price-per-unit", provider.price_per_unit.to_string()),
                ("--concurrency", provider.concurrency.to_string()),
                ("--asset", self.asset.asset_id.to_string()),
                ("--owner", owner.to_string()),
                ("--threads", "1".to_owned()),
                ("--faults", plan.faults.to_string()),
            ] {
                args.push(option.into());
                args.push(value.into());
            }
            args.push("--exit-with-parent".into());
            let spec = Spec {
                name: format!("agent {}", provider.name),
                args,
                log: self.data_dir.join("demo").join("log").join(format!("agent-{}.log", provider.name)),
                announces: false,
            };
            let watched = Watched::start(spec, self.notices.clone()).await?;
            self.providers.lock().await.push(watched);
        }
        let began = Instant::now();
        loop {
            let rows = views::rows(&self.database, "transparency.supply").await?;
            let reachable: u128 = rows.iter().map(|row| views::whole(&row["providers_reachable"])).sum();
            if reachable >= PROVIDERS.len() as u128 {
                line(&format!("{reachable} providers advertise, in {} regions", rows.len()));
                return Ok(());
            }
            if began.elapsed() > PROVIDERS_LIMIT {
                return Err(Failure::outside(format!(
                    "only {reachable} of {} providers came: see the logs in {}",
                    PROVIDERS.len(),
                    self.data_dir.join("demo/log").display()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Moves the calendar to `day`, never back.
    pub(crate) async fn set_day(&self, plan: &Plan, day: u32) -> Outcome {
        let offset_us = plan.clock_offset_us(day).max(read_clock(&self.data_dir)?.unwrap_or(i64::MIN));
        write_clock(&self.data_dir, offset_us)?;
        let began = Instant::now();
        loop {
            let info = self.anybody.info().await?;
            let ahead_us = info.ledger_time_us - ledger::clock::system_now_us();
            // Within a second: the answer was some time under way.
            if ahead_us >= offset_us - 1_000_000 {
                self.ahead_us.store(ahead_us, Ordering::Relaxed);
                return Ok(());
            }
            if began.elapsed() > CLOCK_LIMIT {
                return Err(Failure::outside("the server does not follow the simulated clock"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the agents, then the server.
    pub(crate) async fn stop(self) -> Outcome {
        for provider in self.providers.into_inner() {
            provider.stop().await?;
        }
        self.database.close().await?;
        self.server.stop().await
    }

    /// Agents that only receive shares; registered.
    async fn payees(&self, name: &str, count: u32) -> Outcome<Vec<AgentId>> {
        let mut payees = Vec::new();
        for n in 0..count {
            let market = self.market(keys::load_or_make(&self.key_path(&format!("{name}-{n}")))?).await?;
            market.register(KeyPurpose::Payee, None).await?;
            payees.push(market.me()?);
        }
        Ok(payees)
    }

    async fn market(&self, key: Arc<KeyPair>) -> Outcome<Market> {
        Market::open(self.client(key)?, None).await
    }

    fn client(&self, key: Arc<KeyPair>) -> Outcome<Client> {
        Ok(Client::new(&self.url, key)?.with_retry(PATIENCE))
    }

    fn key_path(&self, name: &str) -> PathBuf {
        self.data_dir.join("demo").join("keys").join(format!("{name}.pem"))
    }
}

/// Starts `econ up`. The server of a demo that was killed a moment ago may still be on its way out.
async fn start_server(
    place: &PlaceArgs,
    data_dir: &Path,
    plan: &Plan,
    port: u16,
    notices: &mpsc::UnboundedSender<Notice>,
) -> Outcome<Watched> {
    let began = Instant::now();
    loop {
        match Watched::start(server_spec(place, data_dir, plan, port), notices.clone()).await {
            Err(failure) if failure.code() == Some("UB503") && began.elapsed() < LOCK_LIMIT => {
                tokio::time::sleep(4 * LOOK).await;
            }
            started => return started,
        }
    }
}

fn server_spec(place: &PlaceArgs, data_dir: &Path, plan: &Plan, port: u16) -> Spec {
    let mut args: Vec<OsString> = vec!["up".into(), "--data-dir".into(), data_dir.into()];
    if let Some(url) = &place.database_url {
        args.extend(["--database-url".into(), url.into()]);
    }
    if let Some(pg_bin) = &place.pg_bin {
        args.extend(["--pg-bin".into(), pg_bin.into()]);
    }
    args.extend([
        "--port".into(),
        port.to_string().into(),
        "--exit-with-parent".into(),
        "--ready-json".into(),
    ]);
    if plan.run.days > 0 {
        args.extend(["--clock-file".into(), clock_file(data_dir).into()]);
    }
    Spec {
        name: "server".into(),
        args,
        log: data_dir.join("demo").join("log").join("server.log"),
        announces: true,
    }
}

fn clock_file(data_dir: &Path) -> PathBuf {
    data_dir.join("demo").join("clock")
}

fn write_clock(data_dir: &Path, offset_us: i64) -> Outcome {
    files::write_durably(&clock_file(data_dir), offset_us.to_string().as_bytes())
}

fn read_clock(data_dir: &Path) -> Outcome<Option<i64>> {
    let text = files::read_if_there(&clock_file(data_dir))?;
    Ok(text.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok()))
}

/// Rounded up to whole units of the asset: people deposit round sums.
fn whole_units(minor: u64, asset: &AssetInfo) -> u64 {
    let unit = 10_u64.pow(u32::from(asset.scale));
    minor.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_never_trades_in_a_real_market() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        let failure = claim(dir.path()).unwrap_err();
        assert!(failure.to_string().contains("no demo"), "{failure}");
    }

    #[test]
    fn one_demo_at_a_time_on_a_data_dir() {
        let dir = tempfile::tempdir().unwrap();
        let held = claim(dir.path()).unwrap();
        assert_eq!(claim(dir.path()).unwrap_err().code(), Some("UB503"));
        drop(held);
        assert!(claim(dir.path()).is_ok());
    }

    #[test]
    fn deposits_are_round_and_cover_the_budget() {
        let usd = AssetInfo { asset_id: 1, code: "USD".into(), scale: 6 };
        for (minor, deposit) in [(1, 1_000_000), (1_000_000, 1_000_000), (1_000_001, 2_000_000)] {
            assert_eq!(whole_units(minor, &usd), deposit);
        }
    }
}
