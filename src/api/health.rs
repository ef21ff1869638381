//! `GET /livez` and `GET /readyz`. They need no key and say nothing about callers.

use std::sync::Arc;

use axum::extract::State;
use axum::middleware::from_fn;
use axum::routing::get;
use axum::Router;

use super::error::ApiError;
use super::json::Json;
use super::request_id;
use super::types::error::ErrorResponse;
use super::types::health::Health;
use crate::app::state::AppState;
use crate::app::store_health::StoreState;

const OK: Health = Health {
    status: "ok",
    store: None,
    unavailable_aliases: None,
};

/// The two routes by themselves, for a listener of their own.
pub(super) fn router(app: Arc<AppState>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(|| async { ApiError::unknown_url() })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .with_state(app)
        .layer(from_fn(request_id::layer))
}

/// Whether the process is worth keeping
///
/// Fails once the engine's thread has stopped or hangs.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    security(()),
    responses(
        (status = 200, description = "Alive", body = Health),
        (status = 503, description = "The engine has stopped", body = ErrorResponse),
    )
)]
pub(super) async fn livez(State(state): State<Arc<AppState>>) -> Result<Json<Health>, ApiError> {
    if state.engine.is_alive() {
        Ok(Json(OK))
    } else {
        Err(ApiError::not_ready("the engine has stopped"))
    }
}

/// Whether requests can be answered now
///
/// Fails while the server drains and while a part of it cannot serve; the message names the part. A store
/// that takes no writes is no such part, nor is an alias whose version cannot be loaded: the answer says so.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    security(()),
    responses(
        (status = 200, description = "Ready", body = Health),
        (status = 503, description = "Not ready", body = ErrorResponse),
    )
)]
pub(super) async fn readyz(State(state): State<Arc<AppState>>) -> Result<Json<Health>, ApiError> {
    state.ready().map_err(ApiError::not_ready)?;
    let store = state.store_health.state();
    let unavailable = state.versions.now().unavailable().count();
    Ok(Json(Health {
        store: (store != StoreState::Writable).then(|| store.as_str()),
        unavailable_aliases: (unavailable > 0).then_some(unavailable),
        ..OK
    }))
}
