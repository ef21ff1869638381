//! `GET /v1/models` and `GET /v1/models/{model}`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::Json;

use super::error::ApiError;
use super::extract::Authenticated;
use super::headers::unix_seconds;
use super::types::error::ErrorResponse;
use super::types::model::{Model, ModelList};
use crate::adapter::bundle::Adapter;
use crate::app::keys::Role;
use crate::app::model_id::{self, Target};
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
    Authenticated(caller): Authenticated,
) -> Result<Json<ModelList>, ApiError> {
    caller.require(Role::Inference)?;
    let promoted = state.registry.by_alias(&state.alias);
    let promoted = promoted.as_ref().map(|lease| lease.adapter().as_ref());
    let mut data = vec![
        model(&state, state.alias.to_string(), promoted),
        model(&state, state.base_model_id.clone(), None),
    ];
    data.extend(state.registry.versions().iter().map(|adapter| {
        model(
            &state,
            model_id::pinned_id(&state, &adapter.version),
            Some(adapter),
        )
    }));
    Ok(Json(ModelList {
        object: "list",
        data,
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
    Authenticated(caller): Authenticated,
    id: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Json<Model>, ApiError> {
    caller.require(Role::Inference)?;
    // A path that does not decode to UTF-8 names no model.
    let Path(id) = id.map_err(|_| ApiError::unknown_url())?;
    Ok(Json(match model_id::resolve(&state, &id)? {
        Target::Base | Target::Alias(None) => model(&state, id, None),
        Target::Alias(Some(lease)) => model(&state, id, Some(lease.adapter())),
        Target::Pinned(lease) => {
            let adapter = lease.adapter();
            model(
                &state,
                model_id::pinned_id(&state, &adapter.version),
                Some(adapter),
            )
        }
    }))
}

fn model(state: &AppState, id: String, adapter: Option<&Adapter>) -> Model {
    Model {
        id,
        object: "model",
        created: adapter.map_or_else(|| unix_seconds(state.started), |a| a.created_unix),
        owned_by: "attune",
        adapter_version: adapter.map(|a| a.version.to_string()),
        name: adapter.and_then(|a| a.name.clone()),
        context_length: state.context_len,
    }
}
