//! Health answers.

use serde::Serialize;
use utoipa::ToSchema;

/// The server can do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: &'static str,
}
