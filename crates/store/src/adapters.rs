//! Adapter versions that were installed. The store knows their names, not their tensors.

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::trees::Edit;
use crate::{keys, Store, StoreError, SuccessorRecord};
use attune_ids::{AdapterVersion, Alias};

/// An installed adapter version. Key: (version).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterRecord {
    /// The hash of the bundle's content.
    pub version: AdapterVersion,
    /// What people call it, if it was given a name.
    pub name: Option<String>,
    /// When it was installed, in milliseconds since 1970.
    pub installed_unix_ms: u64,
    /// Where it came from.
    pub source: AdapterSource,
}

/// Where an adapter version came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterSource {
    /// The demo bundle of a fresh data directory.
    Demo,
    /// A PEFT checkpoint, through `attune adapter import`.
    Imported,
    /// A bundle published by `attune-train`.
    Trained,
    /// A bundle from elsewhere, through `attune adapter install`.
    Installed,
}

impl Record for AdapterRecord {
    const KIND: &'static str = "adapter";
    const VERSION: u32 = 1;
    const TREE: &'static str = "adapters";

    fn key(&self) -> Vec<u8> {
        key(&self.version)
    }
}

impl Store {
    /// Records `adapter` and returns the record that is now in the store: `adapter` itself, or the
    /// first one of that version, which is kept.
    ///
    /// # Errors
    /// The write or the flush fails; then the record may or may not be there after a restart.
    pub fn insert_adapter(&self, adapter: &AdapterRecord) -> Result<AdapterRecord, StoreError> {
        let edit = Edit::put(adapter)?;
        let writer = self.trees().writer()?;
        if let Some(earlier) = self.adapter(&adapter.version)? {
            // It may have been written by a thread whose flush is still under way.
            writer.commit(&[])?;
            return Ok(earlier);
        }
        // What comes back is no replaced version any more.
        let back = Edit::delete::<SuccessorRecord>(key(&adapter.version));
        writer.commit(&[edit, back])?;
        Ok(adapter.clone())
    }

    /// The record of `version`, if it is installed.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn adapter(&self, version: &AdapterVersion) -> Result<Option<AdapterRecord>, StoreError> {
        self.trees().record(&key(version))
    }

    /// All installed versions, by version.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn adapters(&self) -> Result<Vec<AdapterRecord>, StoreError> {
        self.trees().records().collect()
    }

    /// Removes the record of `version`; false if there was none.
    ///
    /// # Errors
    /// [`StoreError::AdapterInUse`] while an alias points at it; the write or the flush fails.
    pub fn remove_adapter(&self, version: &AdapterVersion) -> Result<bool, StoreError> {
        let writer = self.trees().writer()?;
        let mut aliases = self.aliases()?;
        aliases.retain(|alias| alias.version == *version);
        let mut users: Vec<Alias> = aliases.into_iter().map(|alias| alias.alias).collect();
        let canaries = self.canaries()?.into_iter();
        users.extend(canaries.filter(|c| c.version == *version).map(|c| c.alias));
        if !users.is_empty() {
            return Err(StoreError::AdapterInUse {
                version: version.clone(),
                aliases: users,
            });
        }
        if self.adapter(version)?.is_none() {
            writer.commit(&[])?;
            return Ok(false);
        }
        writer.commit(&[Edit::delete::<AdapterRecord>(key(version))])?;
        Ok(true)
    }
}

/// The key of the record of `version`.
pub(super) fn key(version: &AdapterVersion) -> Vec<u8> {
    keys::encode(&[version.as_str()])
}
