//! Kept completions: `/v1/chat/completions/{id}` and the list.

use std::sync::Arc;

use axum::extract::State;

use super::error::ApiError;
use super::extract::{Arrived, ForInference, JsonBody, QueryParameters};
use super::fields::Fields;
use super::json::Json;
use super::path::{CompletionId, InPath};
use super::types::accepted::metadata;
use super::types::error::ErrorResponse;
use super::types::kept::{Deleted, KeptChatCompletion, ListedMessage};
use super::types::list::List;
use crate::app::keep::{self, CompletionRecord, Filter};
use crate::app::state::AppState;

/// Pairs of metadata that a completion can have.
const MAX_PAIRS: usize = 16;

/// Show a kept completion
#[utoipa::path(
    get,
    path = "/v1/chat/completions/{id}",
    tag = "chat",
    params(("id" = String, Path, description = "The completion's id")),
    responses(
        (status = 200, description = "The completion", body = KeptChatCompletion),
        (status = "4XX", description = "No such completion", body = ErrorResponse),
    )
)]
pub(super) async fn retrieve_chat_completion(
    State(state): State<Arc<AppState>>,
    ForInference(caller): ForInference,
    Arrived(now): Arrived,
    InPath(CompletionId(id)): InPath<CompletionId>,
) -> Result<Json<KeptChatCompletion>, ApiError> {
    Ok(Json(keep::find(&state, &caller, &id, now).await?.into()))
}

/// List kept completions
///
/// The oldest first, unless `order` is `desc`. `metadata[KEY]=VALUE` finds those with that pair.
#[utoipa::path(
    get,
    path = "/v1/chat/completions",
    tag = "chat",
    params(
        ("model" = Option<String>, Query, description = "Only those of this model id"),
        ("after" = Option<String>, Query, description = "Only those after this one"),
        ("limit" = Option<u32>, Query, description = "1 to 100 [default: 20]"),
        ("order" = Option<String>, Query, description = "asc or desc"),
    ),
    responses(
        (status = 200, description = "A page", body = List<KeptChatCompletion>),
        (status = "4XX", description = "A request that cannot be answered", body = ErrorResponse),
    )
)]
pub(super) async fn list_chat_completions(
    State(state): State<Arc<AppState>>,
    ForInference(caller): ForInference,
    Arrived(now): Arrived,
    QueryParameters(mut query): QueryParameters,
) -> Result<Json<List<KeptChatCompletion>>, ApiError> {
    let filter = Filter {
        model: query.take("model")?,
        metadata: query.take_pairs("metadata").into_iter().collect(),
    };
    if filter.metadata.len() > MAX_PAIRS {
        let message = format!("at most {MAX_PAIRS} pairs can be asked for");
        return Err(ApiError::invalid("invalid_value", "metadata", message));
    }
    let page = query.page()?;
    query.finish()?;
    let found = keep::list(&state, &caller, filter, page, now).await?;
    let id = |record: &CompletionRecord| record.id.to_string();
    Ok(Json(List::new(found, id, Into::into)))
}

/// Change a kept completion's metadata
#[utoipa::path(
    post,
    path = "/v1/chat/completions/{id}",
    tag = "chat",
    params(("id" = String, Path, description = "The completion's id")),
    request_body(content = Value, description = "{\"metadata\": {...}}, and nothing else"),
    responses(
        (status = 200, description = "The completion", body = KeptChatCompletion),
        (status = "4XX", description = "No such completion", body = ErrorResponse),
    )
)]
pub(super) async fn update_chat_completion(
    State(state): State<Arc<AppState>>,
    ForInference(caller): ForInference,
    Arrived(now): Arrived,
    InPath(CompletionId(id)): InPath<CompletionId>,
    JsonBody(body): JsonBody,
) -> Result<Json<KeptChatCompletion>, ApiError> {
    let mut fields = Fields::body(body)?;
    let pairs = metadata(&mut fields)?.ok_or_else(|| fields.missing("metadata"))?;
    fields.finish()?;
    let changed = keep::set_metadata(&state, &caller, &id, pairs, now).await?;
    Ok(Json(changed.into()))
}

/// Delete a kept completion
///
/// Ratings and preferences that were made of it stay.
#[utoipa::path(
    delete,
    path = "/v1/chat/completions/{id}",
    tag = "chat",
    params(("id" = String, Path, description = "The completion's id")),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = "4XX", description = "No such completion", body = ErrorResponse),
    )
)]
pub(super) async fn delete_chat_completion(
    State(state): State<Arc<AppState>>,
    ForInference(caller): ForInference,
    Arrived(now): Arrived,
    InPath(CompletionId(id)): InPath<CompletionId>,
) -> Result<Json<Deleted>, ApiError> {
    keep::delete(&state, &caller, &id, now).await?;
    Ok(Json(Deleted {
        id: id.into(),
        object: "chat.completion.deleted",
        deleted: true,
    }))
}

/// Show a kept completion's conversation
#[utoipa::path(
    get,
    path = "/v1/chat/completions/{id}/messages",
    tag = "chat",
    params(("id" = String, Path, description = "The completion's id")),
    responses(
        (status = 200, description = "The messages, all of them", body = List<ListedMessage>),
        (status = "4XX", description = "No such completion", body = ErrorResponse),
    )
)]
pub(super) async fn list_chat_completion_messages(
    State(state): State<Arc<AppState>>,
    ForInference(caller): ForInference,
    Arrived(now): Arrived,
    InPath(CompletionId(id)): InPath<CompletionId>,
) -> Result<Json<List<ListedMessage>>, ApiError> {
    let messages = keep::find(&state, &caller, &id, now)
        .await?
        .messages
        .into_iter();
    let data: Vec<ListedMessage> = messages
        .enumerate()
        .map(|(i, turn)| ListedMessage {
            id: format!("{id}-{i}"),
            role: turn.role,
            content: turn.content,
            refusal: None,
            content_parts: None,
        })
        .collect();
    Ok(Json(List {
        object: "list",
        first_id: data.first().map_or_else(String::new, |m| m.id.clone()),
        last_id: data.last().map_or_else(String::new, |m| m.id.clone()),
        has_more: false,
        data,
    }))
}
