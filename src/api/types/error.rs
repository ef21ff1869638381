//! The error envelope.

use serde::Serialize;
use utoipa::ToSchema;

/// Every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorResponse {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong. All four keys are always there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// For people.
    pub message: String,
    /// The kind: `invalid_request_error`, `authentication_error`, `permission_error`,
    /// `overloaded_error`, `timeout_error`, `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field at fault, such as `messages[0].role`.
    #[schema(required)]
    pub param: Option<String>,
    /// For programs, such as `context_length_exceeded`.
    #[schema(required)]
    pub code: Option<String>,
}
