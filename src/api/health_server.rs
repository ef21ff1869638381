//! A listener for health checks alone (`--health-port`), on a thread of its own: what the others' threads are
//! busy with, and how many connections wait for them, makes no difference to it.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::TaskTracker;

use super::connections::{ConnectionConfig, Connections};
use super::health;
use crate::app::state::AppState;

/// Connections at once. None has a place that a newer one could not take.
const CONNECTIONS: usize = 64;

/// Answers `GET /livez` and `GET /readyz` until it is dropped.
#[derive(Debug)]
pub struct HealthServer {
    runtime: Option<Runtime>,
}

impl HealthServer {
    /// Answers on `listener`.
    ///
    /// # Errors
    /// The system gives no thread, or nothing listens.
    pub fn start(
        listener: std::net::TcpListener,
        state: Arc<AppState>,
        config: &ConnectionConfig,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("health")
            .enable_all()
            .build()?;
        let config = ConnectionConfig {
            max_connections: 0,
            reserved: CONNECTIONS,
            ..config.clone()
        };
        let tasks = TaskTracker::new();
        let connections = Connections::new(&config, health::router(state), tasks.clone());
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let accepting = async move { connections.accept(&listener).await };
        tasks.spawn_on(accepting, runtime.handle());
        let runtime = Some(runtime);
        Ok(Self { runtime })
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        // It may be dropped on an async thread, which may not wait for the other one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
