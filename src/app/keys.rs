//! API keys: who calls, what they may do, and for whom they may act.
//!
//! Only hashes of keys stay in memory, and nothing of a key is ever logged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::AppError;
use super::key_file::read;
pub use super::key_file::KeyFileError;
use crate::ids::{Tenant, UserId};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Chat, completions, models.
    Inference,
    /// Preferences and ratings.
    Feedback,
    /// What is recorded of people: shown, set, exported, deleted.
    Users,
    /// The same, and what a server's operator does.
    Admin,
}

impl Role {
    /// The word in the key file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Feedback => "feedback",
            Self::Users => "users",
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
            roles: [Role::Inference, Role::Feedback, Role::Users, Role::Admin].into(),
            users: AllowedUsers::Any,
            bound_user: None,
        }
    }

    /// Whether it may see a record of `user`; what is nobody's is not for keys of single people.
    pub fn may_see(&self, user: Option<&UserId>) -> bool {
        match user {
            Some(user) => self.users.contains(user),
            None => self.users == AllowedUsers::Any,
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

/// A key of the file.
#[derive(Debug)]
pub(super) struct ApiKey {
    pub(super) sha256: [u8; 32],
    pub(super) caller: Arc<Caller>,
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
