//! Dates for templates: Python's `strftime`, English, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// 1970-01-01 was the first of these.
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// Formats `time`. A field that is not known is an error rather than a wrong date.
pub(super) fn strftime(format: &str, time: SystemTime) -> Result<String, Error> {
    let date = Date::at(time);
    let mut text = String::with_capacity(format.len() * 2);
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let field = match rest.next() {
            // `%-d`: without padding.
            Some('-') => {
                let padded = rest.next().and_then(|field| date.field(field));
                padded.map(|text| match text.trim_start_matches(['0', ' ']) {
                    "" => "0".to_owned(),
                    bare => bare.to_owned(),
                })
            }
            Some(field) => date.field(field),
            None => None,
        };
        text += &field.ok_or_else(|| {
            let message = format!("strftime_now does not know all fields of {format:?}");
            Error::new(ErrorKind::InvalidOperation, message)
        })?;
    }
    Ok(text)
}

struct Date {
    year: u64,
    /// 0 to 11.
    month: usize,
    /// 1 to 31.
    day: u64,
    /// 0 is a Thursday.
    weekday: usize,
    /// 1 to 366.
    day_of_year: u64,
    /// Seconds since midnight.
    seconds: u64,
}

impl Date {
    fn at(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut days = seconds / 86_400;
        let weekday = usize::try_from(days % 7).unwrap_or(0);
        let mut year = 1970;
        while days >= days_in_year(year) {
            days -= days_in_year(year);
            year += 1;
        }
        let day_of_year = days + 1;
        let mut month = 0;
        while days >= days_in_month(year, month) {
            days -= days_in_month(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: days + 1,
            weekday,
            day_of_year,
            seconds: seconds % 86_400,
        }
    }

    fn field(&self, field: char) -> Option<String> {
        let (hour, minute) = (self.seconds / 3600, self.seconds / 60 % 60);
        let (month, weekday) = (MONTHS[self.month], DAYS[self.weekday]);
        let half_day = if hour < 12 { "AM" } else { "PM" };
        Some(match field {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year % 100),
            'm' => format!("{:02}", self.month + 1),
            'B' => month.to_owned(),
            'b' | 'h' => month[..3].to_owned(),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'j' => format!("{:03}", self.day_of_year),
            'A' => weekday.to_owned(),
            'a' => weekday[..3].to_owned(),
            'H' => format!("{hour:02}"),
            'I' => format!("{:02}", (hour + 11) % 12 + 1),
            'p' => half_day.to_owned(),
            'M' => format!("{minute:02}"),
            'S' => format!("{:02}", self.seconds % 60),
            'F' => format!("{}-{:02}-{:02}", self.year, self.month + 1, self.day),
            'T' => format!("{hour:02}:{minute:02}:{:02}", self.seconds % 60),
            'Z' => "UTC".to_owned(),
            'z' => "+0000".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

fn days_in_year(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn days_in_month(year: u64, month: usize) -> u64 {
    match month {
        1 => 28 + u64::from(is_leap(year)),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
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

    #[test]
    fn an_unknown_field_is_an_error() {
        assert!(strftime("%Q", UNIX_EPOCH).is_err());
        assert!(strftime("%", UNIX_EPOCH).is_err());
    }
}
