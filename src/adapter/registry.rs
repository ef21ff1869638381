//! Which versions are loaded, and which one each alias names.

use std::sync::Arc;

use super::bundle::Adapter;
use super::lease::Lease;
use crate::ids::{AdapterVersion, Alias};

/// Why an alias was not moved; it stays where it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromoteError {
    /// The version is not installed.
    #[error("adapter version {0} is not installed; `attune adapter list` shows those that are")]
    NotInstalled(AdapterVersion),
    /// Somebody else moved the alias first.
    #[error("the alias names {}, not the expected version", .actual.as_ref().map_or("nothing", AdapterVersion::as_str))]
    Conflict {
        /// What the alias names.
        actual: Option<AdapterVersion>,
    },
}

/// The loaded versions. Shared by all requests; every method takes `&self`.
#[derive(Debug, Default)]
pub struct AdapterRegistry {}

impl AdapterRegistry {
    /// No version.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a version available; a version that is already there stays.
    pub fn install(&self, _adapter: Adapter) -> Lease {
        unimplemented!()
    }

    /// Moves `alias` to `version` if it names `expected` now (`None`: nothing).
    ///
    /// # Errors
    /// See [`PromoteError`].
    pub fn promote(
        &self,
        _alias: &Alias,
        _version: &AdapterVersion,
        _expected: Option<&AdapterVersion>,
    ) -> Result<(), PromoteError> {
        unimplemented!()
    }

    /// A pin of what `alias` names now.
    pub fn by_alias(&self, _alias: &Alias) -> Option<Lease> {
        unimplemented!()
    }

    /// A pin of a version.
    pub fn by_version(&self, _version: &AdapterVersion) -> Option<Lease> {
        unimplemented!()
    }

    /// The loaded versions, oldest first.
    pub fn versions(&self) -> Vec<Arc<Adapter>> {
        unimplemented!()
    }

    /// Aliases and what they name, sorted.
    pub fn aliases(&self) -> Vec<(Alias, AdapterVersion)> {
        unimplemented!()
    }
}
