//! Successors: versions that were replaced by others, so that their names still lead somewhere. A version
//! that knew people who were deleted is replaced by one without them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::trees::{Edit, Trees};
use crate::{adapters, keys, AdapterRecord, AliasRecord, CanaryRecord, Store, StoreError};
use attune_ids::AdapterVersion;

/// A version that was replaced. Key: (version).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuccessorRecord {
    /// The version that is no more.
    pub version: AdapterVersion,
    /// The version in its place, which was not replaced itself. It may have been removed since.
    pub successor: AdapterVersion,
    /// When it was replaced, in milliseconds since 1970.
    pub replaced_unix_ms: u64,
}

impl Record for SuccessorRecord {
    const KIND: &'static str = "successor";
    const VERSION: u32 = 1;
    const TREE: &'static str = "successors";

    fn key(&self) -> Vec<u8> {
        key(&self.version)
    }

    fn problem(&self, trees: &Trees) -> Result<Option<String>, StoreError> {
        if trees.get(Self::TREE, &key(&self.successor))?.is_some() {
            let next = &self.successor;
            return Ok(Some(format!("leads to {next}, which was replaced itself")));
        }
        let old = trees.get(AdapterRecord::TREE, &adapters::key(&self.version))?;
        Ok(old.map(|_| "was replaced, but is installed".to_owned()))
    }
}

impl Store {
    /// Puts `new` in the place of the version `old`, in one transaction: `new` is installed (the record of
    /// one that is installed already stays), aliases and canaries name it where they named `old`, whatever
    /// led to `old` leads to `new`, and `old` is not installed any more. `old` need not be installed: then
    /// only its name leads to `new` from now on.
    ///
    /// # Errors
    /// A record cannot be read, or the write fails: nothing was replaced, or a restart tells.
    pub fn replace_adapter(
        &self,
        old: &AdapterVersion,
        new: &AdapterRecord,
        now_unix_ms: u64,
    ) -> Result<(), StoreError> {
        let successor = |version: &AdapterVersion| SuccessorRecord {
            version: version.clone(),
            successor: new.version.clone(),
            replaced_unix_ms: now_unix_ms,
        };
        let writer = self.trees().writer()?;
        let mut edits = vec![Edit::put(&successor(old))?];
        // What comes back is no replaced version any more.
        edits.push(Edit::delete::<SuccessorRecord>(key(&new.version)));
        if self.adapter(&new.version)?.is_none() {
            edits.push(Edit::put(new)?);
        }
        if self.adapter(old)?.is_some() {
            edits.push(Edit::delete::<AdapterRecord>(adapters::key(old)));
        }
        for earlier in self.successor_records()? {
            if earlier.successor == *old && earlier.version != new.version {
                edits.push(Edit::put(&successor(&earlier.version))?);
            }
        }
        edits.extend(self.renamed(old, &new.version)?);
        writer.commit(&edits)
    }

    /// By the name of each version that was replaced, the version in its place.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn successors(&self) -> Result<BTreeMap<AdapterVersion, AdapterVersion>, StoreError> {
        let records = self.successor_records()?.into_iter();
        Ok(records.map(|r| (r.version, r.successor)).collect())
    }

    /// The version in the place of `version`, which is itself if it was not replaced.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn successor_of(&self, version: &AdapterVersion) -> Result<AdapterVersion, StoreError> {
        let found: Option<SuccessorRecord> = self.trees().record(&key(version))?;
        Ok(found.map_or_else(|| version.clone(), |record| record.successor))
    }

    fn successor_records(&self) -> Result<Vec<SuccessorRecord>, StoreError> {
        self.trees().records().collect()
    }

    /// Aliases and canaries with `new` in the place of `old`, where that changes them. Nobody promoted
    /// anything: times and counts stay.
    fn renamed(&self, old: &AdapterVersion, new: &AdapterVersion) -> Result<Vec<Edit>, StoreError> {
        let mut edits = Vec::new();
        let follow = |version: AdapterVersion| {
            if version == *old {
                new.clone()
            } else {
                version
            }
        };
        let mut current = BTreeMap::new();
        for alias in self.aliases()? {
            let mut moved = alias.clone();
            moved.version = follow(moved.version);
            moved.previous = moved.previous.map(follow);
            // There is nothing to go back to if both became the same.
            moved
                .previous
                .take_if(|previous| *previous == moved.version);
            if moved != alias {
                edits.push(Edit::put::<AliasRecord>(&moved)?);
            }
            current.insert(moved.alias, moved.version);
        }
        for canary in self.canaries()? {
            if canary.version != *old {
                continue;
            }
            // A canary that became what everybody gets is over.
            edits.push(match current.get(&canary.alias) == Some(new) {
                true => Edit::delete::<CanaryRecord>(canary.key()),
                false => Edit::put(&CanaryRecord {
                    version: new.clone(),
                    ..canary
                })?,
            });
        }
        Ok(edits)
    }
}

fn key(version: &AdapterVersion) -> Vec<u8> {
    keys::encode(&[version.as_str()])
}
