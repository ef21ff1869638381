//! One log line, one count and one drain token for each request, from its arrival to the last
//! byte of its answer.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::extract::Arrived;
use super::request_id::RequestId;
use crate::app::boot::now_unix_ms;
use crate::app::keys::Caller;
use crate::app::state::AppState;

/// Routes that are asked every few seconds: logged at debug level only.
const QUIET: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Watches each request.
pub async fn layer(
    State(state): State<Arc<AppState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut watch = RequestWatch::start(state, &request);
    request.extensions_mut().insert(watch.called_by.clone());
    request.extensions_mut().insert(Arrived(now_unix_ms()));
    let bodiless = request.method() == Method::HEAD;
    let response = next.run(request).await;
    watch.status = Some(response.status());
    let (parts, body) = response.into_parts();
    if bodiless || HttpBody::is_end_stream(&body) {
        watch.outcome = Outcome::Complete;
        return Response::from_parts(parts, body);
    }
    let left = parts.headers.get(CONTENT_LENGTH);
    let left = left.and_then(|length| length.to_str().ok()?.parse().ok());
    let watch = Some(watch);
    let body = Body::new(WatchedBody { body, watch, left });
    Response::from_parts(parts, body)
}

/// Who sent a request, once that is known: the layer that finds it out is further in.
#[derive(Debug, Clone, Default)]
pub(super) struct CalledBy(Arc<OnceLock<Arc<Caller>>>);

impl CalledBy {
    /// Says who it was.
    pub(super) fn set(&self, caller: &Arc<Caller>) {
        // There is one key per request.
        let _ = self.0.set(caller.clone());
    }

    /// The name of the key.
    fn key(&self) -> Option<&str> {
        self.0.get().map(|caller| caller.name.as_str())
    }
}

/// How a request ended, as far as the transport goes.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// The answer was handed over whole.
    Complete,
    /// The connection went before that: what hyper drops unread.
    Disconnected,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Disconnected => "client_disconnected",
        }
    }
}

/// Lives as long as the request; its end is the one exit at which everything is recorded.
#[derive(Debug)]
struct RequestWatch {
    state: Arc<AppState>,
    /// Shutdown waits for it.
    _token: TaskTrackerToken,
    method: Method,
    /// The route's pattern, never the raw path.
    route: String,
    id: Option<RequestId>,
    called_by: CalledBy,
    started: Instant,
    status: Option<StatusCode>,
    outcome: Outcome,
}

impl RequestWatch {
    fn start(state: Arc<AppState>, request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>();
        state
            .metrics
            .record(|| metrics::gauge!("http_requests_in_flight").increment(1.0));
        Self {
            _token: state.work.token(),
            state,
            method: request.method().clone(),
            route: route.map_or("unmatched", MatchedPath::as_str).to_owned(),
            id: request.extensions().get::<RequestId>().cloned(),
            called_by: CalledBy::default(),
            started: Instant::now(),
            status: None,
            outcome: Outcome::Disconnected,
        }
    }

    fn count(&self, seconds: f64) {
        let status = self
            .status
            .map_or("none".to_owned(), |s| s.as_u16().to_string());
        let method = method_label(&self.method);
        let route = self.route.clone();
        metrics::counter!("http_requests_total", "route" => route.clone(), "method" => method,
            "status" => status, "outcome" => self.outcome.as_str())
        .increment(1);
        metrics::histogram!("http_request_duration_seconds", "route" => route, "method" => method)
            .record(seconds);
        metrics::gauge!("http_requests_in_flight").decrement(1.0);
    }

    fn log(&self, seconds: f64) {
        let id = self
            .id
            .as_ref()
            .and_then(|id| id.0.to_str().ok())
            .unwrap_or_default();
        let status = self.status.map(|s| s.as_u16());
        let (method, route, outcome) = (&self.method, &self.route, self.outcome.as_str());
        let key = self.called_by.key();
        if QUIET.contains(&route.as_str()) {
            tracing::debug!(id, key, %method, %route, status, seconds, outcome, "request");
        } else {
            tracing::info!(id, key, %method, %route, status, seconds, outcome, "request");
        }
    }
}

impl Drop for RequestWatch {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.state.metrics.record(|| self.count(seconds));
        self.log(seconds);
    }
}

/// Callers may invent methods; labels may not grow with them.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A body that carries the watch to its end.
struct WatchedBody {
    body: Body,
    /// Ends before the last byte is handed over: whoever has read the whole answer finds it counted.
    watch: Option<RequestWatch>,
    /// Bytes that are still to come, where the answer says how many: nobody asks for more after them.
    left: Option<u64>,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(frame) = &polled {
            if let (Some(left), Some(Ok(frame))) = (self.left, frame) {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = Some(left.saturating_sub(bytes));
            }
            if frame.is_none() || self.left == Some(0) || HttpBody::is_end_stream(&self.body) {
                if let Some(mut watch) = self.watch.take() {
                    watch.outcome = Outcome::Complete;
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        HttpBody::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.body)
    }
}
