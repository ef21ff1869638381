//! Until when what a version has learned reaches: a person's deletion is compared with that, never with the
//! time of a publication, which says nothing about the age of what was published.

use std::collections::HashMap;
use std::str::FromStr;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use attune_ids::UserKey;

/// Everything that was learned is from then or before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "Written", from = "Written")]
pub enum DataUntil {
    /// Nobody knows: it may be older than any deletion.
    #[default]
    Unknown,
    /// Milliseconds since 1970, by the clock of the store that the data comes from.
    UnixMs(u64),
}

impl DataUntil {
    /// Whether what was learned of a person is from after they were deleted. A deletion of the same
    /// millisecond counts as the later of the two.
    pub fn is_after(self, deleted_unix_ms: u64) -> bool {
        matches!(self, Self::UnixMs(until) if until > deleted_unix_ms)
    }

    /// Whether nobody knows.
    pub fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

/// A text that is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMoment {
    /// It has another form.
    #[error("{0:?} is not a time: write 2026-11-01T00:00:00Z, or milliseconds since 1970")]
    Form(String),
    /// Nothing was recorded then.
    #[error("{0:?} is before 1970")]
    TooEarly(String),
}

impl FromStr for DataUntil {
    type Err = NoMoment;

    /// RFC 3339, or milliseconds since 1970.
    fn from_str(text: &str) -> Result<Self, NoMoment> {
        if let Ok(at) = text.parse() {
            return Ok(Self::UnixMs(at));
        }
        let form = |_| NoMoment::Form(text.chars().take(64).collect());
        let at = DateTime::parse_from_rfc3339(text).map_err(form)?;
        let early = |_| NoMoment::TooEarly(text.chars().take(64).collect());
        u64::try_from(at.timestamp_millis())
            .map(Self::UnixMs)
            .map_err(early)
    }
}

/// How a manifest says it.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "milliseconds since 1970, or \"unknown\"")]
enum Written {
    UnixMs(u64),
    Word(Word),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Unknown,
}

impl From<DataUntil> for Written {
    fn from(until: DataUntil) -> Self {
        match until {
            DataUntil::Unknown => Self::Word(Word::Unknown),
            DataUntil::UnixMs(at) => Self::UnixMs(at),
        }
    }
}

impl From<Written> for DataUntil {
    fn from(written: Written) -> Self {
        match written {
            Written::Word(Word::Unknown) => Self::Unknown,
            Written::UnixMs(at) => Self::UnixMs(at),
        }
    }
}

/// How far the data of each person reaches: for nearly all of them it is the same moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    usual: DataUntil,
    /// Whose differs: their data, or their rows, are from somewhere else.
    others: HashMap<UserKey, DataUntil>,
}

impl Reach {
    /// The same for everybody.
    pub fn of_all(usual: DataUntil) -> Self {
        Self {
            usual,
            others: HashMap::new(),
        }
    }

    /// That of `user` is `until`.
    pub fn set(&mut self, user: UserKey, until: DataUntil) {
        if until == self.usual {
            self.others.remove(&user);
        } else {
            self.others.insert(user, until);
        }
    }

    /// That of nearly everybody.
    pub fn usual(&self) -> DataUntil {
        self.usual
    }

    /// That of `user`.
    pub fn of(&self, user: &UserKey) -> DataUntil {
        self.exception(user).unwrap_or(self.usual)
    }

    /// That of `user`, where it is not the usual one.
    pub fn exception(&self, user: &UserKey) -> Option<DataUntil> {
        self.others.get(user).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_ids::{Tenant, UserId};

    #[test]
    fn what_is_unknown_is_before_every_deletion() {
        for deleted in [0, 1, u64::MAX] {
            assert!(!DataUntil::Unknown.is_after(deleted));
        }
        let until = DataUntil::UnixMs(10);
        assert!(until.is_after(9));
        assert!(!until.is_after(10), "the same moment is no proof");
        assert!(!until.is_after(11));
    }

    #[test]
    fn it_is_a_number_or_the_word() {
        for (until, text) in [
            (DataUntil::Unknown, "\"unknown\""),
            (DataUntil::UnixMs(7), "7"),
        ] {
            assert_eq!(serde_json::to_string(&until).unwrap(), text);
            assert_eq!(serde_json::from_str::<DataUntil>(text).unwrap(), until);
        }
        for wrong in ["-1", "1.5", "\"never\"", "null", "1e300"] {
            let error = serde_json::from_str::<DataUntil>(wrong).unwrap_err();
            assert!(
                error.to_string().contains("milliseconds since 1970"),
                "{wrong}: {error}"
            );
        }
    }

    #[test]
    fn only_what_differs_is_kept() {
        let user = |name: &str| UserKey {
            tenant: Tenant::default(),
            user: UserId::new(name).unwrap(),
        };
        let mut reach = Reach::of_all(DataUntil::UnixMs(5));
        reach.set(user("a"), DataUntil::Unknown);
        reach.set(user("b"), DataUntil::UnixMs(5));
        assert_eq!(reach.of(&user("a")), DataUntil::Unknown);
        assert_eq!(reach.of(&user("c")), DataUntil::UnixMs(5));
        assert_eq!(reach.exception(&user("b")), None);
        reach.set(user("a"), DataUntil::UnixMs(5));
        assert_eq!(reach.exception(&user("a")), None);
    }
}
