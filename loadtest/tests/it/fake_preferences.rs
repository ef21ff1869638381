//! The fake server's `POST /v1/preferences`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde_json::{json, Value};

use crate::fake_server::{error, Seen};

/// How long a preference takes to be written.
pub const WRITE: Duration = Duration::from_millis(10);

/// What came in.
#[derive(Default)]
pub struct Preferences {
    pub bodies: Mutex<Vec<Value>>,
    /// `Idempotency-Key` of each, in the same order.
    pub keys: Mutex<Vec<Option<String>>>,
    in_flight: AtomicUsize,
    pub max_in_flight: AtomicUsize,
    /// All are answered with 503.
    pub refuse: AtomicBool,
}

pub async fn create(
    State(seen): State<Arc<Seen>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let here = &seen.preferences;
    let in_flight = here.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    here.max_in_flight.fetch_max(in_flight, Ordering::SeqCst);
    tokio::time::sleep(WRITE).await;
    here.in_flight.fetch_sub(1, Ordering::SeqCst);
    if here.refuse.load(Ordering::SeqCst) {
        return error(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable");
    }
    let key = headers.get("idempotency-key");
    let key = key.map(|key| key.to_str().unwrap().to_owned());
    let mut bodies = here.bodies.lock().unwrap();
    // Stricter than a real server, which merges only under one key.
    let of_learner = key.as_ref().is_some_and(|key| key.starts_with("learn-"));
    let known = !of_learner && bodies.contains(&body);
    if of_learner && !seen.learner.prefer(&body) {
        return error(StatusCode::NOT_FOUND, "completion_not_found");
    }
    bodies.push(body);
    here.keys.lock().unwrap().push(key);
    let status = if known {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    (status, Json(json!({"object": "preference"}))).into_response()
}
