//! Connections: limits on them, and a drain that loses no answer.
//!
//! After `shutdown` resolves: readiness fails at once, new work gets 503 `shutting_down`, answers
//! in flight go on for at most `drain_timeout`. Then the engine stops, which ends what is left with
//! an error event, and the connections close.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use super::router::{router, HttpConfig};
use crate::app::state::AppState;
use crate::app::{housekeeping, store_health};
use crate::telemetry::Metrics;

/// Bounds of connections.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Bounds of requests.
    pub http: HttpConfig,
    /// Connections at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Time in which a request's headers must arrive; also how long a connection may be idle.
    pub header_timeout: Duration,
    /// Headers of a request.
    pub max_headers: usize,
    /// Bytes of a request's headers.
    pub max_header_bytes: usize,
    /// Time that answers in flight get after the shutdown began.
    pub drain_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            http: HttpConfig::default(),
            max_connections: 1024,
            header_timeout: Duration::from_secs(30),
            max_headers: 100,
            max_header_bytes: 64 * 1024,
            drain_timeout: Duration::from_secs(90),
        }
    }
}

/// Time for the last bytes of answers after the engine has stopped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after an error of `accept` (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` resolves and everything in flight has ended.
///
/// # Errors
/// The engine's thread does not end.
pub async fn serve(
    listener: TcpListener,
    state: Arc<AppState>,
    config: ServerConfig,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let server = Server::new(state.clone(), config);
    let upkeep = state.tasks.spawn(upkeep(state.metrics.clone()));
    let housekeeping = state.tasks.spawn(housekeeping::run(state.clone()));
    let probe = state.tasks.spawn(store_health::run(state.clone()));
    tokio::select! {
        () = server.accept(&listener) => {}
        () = shutdown => {}
    }
    state.start_draining();
    tracing::info!(in_flight = state.work.len(), "draining");
    tokio::select! {
        () = server.accept(&listener) => {}
        () = server.drained() => {}
    }
    drop(listener);
    let engine = state.engine.clone();
    let stopped = state.tasks.spawn_blocking(move || engine.stop()).await;
    server.close().await;
    upkeep.abort();
    housekeeping.abort();
    probe.abort();
    stopped.map_err(io::Error::other)
}

struct Server {
    state: Arc<AppState>,
    router: Router,
    builder: Builder<TokioExecutor>,
    connections: GracefulShutdown,
    permits: Arc<Semaphore>,
    drain_timeout: Duration,
}

impl Server {
    fn new(state: Arc<AppState>, config: ServerConfig) -> Self {
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_headers(config.max_headers)
            .max_buf_size(config.max_header_bytes.max(8192));
        Self {
            router: router(state.clone(), config.http),
            state,
            builder,
            connections: GracefulShutdown::new(),
            permits: Arc::new(Semaphore::new(config.max_connections)),
            drain_timeout: config.drain_timeout,
        }
    }

    /// Takes connections in for as long as it is polled.
    async fn accept(&self, listener: &TcpListener) {
        // The semaphore is never closed.
        while let Ok(permit) = self.permits.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => self.connect(stream, permit),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not taken in");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn connect(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        // Events of a stream are small and urgent; a socket that refuses still works.
        let _ = stream.set_nodelay(true);
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let router = router.clone();
            async move {
                let response = router.oneshot(request.map(axum::body::Body::new)).await;
                Ok::<_, Infallible>(response.unwrap_or_else(|never| match never {}))
            }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let connection = self.connections.watch(connection.into_owned());
        self.state.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }

    /// Until nothing is in flight, or for `drain_timeout`.
    async fn drained(&self) {
        self.state.work.close();
        let waited = tokio::time::timeout(self.drain_timeout, self.state.work.wait()).await;
        if waited.is_err() {
            tracing::warn!(in_flight = self.state.work.len(), "the drain timed out");
        }
    }

    async fn close(self) {
        // Connections that do not end by then are cut by the end of the runtime.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.connections.shutdown()).await;
    }
}

async fn upkeep(metrics: Metrics) {
    let mut ticks = tokio::time::interval(Metrics::UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}
