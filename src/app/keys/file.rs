//! The file that names the API keys.
//!
//! The file is JSON; `attune key new` writes it, and so may people:
//!
//! ```json
//! {"keys": [
//!   {"name": "chat-app", "sha256": "64 hex digits", "tenant": "acme", "roles": ["inference", "feedback", "users"]},
//!   {"name": "kiosk", "sha256": "64 hex digits", "users": ["alice"], "user": "alice", "expires": "2027-01-31"},
//!   {"name": "ops", "sha256": "64 hex digits", "tenant": "*", "roles": ["admin"]}
//! ]}
//! ```
//!
//! `sha256` is the key's hash; a `key` in clear still does, with a warning. `tenant` is `default` where it is
//! missing, `roles` is `["inference"]`, `users` is `"*"`. `user` is the person that requests without a user
//! are for. The role `admin` reaches as far as `tenant` says: `"*"` is the whole server. So does no tenant at
//! all, which older files mean by it, with a warning.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::caller::{AllowedUsers, Caller, Reach, Role};
use attune_files::{self as regular, Links};
use attune_ids::{IdError, Tenant, UserId};

/// The shortest key that is accepted in clear, in bytes.
pub const MIN_KEY_BYTES: usize = 16;

/// Bytes of a key file; some fifty thousand keys.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;

/// Why a key file cannot be used. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("the API key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file does not have the form that this module describes.
    #[error("the API key file {path} is malformed at line {line}, column {column}; docs/api.md shows its form")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// A key that cannot be used.
    #[error("the API key file {path}: key {name:?}: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// The key's name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// No key at all: a server would lock everybody out.
    #[error("the API key file {path} names no key; `attune key new` makes one")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFileError {
    /// For `map_err`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// A key of the file.
#[derive(Debug)]
pub(super) struct ApiKey {
    pub(super) sha256: [u8; 32],
    pub(super) caller: Arc<Caller>,
    /// It is not accepted from then on, in milliseconds since 1970.
    pub(super) expires_unix_ms: Option<u64>,
    /// Its first characters, for people who look for it.
    pub(super) prefix: Option<String>,
    /// Whether the file has the key itself.
    pub(super) in_clear: bool,
    /// Whether its entry says whose it is.
    pub(super) tenant_stated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    key: Option<String>,
    sha256: Option<String>,
    prefix: Option<String>,
    tenant: Option<TenantEntry>,
    #[serde(default = "inference_only")]
    roles: BTreeSet<Role>,
    #[serde(default)]
    users: UsersEntry,
    user: Option<Named>,
    /// A note for people.
    #[serde(rename = "created")]
    _created: Option<String>,
    expires: Option<String>,
}

/// A person, written as in requests: white space around the id does not count.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Named(UserId);

impl TryFrom<String> for Named {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        UserId::new(&text).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TenantEntry {
    Server(Star),
    One(Tenant),
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum UsersEntry {
    List(Vec<Named>),
    Word(Star),
    #[default]
    #[serde(skip)]
    Missing,
}

#[derive(Deserialize)]
enum Star {
    #[serde(rename = "*")]
    Any,
}

fn inference_only() -> BTreeSet<Role> {
    [Role::Inference].into()
}

/// Reads and checks a key file, which may name no key. `look` sees the file that was read, before it was read.
///
/// # Errors
/// See [`KeyFileError`].
pub(super) fn read<T>(
    path: &Path,
    look: impl FnOnce(&Metadata) -> T,
) -> Result<(Vec<ApiKey>, T), KeyFileError> {
    let (file, _) = regular::open(path, Links::Follow).map_err(KeyFileError::io(path))?;
    let seen = look(&file.metadata().map_err(KeyFileError::io(path))?);
    let text = regular::read_open(file, MAX_FILE_BYTES).map_err(KeyFileError::io(path))?;
    Ok((parse(path, &text)?, seen))
}

/// Checks a key file's text; `path` is for messages.
///
/// # Errors
/// See [`KeyFileError`].
pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Vec<ApiKey>, KeyFileError> {
    // serde_json's message may quote the file; only the place is passed on.
    let file: KeyFile = serde_json::from_slice(text).map_err(|e| KeyFileError::Malformed {
        path: path.to_owned(),
        line: e.line(),
        column: e.column(),
    })?;
    let mut hashes = BTreeSet::new();
    let mut keys: Vec<ApiKey> = Vec::with_capacity(file.keys.len());
    for entry in file.keys {
        let name = entry.name.clone();
        let key = check(entry).and_then(|key| match hashes.insert(key.sha256) {
            true => Ok(key),
            false => Err("it is in the file twice"),
        });
        keys.push(key.map_err(|reason| KeyFileError::Key {
            path: path.to_owned(),
            name,
            reason,
        })?);
    }
    Ok(keys)
}

fn check(entry: KeyEntry) -> Result<ApiKey, &'static str> {
    let sha256 = match (&entry.key, &entry.sha256) {
        (Some(key), None) if key.len() < MIN_KEY_BYTES => {
            return Err("`key` has fewer than 16 bytes; `attune key new` makes a good one")
        }
        (Some(key), None) => Sha256::digest(key.as_bytes()).into(),
        (None, Some(hex)) => {
            let mut hash = [0; 32];
            hex::decode_to_slice(hex, &mut hash).map_err(|_| "`sha256` is not 64 hex digits")?;
            hash
        }
        _ => return Err("give either `sha256` or `key`"),
    };
    let users = match entry.users {
        UsersEntry::List(users) => {
            AllowedUsers::Only(users.into_iter().map(|Named(user)| user).collect())
        }
        UsersEntry::Word(Star::Any) | UsersEntry::Missing => AllowedUsers::Any,
    };
    let bound_user = entry.user.map(|Named(user)| user);
    if bound_user
        .as_ref()
        .is_some_and(|user| !users.contains(user))
    {
        return Err("`user` is not among `users`");
    }
    let expires_unix_ms = entry.expires.as_deref().map(moment).transpose()?;
    let tenant_stated = entry.tenant.is_some();
    let (tenant, reach) = match entry.tenant {
        Some(TenantEntry::One(tenant)) => (tenant, Reach::Tenant),
        Some(TenantEntry::Server(Star::Any)) if !entry.roles.contains(&Role::Admin) => {
            return Err("`tenant` \"*\" is for keys with the role admin; name one tenant")
        }
        Some(TenantEntry::Server(Star::Any)) | None => (Tenant::default(), Reach::Server),
    };
    Ok(ApiKey {
        sha256,
        expires_unix_ms,
        prefix: entry.prefix,
        in_clear: entry.key.is_some(),
        tenant_stated,
        caller: Arc::new(Caller {
            name: entry.name,
            tenant,
            roles: entry.roles,
            reach,
            users,
            bound_user,
        }),
    })
}

/// What the operator should do about `keys`, although they work.
pub(super) fn warnings(keys: &[ApiKey]) -> Vec<String> {
    let names = |which: &dyn Fn(&ApiKey) -> bool| {
        let names = keys.iter().filter(|key| which(key));
        let names: Vec<_> = names.map(|key| format!("{:?}", key.caller.name)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let in_clear = names(&|key| key.in_clear).map(|names| {
        format!("the API key file holds the keys {names} in clear; `attune key new` makes keys of which it holds hashes")
    });
    let unstated = |key: &ApiKey| key.caller.roles.contains(&Role::Admin) && !key.tenant_stated;
    let unstated = names(&unstated).map(|names| {
        format!("the keys {names} have the role admin and no tenant, so they manage the whole server; write \"tenant\": \"*\" if that is meant, or name the tenant")
    });
    in_clear.into_iter().chain(unstated).collect()
}

/// Milliseconds since 1970 of a date (its first moment, UTC) or of a time as RFC 3339 writes it.
///
/// # Errors
/// Neither, or before 1970.
pub fn moment(text: &str) -> Result<u64, &'static str> {
    let date = || {
        let date = text.parse::<NaiveDate>().ok()?;
        Some(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis())
    };
    let time = || Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis());
    date()
        .or_else(time)
        .and_then(|millis| u64::try_from(millis).ok())
        .ok_or("`expires` is neither a date (2027-01-31) nor a time (2027-01-31T12:00:00Z)")
}

/// A time for the file and for people, as RFC 3339 writes it, to the second.
pub fn written(unix_ms: u64) -> String {
    let millis = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(millis).map_or_else(
        || "never".to_owned(),
        |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_or_a_time() {
        // date -u -d 2027-01-31 +%s
        assert_eq!(moment("2027-01-31"), Ok(1_801_353_600_000));
        assert_eq!(moment("2027-01-31T00:00:00Z"), Ok(1_801_353_600_000));
        assert_eq!(moment("2027-01-31T02:00:00+02:00"), Ok(1_801_353_600_000));
        assert_eq!(written(1_801_353_600_000), "2027-01-31T00:00:00Z");
        for bad in [
            "",
            "soon",
            "2027",
            "2027-13-01",
            "1969-12-31",
            "2027-01-31T00:00:00",
        ] {
            assert!(moment(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_older_files_mean_still_works_with_a_warning() {
        let path = Path::new("keys.json");
        let text = br#"{"keys":[
            {"name":"old","key":"sk-0123456789abcdef","roles":["admin"]},
            {"name":"ours","sha256":"0000000000000000000000000000000000000000000000000000000000000001","roles":["admin"],"tenant":"acme"},
            {"name":"ops","sha256":"0000000000000000000000000000000000000000000000000000000000000002","roles":["admin"],"tenant":"*"}]}"#;
        let keys = parse(path, text).unwrap();
        let reach: Vec<_> = keys.iter().map(|key| key.caller.reach).collect();
        assert_eq!(reach, [Reach::Server, Reach::Tenant, Reach::Server]);
        let warnings = warnings(&keys);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("\"old\" in clear"), "{}", warnings[0]);
        assert!(
            warnings[1].contains("\"old\" have the role admin"),
            "{}",
            warnings[1]
        );
        let all = warnings.concat();
        assert!(!all.contains("ops") && !all.contains("sk-0"), "{all}");
    }
}
