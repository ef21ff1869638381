//! Headers that say who answered, and how that went.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::types::client_fields::Ignored;
use crate::app::answering::AnswerHead;
use crate::app::store_health::StoreState;

/// The header with the adapter version, `base` for the bare base model.
pub const ADAPTER_VERSION: &str = "x-attune-adapter-version";
/// The header with the kind of user row: `none`, `generic`, `user`.
pub const USER_ROW: &str = "x-attune-user-row";

/// The header of an answer that was to be kept: whether it was.
pub const KEPT: &str = "x-attune-kept";

/// The header of a chat answer that was made while the store takes no writes: why it takes none.
pub const STORE: &str = "x-attune-store";

/// The header that names fields of the request which changed nothing.
pub const IGNORED: &str = "x-attune-ignored";

/// The headers that name who answers, and what of the request had no effect.
pub fn answer_headers(head: &AnswerHead, ignored: &Ignored) -> HeaderMap {
    let version = head.answered_by.version.as_ref();
    // 64 hex digits by the type's own check.
    let version = version.and_then(|v| HeaderValue::from_str(v.as_str()).ok());
    let base = HeaderValue::from_static("base");
    let row = HeaderValue::from_static(head.answered_by.row.as_str());
    let mut headers = HeaderMap::new();
    headers.insert(ADAPTER_VERSION, version.unwrap_or(base));
    headers.insert(USER_ROW, row);
    headers.extend(ignored_header(ignored));
    headers
}

/// The header that says why the store takes no writes, while it takes none.
pub fn store_header(store: StoreState) -> Option<(HeaderName, HeaderValue)> {
    let value = HeaderValue::from_static(store.as_str());
    (store != StoreState::Writable).then_some((HeaderName::from_static(STORE), value))
}

/// The header that names what had no effect, if anything had none.
pub fn ignored_header(ignored: &Ignored) -> Option<(HeaderName, HeaderValue)> {
    let value = ignored.header()?;
    Some((HeaderName::from_static(IGNORED), value))
}
