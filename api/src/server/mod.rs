//! The server: one listener for REST, GraphQL, WebSocket, pages, health and metrics.

mod assets;
pub(crate) mod body;
mod health;
mod layers;
pub(crate) mod listen;
pub(crate) mod metrics;
mod page;
pub mod problem;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use ledger::Reader;
use ledger::pipeline::Pipeline;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::artifacts::{self, Store};
use crate::auth::{Authority, Gate};
use crate::ws::{self, Hub};
use problem::Problem;

/// Uploads that are hashed and written at the same time.
const UPLOADS_MAX: usize = 64;
/// Longest that connections and background tasks may take to end.
const GOODBYE: Duration = Duration::from_secs(10);

/// How the server is run.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Scheme and authority under which others reach it, as in `https://market.example`; needed behind a proxy or a host
    /// name, since signatures name the full URL. The address that it listens on is always taken.
    pub public_url: Option<String>,
    /// Where artifacts are kept, sealed.
    pub artifacts_dir: PathBuf,
    /// Where the keys that they are sealed under are kept.
    pub artifact_keys_dir: PathBuf,
    /// Largest artifact, bytes.
    pub artifact_bytes_max: u64,
}

impl ServerOptions {
    /// Artifacts in `artifacts_dir`, their keys in `artifact-keys` beside it, everything else as usual.
    pub fn new(artifacts_dir: impl Into<PathBuf>) -> Self {
        let artifacts_dir = artifacts_dir.into();
        Self {
            public_url: None,
            artifact_keys_dir: artifacts_dir.with_file_name(artifacts::KEYS),
            artifacts_dir,
            artifact_bytes_max: artifacts::BYTES_MAX,
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The public URL is not one.
    #[error("the public URL: {0}")]
    PublicUrl(String),
    /// The artifact store cannot be used.
    #[error("the artifact store in {path}: {source}")]
    Store {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What every request handler, live connection and background task shares.
pub struct ServerState {
    /// Decides commands.
    pub(crate) pipeline: Pipeline,
    /// Reads.
    pub(crate) reader: Reader,
    /// Job inputs and outputs.
    pub(crate) store: Store,
    /// Checks signatures.
    pub(crate) gate: Gate,
    /// Hands out news.
    pub(crate) hub: Arc<Hub>,
    /// Live connections now.
    pub(crate) sockets: AtomicUsize,
    /// Uploads in progress take a permit.
    pub(crate) uploads: Semaphore,
    /// Renders `/metrics`.
    pub(crate) metrics: Option<&'static PrometheusHandle>,
    /// Set when the server is to end; live connections and background tasks watch it.
    pub(crate) stopping: CancellationToken,
    /// Live connections and background tasks, waited for at the end.
    pub(crate) tasks: TaskTracker,
    page: page::Cache,
}

impl std::fmt::Debug for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerState")
            .field("reader", &self.reader)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl ServerState {
    /// Everything a server needs besides a listener. Must be called inside a tokio runtime; `reader` is a pool as
    /// `econ_api`.
    pub fn new(pipeline: Pipeline, reader: Reader, options: ServerOptions) -> Result<Arc<Self>, StartError> {
        let metrics = metrics::install();
        let authority = Authority::new(options.public_url.as_deref()).map_err(StartError::PublicUrl)?;
        let store =
            Store::open(&options.artifacts_dir, &options.artifact_keys_dir, options.artifact_bytes_max)
                .map_err(|source| StartError::Store { path: options.artifacts_dir.clone(), source })?;
        Ok(Arc::new(Self {
            hub: Hub::start(&pipeline, &reader),
            gate: Gate::new(reader.clone(), authority),
            pipeline,
            reader,
            store,
            sockets: AtomicUsize::new(0),
            uploads: Semaphore::new(UPLOADS_MAX),
            metrics,
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            page: page::Cache::default(),
        }))
    }

    /// The pipeline that decides its commands.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The pool that it reads through.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Runs a background task until it ends or, by watching the token it gets, until the server does.
    pub fn spawn<F>(&self, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task(self.stopping.clone()));
    }
}

/// A listener at `preferred`, or at a free port of the same address when that one is busy; and where it is.
pub async fn bind(preferred: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = match TcpListener::bind(preferred).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::new(preferred.ip(), 0)).await?
        }
        bound => bound?,
    };
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until `shutdown` resolves; then says goodbye to live connections, lets running requests end, and ends the
/// background tasks. The pipeline is the caller's to shut down, afterwards.
pub async fn serve(
    state: Arc<ServerState>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let running =
        listen::run(router(state.clone()), listener, shutdown, GOODBYE, || state.stopping.cancel()).await;
    state.stopping.cancel();
    state.tasks.close();
    if tokio::time::timeout(GOODBYE, state.tasks.wait()).await.is_err() {
        tracing::warn!("some background tasks did not end in time");
    }
    running
}

/// All routes.
pub fn router(state: Arc<ServerState>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::page))
        .route("/openapi.json", get(openapi))
        .route("/assets/{*name}", get(assets::asset))
        .route("/graphql", get(assets::graphiql).post(crate::graphql::http::post))
        .route("/graphql/ws", get(ws::graphql::upgrade))
        .route("/v1/agent/ws", get(ws::agent::upgrade))
        .merge(crate::rest::router())
        .fallback(async || {
            Problem::new("UB402", "there is nothing under this path; /openapi.json lists what there is")
        })
        .method_not_allowed_fallback(async || {
            Problem::with_status(405, "UB112", "this path does not take this method")
        })
        .layer(axum::middleware::from_fn(layers::around))
        .with_state(state)
}

async fn openapi() -> axum::response::Response {
    problem::json(axum::http::StatusCode::OK, "application/json", &crate::rest::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_busy_port_is_answered_with_a_free_one() {
        let (_first, taken) = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (_second, other) = bind(taken).await.unwrap();
        assert_eq!(other.ip(), taken.ip());
        assert_ne!(other.port(), taken.port());
    }
}
