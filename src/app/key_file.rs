//! The file that names the API keys.
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
//! `users` is `"*"`. `user` is the person that requests without a user are for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::keys::{AllowedUsers, ApiKey, Caller, Role};
use crate::ids::{Tenant, UserId};

/// The shortest key that is accepted in clear, in bytes.
pub const MIN_KEY_BYTES: usize = 16;

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

/// Reads and checks a key file.
///
/// # Errors
/// See [`KeyFileError`].
pub(super) fn read(path: &Path) -> Result<Arc<[ApiKey]>, KeyFileError> {
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
