//! A tiny server of the OpenAI protocol on port 0. The model's name says how it behaves.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{stream, StreamExt};
use serde_json::{json, Value};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::fake_learner::Learner;
use crate::fake_preferences::{self as preferences, Preferences};

/// Before the first token of a streamed answer.
pub const TTFT: Duration = Duration::from_millis(30);
/// Before each further token.
pub const GAP: Duration = Duration::from_millis(10);
/// The length of every prompt, as this server counts it.
pub const PROMPT_TOKENS: u64 = 7;
/// The only key that model "locked" accepts.
pub const KEY: &str = "sesame-4711";

/// A running server; it stops when dropped.
pub struct FakeServer {
    pub url: String,
    pub seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

/// What the handlers saw, and how they are coordinated.
pub struct Seen {
    pub bodies: Mutex<Vec<Value>>,
    /// One address per connection.
    pub peers: Mutex<HashSet<SocketAddr>>,
    in_flight: AtomicUsize,
    pub max_in_flight: AtomicUsize,
    /// Each answer waits until so many requests are there together.
    barrier: Barrier,
    /// Told the number of requests so far, before the answer.
    on_request: Box<dyn Fn(usize) + Send + Sync>,
    /// `GET /v1/models` requires [`KEY`].
    locked: bool,
    pub preferences: Preferences,
    pub learner: Learner,
}

impl FakeServer {
    pub async fn start() -> Self {
        Self::with(1, false, |_| {}).await
    }

    pub async fn with(
        together: usize,
        locked: bool,
        on_request: impl Fn(usize) + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Seen {
            bodies: Mutex::default(),
            peers: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(0),
            barrier: Barrier::new(together),
            on_request: Box::new(on_request),
            locked,
            preferences: Preferences::default(),
            learner: Learner::default(),
        });
        let router = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/chat/completions", post(chat))
            .route("/v1/completions", post(completions))
            .route("/v1/preferences", post(preferences::create))
            .with_state(seen.clone())
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            seen,
            _tasks: tasks,
        }
    }
}

async fn models(State(seen): State<Arc<Seen>>, headers: HeaderMap) -> Response {
    let expected = format!("Bearer {KEY}");
    let given = headers.get("authorization").map(|value| value.as_bytes());
    if seen.locked && given != Some(expected.as_bytes()) {
        return error(StatusCode::UNAUTHORIZED, "invalid_api_key");
    }
    let mut learner = json!({"id": "learner"});
    if seen.learner.listed.load(Ordering::SeqCst) {
        learner["adapter_version"] = seen.learner.version().into();
    }
    let data = json!([{"id": "attune"}, {"id": "base"}, learner]);
    Json(json!({"object": "list", "data": data})).into_response()
}

async fn chat(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    State(seen): State<Arc<Seen>>,
    Json(body): Json<Value>,
) -> Response {
    seen.peers.lock().unwrap().insert(peer);
    answer(seen, body, true).await
}

async fn completions(State(seen): State<Arc<Seen>>, Json(body): Json<Value>) -> Response {
    answer(seen, body, false).await
}

async fn answer(seen: Arc<Seen>, body: Value, chat: bool) -> Response {
    let in_flight = seen.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    seen.max_in_flight.fetch_max(in_flight, Ordering::SeqCst);
    let number = {
        let mut bodies = seen.bodies.lock().unwrap();
        bodies.push(body.clone());
        bodies.len()
    };
    (seen.on_request)(number);
    seen.barrier.wait().await;
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    let tokens = body["max_tokens"].as_u64().unwrap_or(0);
    // A streamed body is sent after this returns; the client's slot is busy for longer than ours.
    seen.in_flight.fetch_sub(1, Ordering::SeqCst);
    match model.as_str() {
        "overloaded" => error(StatusCode::SERVICE_UNAVAILABLE, "engine_overloaded"),
        "every-third-fails" if number % 3 == 0 => error(StatusCode::TOO_MANY_REQUESTS, "rate"),
        "html" => (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response(),
        "never" => std::future::pending().await,
        "learner" => seen.learner.answer(&body),
        "garbage" => "data: not json\n\n".into_response(),
        _ if body["stream"] == true => sse(&model, tokens, chat),
        _ => whole(tokens, chat),
    }
}

pub fn error(status: StatusCode, code: &str) -> Response {
    let error = json!({"message": format!("{code}!"), "type": "t", "param": null, "code": code});
    (status, Json(json!({ "error": error }))).into_response()
}

fn whole(tokens: u64, chat: bool) -> Response {
    let text = "tok ".repeat(tokens as usize);
    let choice = if chat {
        json!({"index": 0, "message": {"role": "assistant", "content": text}})
    } else {
        json!({"index": 0, "text": text})
    };
    Json(json!({"choices": [choice], "usage": usage(tokens)})).into_response()
}

fn usage(tokens: u64) -> Value {
    json!({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens})
}

/// Role, tokens with their delays, finish, usage, done; the last parts depend on the model.
fn sse(model: &str, tokens: u64, chat: bool) -> Response {
    let chunk = |delta: Value, text: &str| {
        let choice = if chat {
            json!({"index": 0, "delta": delta})
        } else {
            json!({"text": text})
        };
        json!({"choices": [choice], "system_fingerprint": "fp_1"})
    };
    let mut parts = vec![Part::Now(chunk(
        json!({"role": "assistant", "content": ""}),
        "",
    ))];
    for token in 0..tokens {
        let delay = if token == 0 { TTFT } else { GAP };
        parts.push(Part::After(
            delay,
            chunk(json!({"content": "tok "}), "tok "),
        ));
    }
    match model {
        "breaks" => parts.push(Part::Break),
        "stream-error" => {
            parts.push(Part::Now(
                json!({"error": {"message": "m", "code": "engine_failed"}}),
            ));
        }
        "no-done" => {}
        "no-usage" => parts.push(Part::Done),
        _ => {
            parts.push(Part::Now(chunk(json!({}), "")));
            parts.push(Part::Now(json!({"choices": [], "usage": usage(tokens)})));
            parts.push(Part::Done);
        }
    }
    let body = Body::from_stream(stream::iter(parts).then(Part::bytes));
    let headers = [
        ("content-type", "text/event-stream"),
        ("x-attune-adapter-version", "v-abc"),
    ];
    (headers, body).into_response()
}

enum Part {
    Now(Value),
    After(Duration, Value),
    Done,
    Break,
}

impl Part {
    async fn bytes(self) -> Result<Bytes, std::io::Error> {
        let data = |value: Value| Bytes::from(format!("data: {value}\n\n"));
        match self {
            Self::Now(value) => Ok(data(value)),
            Self::After(delay, value) => {
                tokio::time::sleep(delay).await;
                Ok(data(value))
            }
            Self::Done => Ok(Bytes::from("data: [DONE]\n\n")),
            Self::Break => Err(std::io::Error::other("the server's engine is gone")),
        }
    }
}
