//! Headers and bodies of answers that say who answered.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::types::client_fields::Ignored;
use crate::app::selection::AnsweredBy;
use attune_ids::RecordId;

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

/// What all parts of one answer share.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    /// `chatcmpl-...` or `cmpl-...`
    pub id: RecordId,
    /// Seconds since 1970.
    pub created: u64,
    /// Who answers.
    pub answered_by: AnsweredBy,
}

impl AnswerHead {
    /// A new id with `prefix`, of a request that began at `began_unix_ms`.
    pub fn new(prefix: &str, answered_by: AnsweredBy, began_unix_ms: u64) -> Self {
        Self {
            id: RecordId::generate(prefix, began_unix_ms),
            created: began_unix_ms / 1000,
            answered_by,
        }
    }

    /// The headers that name who answers, and what of the request had no effect.
    pub fn headers(&self, ignored: &Ignored) -> HeaderMap {
        let version = self.answered_by.version.as_ref();
        // 64 hex digits by the type's own check.
        let version = version.and_then(|v| HeaderValue::from_str(v.as_str()).ok());
        let base = HeaderValue::from_static("base");
        let row = HeaderValue::from_static(self.answered_by.row.as_str());
        let mut headers = HeaderMap::new();
        headers.insert(ADAPTER_VERSION, version.unwrap_or(base));
        headers.insert(USER_ROW, row);
        headers.extend(ignored_header(ignored));
        headers
    }
}

/// The header that names what had no effect, if anything had none.
pub fn ignored_header(ignored: &Ignored) -> Option<(HeaderName, HeaderValue)> {
    let value = ignored.header()?;
    Some((HeaderName::from_static(IGNORED), value))
}
