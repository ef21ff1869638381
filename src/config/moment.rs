//! Moments in time, as people type them.

use std::time::{SystemTime, UNIX_EPOCH};

use super::error::{problem, ConfigError};
use attune_train::settings::DataUntil;

/// What was typed as `--data-until`; nothing: unknown.
///
/// # Errors
/// No moment, or one that is still to come: data cannot reach there, and deletions until then would not count.
pub fn data_until(typed: Option<&str>) -> Result<DataUntil, ConfigError> {
    let setting = "--data-until";
    let Some(text) = typed else {
        return Ok(DataUntil::Unknown);
    };
    let until: DataUntil = text
        .parse()
        .map_err(|error: attune_train::settings::NoMoment| problem(setting, error.to_string()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    if until.is_after(now) {
        let text = format!("{text} is in the future: give the moment when the data really ends");
        return Err(problem(setting, text));
    }
    Ok(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_the_future_is_refused() {
        for (text, at) in [
            ("1970-01-01T00:00:01Z", 1000),
            ("2026-11-01T01:00:00.250+01:00", 1_793_491_200_250),
            ("1793491200250", 1_793_491_200_250),
        ] {
            assert_eq!(data_until(Some(text)).unwrap(), DataUntil::UnixMs(at));
        }
        assert_eq!(data_until(None).unwrap(), DataUntil::Unknown);
        for (text, reason) in [
            ("yesterday", "2026-11-01T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("-5", "2026-11-01T00:00:00Z"),
            ("1960-01-01T00:00:00Z", "before 1970"),
            ("9999-01-01T00:00:00Z", "in the future"),
            ("18446744073709551615", "in the future"),
        ] {
            let error = data_until(Some(text)).unwrap_err().to_string();
            assert!(error.starts_with("--data-until: "), "{error}");
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
