//! The real server on a port of its own, over a market of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::server::{self, ServerOptions, ServerState};
use ledger::Reader;
use ledger::verify::{self, VerifyOptions};
use proto::keys::KeyPair;
use proto::prost::Message as _;
use provider_agent::client::{Client, Retry};
use splitter::payouts::PayoutOptions;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::checks::{DERIVED, changed, domain_digest, rows};
use super::http::{Craft, Problem, Reply, key_of};
use super::market::Market;
use super::party::LEDGER;

/// How long the server may take for what it does in its own time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Largest artifact of these servers: small, so that a test can exceed it.
pub const ARTIFACT_BYTES_MAX: u64 = 100_000;

pub struct Server {
    pub url: String,
    pub address: SocketAddr,
    /// Where artifacts are.
    pub artifacts: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    /// For background tasks that a test adds.
    pub state: Arc<ServerState>,
    pub market: Market,
}

impl Server {
    /// Without the house's timers: nothing happens but what a test asks for.
    pub async fn start() -> Server {
        Self::over(Market::start().await, false).await
    }

    /// As a market runs: the house settles, judges, expires and pays out by itself. Its start forgets the connections of
    /// earlier servers, so providers have to connect.
    pub async fn start_with_house() -> Server {
        Self::over(Market::start().await, true).await
    }

    async fn over(market: Market, house: bool) -> Server {
        let artifacts = market.dir().join("artifacts");
        let mut options = ServerOptions::new(&artifacts);
        options.artifact_bytes_max = ARTIFACT_BYTES_MAX;
        let reader = Reader::new(market.db.config("econ_api"), 4).unwrap();
        let state = ServerState::new(market.pipeline.clone(), reader, options).unwrap();
        if house {
            api::house::start(&state, LEDGER, PayoutOptions::default()).await.unwrap();
        }
        let (listener, address) = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = state.clone();
        let serving = tokio::spawn(async move {
            let shutdown = async move {
                // The sender's drop ends it as well.
                let _ = stopped.await;
            };
            server::serve(served, listener, shutdown).await.unwrap();
        });
        let url = format!("http://{address}");
        Server { url, address, artifacts, stop: Some(stop), serving: Some(serving), state, market }
    }

    /// Ends the server, its live connections and its timers, and waits until all have ended.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap();
        }
    }

    /// A client that speaks for the party of this name, and asks once.
    pub fn client(&self, party: &str) -> Client {
        self.client_of(key_of(party))
    }

    pub fn client_of(&self, key: KeyPair) -> Client {
        Client::new(&self.url, Arc::new(key)).unwrap().with_retry(Retry::never())
    }

    pub async fn send(&self, craft: &Craft) -> Reply {
        craft.send(&self.url).await
    }

    /// Sends a command that must be judged and refused: it has its receipt, and the market is as it was.
    pub async fn refused(&self, craft: &Craft, status: u16, code: &str) -> Problem {
        let db = &self.market.admin;
        let before = domain_digest(db).await;
        let reply = self.send(craft).await;
        let problem = reply.problem();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{}", reply.text());
        assert_eq!(problem.replayed, Some(false), "{}", reply.text());
        let kept = format!(
            "select concat_ws(' ', c.code, encode(r.receipt_id, 'hex')) from base.commands c \
             join receipts.receipts r using (ledger_id, seq) where c.seq = {}",
            problem.seq.unwrap()
        );
        assert_eq!(self.market.text(&kept).await, format!("{code} {}", problem.receipt_id.as_ref().unwrap()));
        assert_eq!(changed(&before, &domain_digest(db).await), Vec::<String>::new(), "{code}");
        problem
    }

    /// Insists that `econ verify`'s checks pass, with commands that came as GraphQL in the log.
    pub async fn verified(&self) {
        let options = VerifyOptions {
            database: self.market.db.config("econ_auditor"),
            admin: self.market.db.cluster().config("postgres", None),
            receipt_key: Some(*self.market.pipeline.house().receipt_key().public()),
            checkpoint_dir: Some(self.market.dir().join("checkpoints")),
            checkpoints: Vec::new(),
            rederive: Arc::new(|body| {
                let derived = api::graphql::command_of(body);
                derived.map(|(ledger_id, body)| (ledger_id, body.encode_to_vec())).map_err(|e| e.to_string())
            }),
            batch: 500,
        };
        let report = verify::run(&options).await.unwrap();
        assert!(report.passed(), "{report}");
    }

    /// Every row of every table, as one digest for each; left out is what the keepers write when they like: checkpoints and
    /// what is derived behind the log.
    pub async fn every_row(&self) -> Vec<String> {
        every_row(&self.market.admin).await
    }

    /// Waits for something that the server does in its own time, by asking the database until it is so.
    pub async fn until(&self, what: &str, sql: &str) {
        let asking = async {
            while !self.market.admin.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "in vain: {what}");
    }
}

async fn every_row(db: &tokio_postgres::Client) -> Vec<String> {
    let tables = rows(
        db,
        &format!("select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
          where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') \
            and n.nspname || '.' || c.relname not in ('receipts.checkpoints', 'receipts.forests', 'receipts.forest_entries', 'receipts.cosignatures', {DERIVED}) order by 1"),
    )
    .await;
    assert!(tables.len() > 35, "the digest has gone blind: {tables:?}");
    let one = |table: &String| {
        format!(
            "select '{table} ' || count(*) || ' ' || md5(coalesce(string_agg(t::text, E'\\n' order by t::text collate \"C\"), '')) \
             from {table} t{}",
            // Log 0 is the forest.
            if ["receipts.logs", "receipts.tiles"].contains(&table.as_str()) {
                " where ledger_id > 0"
            } else {
                ""
            }
        )
    };
    let all: Vec<String> = tables.iter().map(one).collect();
    // UNION ALL promises no order, and 18 gives another one once statistics come in between.
    let mut digests = rows(db, &all.join(" union all ")).await;
    digests.sort();
    digests
}
