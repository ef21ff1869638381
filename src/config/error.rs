//! A setting that cannot be used, and the checks that many settings share.

use std::ops::RangeInclusive;

/// Bound of counts: beyond it a mistake is likelier than a wish.
pub(super) const MAX_COUNT: usize = 1 << 20;

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// The flag.
    setting: &'static str,
    problem: String,
}

pub(super) fn problem(setting: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError {
        setting,
        problem: problem.into(),
    }
}

pub(super) fn count(setting: &'static str, value: usize) -> Result<usize, ConfigError> {
    if (1..=MAX_COUNT).contains(&value) {
        Ok(value)
    } else {
        let text = format!("{value} is not in 1..={MAX_COUNT}");
        Err(problem(setting, text))
    }
}

pub(super) fn share(setting: &'static str, value: f64) -> Result<f64, ConfigError> {
    if (0.0..1.0).contains(&value) {
        Ok(value)
    } else {
        let text = format!("{value} must be at least 0 and below 1");
        Err(problem(setting, text))
    }
}

pub(super) fn within(
    setting: &'static str,
    value: f64,
    range: RangeInclusive<f64>,
) -> Result<f64, ConfigError> {
    if range.contains(&value) {
        Ok(value)
    } else {
        let text = format!("{value} is not in {}..={}", range.start(), range.end());
        Err(problem(setting, text))
    }
}
