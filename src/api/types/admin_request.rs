//! Bodies of admin routes.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::fields::{self, Fields, Parsed};
use crate::app::versions::Expected;
use crate::ids::VersionDigits;

/// Characters of a name in the bundle folder: what file systems take.
const MAX_NAME_CHARS: usize = 255;

/// The body of `POST /v1/admin/adapters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct InstallRequest {
    /// The name of a directory in the server's bundle folder; no path.
    #[schema(max_length = 255, example = "run-7")]
    pub path: String,
}

impl InstallRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value) -> Parsed<Self> {
        let mut fields = Fields::body(body)?;
        let path = fields::string(fields.required("path")?, "path", MAX_NAME_CHARS)?;
        fields.finish()?;
        Ok(Self { path })
    }
}

/// The body of `POST /v1/admin/aliases/{alias}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromoteRequest {
    /// The version, or 8 or more of its first digits.
    #[schema(min_length = 8, max_length = 64)]
    pub version: String,
    /// Only if the alias names this version now; null: only if it names nothing. Without it, whatever
    /// the alias names.
    #[schema(min_length = 8, max_length = 64)]
    pub expected: Option<String>,
}

impl PromoteRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value) -> Parsed<(VersionDigits, Expected)> {
        let mut fields = Fields::body(body)?;
        let version = version(fields.required("version")?, "version")?;
        let expected = expected(&mut fields)?;
        fields.finish()?;
        Ok((version, expected))
    }
}

/// The body of `POST /v1/admin/aliases/{alias}/rollback`, if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RollbackRequest {
    /// Only if the alias names this version now.
    #[schema(min_length = 8, max_length = 64)]
    pub expected: Option<String>,
}

impl RollbackRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value) -> Parsed<Expected> {
        let mut fields = Fields::body(body)?;
        let expected = expected(&mut fields)?;
        fields.finish()?;
        Ok(expected)
    }
}

/// The body of `POST /v1/admin/aliases/{alias}/canary`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CanaryRequest {
    /// The version, or 8 or more of its first digits.
    #[schema(min_length = 8, max_length = 64)]
    pub version: String,
    /// How many users of a hundred it answers, in steps of 0.1.
    #[schema(minimum = 0.1, maximum = 100)]
    pub percent: f64,
}

impl CanaryRequest {
    /// Reads and checks a body: the version, and how many users of a thousand.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value) -> Parsed<(VersionDigits, u16)> {
        let mut fields = Fields::body(body)?;
        let version = version(fields.required("version")?, "version")?;
        let percent = fields.number("percent", 0.1..=100.0)?;
        let percent = percent.ok_or_else(|| fields.missing("percent"))?;
        fields.finish()?;
        let permille = (percent * 10.0).round();
        if (percent * 10.0 - permille).abs() > 1e-6 {
            let message = "'percent' must be in steps of 0.1";
            return Err(ApiError::invalid("invalid_value", "percent", message));
        }
        // 1 to 1000 by the range above.
        Ok((version, permille as u16))
    }
}

fn version(value: Value, path: &str) -> Parsed<VersionDigits> {
    let text = fields::string(value, path, 64)?;
    VersionDigits::new(text).map_err(|e| ApiError::invalid("invalid_value", path, e.to_string()))
}

/// Here null is a value: nothing is named.
fn expected(fields: &mut Fields) -> Parsed<Expected> {
    match fields.take_nullable("expected") {
        None => Ok(Expected::Anything),
        Some(Value::Null) => Ok(Expected::Nothing),
        Some(value) => version(value, "expected").map(Expected::Version),
    }
}
