//! `GET /v1/identity`: the server proves that it is the one whose data directory the caller can read.

use std::sync::Arc;

use axum::extract::State;

use super::error::ApiError;
use super::extract::QueryParameters;
use super::json::Json;
use super::types::error::ErrorResponse;
use super::types::identity::IdentityProof;
use crate::app::address::CHALLENGE_BYTES;
use crate::app::state::AppState;

/// Prove who this server is
///
/// A command that finds the server through its data directory asks this before it sends a key: the port may be
/// somebody else's by now. The proof is of the secret in the directory's file `address`, and of use to nobody
/// who cannot read that.
#[utoipa::path(
    get,
    path = "/v1/identity",
    tag = "health",
    security(()),
    params(("challenge" = String, Query, description = "64 hex digits that nobody has sent before")),
    responses(
        (status = 200, description = "The proof", body = IdentityProof),
        (status = "4XX", description = "No challenge", body = ErrorResponse),
    )
)]
pub(super) async fn prove_identity(
    State(state): State<Arc<AppState>>,
    QueryParameters(mut query): QueryParameters,
) -> Result<Json<IdentityProof>, ApiError> {
    let text = query.take("challenge")?.unwrap_or_default();
    query.finish()?;
    let mut challenge = [0; CHALLENGE_BYTES];
    hex::decode_to_slice(&text, &mut challenge).map_err(|_| {
        let what = "'challenge' must be 64 hex digits";
        ApiError::invalid("invalid_value", "challenge", what)
    })?;
    Ok(Json(IdentityProof {
        object: "identity",
        proof: hex::encode(state.identity.prove(&challenge)),
    }))
}
