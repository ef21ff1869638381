//! Range checks whose errors name the scenario file and the field.

use std::path::PathBuf;
use std::time::Duration;

use super::ScenarioError;

/// Hard bounds: a slip of the pen in a scenario must not become an endless run.
pub struct Limits {
    /// Measured requests per level.
    pub requests: usize,
    /// Length of a level.
    pub duration: Duration,
    /// Clients, or unanswered requests, at a time.
    pub in_flight: usize,
    /// Tokens of one prompt or one answer.
    pub tokens: usize,
    /// Users in a pool.
    pub users: usize,
}

/// The bounds that [`super::resolve()`] enforces.
pub const LIMITS: Limits = Limits {
    requests: 1_000_000,
    duration: Duration::from_secs(6 * 3600),
    in_flight: 4096,
    tokens: 131_072,
    users: 10_000_000,
};

/// Makes errors that name the file.
pub(crate) struct Check {
    pub(crate) file: PathBuf,
}

impl Check {
    pub(crate) fn duration(
        &self,
        field: &str,
        given: Option<&str>,
        default: &str,
    ) -> Result<Duration, ScenarioError> {
        let text = given.unwrap_or(default);
        humantime::parse_duration(text).map_err(|error| {
            self.field(
                field,
                format!("{text:?} is not a duration ({error}); write e.g. \"30s\""),
            )
        })
    }

    pub(crate) fn range<T: PartialOrd + std::fmt::Display + Copy>(
        &self,
        field: &str,
        value: T,
        low: T,
        high: T,
    ) -> Result<T, ScenarioError> {
        // Written so that NaN fails.
        if value >= low && value <= high {
            return Ok(value);
        }
        Err(self.field(field, format!("{value} is not between {low} and {high}")))
    }

    pub(crate) fn distinct<T: PartialEq + std::fmt::Display>(
        &self,
        field: &str,
        values: &[T],
    ) -> Result<(), ScenarioError> {
        for (position, value) in values.iter().enumerate() {
            if values[..position].contains(value) {
                return Err(self.field(field, format!("{value} occurs twice")));
            }
        }
        Ok(())
    }

    pub(crate) fn not_empty(&self, field: &str, len: usize) -> Result<(), ScenarioError> {
        if len == 0 {
            return Err(self.field(field, "empty; give at least one".into()));
        }
        Ok(())
    }

    pub(crate) fn field(&self, field: &str, problem: String) -> ScenarioError {
        ScenarioError::Field {
            file: self.file.clone(),
            field: field.to_owned(),
            problem,
        }
    }
}

/// A duration that prints as seconds.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(crate) struct Seconds(pub(crate) Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}
