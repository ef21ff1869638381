//! Bodies as JSON: what is long is read and written where it holds nobody up.

use axum::response::{IntoResponse, Response};
use axum::Json;
use serde::Serialize;
use serde_json::Value;

use super::error::ApiError;
use super::fields::Parsed;
use super::types::generation::Bounds;
use crate::app::answer::WholeAnswer;
use crate::app::state::AppState;

/// What a body can be read as.
pub trait FromBody: Sized + Send + 'static {
    /// Takes it apart and checks it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    fn from_body(body: Value, bounds: &Bounds) -> Parsed<Self>;
}

impl FromBody for Value {
    fn from_body(body: Value, _bounds: &Bounds) -> Parsed<Self> {
        Ok(body)
    }
}

/// Reads a body.
///
/// # Errors
/// No JSON, or not what `T` is.
pub async fn read<T: FromBody>(state: &AppState, bytes: Vec<u8>) -> Result<T, ApiError> {
    let (bounds, n) = (Bounds::from(state), bytes.len());
    let parse = move || {
        let body = serde_json::from_slice(&bytes).map_err(|error| malformed(&error))?;
        T::from_body(body, &bounds)
    };
    state.compute(n, parse).await?
}

/// An answer of so many bytes, more or less, that `body` makes.
///
/// # Errors
/// See [`AppState::compute`].
pub async fn respond<T: Serialize>(
    state: &AppState,
    bytes: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, ApiError> {
    let write = move || Json(body()).into_response();
    Ok(state.compute(bytes, write).await?)
}

/// What answers take as JSON, more or less.
pub fn bytes_of(answers: &[WholeAnswer]) -> usize {
    // A token with its text, its bytes and its log-probability.
    const TOKEN_BYTES: usize = 64;
    let tokens = |answer: &WholeAnswer| -> usize {
        let tokens = answer.tokens.iter().flatten();
        tokens.map(|t| 1 + t.top.len()).sum()
    };
    let bytes = |answer: &WholeAnswer| answer.text.len() + TOKEN_BYTES * tokens(answer);
    answers.iter().map(bytes).sum()
}

/// The place only: the text around it is the caller's.
fn malformed(error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    let what = if error.is_eof() {
        "ends too early"
    } else {
        "is not valid JSON"
    };
    ApiError::malformed_body(format!("the body {what} (line {line}, column {column})"))
}
