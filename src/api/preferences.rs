//! `/v1/preferences` and `/v1/feedback`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;

use super::error::ApiError;
use super::extract::{
    Began, ForFeedback, IdempotencyHeader, JsonBody, QueryParameters, RecordedUserHeader,
};
use super::headers::ignored_header;
use super::json::Json;
use super::path::{InPath, PreferenceId};
use super::types::error::ErrorResponse;
use super::types::list::List;
use super::types::preference::{
    Feedback, FeedbackRequest, Preference, PreferenceBody, PreferenceRequest,
};
use crate::app::preferences::{
    self, FeedbackCommand, Inserted, PreferenceCommand, PreferenceRecord,
};
use crate::app::state::AppState;
use attune_ids::UserId;

/// Record a preference
///
/// Of two answers to one conversation, this person liked `chosen` better. Either both answers are
/// texts, and `messages` is the conversation; or both are answers of kept completions (`store`). When
/// the answer comes, the preference is on disk. A repeated request with the same `Idempotency-Key`
/// gets the first record.
#[utoipa::path(
    post,
    path = "/v1/preferences",
    tag = "preferences",
    params(
        ("X-User-Id" = Option<String>, Header, description = "Who prefers"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same in each try of one request"),
    ),
    request_body = PreferenceRequest,
    responses(
        (status = 201, description = "Recorded", body = Preference),
        (status = 200, description = "Recorded before, under the same key", body = Preference),
        (status = "4XX", description = "A request that cannot be recorded", body = ErrorResponse),
        (status = "5XX", description = "A store that cannot write now", body = ErrorResponse),
    )
)]
pub(super) async fn create_preference(
    State(state): State<Arc<AppState>>,
    ForFeedback(caller): ForFeedback,
    Began(began_unix_ms): Began,
    RecordedUserHeader(user): RecordedUserHeader,
    key: IdempotencyHeader,
    JsonBody(PreferenceBody { body, request }): JsonBody<PreferenceBody>,
) -> Result<impl IntoResponse, ApiError> {
    let person = user.as_ref().or(caller.bound_user.as_ref());
    let idempotent = key.request(&state, "preferences", person, &body).await?;
    let ignored = ignored_header(&request.ignored);
    let command = PreferenceCommand {
        user: request.user_hint(user),
        compared: request.into_compared()?,
        idempotent,
        began_unix_ms,
    };
    let (status, preference) =
        recorded::<_, Preference>(preferences::prefer(&state, &caller, command).await?);
    let headers = HeaderMap::from_iter(ignored);
    Ok((status, headers, preference))
}

/// Show a preference
#[utoipa::path(
    get,
    path = "/v1/preferences/{id}",
    tag = "preferences",
    params(("id" = String, Path, description = "The preference's id")),
    responses(
        (status = 200, description = "The preference", body = Preference),
        (status = "4XX", description = "No such preference", body = ErrorResponse),
    )
)]
pub(super) async fn retrieve_preference(
    State(state): State<Arc<AppState>>,
    ForFeedback(caller): ForFeedback,
    InPath(PreferenceId(id)): InPath<PreferenceId>,
) -> Result<Json<Preference>, ApiError> {
    let record = preferences::find(&state, &caller, &id).await?;
    Ok(Json(record.into()))
}

/// List preferences
///
/// Of one person, or of everybody for whom the key may act; the oldest first, unless `order` is `desc`.
#[utoipa::path(
    get,
    path = "/v1/preferences",
    tag = "preferences",
    params(
        ("user" = Option<String>, Query, description = "Only those of this person"),
        ("after" = Option<String>, Query, description = "Only those after this one"),
        ("limit" = Option<u32>, Query, description = "1 to 100 [default: 20]"),
        ("order" = Option<String>, Query, description = "asc or desc"),
    ),
    responses(
        (status = 200, description = "A page", body = List<Preference>),
        (status = "4XX", description = "A request that cannot be answered", body = ErrorResponse),
    )
)]
pub(super) async fn list_preferences(
    State(state): State<Arc<AppState>>,
    ForFeedback(caller): ForFeedback,
    QueryParameters(mut query): QueryParameters,
) -> Result<Json<List<Preference>>, ApiError> {
    let user = query.take("user")?;
    let user = user.as_deref().map(UserId::new).transpose();
    let user = user.map_err(|e| ApiError::invalid("invalid_value", "user", e.to_string()))?;
    let page = query.page()?;
    query.finish()?;
    let found = preferences::list(&state, &caller, user, page).await?;
    let id = |record: &PreferenceRecord| record.id.to_string();
    Ok(Json(List::new(found, id, Into::into)))
}

/// Rate an answer
///
/// Of a kept completion (`store`): `up`, `down`, or 1 to 5. Ratings of answers to one conversation
/// become preferences when they are learned from.
#[utoipa::path(
    post,
    path = "/v1/feedback",
    tag = "preferences",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same in each try of one request")),
    request_body = FeedbackRequest,
    responses(
        (status = 201, description = "Recorded", body = Feedback),
        (status = 200, description = "Recorded before, under the same key", body = Feedback),
        (status = "4XX", description = "A request that cannot be recorded", body = ErrorResponse),
        (status = "5XX", description = "A store that cannot write now", body = ErrorResponse),
    )
)]
pub(super) async fn create_feedback(
    State(state): State<Arc<AppState>>,
    ForFeedback(caller): ForFeedback,
    Began(began_unix_ms): Began,
    key: IdempotencyHeader,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Feedback>), ApiError> {
    let person = caller.bound_user.as_ref();
    let idempotent = key.request(&state, "feedback", person, &body).await?;
    let request = FeedbackRequest::parse(body)?;
    let command = FeedbackCommand {
        answer: request.answer(),
        rating: request.score(),
        comment: request.comment,
        idempotent,
        began_unix_ms,
    };
    Ok(recorded(preferences::rate(&state, &caller, command).await?))
}

fn recorded<R, T: From<R>>(inserted: Inserted<R>) -> (StatusCode, Json<T>) {
    match inserted {
        Inserted::New(record) => (StatusCode::CREATED, Json(record.into())),
        Inserted::Known(record) => (StatusCode::OK, Json(record.into())),
    }
}
