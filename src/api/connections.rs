//! Connections of one listener.
//!
//! There are places for so many. Where they are taken, a new connection gets that of the oldest one that has not
//! sent the headers of a request yet: a crowd that only connects keeps nobody out. Where all have sent one, a few more
//! are let in behind them, for health checks: those that come last of all, whatever the others do. Such a
//! connection takes a place when one gets free, and until then anything else that it asks is a 503.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{header, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::auth::HEALTH_PATHS;
use super::error::ApiError;

/// Bounds of connections.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// Connections at once.
    pub max_connections: usize,
    /// Connections beside them, for health checks: the newest ones.
    pub reserved: usize,
    /// Time in which a request's headers must arrive; also how long a connection may be idle.
    pub header_timeout: Duration,
    /// Headers of a request.
    pub max_headers: usize,
    /// Bytes of a request's headers.
    pub max_header_bytes: usize,
    /// Longest time in which the peer takes no byte although there are some for it.
    pub write_timeout: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            reserved: 32,
            header_timeout: Duration::from_secs(30),
            max_headers: 100,
            max_header_bytes: 64 * 1024,
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// Pause after an error of `accept` (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connections of a listener, and what answers on them.
pub(super) struct Connections {
    builder: Builder<TokioExecutor>,
    router: Router,
    graceful: GracefulShutdown,
    places: Arc<Places>,
    write_timeout: Duration,
    tasks: TaskTracker,
}

impl Connections {
    /// `tasks` has a task for each connection.
    pub(super) fn new(config: &ConnectionConfig, router: Router, tasks: TaskTracker) -> Self {
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_headers(config.max_headers)
            .max_buf_size(config.max_header_bytes.max(8192));
        Self {
            builder,
            router,
            graceful: GracefulShutdown::new(),
            places: Arc::new(Places::new(config.max_connections, config.reserved)),
            write_timeout: config.write_timeout,
            tasks,
        }
    }

    /// Takes connections in for as long as it is polled.
    pub(super) async fn accept(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Events of a stream are small and urgent; a socket that refuses still works.
                    let _ = stream.set_nodelay(true);
                    self.connect(stream);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection in a task of its own.
    fn connect(&self, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let place = Arc::new(Places::enter(&self.places));
        let (router, asked_from) = (self.router.clone(), place.clone());
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            answer(router.clone(), asked_from.clone(), request)
        });
        let mut stream = Box::pin(TimeoutStream::new(stream));
        stream
            .as_mut()
            .set_write_timeout_pinned(Some(self.write_timeout));
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection.into_owned());
        self.tasks.spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                },
                () = place.seat.lost.cancelled() => {
                    tracing::debug!("a connection made room for a newer one");
                }
            }
        });
    }

    /// Lets connections end after the answer that they are at.
    pub(super) async fn shut_down(self) {
        self.graceful.shutdown().await;
    }
}

/// A request that came where there was no place.
#[derive(Debug, Clone, Copy)]
struct Crowded;

async fn answer(
    router: Router,
    place: Arc<Place>,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    let is_health = HEALTH_PATHS.contains(&request.uri().path());
    // A health check takes no place from others, but keeps the one that its connection has.
    let has_place = (!is_health || place.is_taken()) && place.take();
    if !has_place && !is_health {
        request.extensions_mut().insert(Crowded);
    }
    let response = router.oneshot(request).await;
    let mut response = response.unwrap_or_else(|never| match never {});
    if !place.is_taken() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}

/// Refuses what came where there was no place.
pub(super) async fn crowd_layer(request: Request, next: Next) -> Response {
    if request.extensions().get::<Crowded>().is_some() {
        return ApiError::too_many_connections().into_response();
    }
    next.run(request).await
}

/// Places of connections.
#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    reserved: usize,
    crowd: Mutex<Crowd>,
}

/// Connections that may have to go, the oldest first.
#[derive(Debug, Default)]
struct Crowd {
    next: u64,
    /// With a place, but without a request so far.
    silent: VecDeque<(u64, Arc<Seat>)>,
    /// Without a place.
    behind: VecDeque<(u64, Arc<Seat>)>,
}

/// What a connection has.
#[derive(Debug, Default)]
struct Seat {
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// A newer connection is here instead.
    lost: CancellationToken,
}

/// What a connection holds for as long as it lives.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    id: u64,
    seat: Arc<Seat>,
}

impl Places {
    fn new(usual: usize, reserved: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(usual.min(Semaphore::MAX_PERMITS))),
            reserved: reserved.max(1),
            crowd: Mutex::default(),
        }
    }

    /// A free place, or that of the oldest connection that is silent; else one behind, which the oldest
    /// connection there may lose.
    fn enter(places: &Arc<Self>) -> Place {
        let seat = Arc::new(Seat::default());
        let mut crowd = places.crowd();
        let id = crowd.next;
        crowd.next += 1;
        let free = || places.free.clone().try_acquire_owned().ok();
        let permit = free().or_else(|| crowd.silent.pop_front()?.1.lose());
        let has_place = permit.is_some();
        *seat.permit() = permit;
        if has_place {
            crowd.silent.push_back((id, seat.clone()));
        } else {
            if crowd.behind.len() >= places.reserved {
                // It has no place to give.
                let _ = crowd.behind.pop_front().map(|(_, oldest)| oldest.lose());
            }
            crowd.behind.push_back((id, seat.clone()));
        }
        drop(crowd);
        Place {
            places: places.clone(),
            id,
            seat,
        }
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crowd {
    fn forget(&mut self, id: u64) {
        self.silent.retain(|(other, _)| *other != id);
        self.behind.retain(|(other, _)| *other != id);
    }
}

impl Seat {
    /// Ends the connection; its place, if it has one, is the caller's.
    fn lose(&self) -> Option<OwnedSemaphorePermit> {
        self.lost.cancel();
        self.permit().take()
    }

    fn permit(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Takes a place, if it has none and one is free, and keeps it; whether it has one. For a connection that
    /// has sent a request.
    fn take(&self) -> bool {
        // Before the seat, as everywhere: nobody else gives or takes this one's place meanwhile.
        let mut crowd = self.places.crowd();
        let mut permit = self.seat.permit();
        if permit.is_none() && !self.seat.lost.is_cancelled() {
            *permit = self.places.free.clone().try_acquire_owned().ok();
        }
        if permit.is_some() {
            crowd.forget(self.id);
        }
        permit.is_some()
    }

    fn is_taken(&self) -> bool {
        self.seat.permit().is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.crowd().forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const CHUNK: &[u8] = &[b'x'; 4096];

    /// A connection to a server whose answers never end, and the server, which must outlive it.
    async fn endless(write_timeout: Duration) -> (DuplexStream, TaskTracker, Connections) {
        let config = ConnectionConfig {
            write_timeout,
            ..ConnectionConfig::default()
        };
        let body = || futures_util::stream::repeat_with(|| Ok::<_, Infallible>(CHUNK));
        let router =
            Router::new().route("/", get(move || async move { Body::from_stream(body()) }));
        let tasks = TaskTracker::new();
        let connections = Connections::new(&config, router, tasks.clone());
        let (mut client, server) = tokio::io::duplex(512);
        connections.connect(server);
        tasks.close();
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        client.write_all(request).await.unwrap();
        (client, tasks, connections)
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_cut() {
        let (mut client, tasks, _server) = endless(Duration::from_millis(10)).await;
        // Without the cut this never resolves.
        tasks.wait().await;
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.starts_with(b"HTTP/1.1 200") && rest.len() <= 512);
    }

    #[tokio::test]
    async fn a_peer_that_reads_is_not_cut() {
        let (mut client, tasks, _server) = endless(HOUR).await;
        let mut part = vec![0; 100 * CHUNK.len()];
        client.read_exact(&mut part).await.unwrap();
        assert_eq!(tasks.len(), 1);
        drop(client);
        tasks.wait().await;
    }

    fn lost(places: &[Place]) -> Vec<bool> {
        let lost = places.iter().map(|place| place.seat.lost.is_cancelled());
        lost.collect()
    }

    fn enter(places: &Arc<Places>, count: usize) -> Vec<Place> {
        (0..count).map(|_| Places::enter(places)).collect()
    }

    #[test]
    fn who_says_nothing_makes_room_the_oldest_first() {
        let places = Arc::new(Places::new(2, 2));
        let silent = enter(&places, 5);
        assert_eq!(lost(&silent), [true, true, true, false, false]);
        assert!(silent[3].is_taken() && silent[4].is_taken());
        // Who was pushed out gets no place by asking after all.
        assert!(!silent[0].take());
        // One that has asked stays.
        assert!(silent[3].take());
        let newer = enter(&places, 2);
        assert!(!silent[3].seat.lost.is_cancelled() && silent[4].seat.lost.is_cancelled());
        assert_eq!(lost(&newer), [true, false]);
    }

    #[test]
    fn only_the_newest_stay_behind_the_places() {
        let places = Arc::new(Places::new(2, 2));
        let taken = enter(&places, 2);
        assert!(taken.iter().all(Place::take));
        let behind = enter(&places, 4);
        assert_eq!(lost(&taken), [false, false]);
        assert_eq!(lost(&behind), [true, true, false, false]);
        assert!(!behind.iter().any(Place::take));
    }

    #[test]
    fn who_is_behind_takes_the_place_that_gets_free_and_keeps_it() {
        let places = Arc::new(Places::new(1, 2));
        let first = Places::enter(&places);
        assert!(first.take());
        let behind = Places::enter(&places);
        assert!(!behind.take());
        drop(first);
        assert!(behind.take() && behind.take());
        let newer = enter(&places, 5);
        assert!(!behind.seat.lost.is_cancelled());
        assert!(!newer.iter().any(Place::is_taken));
        drop(newer);
        assert!(places.crowd().behind.is_empty());
        drop(behind);
        assert!(Places::enter(&places).is_taken());
        assert!(places.crowd().silent.is_empty());
    }
}
