//! What handlers take out of a request.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

use super::body::{is_json, PackedBody, Packing};
use super::error::ApiError;
use super::json::FromBody;
use super::router::{ApiState, HttpConfig};
use super::types::list::Query as UrlQuery;
use crate::app::keys::{Caller, Role};
use crate::app::preferences::Idempotent;
use crate::app::state::AppState;
use attune_ids::{IdempotencyKey, UserId};

/// The JSON body, as what it is read as. axum's own extractor answers 422 and plain text, which OpenAI's
/// clients do not understand, and parses on the runtime's worker whatever was sent.
#[derive(Debug)]
pub struct JsonBody<T = Value>(pub T);

impl<T: FromBody> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let http = Arc::<HttpConfig>::from_ref(state);
        if !is_json(request.headers()) {
            return Err(ApiError::content_type());
        }
        let packing = Packing::of(request.headers())?;
        let reading = PackedBody::read(request.into_body(), packing, http.max_body_bytes);
        let body = tokio::time::timeout(http.body_timeout, reading)
            .await
            .map_err(|_| ApiError::body_timeout())??;
        let app = Arc::<AppState>::from_ref(state);
        let body: T = super::json::read(&app, body).await?;
        body.ignored().into_iter().for_each(|i| state.tell(i));
        Ok(Self(body))
    }
}

/// The JSON body of a route that needs none: an empty object where nothing was sent.
#[derive(Debug)]
pub struct OptionalJsonBody(pub Value);

impl FromRequest<ApiState> for OptionalJsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let nothing = request.body().size_hint().exact() == Some(0);
        if nothing && !request.headers().contains_key(header::CONTENT_TYPE) {
            return Ok(Self(Value::Object(serde_json::Map::new())));
        }
        let JsonBody(body) = JsonBody::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// Who calls. The layer in `auth` put it there: a handler that is reached without it is a bug, and
/// answers 500 rather than anything else.
#[derive(Debug)]
pub struct Authenticated(pub Arc<Caller>);

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Arc<Caller>>().cloned();
        caller.map(Self).ok_or_else(ApiError::internal)
    }
}

/// A caller with `role`. The extractors that ask stand before the body and the parameters among a
/// handler's arguments, so that nothing is read for others.
async fn with_role<S: Sync>(
    parts: &mut Parts,
    state: &S,
    role: Role,
) -> Result<Arc<Caller>, ApiError> {
    let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
    caller.require(role)?;
    Ok(caller)
}

/// A caller with the role `inference`.
#[derive(Debug)]
pub struct ForInference(pub Arc<Caller>);

impl<S: Sync> FromRequestParts<S> for ForInference {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        with_role(parts, state, Role::Inference).await.map(Self)
    }
}

/// A caller with the role `feedback`.
#[derive(Debug)]
pub struct ForFeedback(pub Arc<Caller>);

impl<S: Sync> FromRequestParts<S> for ForFeedback {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        with_role(parts, state, Role::Feedback).await.map(Self)
    }
}

/// The operator: a caller with the role `admin` for the whole server.
#[derive(Debug)]
pub struct Admin;

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = with_role(parts, state, Role::Admin).await?;
        caller.require_operator()?;
        Ok(Self)
    }
}

/// When the request came, in milliseconds since 1970: the only time that the clock is read for it.
#[derive(Debug, Clone, Copy)]
pub struct Arrived(pub u64);

impl<S: Sync> FromRequestParts<S> for Arrived {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let arrived = parts.extensions.get::<Self>().copied();
        arrived.ok_or_else(ApiError::internal)
    }
}

/// When the request began, as its records will say. Stands before the body among a handler's arguments: a body may
/// take its time, and a person may be deleted meanwhile.
#[derive(Debug)]
pub struct Began(pub u64);

impl FromRequestParts<ApiState> for Began {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let Arrived(now) = Arrived::from_request_parts(parts, state).await?;
        Ok(Self(Arc::<AppState>::from_ref(state).begin(now)))
    }
}

/// The person that the header `X-User-Id` names.
#[derive(Debug)]
pub struct UserHeader(pub Option<UserId>);

impl<S: Sync> FromRequestParts<S> for UserHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let text = user_header(parts)?.unwrap_or_default();
        UserId::given(text).map(Self).map_err(invalid_header)
    }
}

/// The person that the header `X-User-Id` names, where something is recorded of them: a header that names nobody
/// is a mistake there.
#[derive(Debug)]
pub struct RecordedUserHeader(pub Option<UserId>);

impl<S: Sync> FromRequestParts<S> for RecordedUserHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let user = user_header(parts)?.map(UserId::new).transpose();
        user.map(Self).map_err(invalid_header)
    }
}

fn user_header(parts: &Parts) -> Result<Option<&str>, ApiError> {
    let mut values = parts.headers.get_all("x-user-id").iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(invalid_header(
            "the request has the header X-User-Id twice; send it once",
        ));
    }
    let text = first.map(|value| std::str::from_utf8(value.as_bytes()));
    let text = text.transpose();
    text.map_err(|_| invalid_header("the header X-User-Id is not UTF-8"))
}

fn invalid_header(problem: impl ToString) -> ApiError {
    ApiError::invalid("invalid_value", "X-User-Id", problem.to_string())
}

/// The parameters of the URL. axum's own extractor answers in plain text.
#[derive(Debug)]
pub struct QueryParameters(pub UrlQuery);

impl<S: Send + Sync> FromRequestParts<S> for QueryParameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(parameters) = read.map_err(|_| {
            ApiError::malformed_body("the parameters of the URL cannot be read".to_owned())
        })?;
        Ok(Self(UrlQuery::new(parameters)))
    }
}

/// The header `Idempotency-Key`.
#[derive(Debug)]
pub struct IdempotencyHeader(Option<IdempotencyKey>);

impl IdempotencyHeader {
    /// The request, where it has a key: what was asked on `route`, and for whom.
    ///
    /// # Errors
    /// See [`AppState::compute`].
    pub async fn request(
        self,
        state: &AppState,
        route: &'static str,
        person: Option<&UserId>,
        body: &Value,
    ) -> Result<Option<Idempotent>, ApiError> {
        let Some(key) = self.0 else {
            return Ok(None);
        };
        let asked = json!([route, person.map(UserId::as_str), body]);
        let digest = move || hex::encode(Sha256::digest(asked.to_string()));
        // How much it is was lost with the body's text; the way to another thread is nothing beside the write
        // to the disk that follows.
        let sha256 = state.compute(usize::MAX, digest).await?;
        Ok(Some(Idempotent { key, sha256 }))
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let name = "Idempotency-Key";
        let invalid = |message: String| ApiError::invalid("invalid_value", name, message);
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let (first, second) = (values.next(), values.next());
        if second.is_some() {
            return Err(invalid(format!(
                "the request has the header {name} twice; send it once"
            )));
        }
        let Some(value) = first else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or_default();
        let key = IdempotencyKey::new(text).map_err(|e| invalid(e.to_string()))?;
        Ok(Self(Some(key)))
    }
}
