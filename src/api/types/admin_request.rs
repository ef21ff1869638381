//! Bodies of admin routes.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::fields::{self, Fields, Parsed};
use crate::app::admin::DecisionRecord;
use crate::app::versions::Expected;
use attune_ids::{AdapterVersion, Alias, VersionDigits};

/// Characters of a name in the bundle folder: what file systems take.
const MAX_NAME_CHARS: usize = 255;

/// Characters of the reason of a decision.
const MAX_REASON_CHARS: usize = 4096;

/// Bytes of the numbers of a decision.
const MAX_EVALUATION_BYTES: usize = 64 << 10;

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

/// The body of `POST /v1/admin/decisions`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DecisionRequest {
    /// The alias it is about.
    #[schema(max_length = 64, example = "attune")]
    pub alias: String,
    /// The version that the alias names, in full; null: none.
    #[schema(min_length = 64, max_length = 64)]
    pub current: Option<String>,
    /// The version that was made, in full; null: none was.
    #[schema(min_length = 64, max_length = 64)]
    pub candidate: Option<String>,
    /// Whether the alias shall name the candidate from now on. False without it.
    pub promoted: Option<bool>,
    /// Why, for people.
    #[schema(min_length = 1, max_length = 4096)]
    pub reason: String,
    /// SHA-256 of the snapshot that was learned from.
    #[schema(min_length = 64, max_length = 64)]
    pub snapshot: Option<String>,
    /// The numbers that were compared, at most 64 KiB.
    pub evaluation: Option<serde_json::Map<String, Value>>,
}

impl DecisionRequest {
    /// Reads and checks a body, of a decision that is taken at `now_unix_ms`.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value, now_unix_ms: u64) -> Parsed<DecisionRecord> {
        let mut fields = Fields::body(body)?;
        let alias = fields::string(fields.required("alias")?, "alias", 64)?;
        let alias = Alias::new(alias)
            .map_err(|e| ApiError::invalid("invalid_value", "alias", e.to_string()))?;
        let decision = DecisionRecord {
            id: DecisionRecord::new_id(now_unix_ms),
            created_unix_ms: now_unix_ms,
            alias,
            current: full_version(&mut fields, "current")?,
            candidate: full_version(&mut fields, "candidate")?,
            promoted: fields.boolean("promoted")?.unwrap_or(false),
            reason: fields::string(fields.required("reason")?, "reason", MAX_REASON_CHARS)?,
            snapshot: digest(&mut fields, "snapshot")?,
            evaluation: evaluation(&mut fields)?,
        };
        fields.finish()?;
        if decision.reason.trim().is_empty() {
            let message = "'reason' must say something";
            return Err(ApiError::invalid(
                "string_below_min_length",
                "reason",
                message,
            ));
        }
        if decision.promoted && decision.candidate.is_none() {
            let message = "'candidate' must name the version that is to be promoted";
            return Err(ApiError::invalid(
                "missing_required_parameter",
                "candidate",
                message,
            ));
        }
        Ok(decision)
    }
}

fn full_version(fields: &mut Fields, name: &str) -> Parsed<Option<AdapterVersion>> {
    let text = fields.string(name, 64)?;
    let checked = text.map(AdapterVersion::new).transpose();
    checked.map_err(|e| ApiError::invalid("invalid_value", name, e.to_string()))
}

fn digest(fields: &mut Fields, name: &str) -> Parsed<Option<String>> {
    let text = fields.string(name, 64)?;
    let is_one = |text: &String| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match text {
        Some(text) if !is_one(&text) => {
            let message = format!("'{name}' must be a SHA-256 in 64 hex digits");
            Err(ApiError::invalid("invalid_value", name, message))
        }
        text => Ok(text),
    }
}

fn evaluation(fields: &mut Fields) -> Parsed<Option<String>> {
    let name = "evaluation";
    match fields.take(name) {
        None => Ok(None),
        Some(value @ Value::Object(_)) => {
            let text = value.to_string();
            if text.len() > MAX_EVALUATION_BYTES {
                let message = format!("'{name}' must have at most {MAX_EVALUATION_BYTES} bytes");
                return Err(ApiError::invalid("string_above_max_length", name, message));
            }
            Ok(Some(text))
        }
        Some(other) => Err(fields::wrong_type(name, "an object", &other)),
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
