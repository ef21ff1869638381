//! `GET /v1/admin/snapshot`, `GET` and `POST /v1/admin/decisions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::api::error::ApiError;
use crate::api::extract::{Admin, Arrived, JsonBody, QueryParameters};
use crate::api::json::Json;
use crate::api::types::admin::DecisionObject;
use crate::api::types::admin_request::DecisionRequest;
use crate::api::types::error::ErrorResponse;
use crate::api::types::list::List;
use crate::app::admin::DecisionRecord;
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

/// Record a decision
///
/// What `attune loop` says of a version that it trained, and why. With `promoted`, the alias moves from
/// `current` to `candidate`, an installed version, in the same step: there is no promotion without its
/// reason, and no reason for one that did not happen.
#[utoipa::path(
    post,
    path = "/v1/admin/decisions",
    tag = "admin",
    request_body = DecisionRequest,
    responses(
        (status = 201, description = "Recorded, and durable", body = DecisionObject),
        (status = 409, description = "The alias names another version than `current`; nothing is recorded", body = ErrorResponse),
        (status = "4XX", description = "No such version", body = ErrorResponse),
        (status = 503, description = "The store cannot write", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn create_decision(
    State(state): State<Arc<AppState>>,
    _: Admin,
    Arrived(now): Arrived,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<DecisionObject>), ApiError> {
    let decision = DecisionRequest::parse(body, now)?;
    let record = admin::decide(&state, decision).await?;
    Ok((StatusCode::CREATED, Json(record.into())))
}

/// What was decided about trained versions
///
/// The oldest first, unless `order` is `desc`.
#[utoipa::path(
    get,
    path = "/v1/admin/decisions",
    tag = "admin",
    params(
        ("after" = Option<String>, Query, description = "Only those after this one"),
        ("limit" = Option<u32>, Query, description = "1 to 100 [default: 20]"),
        ("order" = Option<String>, Query, description = "asc or desc"),
    ),
    responses(
        (status = 200, description = "A page", body = List<DecisionObject>),
        (status = "4XX", description = "A caller who may not ask", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn list_decisions(
    State(state): State<Arc<AppState>>,
    _: Admin,
    QueryParameters(mut query): QueryParameters,
) -> Result<Json<List<DecisionObject>>, ApiError> {
    let page = query.page()?;
    query.finish()?;
    let found = admin::decisions(&state, page).await?;
    let id = |record: &DecisionRecord| record.id.to_string();
    Ok(Json(List::new(found, id, Into::into)))
}
