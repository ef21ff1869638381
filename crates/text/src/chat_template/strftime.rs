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
    unix_seconds: u64,
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
            unix_seconds: seconds,
        }
    }

    /// Fields one after another.
    fn joined(&self, fields: &str) -> Option<String> {
        let mut text = String::new();
        let mut rest = fields.chars();
        while let Some(character) = rest.next() {
            match character {
                '%' => text += &self.field(rest.next()?)?,
                _ => text.push(character),
            }
        }
        Some(text)
    }

    /// 0 to 6 from Sunday with `first` 0, 1 to 7 from Monday with `first` 1.
    fn day_of_week(&self, first: u64) -> u64 {
        let from_sunday = (self.weekday as u64 + 4) % 7;
        if from_sunday < first {
            7
        } else {
            from_sunday
        }
    }

    /// The year and the week of ISO 8601: a week belongs to the year that has its Thursday.
    fn iso_week(&self) -> (u64, u64) {
        let thursday = self.day_of_year + 4;
        let Some(thursday) = thursday
            .checked_sub(self.day_of_week(1))
            .filter(|day| *day > 0)
        else {
            let last = days_in_year(self.year - 1);
            return (
                self.year - 1,
                (last + thursday - self.day_of_week(1)).div_ceil(7),
            );
        };
        match thursday.checked_sub(days_in_year(self.year)) {
            Some(past) if past > 0 => (self.year + 1, 1),
            _ => (self.year, thursday.div_ceil(7)),
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
            'D' | 'x' => format!(
                "{:02}/{:02}/{:02}",
                self.month + 1,
                self.day,
                self.year % 100
            ),
            'T' | 'X' => format!("{hour:02}:{minute:02}:{:02}", self.seconds % 60),
            'R' => format!("{hour:02}:{minute:02}"),
            'r' => format!("{} {half_day}", self.joined("%I:%M:%S")?),
            'c' => self.joined("%a %b %e %T %Y")?,
            'C' => format!("{:02}", self.year / 100),
            'k' => format!("{hour:2}"),
            'l' => format!("{:2}", (hour + 11) % 12 + 1),
            'P' => half_day.to_lowercase(),
            'u' => self.day_of_week(1).to_string(),
            'w' => self.day_of_week(0).to_string(),
            // Weeks that begin on Sundays, on Mondays, and those of ISO 8601.
            'U' => format!("{:02}", (self.day_of_year + 6 - self.day_of_week(0)) / 7),
            'W' => format!("{:02}", (self.day_of_year + 7 - self.day_of_week(1)) / 7),
            'V' => format!("{:02}", self.iso_week().1),
            'G' => self.iso_week().0.to_string(),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            's' => self.unix_seconds.to_string(),
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
        assert!(strftime("%", UNIX_EPOCH).is_err());
    }
}
