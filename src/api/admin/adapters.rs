//! `/v1/admin/adapters`: versions are installed, listed and retired.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::api::error::ApiError;
use crate::api::extract::{Admin, JsonBody};
use crate::api::json::Json;
use crate::api::path::InPath;
use crate::api::types::admin::{AdapterList, AdapterObject, ReplacedList, RetiredObject};
use crate::api::types::admin_request::InstallRequest;
use crate::api::types::error::ErrorResponse;
use crate::app::admin;
use crate::app::state::AppState;
use attune_ids::VersionDigits;

/// Install a version
///
/// `path` is the name of a directory in the server's bundle folder: a bundle, or a directory that holds
/// one. All of it is verified against the loaded model before anything changes. Nothing is promoted.
#[utoipa::path(
    post,
    path = "/v1/admin/adapters",
    tag = "admin",
    request_body = InstallRequest,
    responses(
        (status = 200, description = "It was installed before; nothing was done", body = AdapterObject),
        (status = 201, description = "Installed", body = AdapterObject),
        (status = "4XX", description = "A bundle that is not there or cannot be used", body = ErrorResponse),
        (status = 503, description = "The disk or the store cannot write", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn install_adapter(
    State(state): State<Arc<AppState>>,
    _: Admin,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<AdapterObject>), ApiError> {
    let request = InstallRequest::parse(body)?;
    let (entry, new) = admin::install(&state, request.path).await?;
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(entry.into())))
}

/// List the installed versions
///
/// With what people thought of each one's answers.
#[utoipa::path(
    get,
    path = "/v1/admin/adapters",
    tag = "admin",
    responses(
        (status = 200, description = "The versions", body = AdapterList),
        (status = "4XX", description = "A caller who may not ask", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn list_adapters(
    State(state): State<Arc<AppState>>,
    _: Admin,
) -> Result<Json<AdapterList>, ApiError> {
    Ok(Json(admin::adapters(&state).await?.into()))
}

/// Show one version
///
/// Its first digits will do, eight or more, while they are unique.
#[utoipa::path(
    get,
    path = "/v1/admin/adapters/{version}",
    tag = "admin",
    params(("version" = String, Path, description = "The version")),
    responses(
        (status = 200, description = "The version", body = AdapterObject),
        (status = "4XX", description = "No such version", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn show_adapter(
    State(state): State<Arc<AppState>>,
    _: Admin,
    InPath(version): InPath<VersionDigits>,
) -> Result<Json<AdapterObject>, ApiError> {
    let entry = admin::adapter(&state, version).await?;
    Ok(Json(entry.into()))
}

/// Retire a version
///
/// Refused while an alias names or tries it. Answers under way finish on it.
#[utoipa::path(
    delete,
    path = "/v1/admin/adapters/{version}",
    tag = "admin",
    params(("version" = String, Path, description = "The version")),
    responses(
        (status = 200, description = "Retired", body = RetiredObject),
        (status = 409, description = "An alias names or tries it", body = ErrorResponse),
        (status = "4XX", description = "No such version", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn retire_adapter(
    State(state): State<Arc<AppState>>,
    _: Admin,
    InPath(version): InPath<VersionDigits>,
) -> Result<Json<RetiredObject>, ApiError> {
    let version = admin::retire(&state, version).await?;
    Ok(Json(version.into()))
}

/// Forget deleted people now
///
/// Each version that knows people who were deleted is replaced by one without their ids and rows: aliases and
/// canaries follow, and the old name leads to the new version. The server does so by itself within
/// `--forget-within`.
#[utoipa::path(
    post,
    path = "/v1/admin/forget",
    tag = "admin",
    responses(
        (status = 200, description = "What was replaced", body = ReplacedList),
        (status = "4XX", description = "A caller who may not ask", body = ErrorResponse),
        (status = 503, description = "A version could not be replaced; the others were", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn forget(
    State(state): State<Arc<AppState>>,
    _: Admin,
) -> Result<Json<ReplacedList>, ApiError> {
    Ok(Json(admin::forget_deleted(&state).await?.into()))
}
