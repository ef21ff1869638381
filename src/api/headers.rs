//! Headers and bodies of answers that say who answered.

use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderValue};

use crate::app::models::unix_seconds;
use crate::app::selection::AnsweredBy;

/// The header with the adapter version, `base` for the bare base model.
pub const ADAPTER_VERSION: &str = "x-attune-adapter-version";
/// The header with the kind of user row: `none`, `generic`, `user`.
pub const USER_ROW: &str = "x-attune-user-row";

/// What all parts of one answer share.
#[derive(Debug, Clone)]
pub struct AnswerHead {
    /// `chatcmpl-...` or `cmpl-...`
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Who answers.
    pub answered_by: AnsweredBy,
}

impl AnswerHead {
    /// A new id with `prefix`, now.
    pub fn new(prefix: &str, answered_by: AnsweredBy) -> Self {
        Self {
            id: format!("{prefix}{:032x}", rand::random::<u128>()),
            created: unix_seconds(SystemTime::now()),
            answered_by,
        }
    }

    /// The headers that name who answers.
    pub fn headers(&self) -> HeaderMap {
        let version = self.answered_by.version.as_ref();
        // 64 hex digits by the type's own check.
        let version = version.and_then(|v| HeaderValue::from_str(v.as_str()).ok());
        let base = HeaderValue::from_static("base");
        let row = HeaderValue::from_static(self.answered_by.row.as_str());
        let mut headers = HeaderMap::new();
        headers.insert(ADAPTER_VERSION, version.unwrap_or(base));
        headers.insert(USER_ROW, row);
        headers
    }
}
