//! Aliases: the names that requests use, and the adapter version behind each.

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::trees::{Edit, Trees};
use crate::{adapters, keys, AdapterRecord, CanaryRecord, Store, StoreError};
use attune_ids::{AdapterVersion, Alias};

/// A name and the version it stands for. Key: (alias).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasRecord {
    /// The name.
    pub alias: Alias,
    /// The version that answers under this name; always an installed one.
    pub version: AdapterVersion,
    /// The version before it: what a rollback promotes. It may have been removed since.
    pub previous: Option<AdapterVersion>,
    /// When `version` was promoted, in milliseconds since 1970.
    pub promoted_unix_ms: u64,
    /// How often this name was moved, the first time included.
    pub promotions: u64,
}

/// Why an alias was not moved.
#[derive(Debug, thiserror::Error)]
pub enum CasError {
    /// The alias is not where the caller thought it was: somebody else moved it.
    #[error(
        "alias {alias} points at {}, not at {}; look at it again, then promote",
        show(actual.as_ref()), show(expected.as_ref())
    )]
    Conflict {
        /// The alias.
        alias: Alias,
        /// Where the caller thought it was.
        expected: Option<AdapterVersion>,
        /// Where it is.
        actual: Option<AdapterVersion>,
    },
    /// The new version is not installed.
    #[error("adapter {version} is not installed; install it, then promote")]
    NotInstalled {
        /// The version.
        version: AdapterVersion,
    },
    /// The store failed. If it failed while writing, a restart tells which version it is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Record for AliasRecord {
    const KIND: &'static str = "alias";
    const VERSION: u32 = 1;
    const TREE: &'static str = "aliases";

    fn key(&self) -> Vec<u8> {
        key(&self.alias)
    }

    fn problem(&self, trees: &Trees) -> Result<Option<String>, StoreError> {
        if self.promotions == 0 {
            return Ok(Some("promotions is 0".to_owned()));
        }
        let target = trees.get(AdapterRecord::TREE, &adapters::key(&self.version))?;
        Ok(match target {
            Some(_) => None,
            None => Some(format!(
                "points at {}, which is not installed",
                self.version
            )),
        })
    }
}

impl Store {
    /// The record of `alias`, if it was ever promoted.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn alias(&self, alias: &Alias) -> Result<Option<AliasRecord>, StoreError> {
        self.trees().record(&key(alias))
    }

    /// All aliases, by name.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn aliases(&self) -> Result<Vec<AliasRecord>, StoreError> {
        self.trees().records().collect()
    }

    /// Moves `alias` from `expected` (`None`: it does not exist yet) to `new`, and returns its new
    /// record, which is durable. Moving it to where it is changes nothing and returns its record. A version
    /// that was replaced stands for the one in its place.
    ///
    /// Checks and write are one step: no other write comes between them.
    ///
    /// # Errors
    /// [`CasError::Conflict`] and [`CasError::NotInstalled`] leave the alias where it is.
    pub fn compare_and_swap_alias(
        &self,
        alias: &Alias,
        expected: Option<&AdapterVersion>,
        new: &AdapterVersion,
        now_unix_ms: u64,
    ) -> Result<AliasRecord, CasError> {
        self.swap_alias(alias, expected, new, now_unix_ms, Vec::new())
    }

    /// [`compare_and_swap_alias`](Self::compare_and_swap_alias), with other edits in its transaction.
    pub(super) fn swap_alias(
        &self,
        alias: &Alias,
        expected: Option<&AdapterVersion>,
        new: &AdapterVersion,
        now_unix_ms: u64,
        mut edits: Vec<Edit>,
    ) -> Result<AliasRecord, CasError> {
        let writer = self.trees().writer()?;
        // Whoever names a version that was replaced means the one in its place.
        let new = &self.successor_of(new)?;
        let place = expected.map(|version| self.successor_of(version));
        let place = place.transpose()?;
        let current = self.alias(alias)?;
        if current.as_ref().map(|record| &record.version) != place.as_ref() {
            return Err(CasError::Conflict {
                alias: alias.clone(),
                expected: expected.cloned(),
                actual: current.map(|record| record.version),
            });
        }
        if self.adapter(new)?.is_none() {
            return Err(CasError::NotInstalled {
                version: new.clone(),
            });
        }
        let (previous, promotions) = match current {
            Some(record) if record.version == *new => {
                // It may have been moved by a thread whose flush is still under way.
                writer.commit(&edits)?;
                return Ok(record);
            }
            Some(record) => (Some(record.version), record.promotions.saturating_add(1)),
            None => (None, 1),
        };
        let record = AliasRecord {
            alias: alias.clone(),
            version: new.clone(),
            previous,
            promoted_unix_ms: now_unix_ms,
            promotions,
        };
        edits.push(Edit::put(&record)?);
        // A canary that became what everybody gets is over.
        let canary: Option<CanaryRecord> = self.trees().record(&key(alias))?;
        if canary.is_some_and(|canary| canary.version == *new) {
            edits.push(Edit::delete::<CanaryRecord>(key(alias)));
        }
        writer.commit(&edits)?;
        Ok(record)
    }
}

fn key(alias: &Alias) -> Vec<u8> {
    keys::encode(&[alias.as_str()])
}

fn show(version: Option<&AdapterVersion>) -> &str {
    version.map_or("no version", AdapterVersion::short)
}
