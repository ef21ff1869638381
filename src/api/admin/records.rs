//! `GET /v1/admin/snapshot` and `GET /v1/admin/decisions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::Json;

use crate::api::error::ApiError;
use crate::api::extract::Admin;
use crate::api::types::admin::DecisionList;
use crate::api::types::error::ErrorResponse;
use crate::app::state::AppState;
use crate::app::{admin, snapshot};

/// The header with the digest that the snapshot's last line has too.
const SHA256: &str = "x-attune-snapshot-sha256";

/// Everything that the store holds
///
/// As `attune store export` writes it: sorted JSON lines of one moment, of all tenants, with a digest in
/// the last line. `attune-train` reads it. An answer that breaks off lacks the last line.
#[utoipa::path(
    get,
    path = "/v1/admin/snapshot",
    tag = "admin",
    responses(
        (status = 200, description = "The snapshot", body = String, content_type = "application/x-ndjson",
            headers(("x-attune-snapshot-sha256" = String, description = "Its digest"))),
        (status = "4XX", description = "A caller who may not ask", body = ErrorResponse),
        (status = 503, description = "The disk is full, or the store cannot be read", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn snapshot(
    State(state): State<Arc<AppState>>,
    _: Admin,
) -> Result<Response, ApiError> {
    let snapshot = snapshot::take(&state).await?;
    let headers = [
        (
            header::CONTENT_TYPE.as_str(),
            "application/x-ndjson".to_owned(),
        ),
        (header::CONTENT_LENGTH.as_str(), snapshot.bytes.to_string()),
        (header::CACHE_CONTROL.as_str(), "no-store".to_owned()),
        (SHA256, snapshot.summary.sha256.clone()),
    ];
    let body = Body::from_stream(snapshot.into_chunks(state));
    Ok((headers, body).into_response())
}

/// What was decided about trained versions
///
/// The oldest first.
#[utoipa::path(
    get,
    path = "/v1/admin/decisions",
    tag = "admin",
    responses(
        (status = 200, description = "The decisions", body = DecisionList),
        (status = "4XX", description = "A caller who may not ask", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn list_decisions(
    State(state): State<Arc<AppState>>,
    _: Admin,
) -> Result<Json<DecisionList>, ApiError> {
    let decisions = admin::decisions(&state).await?.into_iter();
    Ok(Json(DecisionList {
        object: "list",
        data: decisions.map(Into::into).collect(),
    }))
}
