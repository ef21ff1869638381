//! The seal: what sled's files were when the store was closed.
//!
//! sled recovers from a torn write by dropping the end of its log, and a file that was cut short
//! later looks just like that. So a store that closes writes down the length and the hash of each
//! file, and the next open compares before sled sees them. A store that was killed has no seal; its
//! recovery is rehearsed on a copy.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{sync_dir, write_atomically, Dir};
use crate::StoreError;

pub(super) const NAME: &str = "seal.json";

/// The content of `seal.json`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Seal {
    /// The schema of the records, so that a newer store is refused before its files are touched.
    pub(super) schema: u32,
    files: BTreeMap<String, FileSeal>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileSeal {
    bytes: u64,
    sha256: String,
}

impl Seal {
    /// Reads the seal; `None` if the store was not closed.
    pub(super) fn read(dir: &Dir) -> Result<Option<Seal>, StoreError> {
        let path = dir.path().join(NAME);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(StoreError::io("read", &path))?,
        };
        let seal = serde_json::from_slice(&text);
        seal.map(Some)
            .map_err(|error| dir.damaged(vec![format!("{NAME} cannot be read: {error}")]))
    }

    /// Describes the files as they are; nobody may have them open for writing.
    pub(super) fn of(dir: &Dir, schema: u32) -> Result<Seal, StoreError> {
        let mut files = BTreeMap::new();
        collect(&dir.sled(), "", &mut files)?;
        Ok(Seal { schema, files })
    }

    /// Writes the seal.
    pub(super) fn write(&self, dir: &Dir) -> Result<(), StoreError> {
        let path = dir.path().join(NAME);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| StoreError::io("write", &path)(error.into()))?;
        write_atomically(dir.path(), NAME, &text)
    }

    /// Removes the seal: the files are about to change.
    pub(super) fn remove(dir: &Dir) -> Result<(), StoreError> {
        let path = dir.path().join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("remove", &path)(error)),
            Ok(()) => sync_dir(dir.path()),
        }
    }

    /// How the files differ from the seal, a line each.
    pub(super) fn differences(&self, dir: &Dir) -> Result<Vec<String>, StoreError> {
        let now = Seal::of(dir, self.schema)?.files;
        let mut differences = Vec::new();
        for (name, then) in &self.files {
            match now.get(name) {
                None => differences.push(format!("sled/{name} is missing")),
                Some(now) if now.bytes != then.bytes => differences.push(format!(
                    "sled/{name} has {} bytes, it had {} when the store was closed",
                    now.bytes, then.bytes
                )),
                Some(now) if now != then => {
                    differences.push(format!(
                        "sled/{name} has changed since the store was closed"
                    ));
                }
                Some(_) => {}
            }
        }
        for name in now.keys().filter(|name| !self.files.contains_key(*name)) {
            differences.push(format!("sled/{name} appeared since the store was closed"));
        }
        Ok(differences)
    }
}

fn collect(
    dir: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, FileSeal>,
) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(StoreError::io("read", dir))? {
        let entry = entry.map_err(StoreError::io("read", dir))?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
            continue;
        }
        let mut hash = Sha256::new();
        let copied = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut hash));
        let bytes = copied.map_err(StoreError::io("read", &path))?;
        let sha256 = hex::encode(hash.finalize());
        files.insert(name, FileSeal { bytes, sha256 });
    }
    Ok(())
}
