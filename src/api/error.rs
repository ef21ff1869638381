//! Error answers: one envelope, one place that maps meanings to status codes.
//!
//! ```json
//! {"error": {"message": "...", "type": "invalid_request_error", "param": "messages[0].role", "code": "invalid_type"}}
//! ```
//!
//! What went wrong inside the server goes to the log; the caller gets a fixed sentence.

use std::time::Duration;

use axum::http::{header, HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::json::Json;
use super::types::error::{ErrorBody, ErrorResponse};
use crate::app::error::AppError;

const INVALID_REQUEST: &str = "invalid_request_error";
const SERVER: &str = "server_error";

/// When a client that met a full or a draining server may come again, unless the engine knows better.
const DRAIN_RETRY_AFTER: Duration = Duration::from_secs(5);

/// When memory for versions may be free again: answers that hold some have ended by then.
const MEMORY_RETRY_AFTER: Duration = Duration::from_secs(10);

/// When a client that met a full disk may come again.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(60);

/// When a client that found no place for its connection may come again.
const CROWD_RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error answer.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    body: Box<ErrorBody>,
    retry_after: Option<Duration>,
    close: bool,
    /// Clients that retry by themselves must not.
    never_again: bool,
    /// Says how bodies may be packed.
    takes_gzip: bool,
}

impl ApiError {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            body: Box::new(ErrorBody {
                message: message.into(),
                kind: kind.to_owned(),
                param: None,
                code: code.map(str::to_owned),
            }),
            retry_after: None,
            close: false,
            never_again: false,
            takes_gzip: false,
        }
    }

    fn about(mut self, param: impl Into<String>) -> Self {
        self.body.param = Some(param.into());
        self
    }

    fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    fn never_again(mut self) -> Self {
        self.never_again = true;
        self
    }

    fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// 400: a value that the caller can correct. `code` is one of OpenAI's, `param` the field's path.
    pub fn invalid(
        code: &'static str,
        param: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            INVALID_REQUEST,
            Some(code),
            message,
        )
        .about(param)
    }

    /// 400: the body is not a JSON object.
    pub fn malformed_body(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, None, message)
    }

    /// 415.
    pub fn content_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            INVALID_REQUEST,
            None,
            "the body must be JSON; send the header `Content-Type: application/json`",
        )
    }

    /// 415: the body is packed in another way than is read here.
    pub fn content_encoding() -> Self {
        let message = "this server unpacks bodies of `Content-Encoding: gzip` only; send gzip, or the body as it is";
        let mut error = Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            INVALID_REQUEST,
            None,
            message,
        );
        error.takes_gzip = true;
        error
    }

    /// 409: something is not as the caller takes it to be, and will not be so by itself.
    fn conflict(code: &'static str, message: String) -> Self {
        Self::new(StatusCode::CONFLICT, INVALID_REQUEST, Some(code), message).never_again()
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            INVALID_REQUEST,
            Some("request_too_large"),
            format!("the body is larger than {limit} bytes"),
        )
        .closing()
    }

    /// 408: the body did not arrive in time.
    pub fn body_timeout() -> Self {
        let message = "the body did not arrive in time";
        Self::timed_out(StatusCode::REQUEST_TIMEOUT, "request_timeout", message).closing()
    }

    fn timed_out(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, "timeout_error", Some(code), message)
    }

    /// 401.
    pub fn unauthorized(message: &'static str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            Some("invalid_api_key"),
            message,
        )
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "permission_error",
            Some("insufficient_permissions"),
            message,
        )
    }

    /// 403: a web page of another origin.
    pub fn foreign_origin() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "permission_error",
            Some("origin_not_allowed"),
            "without API keys this server answers no web page of another origin; start it with --cors-origin to \
             allow one",
        )
    }

    /// 404: no such route.
    pub fn unknown_url() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            INVALID_REQUEST,
            Some("unknown_url"),
            "there is no such route; GET /openapi.json lists all of them",
        )
    }

    /// 405. The router adds `Allow`.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            INVALID_REQUEST,
            Some("method_not_allowed"),
            "this route does not take that method; the Allow header lists those it takes",
        )
    }

    /// 503: the server drains.
    pub fn shutting_down() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            SERVER,
            Some("shutting_down"),
            "the server is shutting down",
        )
        .retry_after(DRAIN_RETRY_AFTER)
        .closing()
    }

    /// 503: too much waits.
    fn overloaded(code: &'static str, message: String, retry_after: Duration) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "overloaded_error", Some(code), message).retry_after(retry_after)
    }

    /// 429: one caller has too much under way.
    fn too_many(message: String, retry_after: Duration) -> Self {
        let (status, code) = (StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded"));
        Self::new(status, "rate_limit_error", code, message).retry_after(retry_after)
    }

    /// 503: there is no place for the connection.
    pub fn too_many_connections() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded_error",
            Some("too_many_connections"),
            "the server has no room for another connection; close connections that you do not need, and try again",
        )
        .retry_after(CROWD_RETRY_AFTER)
        .closing()
    }

    /// 503: a version that cannot be loaded, which will not be so by itself.
    fn adapter_unavailable(message: String) -> Self {
        let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "adapter_unavailable");
        let error = Self::new(status, SERVER, Some(code), message);
        error.about("model").never_again()
    }

    /// 507: the disk is nearly full.
    fn store_full() -> Self {
        let (status, code) = (StatusCode::INSUFFICIENT_STORAGE, Some("store_full"));
        let message =
            "the server's disk is nearly full, so that nothing is recorded; answers go on. \
                       Try again later: what is deleted, or a larger disk, makes room";
        Self::new(status, SERVER, code, message).retry_after(FULL_RETRY_AFTER)
    }

    /// 503: a part of the server is not ready; the text names it.
    pub fn not_ready(reason: impl Into<String>) -> Self {
        let code = Some("not_ready");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, code, reason)
            .retry_after(DRAIN_RETRY_AFTER)
    }

    /// 500. Says nothing of the inside.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            SERVER,
            Some("internal_error"),
            "the server failed on this request; its log has more under the id in the x-request-id header",
        )
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The envelope, as it stands in a body or in an event of a stream.
    pub fn envelope(&self) -> ErrorResponse {
        ErrorResponse {
            error: (*self.body).clone(),
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
            let name = HeaderName::from_static("retry-after-ms");
            headers.insert(header::RETRY_AFTER, millis.div_ceil(1000).into());
            headers.insert(name, millis.into());
        }
        if self.never_again {
            let name = HeaderName::from_static("x-should-retry");
            headers.insert(name, HeaderValue::from_static("false"));
        }
        if self.takes_gzip {
            let takes = HeaderValue::from_static("gzip, identity");
            headers.insert(header::ACCEPT_ENCODING, takes);
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        headers
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, self.headers(), Json(self.envelope())).into_response()
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        let message = error.to_string();
        match error {
            AppError::Invalid { field, message } => Self::invalid("invalid_value", field, message),
            AppError::ContextLength { field, .. } | AppError::TextTooLong { field, .. } => {
                Self::invalid("context_length_exceeded", field, message)
            }
            AppError::TooMuch(_) => {
                let code = Some("invalid_value");
                Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, code, message)
            }
            AppError::ModelNotFound(_) => {
                let (status, code) = (StatusCode::NOT_FOUND, Some("model_not_found"));
                Self::new(status, INVALID_REQUEST, code, message).about("model")
            }
            AppError::UserNotAllowed => Self::forbidden(message).about("user"),
            AppError::RoleMissing(_) | AppError::TenantOnly => Self::forbidden(message),
            AppError::TooMany { retry_after, .. } => Self::too_many(message, retry_after),
            AppError::Overloaded { retry_after } | AppError::Late { retry_after } => {
                Self::overloaded("engine_overloaded", message, retry_after)
            }
            AppError::ShuttingDown => Self::shutting_down(),
            AppError::Deadline(_) => {
                Self::timed_out(StatusCode::GATEWAY_TIMEOUT, "request_timeout", message)
            }
            AppError::Unread(_) => {
                Self::timed_out(StatusCode::REQUEST_TIMEOUT, "answer_not_read", message)
            }
            AppError::NotFound { what, .. } => {
                let mut error = Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, None, message);
                error.body.code = Some(format!("{what}_not_found"));
                error.about("id")
            }
            AppError::KeyReused => {
                let (status, code) = (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused");
                let error = Self::new(status, INVALID_REQUEST, Some(code), message);
                error.about("Idempotency-Key").never_again()
            }
            AppError::UserDeleted => Self::conflict("user_deleted", message).about("user"),
            AppError::Conflict(_) => Self::conflict("conflict", message),
            AppError::AdapterMemory(_) => {
                Self::overloaded("adapter_memory_full", message, MEMORY_RETRY_AFTER).about("model")
            }
            AppError::AdapterDamaged { version, reason } => {
                tracing::error!(%version, %reason, "an installed version cannot be loaded");
                Self::adapter_unavailable(format!(
                    "adapter version {version} is installed, but cannot be loaded; see the server's log"
                ))
            }
            AppError::AliasUnavailable { .. } => Self::adapter_unavailable(message),
            AppError::TenantFull(_) => {
                let (status, code) = (StatusCode::TOO_MANY_REQUESTS, "insufficient_quota");
                Self::new(status, "insufficient_quota", Some(code), message).never_again()
            }
            AppError::StoreFull(inner) => {
                tracing::warn!(reason = %inner, "a write was refused");
                Self::store_full()
            }
            AppError::StoreBusy { retry_after } => {
                Self::overloaded("store_busy", message, retry_after)
            }
            AppError::Store(inner) => {
                tracing::error!(reason = %inner, "the store failed");
                let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, Some("store_unavailable"));
                Self::new(
                    status,
                    SERVER,
                    code,
                    "the store cannot be used now; see the server's log",
                )
            }
            AppError::Internal(inner) => {
                tracing::error!(reason = %inner, "a request failed");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests;
