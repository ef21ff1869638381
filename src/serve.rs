//! A server from its configuration to its last byte: what `attune serve` runs. The model comes from the
//! caller, so that examples serve a scripted one and everything else is as in the program.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::signal::unix::{signal, SignalKind};

use crate::api::connections::ConnectionConfig;
use crate::api::health_server::HealthServer;
use crate::api::origin::CorsOrigins;
use crate::api::router::HttpConfig;
use crate::api::server::{serve, ServerConfig};
use crate::app::boot::{self, BootError, Loaded};
use crate::app::descriptors::connections_within;
use crate::app::{address, state};
use crate::config::serve::ServeConfig;
use crate::telemetry::TelemetryError;

/// Why a server does not start, or ends before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The model, the store, the versions or the keys.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The port is taken, or not ours.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The thread pool.
    #[error("the thread pool could not be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The runtime, signals, the address file, standard output.
    #[error("the server cannot start: {0}")]
    Start(#[source] io::Error),
    /// The engine's thread does not end.
    #[error("serving ended: {0}")]
    Serving(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT, and until everything in flight has ended. `load` makes the model and
/// what the engine runs of it; `ready` hears the address when requests are answered. Blocks.
///
/// # Errors
/// See [`ServeError`]; nothing is left running.
pub fn run(
    config: &ServeConfig,
    load: impl FnOnce(&ServeConfig) -> Result<Loaded, BootError>,
    ready: impl FnOnce(SocketAddr) -> io::Result<()>,
) -> Result<(), ServeError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(config.compute.threads)
        .build_global()?;
    let metrics = state::new_metrics()?;
    metrics.install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Start)?;
    runtime.block_on(async {
        // Before the model is loaded: a port that is taken shows at once.
        let listener = listen(config.http.address).await?;
        let address = listener.local_addr().map_err(ServeError::Start)?;
        let health = config
            .http
            .health_address
            .map(listen_for_health)
            .transpose()?;
        let state = tokio::task::block_in_place(|| boot::boot_with(config, metrics, load))?;
        address::publish(&config.data_dir, address, &state.identity).map_err(ServeError::Start)?;
        let shutdown = told_to_end().map_err(ServeError::Start)?;
        ready(address).map_err(ServeError::Start)?;
        let http = server_config(config)?;
        let _health = health
            .map(|listener| HealthServer::start(listener, state.clone(), &http.connections))
            .transpose()
            .map_err(ServeError::Start)?;
        let served = serve(listener, state.clone(), http, shutdown).await;
        // While the store is still held: the next server's word comes after this one is gone.
        if let Err(error) = address::withdraw(&config.data_dir) {
            tracing::warn!(%error, "the file `address` could not be removed");
        }
        served.map_err(ServeError::Serving)
    })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| ServeError::Listen { address, error })
}

fn listen_for_health(address: SocketAddr) -> Result<std::net::TcpListener, ServeError> {
    let listen = || {
        let listener = std::net::TcpListener::bind(address)?;
        tracing::info!(address = %listener.local_addr()?, "health checks");
        Ok(listener)
    };
    listen().map_err(|error| ServeError::Listen { address, error })
}

fn server_config(config: &ServeConfig) -> Result<ServerConfig, ServeError> {
    let usual = ServerConfig::default();
    let cors = CorsOrigins::new(&config.http.cors_origins).map_err(ServeError::Start)?;
    Ok(ServerConfig {
        http: HttpConfig { cors, ..usual.http },
        connections: ConnectionConfig {
            max_connections: connections_within(usual.connections.max_connections),
            write_timeout: config.http.write_timeout,
            ..usual.connections
        },
        drain_timeout: config.http.shutdown_timeout,
    })
}

/// Ready at SIGTERM or SIGINT, which are watched from now on.
fn told_to_end() -> io::Result<impl std::future::Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
