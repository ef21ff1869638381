//! `/v1/admin/aliases`: which version an alias names, and which it tries on some users.

use std::sync::Arc;

use axum::extract::State;

use crate::api::error::ApiError;
use crate::api::extract::{Admin, JsonBody, OptionalJsonBody};
use crate::api::json::Json;
use crate::api::path::InPath;
use crate::api::types::admin::{AliasList, AliasObject};
use crate::api::types::admin_request::{CanaryRequest, PromoteRequest, RollbackRequest};
use crate::api::types::error::ErrorResponse;
use crate::app::admin;
use crate::app::state::AppState;
use attune_ids::Alias;

/// List the aliases
///
/// The server's own is there even if it names nothing yet.
#[utoipa::path(
    get,
    path = "/v1/admin/aliases",
    tag = "admin",
    responses(
        (status = 200, description = "The aliases", body = AliasList),
        (status = "4XX", description = "A caller who may not ask", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn list_aliases(
    State(state): State<Arc<AppState>>,
    _: Admin,
) -> Result<Json<AliasList>, ApiError> {
    let entries = admin::aliases(&state).into_iter();
    Ok(Json(AliasList {
        object: "list",
        data: entries.map(Into::into).collect(),
    }))
}

/// Promote a version
///
/// Compare-and-swap: with `expected`, only if the alias names that version now. The next request is
/// answered by the new version, those under way finish on theirs.
#[utoipa::path(
    post,
    path = "/v1/admin/aliases/{alias}",
    tag = "admin",
    params(("alias" = String, Path, description = "The alias; a new one is made")),
    request_body = PromoteRequest,
    responses(
        (status = 200, description = "Promoted, and durable", body = AliasObject),
        (status = 409, description = "The alias names another version; the message says which", body = ErrorResponse),
        (status = "4XX", description = "No such version", body = ErrorResponse),
        (status = 503, description = "The store cannot write", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn promote(
    State(state): State<Arc<AppState>>,
    _: Admin,
    InPath(alias): InPath<Alias>,
    JsonBody(body): JsonBody,
) -> Result<Json<AliasObject>, ApiError> {
    let (version, expected) = PromoteRequest::parse(body)?;
    let entry = admin::promote(&state, alias, version, expected).await?;
    Ok(Json(entry.into()))
}

/// Roll an alias back
///
/// Promotes the version that it named before. The body may be left out.
#[utoipa::path(
    post,
    path = "/v1/admin/aliases/{alias}/rollback",
    tag = "admin",
    params(("alias" = String, Path, description = "The alias")),
    request_body = Option<RollbackRequest>,
    responses(
        (status = 200, description = "Rolled back, and durable", body = AliasObject),
        (status = 409, description = "Nothing to go back to, or the alias names another version", body = ErrorResponse),
        (status = "4XX", description = "No such alias", body = ErrorResponse),
        (status = 503, description = "The store cannot write", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn roll_back(
    State(state): State<Arc<AppState>>,
    _: Admin,
    InPath(alias): InPath<Alias>,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<AliasObject>, ApiError> {
    let expected = RollbackRequest::parse(body)?;
    let entry = admin::roll_back(&state, alias, expected).await?;
    Ok(Json(entry.into()))
}

/// Begin a canary, or change its share
///
/// A share of the users gets another version, always the same users: a share that grows only adds
/// some. Requests that name no user stay on the alias's version. Promoting the canary ends it.
#[utoipa::path(
    post,
    path = "/v1/admin/aliases/{alias}/canary",
    tag = "admin",
    params(("alias" = String, Path, description = "The alias")),
    request_body = CanaryRequest,
    responses(
        (status = 200, description = "The canary answers, and is durable", body = AliasObject),
        (status = 409, description = "The alias names this version itself", body = ErrorResponse),
        (status = "4XX", description = "No such alias or version", body = ErrorResponse),
        (status = 503, description = "The store cannot write", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn start_canary(
    State(state): State<Arc<AppState>>,
    _: Admin,
    InPath(alias): InPath<Alias>,
    JsonBody(body): JsonBody,
) -> Result<Json<AliasObject>, ApiError> {
    let (version, permille) = CanaryRequest::parse(body)?;
    let entry = admin::start_canary(&state, alias, version, permille).await?;
    Ok(Json(entry.into()))
}

/// End a canary
///
/// Everybody gets what the alias names.
#[utoipa::path(
    delete,
    path = "/v1/admin/aliases/{alias}/canary",
    tag = "admin",
    params(("alias" = String, Path, description = "The alias")),
    responses(
        (status = 200, description = "Ended", body = AliasObject),
        (status = "4XX", description = "There is no canary", body = ErrorResponse),
        (status = 503, description = "The store cannot write", body = ErrorResponse),
    )
)]
pub(in crate::api) async fn end_canary(
    State(state): State<Arc<AppState>>,
    _: Admin,
    InPath(alias): InPath<Alias>,
) -> Result<Json<AliasObject>, ApiError> {
    let entry = admin::end_canary(&state, alias).await?;
    Ok(Json(entry.into()))
}
