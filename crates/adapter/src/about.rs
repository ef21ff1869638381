//! What a version's manifest says of it, read without its weights and without hashing anything: to show
//! versions that are not in memory.

use std::path::Path;

use serde::de::IgnoredAny;
use serde::Deserialize;

use super::bundle::Adapter;
use super::error::AdapterError;
use super::files::{read_regular, MANIFEST_FILE, MAX_MANIFEST_BYTES};
use super::manifest::{BaseModel, UserModelManifest, FORMAT};

/// What is known of a version that was not loaded. Nothing may be answered by it: the content was not
/// checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// A name for people.
    pub name: Option<String>,
    /// When it was made, seconds since 1970.
    pub created_unix: u64,
    /// SHA-256 of the base model that it adapts.
    pub base_sha256: String,
    /// People with rows of their own.
    pub users: usize,
    /// T_u: rows of one person; 0 without a user model.
    pub rows: usize,
}

/// The parts of a manifest that are shown. Elements of lists are counted, not kept.
#[derive(Deserialize)]
struct Head {
    format: u64,
    name: Option<String>,
    created_unix: u64,
    base: BaseModel,
    user_model: Option<UserModelManifest>,
    #[serde(default)]
    users: Vec<IgnoredAny>,
}

impl About {
    /// Reads the manifest of the bundle in `dir`.
    ///
    /// # Errors
    /// A file that is not there, or is no manifest.
    pub fn read(dir: &Path) -> Result<Self, AdapterError> {
        let bytes = read_regular(&dir.join(MANIFEST_FILE), MAX_MANIFEST_BYTES)?;
        let head: Head =
            serde_json::from_slice(&bytes).map_err(|e| AdapterError::Manifest(e.to_string()))?;
        if head.format != u64::from(FORMAT) {
            return Err(AdapterError::Format {
                found: head.format,
                supported: FORMAT,
            });
        }
        Ok(Self {
            name: head.name,
            created_unix: head.created_unix,
            base_sha256: head.base.sha256,
            users: head.users.len(),
            rows: head.user_model.map_or(0, |model| model.n_user_tokens),
        })
    }

    /// What it is of a version in memory, which was made for the base model with the hash
    /// `base_sha256`.
    pub fn of(adapter: &Adapter, base_sha256: &str) -> Self {
        let people = adapter.people.as_ref();
        Self {
            name: adapter.name.clone(),
            created_unix: adapter.created_unix,
            base_sha256: base_sha256.to_owned(),
            users: people.map_or(0, |people| people.len()),
            rows: people.map_or(0, |people| people.model().n_user_tokens()),
        }
    }
}
