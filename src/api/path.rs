//! What paths name.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::error::ApiError;
use super::extract::Authenticated;
use crate::app::error::AppError;
use crate::app::{keep, people, preferences};
use attune_ids::{Alias, RecordId, UserId, UserKey, VersionDigits};

/// The only variable part of a path, as what it names. One that does not decode to UTF-8 names nothing.
#[derive(Debug)]
pub struct InPath<T>(pub T);

impl<T: FromPath, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let part = Path::<String>::from_request_parts(parts, state).await;
        let Path(part) = part.map_err(|_| ApiError::unknown_url())?;
        T::from_path(part).map(Self)
    }
}

/// What a part of a path can name.
pub trait FromPath: Sized {
    /// Reads the part.
    ///
    /// # Errors
    /// It names no such thing.
    fn from_path(part: String) -> Result<Self, ApiError>;
}

/// A model's id, which is any text.
impl FromPath for String {
    fn from_path(part: String) -> Result<Self, ApiError> {
        Ok(part)
    }
}

impl FromPath for UserId {
    fn from_path(part: String) -> Result<Self, ApiError> {
        Self::new(&part).map_err(|e| ApiError::invalid("invalid_value", "id", e.to_string()))
    }
}

impl FromPath for Alias {
    fn from_path(part: String) -> Result<Self, ApiError> {
        Self::new(part).map_err(|e| ApiError::invalid("invalid_value", "alias", e.to_string()))
    }
}

/// What is not a version's digits names no version.
impl FromPath for VersionDigits {
    fn from_path(part: String) -> Result<Self, ApiError> {
        let not_found = AppError::not_found("adapter", &part);
        Self::new(part).map_err(|_| not_found.into())
    }
}

/// The id of a kept completion.
#[derive(Debug)]
pub struct CompletionId(pub RecordId);

impl FromPath for CompletionId {
    fn from_path(part: String) -> Result<Self, ApiError> {
        let id = RecordId::new(&part).map_err(|_| keep::not_found(&part));
        Ok(Self(id?))
    }
}

/// The id of a preference.
#[derive(Debug)]
pub struct PreferenceId(pub RecordId);

impl FromPath for PreferenceId {
    fn from_path(part: String) -> Result<Self, ApiError> {
        let id = RecordId::new(&part).map_err(|_| preferences::not_found(&part));
        Ok(Self(id?))
    }
}

/// The person whom the path names, if the caller may ask for them.
#[derive(Debug)]
pub struct PersonOfPath(pub UserKey);

impl<S: Send + Sync> FromRequestParts<S> for PersonOfPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let InPath(id) = InPath::from_request_parts(parts, state).await?;
        Ok(Self(people::person_of(&caller, id)?))
    }
}
