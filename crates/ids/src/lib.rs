//! Identifiers. Each is a newtype that can only hold a checked value.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// The longest user id, in characters (OpenAI's bound for `safety_identifier`).
pub const MAX_USER_ID_CHARS: usize = 64;

/// The tenant of a server that runs without API keys.
pub const DEFAULT_TENANT: &str = "default";

/// Why a string is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The string is empty.
    #[error("{what} must not be empty")]
    Empty {
        /// The kind of identifier.
        what: &'static str,
    },
    /// The string is longer than the bound.
    #[error("{what} must be at most {max} characters, got {got}")]
    TooLong {
        /// The kind of identifier.
        what: &'static str,
        /// The bound, in characters.
        max: usize,
        /// The length of the string, in characters.
        got: usize,
    },
    /// The string has a character that this kind of identifier does not allow.
    #[error("{what} {value:?} is malformed: {expected}")]
    Malformed {
        /// The kind of identifier.
        what: &'static str,
        /// The string.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
}

/// Who owns an API key; user ids are scoped by it. 1 to 64 of `a-z A-Z 0-9 _ - .`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(String);

/// A person, as the chat app names them: 1 to 64 characters of any text. White space around an id is no part of it,
/// wherever it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

/// A person of a tenant: the key under which user rows and records are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserKey {
    /// The tenant of the API key.
    pub tenant: Tenant,
    /// The id inside that tenant.
    pub user: UserId,
}

/// The name of an immutable adapter version: the SHA-256 of its content, 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdapterVersion(String);

/// The first digits of an adapter version, 8 to 64 of them: what people and scripts write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionDigits(String);

/// The name of an alias, for example `attune`. 1 to 64 of `a-z A-Z 0-9 _ - .`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Alias(String);

/// The name of a record: a prefix that says what it is, and 32 hex digits that begin with the time,
/// so that ids sort as their records were made. 1 to 64 of `a-z A-Z 0-9 _ - .`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordId(String);

/// What a caller sends so that a repeated request is done once. 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

fn check_word(what: &'static str, value: &str) -> Result<(), IdError> {
    check_length(what, value, 64)?;
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if value.chars().all(ok) {
        Ok(())
    } else {
        Err(IdError::Malformed {
            what,
            value: value.to_owned(),
            expected: "use letters, digits, '_', '-' and '.'",
        })
    }
}

fn check_length(what: &'static str, value: &str, max: usize) -> Result<(), IdError> {
    let got = value.chars().count();
    if got == 0 {
        Err(IdError::Empty { what })
    } else if got > max {
        Err(IdError::TooLong { what, max, got })
    } else {
        Ok(())
    }
}

impl Tenant {
    /// Checks `value`.
    ///
    /// # Errors
    /// Empty, longer than 64, or a character outside `a-z A-Z 0-9 _ - .`.
    pub fn new(value: impl Into<String>) -> Result<Self, IdError> {
        let value = value.into();
        check_word("tenant", &value)?;
        Ok(Self(value))
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self(DEFAULT_TENANT.to_owned())
    }
}

impl UserId {
    /// The person whom `text` names.
    ///
    /// # Errors
    /// Nothing but white space, or longer than [`MAX_USER_ID_CHARS`].
    pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
        let id = text.as_ref().trim();
        check_length("user", id, MAX_USER_ID_CHARS)?;
        Ok(Self(id.to_owned()))
    }

    /// The same where nobody need be named: nothing but white space names nobody.
    ///
    /// # Errors
    /// Longer than [`MAX_USER_ID_CHARS`].
    pub fn given(text: &str) -> Result<Option<Self>, IdError> {
        let names = !text.trim().is_empty();
        names.then(|| Self::new(text)).transpose()
    }
}

impl AdapterVersion {
    /// Checks `value`.
    ///
    /// # Errors
    /// Anything but 64 lower-case hex digits.
    pub fn new(value: impl Into<String>) -> Result<Self, IdError> {
        let value = value.into();
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if value.len() == 64 && value.bytes().all(hex) {
            Ok(Self(value))
        } else {
            Err(IdError::Malformed {
                what: "adapter version",
                value,
                expected: "use the 64 hex digits that `attune adapter list` prints",
            })
        }
    }

    /// The name of content with this SHA-256.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(hex::encode(digest))
    }

    /// The first 12 hex digits: enough for people to tell versions apart.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl VersionDigits {
    /// How few digits may name a version.
    pub const MIN: usize = 8;

    /// Checks `value`.
    ///
    /// # Errors
    /// Anything but 8 to 64 lower-case hex digits.
    pub fn new(value: impl Into<String>) -> Result<Self, IdError> {
        let value = value.into();
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if (Self::MIN..=64).contains(&value.len()) && value.bytes().all(hex) {
            Ok(Self(value))
        } else {
            Err(IdError::Malformed {
                what: "adapter version",
                value: value.chars().take(128).collect(),
                expected: "use its 64 hex digits, or 8 or more of the first ones",
            })
        }
    }

    /// Whether `version` begins so.
    pub fn begin(&self, version: &AdapterVersion) -> bool {
        version.as_str().starts_with(&self.0)
    }
}

impl fmt::Display for VersionDigits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Alias {
    /// Checks `value`.
    ///
    /// # Errors
    /// Empty, longer than 64, or a character outside `a-z A-Z 0-9 _ - .`.
    pub fn new(value: impl Into<String>) -> Result<Self, IdError> {
        let value = value.into();
        check_word("alias", &value)?;
        Ok(Self(value))
    }
}

impl RecordId {
    /// Checks `value`.
    ///
    /// # Errors
    /// Empty, longer than 64, or a character outside `a-z A-Z 0-9 _ - .`.
    pub fn new(value: impl Into<String>) -> Result<Self, IdError> {
        let value = value.into();
        check_word("id", &value)?;
        Ok(Self(value))
    }

    /// An id that nothing has: `prefix`, 12 hex digits of milliseconds since 1970, 4 that count, 16 of
    /// chance. `prefix` is a short word. Ids of one process sort as they were made, and above those of
    /// [`Self::keep_below`], also if the clock is set back: time stands still in them then.
    pub fn generate(prefix: &str, now_unix_ms: u64) -> Self {
        let mut last = LAST_ID.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now_unix_ms.min(MAX_ID_TIME);
        let (time, count) = match now > last.0 {
            true => (now, 0),
            false => after(*last),
        };
        *last = (time, count);
        let chance = rand::random::<u64>();
        Self(format!("{prefix}{time:012x}{count:04x}{chance:016x}"))
    }

    /// Makes all ids that this process generates from now on greater than this one. One that was not
    /// generated changes nothing.
    pub fn keep_below(&self) {
        let Some(made) = self.made() else { return };
        let mut last = LAST_ID.lock().unwrap_or_else(PoisonError::into_inner);
        *last = (*last).max(made);
    }

    /// When it was generated, in milliseconds since 1970; `None` if it was not generated.
    pub fn made_unix_ms(&self) -> Option<u64> {
        self.made().map(|(time, _)| time)
    }

    /// Time and count of an id that was generated.
    fn made(&self) -> Option<(u64, u16)> {
        let start = self.0.len().checked_sub(32)?;
        let digits = self.0.get(start..)?;
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if !digits.bytes().all(hex) {
            return None;
        }
        let time = u64::from_str_radix(&digits[..12], 16).ok()?;
        Some((time, u16::from_str_radix(&digits[12..16], 16).ok()?))
    }
}

/// The greatest time that an id can say.
const MAX_ID_TIME: u64 = (1 << 48) - 1;

/// Time and count of the last id that was generated, or of a greater one that is kept.
static LAST_ID: Mutex<(u64, u16)> = Mutex::new((0, 0));

fn after((time, count): (u64, u16)) -> (u64, u16) {
    match count.checked_add(1) {
        Some(count) => (time, count),
        None => (time.saturating_add(1).min(MAX_ID_TIME), 0),
    }
}

impl IdempotencyKey {
    /// Checks `value`.
    ///
    /// # Errors
    /// Empty, longer than 255, or a character that is not visible ASCII.
    pub fn new(value: impl Into<String>) -> Result<Self, IdError> {
        let (value, what) = (value.into(), "idempotency key");
        check_length(what, &value, 255)?;
        if !value.chars().all(|c| c.is_ascii_graphic()) {
            let expected = "use visible ASCII characters";
            return Err(IdError::Malformed {
                what,
                value,
                expected,
            });
        }
        Ok(Self(value))
    }
}

macro_rules! string_newtype {
    ($($name:ident),*) => {$(
        impl $name {
            /// The checked string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(value: String) -> Result<Self, IdError> {
                Self::new(value)
            }
        }
        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                Self::new(value)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    )*};
}
string_newtype!(
    Tenant,
    UserId,
    AdapterVersion,
    Alias,
    RecordId,
    IdempotencyKey
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_users_id_is_no_part_of_it() {
        let alice = UserId::new("alice").unwrap();
        for text in [
            "alice",
            " alice",
            "alice\t\r\n",
            "\u{a0}\u{3000}alice\u{2028}\u{85}",
        ] {
            assert_eq!(UserId::new(text), Ok(alice.clone()), "{text:?}");
            assert_eq!(UserId::given(text), Ok(Some(alice.clone())), "{text:?}");
            // As serde reads it.
            assert_eq!(UserId::try_from(text.to_owned()), Ok(alice.clone()));
            assert_eq!(text.parse(), Ok(alice.clone()), "{text:?}");
        }
        assert_eq!(UserId::new("a b").unwrap().as_str(), "a b");
        for nobody in ["", " ", "\t\u{2029}"] {
            assert_eq!(UserId::given(nobody), Ok(None));
            let empty = IdError::Empty { what: "user" };
            assert_eq!(UserId::new(nobody), Err(empty));
        }
        let long = format!(" {} ", "x".repeat(64));
        assert!(UserId::new(&long).is_ok());
        assert!(UserId::given(&long.replace('x', "xx")).is_err());
    }

    #[test]
    fn ids_sort_as_they_were_made_whatever_the_clock_does() {
        // Other tests make ids meanwhile: they only come between.
        let clock = |n: usize| [9, 7, 7, 8, 1_700_000_000_000][n % 5];
        let ids = (0..200_000).map(|n| RecordId::generate("x_", clock(n)));
        let ids: Vec<RecordId> = ids.collect();
        let wrong = ids.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(wrong, None);
        assert!(ids.iter().all(|id| id.as_str().len() == 2 + 32));
    }

    #[test]
    fn ids_go_on_from_those_that_are_kept() {
        let time = LAST_ID.lock().unwrap().0 + 86_400_000;
        let kept = RecordId(format!("pref_{time:012x}{:04x}{:016x}", 7, u64::MAX));
        kept.keep_below();
        let next = RecordId::generate("pref_", 5);
        assert!(next > kept, "{next} {kept}");
        let long = format!("pref_{}", "z".repeat(32));
        for not_made in ["pref_1", "chatcmpl-x", "dec_", &long] {
            assert_eq!(RecordId::new(not_made).unwrap().made(), None);
        }
    }
}
