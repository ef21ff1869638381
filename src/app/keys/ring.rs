//! The keys that are accepted now.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::caller::Caller;
use super::file::{self, read, ApiKey, KeyFileError};

/// Why a key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRefused {
    /// No such key.
    Unknown,
    /// Its time is over.
    Expired,
}

/// The keys that are accepted now.
#[derive(Debug)]
pub struct KeyRing {
    source: Option<Source>,
    keys: RwLock<Arc<[ApiKey]>>,
    open: Option<Arc<Caller>>,
}

/// A key file, and what was read of it last.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// Held while the file is read, so that an older reading never replaces a newer one.
    read: Mutex<Option<Stamp>>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            inode: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok();
        let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let since = since.unwrap_or_default();
        Self {
            inode: (0, 0),
            length: metadata.len(),
            modified: (since.as_secs() as i64, i64::from(since.subsec_nanos())),
            changed: (0, 0),
        }
    }
}

impl KeyRing {
    /// No keys: everybody is [`Caller::open`]. Only for servers that listen on loopback.
    pub fn open() -> Self {
        Self {
            source: None,
            keys: RwLock::new(Arc::from([])),
            open: Some(Arc::new(Caller::open())),
        }
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn from_file(path: &Path) -> Result<Self, KeyFileError> {
        let ring = Self {
            source: Some(Source {
                path: path.to_owned(),
                read: Mutex::new(None),
            }),
            keys: RwLock::new(Arc::from([])),
            open: None,
        };
        match ring.reload()? {
            0 => Err(KeyFileError::Empty {
                path: path.to_owned(),
            }),
            _ => Ok(ring),
        }
    }

    /// Reads the key file again; on an error the old keys stay. A file that names no key is no error: the
    /// last one was revoked, and nobody gets in. Returns how many keys there are.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn reload(&self) -> Result<usize, KeyFileError> {
        let Some(source) = &self.source else {
            return Ok(0);
        };
        let mut last = source.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(&source.path, &mut last)
    }

    /// Reads the key file again if it is another one than at the last time; `None` if it is not.
    ///
    /// # Errors
    /// As [`reload`](Self::reload), once for each state of the file.
    pub fn refresh(&self) -> Option<Result<usize, KeyFileError>> {
        let source = self.source.as_ref()?;
        let mut last = source.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = fs::metadata(&source.path).ok();
        let now = now.as_ref().map(Stamp::of);
        if now == *last {
            return None;
        }
        // For a file that cannot be read; one that can has the stamp of what was read.
        *last = now;
        Some(self.read(&source.path, &mut last))
    }

    fn read(&self, path: &Path, last: &mut Option<Stamp>) -> Result<usize, KeyFileError> {
        let (keys, stamp) = read(path, Stamp::of)?;
        *last = Some(stamp);
        for warning in file::warnings(&keys) {
            tracing::warn!("{warning}");
        }
        let count = keys.len();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
        Ok(count)
    }

    /// Whether the keys come from a file.
    pub fn has_file(&self) -> bool {
        self.source.is_some()
    }

    /// The caller of a server without keys; `None` where a key is needed.
    pub fn open_caller(&self) -> Option<Arc<Caller>> {
        self.open.clone()
    }

    /// The caller that `token` belongs to. Compares hashes, each in constant time and all of them,
    /// so that the time tells nothing about a key.
    ///
    /// # Errors
    /// No key, or none any more.
    pub fn authenticate(&self, token: &str, now_unix_ms: u64) -> Result<Arc<Caller>, KeyRefused> {
        let keys = self
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for key in keys.iter() {
            if bool::from(key.sha256.ct_eq(&hash)) {
                found = Some(key);
            }
        }
        let key = found.ok_or(KeyRefused::Unknown)?;
        let over = key.expires_unix_ms.is_some_and(|end| end <= now_unix_ms);
        match over {
            true => Err(KeyRefused::Expired),
            false => Ok(key.caller.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;

    const SECRET: &str = "sk-0123456789abcdef";

    fn ring(json: &str) -> (tempfile::TempDir, Result<KeyRing, KeyFileError>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        fs::write(&path, json).unwrap();
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
        let a = ring.authenticate(SECRET, 0).unwrap();
        assert_eq!((a.name.as_str(), a.tenant.as_str()), ("a", "default"));
        assert!(a.require(Role::Inference).is_ok() && a.require(Role::Admin).is_err());
        let b = ring.authenticate("sk-another-secret-key", 0).unwrap();
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
            assert!(ring.authenticate(wrong, 0).is_err(), "{wrong:?}");
        }
        assert!(ring.open_caller().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_place_of_the_file_is_not_waited_for() {
        let (directory, ring) = ring(&format!(r#"{{"keys":[{{"name":"a","key":"{SECRET}"}}]}}"#));
        let (ring, path) = (ring.unwrap(), directory.path().join("keys.json"));
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        for error in [
            ring.refresh().unwrap().unwrap_err(),
            KeyRing::from_file(&path).unwrap_err(),
        ] {
            assert!(error.to_string().contains("regular file"), "{error}");
        }
        assert!(ring.authenticate(SECRET, 0).is_ok());
    }

    #[test]
    fn a_key_ends_at_its_moment() {
        let (_directory, ring) = ring(&format!(
            r#"{{"keys":[{{"name":"a","key":"{SECRET}","expires":"1970-01-02"}}]}}"#
        ));
        let ring = ring.unwrap();
        let day = 86_400_000;
        assert!(ring.authenticate(SECRET, day - 1).is_ok());
        assert_eq!(ring.authenticate(SECRET, day), Err(KeyRefused::Expired));
        assert_eq!(
            ring.authenticate("no-such-key", day),
            Err(KeyRefused::Unknown)
        );
    }

    #[test]
    fn bad_files_are_refused_without_quoting_a_key() {
        let key = |more: &str| {
            format!(r#"{{"keys":[{{"name":"a","key":"hunter2hunter2hunter2",{more}}}]}}"#)
        };
        for (json, expected) in [
            ("[]".to_owned(), "malformed"),
            (r#"{"keys":[]}"#.to_owned(), "names no key"),
            (r#"{"keys":[{"name":"a"}]}"#.to_owned(), "either `sha256` or `key`"),
            (r#"{"keys":[{"name":"a","key":"hunter2"}]}"#.to_owned(), "fewer than 16"),
            (r#"{"keys":[{"name":"a","sha256":"hunter2"}]}"#.to_owned(), "64 hex"),
            (key(r#""role":"x""#), "malformed"),
            (key(r#""roles":["root"]"#), "malformed"),
            (key(r#""users":"all""#), "malformed"),
            (key(r#""users":["b"],"user":"c""#), "not among"),
            (key(r#""tenant":"*""#), "role admin"),
            (key(r#""tenant":"a b""#), "malformed"),
            (key(r#""expires":"some day""#), "neither a date"),
            (
                r#"{"keys":[{"name":"a","key":"hunter2hunter2hunter2"},{"name":"b","key":"hunter2hunter2hunter2"}]}"#.to_owned(),
                "twice",
            ),
        ] {
            let error = ring(&json).1.unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_file_that_changes_is_read_once_and_one_that_is_broken_keeps_the_old_keys() {
        let (directory, ring) = ring(&format!(r#"{{"keys":[{{"name":"a","key":"{SECRET}"}}]}}"#));
        let ring = ring.unwrap();
        assert!(ring.refresh().is_none());
        // As `attune key` and careful editors do it: another file takes its place.
        let put = |json: &str| {
            let new = directory.path().join("new");
            fs::write(&new, json).unwrap();
            fs::rename(new, directory.path().join("keys.json")).unwrap();
        };
        put(r#"{"keys":["#);
        assert!(ring.refresh().unwrap().is_err());
        assert!(ring.refresh().is_none(), "said once");
        assert!(ring.reload().is_err());
        assert!(ring.authenticate(SECRET, 0).is_ok());
        put(r#"{"keys":[{"name":"b","key":"sk-a-new-secret-key"}]}"#);
        assert_eq!(ring.refresh().unwrap().unwrap(), 1);
        assert!(ring.refresh().is_none());
        assert!(ring.authenticate(SECRET, 0).is_err());
        assert!(ring.authenticate("sk-a-new-secret-key", 0).is_ok());
        fs::remove_file(directory.path().join("keys.json")).unwrap();
        assert!(ring.refresh().unwrap().is_err());
        assert!(ring.refresh().is_none());
        assert!(ring.authenticate("sk-a-new-secret-key", 0).is_ok());
        // The last key was revoked: that locks out, and opens nothing.
        put(r#"{"keys":[]}"#);
        assert_eq!(ring.refresh().unwrap().unwrap(), 0);
        assert!(ring.authenticate("sk-a-new-secret-key", 0).is_err());
        assert!(ring.open_caller().is_none());
    }
}
