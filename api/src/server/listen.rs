//! The accept loop: HTTP/1.1 with limits on heads and patience, WebSocket upgrades, and an orderly end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::auth::LocalAddr;

/// TCP connections at most; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 12_000;
/// For a request's whole head, and for the next request on an idle connection.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Accepts until `shutdown`, calls `on_stop`, and waits up to `goodbye` for running requests.
pub(crate) async fn run(
    app: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    goodbye: Duration,
    on_stop: impl FnOnce(),
) -> io::Result<()> {
    let mut http = auto::Builder::new(TokioExecutor::new()).http1_only();
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let app = TowerToHyperService::new(app);
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let seat = connections.clone().acquire_owned().await.ok();
            (listener.accept().await, seat)
        };
        let (stream, seat) = tokio::select! {
            (accepted, seat) = accepted => match accepted {
                Ok((stream, _)) => (stream, seat),
                Err(error) => {
                    // Out of descriptors, most likely: what is open must be given time to close.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let Ok(local) = prepare(&stream) else { continue };
        let app = app.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(local);
            app.call(request.map(Body::new))
        });
        let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection ended early");
            }
            drop(seat);
        });
    }
    drop(listener);
    on_stop();
    if tokio::time::timeout(goodbye, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    Ok(())
}

fn prepare(stream: &TcpStream) -> io::Result<LocalAddr> {
    // Answers are small and awaited: Nagle's algorithm would only delay them.
    stream.set_nodelay(true)?;
    stream.local_addr().map(LocalAddr)
}
