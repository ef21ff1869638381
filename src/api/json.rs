//! Bodies as JSON: what is long is read and written where it holds nobody up.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{header, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::body::PackedBody;
use super::error::ApiError;
use super::fields::Parsed;
use super::types::client_fields::Ignored;
use super::types::generation::Bounds;
use crate::app::answer::WholeAnswer;
use crate::app::state::AppState;
use attune_json as line_breaks;

/// A body of JSON in which clients that split text into lines find none to split at ([`line_breaks`]), as axum's
/// own would have.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], bytes(&self.0)).into_response()
    }
}

/// `value` as the data of an event: one line, whoever counts them.
pub fn text<T: Serialize>(value: &T) -> String {
    // JSON is UTF-8, and so it stays.
    String::from_utf8(bytes(value)).unwrap_or_default()
}

fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    // Wire types hold strings, numbers and lists of them only; those always serialise.
    let json = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
    match line_breaks::escaped(&json) {
        Cow::Borrowed(_) => json,
        Cow::Owned(escaped) => escaped,
    }
}

/// What a body can be read as.
pub trait FromBody: Sized + Send + 'static {
    /// Takes it apart and checks it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    fn from_body(body: Value, bounds: &Bounds<'_>) -> Parsed<Self>;

    /// What it has that changes nothing; `None` where such fields are not looked for.
    fn ignored(&self) -> Option<&Ignored> {
        None
    }
}

impl FromBody for Value {
    fn from_body(body: Value, _bounds: &Bounds<'_>) -> Parsed<Self> {
        Ok(body)
    }
}

/// Reads a body.
///
/// # Errors
/// Not what it says how it is packed, no JSON, or not what `T` is.
pub async fn read<T: FromBody>(state: &Arc<AppState>, body: PackedBody) -> Result<T, ApiError> {
    let (shared, most) = (state.clone(), body.most());
    let parse = move || {
        let bytes = body.unpack()?;
        let body = serde_json::from_slice(without_mark(&bytes)?).map_err(|e| malformed(&e))?;
        T::from_body(body, &Bounds::from(&*shared))
    };
    state.compute(most, parse).await?
}

/// The text behind a byte order mark, which some programs write in front of UTF-8.
///
/// # Errors
/// What is no UTF-8 from its first bytes on.
fn without_mark(bytes: &[u8]) -> Parsed<&[u8]> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let message = "the body begins like a text in UTF-16; send JSON in UTF-8";
        return Err(ApiError::malformed_body(message));
    }
    if bytes.starts_with(b"\x1f\x8b") {
        let message = "the body is packed with gzip; say so with `Content-Encoding: gzip`";
        return Err(ApiError::malformed_body(message));
    }
    Ok(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
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
