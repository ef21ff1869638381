//! API keys: who calls, what they may do, and for whom they may act.
//!
//! The file is JSON:
//!
//! ```json
//! {"keys": [
//!   {"name": "chat-app", "key": "sk-...", "tenant": "acme", "roles": ["inference", "feedback"], "users": "*"},
//!   {"name": "kiosk", "sha256": "64 hex digits", "roles": ["inference"], "users": ["alice"], "user": "alice"}
//! ]}
//! ```
//!
//! `key` or its `sha256`; `tenant` is `default` where it is missing, `roles` is `["inference"]`,
//! `users` is `"*"`. `user` is the person that requests without a user are for. Only hashes stay in
//! memory, and nothing of a key is ever logged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::AppError;
use crate::ids::{Tenant, UserId};

/// The shortest key that is accepted in clear, in bytes.
pub const MIN_KEY_BYTES: usize = 16;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Chat, completions, models.
    Inference,
    /// Preferences.
    Feedback,
    /// Adapters and users.
    Admin,
}

impl Role {
    /// The word in the key file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Feedback => "feedback",
            Self::Admin => "admin",
        }
    }
}

/// For whom a key may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedUsers {
    /// Everybody of the tenant.
    Any,
    /// These.
    Only(BTreeSet<UserId>),
}

impl AllowedUsers {
    /// Whether `user` is among them.
    pub fn contains(&self, user: &UserId) -> bool {
        match self {
            Self::Any => true,
            Self::Only(users) => users.contains(user),
        }
    }
}

/// Who sent a request, as its API key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's name, for logs.
    pub name: String,
    /// Scopes user ids.
    pub tenant: Tenant,
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// For whom it may act.
    pub users: AllowedUsers,
    /// The person of requests that name none.
    pub bound_user: Option<UserId>,
}

impl Caller {
    /// The caller of a server without keys: may do everything, for everybody.
    pub fn open() -> Self {
        Self {
            name: "open".to_owned(),
            tenant: Tenant::default(),
            roles: [Role::Inference, Role::Feedback, Role::Admin].into(),
            users: AllowedUsers::Any,
            bound_user: None,
        }
    }

    /// Checks for a role.
    ///
    /// # Errors
    /// The key lacks it.
    pub fn require(&self, role: Role) -> Result<(), AppError> {
        if self.roles.contains(&role) {
            Ok(())
        } else {
            Err(AppError::RoleMissing(role.as_str()))
        }
    }
}

/// Why a key file cannot be used. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("the API key file {path} cannot be read: {source}")]
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
    /// No key at all: would lock everybody out, or open the server on reload.
    #[error("the API key file {path} names no key")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Debug)]
struct ApiKey {
    sha256: [u8; 32],
    caller: Arc<Caller>,
}

/// The keys that are accepted now.
#[derive(Debug)]
pub struct KeyRing {
    path: Option<PathBuf>,
    keys: RwLock<Arc<[ApiKey]>>,
    open: Option<Arc<Caller>>,
}

impl KeyRing {
    /// No keys: everybody is [`Caller::open`]. Only for servers that listen on loopback.
    pub fn open() -> Self {
        Self {
            path: None,
            keys: RwLock::new(Arc::from([])),
            open: Some(Arc::new(Caller::open())),
        }
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn from_file(path: &Path) -> Result<Self, KeyFileError> {
        Ok(Self {
            path: Some(path.to_owned()),
            keys: RwLock::new(read(path)?),
            open: None,
        })
    }

    /// Reads the key file again; on an error the old keys stay. Returns how many keys there are.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn reload(&self) -> Result<usize, KeyFileError> {
        let Some(path) = &self.path else {
            return Ok(0);
        };
        let keys = read(path)?;
        let count = keys.len();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(count)
    }

    /// The caller of a server without keys; `None` where a key is needed.
    pub fn open_caller(&self) -> Option<Arc<Caller>> {
        self.open.clone()
    }

    /// The caller that `token` belongs to. Compares hashes, each in constant time and all of them,
    /// so that the time tells nothing about a key.
    pub fn authenticate(&self, token: &str) -> Option<Arc<Caller>> {
        let keys = self
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for key in keys.iter() {
            if bool::from(key.sha256.ct_eq(&hash)) {
                found = Some(key.caller.clone());
            }
        }
        found
    }
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
    #[serde(default)]
    tenant: Tenant,
    #[serde(default = "inference_only")]
    roles: BTreeSet<Role>,
    #[serde(default)]
    users: UsersEntry,
    user: Option<UserId>,
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum UsersEntry {
    List(BTreeSet<UserId>),
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

fn read(path: &Path) -> Result<Arc<[ApiKey]>, KeyFileError> {
    let text = std::fs::read(path).map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    // serde_json's message may quote the file; only the place is passed on.
    let file: KeyFile = serde_json::from_slice(&text).map_err(|e| KeyFileError::Malformed {
        path: path.to_owned(),
        line: e.line(),
        column: e.column(),
    })?;
    if file.keys.is_empty() {
        return Err(KeyFileError::Empty {
            path: path.to_owned(),
        });
    }
    let mut keys: Vec<ApiKey> = Vec::with_capacity(file.keys.len());
    for entry in file.keys {
        let name = entry.name.clone();
        let key = check(entry).and_then(|key| {
            let known = keys.iter().any(|other| other.sha256 == key.sha256);
            if known {
                Err("it stands twice in the file")
            } else {
                Ok(key)
            }
        });
        keys.push(key.map_err(|reason| KeyFileError::Key {
            path: path.to_owned(),
            name,
            reason,
        })?);
    }
    Ok(keys.into())
}

fn check(entry: KeyEntry) -> Result<ApiKey, &'static str> {
    let sha256 = match (&entry.key, &entry.sha256) {
        (Some(key), None) if key.len() < MIN_KEY_BYTES => {
            return Err("`key` has fewer than 16 bytes; `openssl rand -hex 32` makes a good one")
        }
        (Some(key), None) => Sha256::digest(key.as_bytes()).into(),
        (None, Some(hex)) => {
            let mut hash = [0; 32];
            hex::decode_to_slice(hex, &mut hash).map_err(|_| "`sha256` is not 64 hex digits")?;
            hash
        }
        _ => return Err("give either `key` or `sha256`"),
    };
    let users = match entry.users {
        UsersEntry::List(users) => AllowedUsers::Only(users),
        UsersEntry::Word(Star::Any) | UsersEntry::Missing => AllowedUsers::Any,
    };
    if entry
        .user
        .as_ref()
        .is_some_and(|user| !users.contains(user))
    {
        return Err("`user` is not among `users`");
    }
    Ok(ApiKey {
        sha256,
        caller: Arc::new(Caller {
            name: entry.name,
            tenant: entry.tenant,
            roles: entry.roles,
            users,
            bound_user: entry.user,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-0123456789abcdef";

    fn ring(json: &str) -> (tempfile::TempDir, Result<KeyRing, KeyFileError>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        std::fs::write(&path, json).unwrap();
        let ring = KeyRing::from_file(&path);
        (directory, ring)
    }

    #[test]
    fn a_key_is_found_by_its_text_and_by_its_hash() {
        let hash = hex::encode(Sha256::digest("sk-another-secret-key"));
        let (_directory, ring) = ring(&format!(
            r#"{{"keys":[{{"name":"a","key":"{SECRET}"}},
                {{"name":"b","sha256":"{hash}","tenant":"acme","roles":["admin"],"users":["u"],"user":"u"}}]}}"#
        ));
        let ring = ring.unwrap();
        let a = ring.authenticate(SECRET).unwrap();
        assert_eq!((a.name.as_str(), a.tenant.as_str()), ("a", "default"));
        assert!(a.require(Role::Inference).is_ok() && a.require(Role::Admin).is_err());
        let b = ring.authenticate("sk-another-secret-key").unwrap();
        assert_eq!(
            (b.tenant.as_str(), b.bound_user.as_ref().unwrap().as_str()),
            ("acme", "u")
        );
        assert!(b.require(Role::Inference).is_err());
        for wrong in [
            "",
            "SK-0123456789ABCDEF",
            &SECRET[..18],
            &format!("{SECRET} "),
        ] {
            assert!(ring.authenticate(wrong).is_none(), "{wrong:?}");
        }
        assert!(ring.open_caller().is_none());
    }

    #[test]
    fn bad_files_are_refused_without_quoting_a_key() {
        for (json, expected) in [
            ("[]", "malformed"),
            (r#"{"keys":[]}"#, "names no key"),
            (r#"{"keys":[{"name":"a"}]}"#, "either `key` or `sha256`"),
            (
                r#"{"keys":[{"name":"a","key":"hunter2"}]}"#,
                "fewer than 16",
            ),
            (r#"{"keys":[{"name":"a","sha256":"hunter2"}]}"#, "64 hex"),
            (
                r#"{"keys":[{"name":"a","key":"hunter2hunter2hunter2","role":"x"}]}"#,
                "malformed",
            ),
            (
                r#"{"keys":[{"name":"a","key":"hunter2hunter2hunter2","roles":["root"]}]}"#,
                "malformed",
            ),
            (
                r#"{"keys":[{"name":"a","key":"hunter2hunter2hunter2","users":"all"}]}"#,
                "malformed",
            ),
            (
                r#"{"keys":[{"name":"a","key":"hunter2hunter2hunter2","users":["b"],"user":"c"}]}"#,
                "not among",
            ),
            (
                r#"{"keys":[{"name":"a","key":"hunter2hunter2hunter2"},{"name":"b","key":"hunter2hunter2hunter2"}]}"#,
                "twice",
            ),
        ] {
            let error = ring(json).1.unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_reload_that_fails_keeps_the_old_keys() {
        let (directory, ring) = ring(&format!(r#"{{"keys":[{{"name":"a","key":"{SECRET}"}}]}}"#));
        let ring = ring.unwrap();
        let path = directory.path().join("keys.json");
        std::fs::write(&path, r#"{"keys":[]}"#).unwrap();
        assert!(ring.reload().is_err());
        assert!(ring.authenticate(SECRET).is_some());
        std::fs::write(
            &path,
            r#"{"keys":[{"name":"b","key":"sk-a-new-secret-key"}]}"#,
        )
        .unwrap();
        assert_eq!(ring.reload().unwrap(), 1);
        assert!(ring.authenticate(SECRET).is_none());
        assert!(ring.authenticate("sk-a-new-secret-key").is_some());
    }
}
