//! Who may call: a layer around the whole router, unknown routes included.
//!
//! It lets nothing through by default. The exceptions are compared with the exact path that the
//! router matches on, byte for byte: no prefixes, no decoding, no `Host`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{header, HeaderMap};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::CalledBy;
use super::error::ApiError;
use super::extract::Arrived;
use crate::app::keys::{Caller, KeyRefused, KeyRing};
use crate::app::state::AppState;

/// Routes that load balancers ask, however busy the server is.
pub const HEALTH_PATHS: [&str; 2] = ["/livez", "/readyz"];

/// Routes that need no key: those, and the one that tells whether a key may be sent.
pub const PUBLIC_PATHS: [&str; 3] = ["/livez", "/readyz", "/v1/identity"];

/// Refuses requests without a valid key, and tells handlers who calls.
pub async fn layer(
    State(state): State<Arc<AppState>>,
    Arrived(now_unix_ms): Arrived,
    mut request: Request,
    next: Next,
) -> Response {
    if PUBLIC_PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    match authenticate(&state.keys, request.headers(), now_unix_ms) {
        Ok(caller) => {
            if let Some(called_by) = request.extensions().get::<CalledBy>() {
                called_by.set(&caller);
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// Refuses new work while the server drains; what needs no key goes on answering.
pub async fn drain_layer(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Response {
    if state.is_draining() && !PUBLIC_PATHS.contains(&request.uri().path()) {
        return ApiError::shutting_down().into_response();
    }
    next.run(request).await
}

fn authenticate(
    keys: &KeyRing,
    headers: &HeaderMap,
    now_unix_ms: u64,
) -> Result<Arc<Caller>, ApiError> {
    if let Some(open) = keys.open_caller() {
        return Ok(open);
    }
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(ApiError::unauthorized(
            "an API key is required: send exactly one header `Authorization: Bearer KEY`",
        ));
    };
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or(Err(KeyRefused::Unknown), |(_, token)| {
            keys.authenticate(token.trim_matches(' '), now_unix_ms)
        })
        .map_err(|refused| {
            ApiError::unauthorized(match refused {
                KeyRefused::Unknown => "the API key is not valid",
                KeyRefused::Expired => "the API key has expired; ask for a new one",
            })
        })
}
