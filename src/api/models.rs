//! `GET /v1/models` and `GET /v1/models/{model}`.

use std::sync::Arc;

use axum::extract::State;

use super::error::ApiError;
use super::extract::ForInference;
use super::json::Json;
use super::path::InPath;
use super::types::error::ErrorResponse;
use super::types::model::{Model, ModelList};
use crate::app::models::{self, ModelEntry};
use crate::app::state::AppState;

/// List the models
///
/// The alias first, then the bare base model, then the loaded versions.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "models",
    responses(
        (status = 200, description = "The models", body = ModelList),
        (status = "4XX", description = "A caller who may not ask", body = ErrorResponse),
    )
)]
pub(super) async fn list_models(
    State(state): State<Arc<AppState>>,
    _: ForInference,
) -> Result<Json<ModelList>, ApiError> {
    let data = models::list(&state).into_iter();
    Ok(Json(ModelList {
        object: "list",
        data: data.map(|entry| model(&state, entry)).collect(),
    }))
}

/// Show one model
///
/// A version may be shortened to its first digits, eight or more, while they are unique.
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "models",
    params(("model" = String, Path, description = "The model's id")),
    responses(
        (status = 200, description = "The model", body = Model),
        (status = "4XX", description = "No such model", body = ErrorResponse),
    )
)]
pub(super) async fn retrieve_model(
    State(state): State<Arc<AppState>>,
    _: ForInference,
    InPath(id): InPath<String>,
) -> Result<Json<Model>, ApiError> {
    let entry = models::show(&state, &id)?;
    Ok(Json(model(&state, entry)))
}

fn model(state: &AppState, entry: ModelEntry) -> Model {
    Model {
        id: entry.id,
        object: "model",
        created: entry.created_unix,
        owned_by: "attune",
        adapter_version: entry.version.map(Into::into),
        name: entry.name,
        context_length: state.context_len,
    }
}
