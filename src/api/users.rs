//! `/v1/users/{id}`: what is recorded of a person.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::error::ApiError;
use super::extract::{Began, JsonBody};
use super::json::Json;
use super::path::PersonOfPath;
use super::types::error::ErrorResponse;
use super::types::kept::Deleted;
use super::types::person::{User, UserRequest};
use crate::app::people;
use crate::app::state::AppState;

/// Show what is recorded of a person
///
/// Counts and settings; never their embeddings. A stranger's answer looks the same. Keys with the role
/// `users` or `admin` may ask for everybody for whom they may act, other keys for the people whom they name.
#[utoipa::path(
    get,
    path = "/v1/users/{id}",
    tag = "users",
    params(("id" = String, Path, description = "The person's id")),
    responses(
        (status = 200, description = "The person", body = User),
        (status = "4XX", description = "A key that may not ask", body = ErrorResponse),
    )
)]
pub(super) async fn retrieve_user(
    State(state): State<Arc<AppState>>,
    PersonOfPath(user): PersonOfPath,
) -> Result<Json<User>, ApiError> {
    Ok(Json(people::show(&state, user).await?.into()))
}

/// Set a person's profile
///
/// `profile` stands in front of their first message, or of the text to go on from, in each prompt of a personalised
/// answer. `learning: false` keeps what they prefer out of training.
#[utoipa::path(
    post,
    path = "/v1/users/{id}",
    tag = "users",
    params(("id" = String, Path, description = "The person's id")),
    request_body = UserRequest,
    responses(
        (status = 200, description = "The person", body = User),
        (status = "4XX", description = "A request that cannot be done", body = ErrorResponse),
    )
)]
pub(super) async fn update_user(
    State(state): State<Arc<AppState>>,
    PersonOfPath(user): PersonOfPath,
    Began(began): Began,
    JsonBody(body): JsonBody,
) -> Result<Json<User>, ApiError> {
    let change = UserRequest::parse(body)?.into_change();
    Ok(Json(people::set(&state, user, change, began).await?.into()))
}

/// Export all that is recorded of a person
///
/// A JSON object per line, as the store keeps it.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/export",
    tag = "users",
    params(("id" = String, Path, description = "The person's id")),
    responses(
        (status = 200, description = "The records", content_type = "application/x-ndjson", body = String),
        (status = "4XX", description = "A key that may not ask", body = ErrorResponse),
    )
)]
pub(super) async fn export_user(
    State(state): State<Arc<AppState>>,
    PersonOfPath(user): PersonOfPath,
) -> Result<impl IntoResponse, ApiError> {
    let lines = people::export(&state, user).await?;
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)))
}

/// Delete a person
///
/// Their preferences, ratings, completions and profile, and every index of them. Versions that were
/// made before answer them as a stranger. What is left in the store's files goes with the next
/// compaction, which the server does by itself.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    tag = "users",
    params(("id" = String, Path, description = "The person's id")),
    responses(
        (status = 200, description = "Nothing is recorded of them any more", body = Deleted),
        (status = "4XX", description = "A key that may not ask", body = ErrorResponse),
    )
)]
pub(super) async fn delete_user(
    State(state): State<Arc<AppState>>,
    PersonOfPath(user): PersonOfPath,
) -> Result<Json<Deleted>, ApiError> {
    let id = user.user.to_string();
    people::erase(&state, user).await?;
    Ok(Json(Deleted {
        id,
        object: "user.deleted",
        deleted: true,
    }))
}
