//! A server from its first connection to a drain that loses no answer.
//!
//! After `shutdown` resolves: readiness fails at once, new work gets 503 `shutting_down`, answers
//! in flight go on for at most `drain_timeout`. Then the engine stops, which ends what is left with
//! an error event, and the connections close.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::connections::{ConnectionConfig, Connections};
use super::router::{router, HttpConfig};
use crate::app::state::AppState;
use crate::app::{housekeeping, keys, store_health};
use crate::telemetry::Metrics;

/// Bounds of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Bounds of requests.
    pub http: HttpConfig,
    /// Bounds of connections.
    pub connections: ConnectionConfig,
    /// Time that answers in flight get after the shutdown began.
    pub drain_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            http: HttpConfig::default(),
            connections: ConnectionConfig::default(),
            drain_timeout: Duration::from_secs(90),
        }
    }
}

/// Time for the last bytes of answers after the engine has stopped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

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
    let keys = keys::watch::run(state.clone(), keys::watch::EVERY);
    let keys = state.tasks.spawn(keys);
    tokio::select! {
        () = server.connections.accept(&listener) => {}
        () = shutdown => {}
    }
    state.start_draining();
    tracing::info!(in_flight = state.work.len(), "draining");
    tokio::select! {
        () = server.connections.accept(&listener) => {}
        () = server.drained() => {}
    }
    drop(listener);
    let engine = state.engine.clone();
    let stopped = state.tasks.spawn_blocking(move || engine.stop()).await;
    server.close().await;
    upkeep.abort();
    housekeeping.abort();
    probe.abort();
    keys.abort();
    stopped.map_err(io::Error::other)
}

struct Server {
    state: Arc<AppState>,
    connections: Connections,
    drain_timeout: Duration,
}

impl Server {
    fn new(state: Arc<AppState>, config: ServerConfig) -> Self {
        let router = router(state.clone(), config.http);
        Self {
            connections: Connections::new(&config.connections, router, state.tasks.clone()),
            state,
            drain_timeout: config.drain_timeout,
        }
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
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.connections.shut_down()).await;
    }
}

async fn upkeep(metrics: Metrics) {
    let mut ticks = tokio::time::interval(Metrics::UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}
