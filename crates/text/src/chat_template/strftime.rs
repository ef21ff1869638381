//! Dates for templates: Python's `strftime`, English, UTC.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::format::{Item, Numeric, StrftimeItems};
use chrono::DateTime;
use minijinja::{Error, ErrorKind};

/// Formats `time`. A field that is not known is an error rather than a wrong date.
pub(super) fn strftime(format: &str, time: SystemTime) -> Result<String, Error> {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    write(format, seconds).ok_or_else(|| {
        let message = format!("strftime_now does not know all fields of {format:?}");
        Error::new(ErrorKind::InvalidOperation, message)
    })
}

fn write(format: &str, seconds: u64) -> Option<String> {
    let time = DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)?;
    let items = StrftimeItems::new(format).parse().ok()?;
    // Python's `%f` is in microseconds, chrono's in nanoseconds.
    let another = |item: &Item| matches!(item, Item::Numeric(Numeric::Nanosecond, _));
    if items.iter().any(another) {
        return None;
    }
    let mut text = String::new();
    write!(text, "{}", time.format_with_items(items.iter())).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(format: &str, seconds: u64) -> String {
        strftime(format, UNIX_EPOCH + Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Equivalent: `date -u -d @1709210096`.
        let leap_day = 1_709_210_096;
        assert_eq!(at("%d %b %Y", leap_day), "29 Feb 2024");
        assert_eq!(
            at("%A, %B %-d, %F %T", leap_day),
            "Thursday, February 29, 2024-02-29 12:34:56"
        );
        assert_eq!(at("%I:%M %p %j %y%%", leap_day), "12:34 PM 060 24%");
        assert_eq!(at("%F %a %H", 0), "1970-01-01 Thu 00");
        assert_eq!(at("%F", 4_102_444_799), "2099-12-31");
        assert_eq!(at("%-M", 3600), "0");
    }

    /// Equivalent: `date -u -d 2021-01-03 +%G-W%V-%u` and so on.
    #[test]
    fn weeks_are_those_of_the_calendar() {
        let day = 86_400;
        // 2021-01-03 is a Sunday, in the last week of 2020; 2024-12-30 is a Monday, in the first one of 2025.
        assert_eq!(at("%G-W%V-%u %U %W %w", 18_630 * day), "2020-W53-7 01 00 0");
        assert_eq!(at("%G-W%V-%u %U %W %w", 20_087 * day), "2025-W01-1 52 53 1");
        assert_eq!(
            at("%c|%D|%R|%r|%k|%l|%P|%C|%s%n%t", 3661),
            "Thu Jan  1 01:01:01 1970|01/01/70|01:01|01:01:01 AM| 1| 1|am|19|3661\n\t"
        );
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        assert!(strftime("%Q", UNIX_EPOCH).is_err());
        assert!(strftime("%H %f", UNIX_EPOCH).is_err());
        assert!(strftime("%", UNIX_EPOCH).is_err());
    }
}
