//! An id for each request, in the answer's headers and in the log.

use std::time::Instant;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;

/// The header, in both directions.
pub const HEADER: &str = "x-request-id";
const MAX_BYTES: usize = 128;

/// The id of a request: the caller's own if it is sane, else a new one.
#[derive(Debug, Clone)]
pub struct RequestId(pub HeaderValue);

/// Gives the request its id and the answer the headers that OpenAI's clients show.
pub async fn layer(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = incoming(&request).unwrap_or_else(fresh);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let headers = response.headers_mut();
    headers.insert(HEADER, id);
    headers.insert("openai-processing-ms", millis.into());
    headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
    response
}

fn incoming(request: &Request) -> Option<HeaderValue> {
    let value = request.headers().get(HEADER)?;
    let bytes = value.as_bytes();
    let sane = (1..=MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    sane.then(|| value.clone())
}

fn fresh() -> HeaderValue {
    // Hex digits are always a header value; the fallback only keeps the compiler content.
    HeaderValue::from_str(&format!("req_{:032x}", rand::random::<u128>()))
        .unwrap_or(HeaderValue::from_static("req_unknown"))
}
