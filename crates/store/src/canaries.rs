//! Canaries: a share of the users of an alias is answered by another version.

use serde::{Deserialize, Serialize};

use crate::aliases::CasError;
use crate::record::Record;
use crate::trees::{Edit, Trees};
use crate::{adapters, keys, AdapterRecord, Store, StoreError};
use attune_ids::{AdapterVersion, Alias};

/// A version that is tried on some users of an alias. Key: (alias).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryRecord {
    /// The alias.
    pub alias: Alias,
    /// The version; always an installed one.
    pub version: AdapterVersion,
    /// How many users of a thousand it answers, 1 ..= 1000.
    pub permille: u16,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
}

impl Record for CanaryRecord {
    const KIND: &'static str = "canary";
    const VERSION: u32 = 1;
    const TREE: &'static str = "canaries";

    fn key(&self) -> Vec<u8> {
        keys::encode(&[self.alias.as_str()])
    }

    fn problem(&self, trees: &Trees) -> Result<Option<String>, StoreError> {
        if !(1..=1000).contains(&self.permille) {
            return Ok(Some(format!("{} is not 1 to 1000", self.permille)));
        }
        let target = trees.get(AdapterRecord::TREE, &adapters::key(&self.version))?;
        Ok(match target {
            Some(_) => None,
            None => Some(format!("tries {}, which is not installed", self.version)),
        })
    }
}

impl Store {
    /// Begins a canary, in place of an earlier one of the same alias.
    ///
    /// # Errors
    /// [`CasError::NotInstalled`]; the write or the flush fails.
    pub fn put_canary(&self, canary: &CanaryRecord) -> Result<(), CasError> {
        let edit = Edit::put(canary)?;
        let writer = self.trees().writer()?;
        if self.adapter(&canary.version)?.is_none() {
            return Err(CasError::NotInstalled {
                version: canary.version.clone(),
            });
        }
        writer.commit(&[edit])?;
        Ok(())
    }

    /// All canaries, by alias.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn canaries(&self) -> Result<Vec<CanaryRecord>, StoreError> {
        self.trees().records().collect()
    }

    /// Ends the canary of `alias`; false if there is none.
    ///
    /// # Errors
    /// The write or the flush fails.
    pub fn delete_canary(&self, alias: &Alias) -> Result<bool, StoreError> {
        let key = keys::encode(&[alias.as_str()]);
        let writer = self.trees().writer()?;
        let there = self.trees().get(CanaryRecord::TREE, &key)?.is_some();
        let edits = there.then(|| Edit::delete::<CanaryRecord>(key));
        writer.commit(edits.as_slice())?;
        Ok(there)
    }
}
