//! Health answers.

use serde::Serialize;
use utoipa::ToSchema;

/// The server can do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: &'static str,
    /// Only of `/readyz`, and only while the store takes no writes: why. Answers are made all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<&'static str>,
    /// Only of `/readyz`, and only while there are any: how many aliases name a version that cannot be loaded.
    /// All other models answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable_aliases: Option<usize>,
}
