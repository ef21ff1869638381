//! Servers as `attune serve` boots them, asked without sockets.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use attune::api::router::{router, HttpConfig};
use attune::app::boot::boot;
use attune::app::state::{new_metrics, AppState};
use attune::config::attune::{Cli, Command};
use attune::config::serve::ServeConfig;
use axum::body::Body;
use axum::http::{header, HeaderMap, HeaderValue, Request};
use axum::middleware::map_request;
use axum::Router;
use clap::Parser;
use serde_json::Value;
use tower::ServiceExt;

use crate::common::smollm2_gguf;

/// What a test waits for at most.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A booted server.
#[derive(Clone)]
pub struct Server {
    pub state: Arc<AppState>,
    pub router: Router,
}

/// An answer that was read to its end.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Boots with the arguments of `attune serve`.
pub fn boot_with(data_dir: &Path, arguments: &[&str]) -> Server {
    let data_dir = data_dir.to_str().unwrap();
    let typed = ["attune", "serve", "--data-dir", data_dir];
    let Command::Serve(raw) = Cli::parse_from(typed.iter().chain(arguments)).command else {
        panic!("not serve")
    };
    let state = boot(
        &ServeConfig::new(&raw.settings().unwrap()).unwrap(),
        new_metrics().unwrap(),
    )
    .unwrap();
    Server {
        router: router(state.clone(), HttpConfig::default()).layer(map_request(called_by_a_name)),
        state,
    }
}

/// SmolLM2 with the demo version, booted once.
pub fn smollm2_server() -> Server {
    static SERVER: OnceLock<(Server, tempfile::TempDir)> = OnceLock::new();
    let boot = || {
        smollm2_gguf();
        let data_dir = tempfile::tempdir().unwrap();
        (
            boot_with(data_dir.path(), &["--kv-memory", "256MiB"]),
            data_dir,
        )
    };
    SERVER.get_or_init(boot).0.clone()
}

/// As clients do: requests are to this machine.
async fn called_by_a_name(mut request: Request<Body>) -> Request<Body> {
    let local = HeaderValue::from_static("localhost");
    request.headers_mut().entry(header::HOST).or_insert(local);
    request
}

impl Server {
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: axum::body::to_bytes(body, usize::MAX)
                .await
                .unwrap()
                .to_vec(),
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(post(path, body)).await
    }

    /// A chat that succeeds.
    pub async fn chat(&self, body: Value) -> Reply {
        let reply = self.post("/v1/chat/completions", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply
    }
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The chunks of a stream that ended well.
    pub fn chunks(&self) -> Vec<Value> {
        let events = self
            .text()
            .split("\n\n")
            .filter_map(|b| b.strip_prefix("data: "));
        let mut events: Vec<&str> = events.collect();
        assert_eq!(events.pop(), Some("[DONE]"), "{}", self.text());
        events
            .iter()
            .map(|e| serde_json::from_str(e).unwrap())
            .collect()
    }
}

/// A POST of JSON.
pub fn post(path: &str, body: &Value) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

/// The text of a chat's first choice.
pub fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

/// Until `condition` holds; other tasks run meanwhile, no time is guessed.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what} does not come");
        tokio::task::yield_now().await;
    }
}
