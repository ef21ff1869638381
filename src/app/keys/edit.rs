//! Keys are made and revoked in the key file.
//!
//! Entries that nobody asked about stay byte for byte and in their order. Edits of several processes come one
//! after the other (a lock on the file's directory), and the file is replaced whole, so that a server that reads
//! it meets the old one or the new one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::caller::Role;
use super::file::{parse, written, ApiKey, KeyFileError, MAX_FILE_BYTES};
use attune_files::replace::{self, Readers};
use attune_files::{self as regular, Links};

/// What keys begin with, so that people and scanners of leaked secrets know them.
const MARK: &str = "attune_";
/// Characters of a key that the file keeps, for people who look for it: 16 bits of 256.
const PREFIX: usize = MARK.len() + 4;
/// Characters of a key's name.
const MAX_NAME: usize = 64;

/// Why the key file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyEditError {
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The name is empty, too long, or not printable.
    #[error("a key's name has 1 to {MAX_NAME} printable characters")]
    Name,
    /// A key of that name is there.
    #[error("there is a key {0:?}; revoke it first, or choose another name")]
    Taken(String),
    /// Nothing has that name or prefix.
    #[error("no key has the name or the prefix {0:?}; `attune key list` shows them")]
    Unknown(String),
    /// Several have it.
    #[error(
        "{found} keys have the name or the prefix {which:?}; edit the file to tell them apart"
    )]
    Ambiguous {
        /// As asked for.
        which: String,
        /// How many.
        found: usize,
    },
    /// Somebody changed the file without the lock.
    #[error("{} was changed by somebody else meanwhile; try again", .0.display())]
    Changed(PathBuf),
}

/// A key that is to be made. Fields stand in the file in this order.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewKey {
    /// For logs and for `attune key revoke`.
    pub name: String,
    /// Owner of its user ids; `*`: an operator's.
    pub tenant: String,
    /// What it may do.
    pub roles: Vec<Role>,
    /// For whom it may act; everybody if there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// The person of requests that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// It is not accepted from then on: a date, or a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

#[derive(Serialize)]
struct NewEntry<'a> {
    #[serde(flatten)]
    key: &'a NewKey,
    sha256: String,
    prefix: &'a str,
    created: String,
}

/// The file, its entries as they are written.
#[derive(Deserialize)]
struct Entries {
    keys: Vec<Box<RawValue>>,
}

/// Makes a key, and the file if there is none. Returns the key, which nothing remembers.
///
/// # Errors
/// See [`KeyEditError`]; the file is as it was.
pub fn add(path: &Path, key: &NewKey, now_unix_ms: u64) -> Result<String, KeyEditError> {
    let printable = |c: char| !c.is_control();
    if !(1..=MAX_NAME).contains(&key.name.chars().count()) || !key.name.chars().all(printable) {
        return Err(KeyEditError::Name);
    }
    let secret = format!("{MARK}{}", hex::encode(rand::random::<[u8; 32]>()));
    let entry = NewEntry {
        key,
        sha256: hex::encode(Sha256::digest(&secret)),
        prefix: &secret[..PREFIX],
        created: written(now_unix_ms),
    };
    change(path, |known, entries| {
        if known.iter().any(|other| other.caller.name == key.name) {
            return Err(KeyEditError::Taken(key.name.clone()));
        }
        // Strings and lists of them are always JSON.
        let text = serde_json::to_string(&entry).unwrap_or_default();
        entries.push(text);
        Ok(())
    })?;
    Ok(secret)
}

/// Takes the key of that name or prefix out; its name.
///
/// # Errors
/// See [`KeyEditError`]; the file is as it was.
pub fn revoke(path: &Path, which: &str) -> Result<String, KeyEditError> {
    change(path, |known, entries| {
        let has = |key: &&ApiKey| key.caller.name == which || key.prefix.as_deref() == Some(which);
        let mut found = known.iter().filter(has);
        let (Some(one), None) = (found.next(), found.next()) else {
            let which = which.to_owned();
            return Err(match known.iter().filter(has).count() {
                0 => KeyEditError::Unknown(which),
                found => KeyEditError::Ambiguous { which, found },
            });
        };
        let at = known.iter().position(|key| key.sha256 == one.sha256);
        // It was found among them.
        entries.remove(at.unwrap_or_default());
        Ok(one.caller.name.clone())
    })
}

/// Changes the file under its directory's lock. `edit` sees the keys and their entries, in the same order; the
/// result must be a file that a server would take.
fn change<T>(
    path: &Path,
    edit: impl FnOnce(&[ApiKey], &mut Vec<String>) -> Result<T, KeyEditError>,
) -> Result<T, KeyEditError> {
    // A link stays one: what it leads to is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let parent = replace::parent(path);
    fs::create_dir_all(parent).map_err(KeyFileError::io(parent))?;
    let directory = File::open(parent).map_err(KeyFileError::io(parent))?;
    directory.lock().map_err(KeyFileError::io(parent))?;
    let before = current(path)?;
    let text = before.as_deref().unwrap_or(br#"{"keys": []}"#);
    let known = parse(path, text)?;
    // What `parse` has read is of this form.
    let entries: Entries = serde_json::from_slice(text).map_err(|e| KeyFileError::Malformed {
        path: path.to_owned(),
        line: e.line(),
        column: e.column(),
    })?;
    let mut entries: Vec<_> = entries
        .keys
        .iter()
        .map(|raw| raw.get().to_owned())
        .collect();
    let result = edit(&known, &mut entries)?;
    let text = match entries.is_empty() {
        true => "{\"keys\": []}\n".to_owned(),
        false => format!("{{\"keys\": [\n  {}\n]}}\n", entries.join(",\n  ")),
    };
    parse(path, text.as_bytes())?;
    if current(path)? != before {
        return Err(KeyEditError::Changed(path.clone()));
    }
    // A group that could read the old file still can: a server may run in it.
    replace::replace(path, Readers::AsBefore, text.as_bytes()).map_err(KeyFileError::io(path))?;
    Ok(result)
}

fn current(path: &Path) -> Result<Option<Vec<u8>>, KeyFileError> {
    match regular::read(path, MAX_FILE_BYTES, Links::Follow) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(KeyFileError::io(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::list;
    use super::super::KeyRing;
    use super::*;

    fn key(name: &str, roles: &[Role]) -> NewKey {
        NewKey {
            name: name.to_owned(),
            tenant: "acme".to_owned(),
            roles: roles.to_vec(),
            ..NewKey::default()
        }
    }

    #[test]
    fn a_key_is_made_listed_and_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let full = NewKey {
            users: vec!["alice".into(), "bob".into()],
            user: Some("bob".into()),
            expires: Some("1970-01-03".into()),
            ..key("app", &[Role::Inference, Role::Users])
        };
        let secret = add(&path, &full, 0).unwrap();
        assert!(
            secret.starts_with("attune_") && secret.len() == 71,
            "{secret}"
        );
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&secret[11..]), "only a prefix stays: {text}");
        let ring = KeyRing::from_file(&path).unwrap();
        let caller = ring.authenticate(&secret, 0).unwrap();
        assert_eq!(
            (caller.name.as_str(), caller.tenant.as_str()),
            ("app", "acme")
        );
        assert_eq!(caller.roles, [Role::Inference, Role::Users].into());
        assert_eq!(caller.bound_user.as_ref().unwrap().as_str(), "bob");
        assert!(ring.authenticate(&secret, 2 * 86_400_000).is_err());

        let other = add(&path, &key("ops", &[Role::Admin]), 0).unwrap();
        let table = list(&path, 2 * 86_400_000).unwrap();
        for part in [
            "app",
            "inference,users",
            &secret[..11],
            "expired",
            "2 named",
            "ops",
            "acme",
        ] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
        assert!(!table.contains(&secret[11..]), "{table}");
        assert_eq!(revoke(&path, &secret[..11]).unwrap(), "app");
        ring.reload().unwrap();
        assert!(ring.authenticate(&secret, 0).is_err() && ring.authenticate(&other, 0).is_ok());
        // The last one, too: a server that runs lets nobody in.
        assert_eq!(revoke(&path, "ops").unwrap(), "ops");
        assert_eq!(ring.reload().unwrap(), 0);
        assert!(ring.authenticate(&other, 0).is_err());
    }

    #[test]
    fn what_is_refused_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let said = |result: Result<String, KeyEditError>| result.unwrap_err().to_string();
        add(&path, &key("a", &[Role::Inference]), 0).unwrap();
        let before = fs::read(&path).unwrap();
        for (new, expected) in [
            (key("a", &[Role::Inference]), "there is a key \"a\""),
            (key("", &[]), "1 to 64"),
            (key("a\nb", &[]), "1 to 64"),
            (
                NewKey {
                    tenant: "*".into(),
                    ..key("b", &[Role::Users])
                },
                "role admin",
            ),
            (
                NewKey {
                    tenant: "a b".into(),
                    ..key("b", &[])
                },
                "malformed",
            ),
            (
                NewKey {
                    expires: Some("x".into()),
                    ..key("b", &[])
                },
                "neither a date",
            ),
            (
                NewKey {
                    user: Some("z".into()),
                    users: vec!["y".into()],
                    ..key("b", &[])
                },
                "not among",
            ),
        ] {
            let said = said(add(&path, &new, 0));
            assert!(said.contains(expected), "{said}");
        }
        assert!(said(revoke(&path, "b")).contains("attune key list"));
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::write(&path, "{").unwrap();
        assert!(said(revoke(&path, "a")).contains("malformed"));
        assert_eq!(fs::read(&path).unwrap(), b"{");
    }

    #[test]
    fn other_entries_stay_as_somebody_wrote_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let one = r#"{ "users": "*",   "name":"one", "key": "sk-0123456789abcdef" }"#;
        let two = r#"{"sha256": "0000000000000000000000000000000000000000000000000000000000000001", "name": "two"}"#;
        fs::write(&path, format!("{{\"keys\": [{one},\n\n{two}]}}")).unwrap();
        add(&path, &key("three", &[Role::Inference]), 0).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let places = [one, two, "three"].map(|part| text.find(part).unwrap());
        assert!(places.is_sorted(), "{text}");
        revoke(&path, "one").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("sk-") && text.contains(two), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_reads_it_and_a_link_stays_a_link() {
        use std::os::unix::fs::{symlink, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.json"), dir.path().join("keys.json"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        add(&real, &key("a", &[Role::Inference]), 0).unwrap();
        assert_eq!(mode(&real), 0o600);
        symlink("real.json", &link).unwrap();
        for (was, is) in [(0o644, 0o640), (0o600, 0o600)] {
            fs::set_permissions(&real, fs::Permissions::from_mode(was)).unwrap();
            add(&link, &key(&format!("b{was}"), &[Role::Inference]), 0).unwrap();
            assert_eq!(mode(&real), is);
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn edits_at_the_same_time_come_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = &dir.path().join("keys.json");
        std::thread::scope(|scope| {
            for n in 0..16 {
                scope.spawn(move || {
                    add(path, &key(&format!("k{n}"), &[Role::Inference]), 0).unwrap()
                });
            }
        });
        let table = list(path, 0).unwrap();
        assert_eq!(table.lines().count(), 17, "{table}");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }
}
