//! What requests see of the versions: one moment of the store, which never changes. After each commit
//! another one is put in its place.
//!
//! Versions that an alias names or tries are held in memory, so that an alias can always answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::VersionsError;
use crate::adapter::about::About;
use crate::adapter::canary::SplitKey;
use crate::adapter::lease::{Lease, Loaded};
use crate::ids::{AdapterVersion, Alias, UserKey, VersionDigits};
use crate::store::{AdapterRecord, AliasRecord, CanaryRecord};

/// The installed versions and the aliases of one moment.
#[derive(Debug, Default)]
pub struct Projection {
    pub(super) split: SplitKey,
    pub(super) versions: BTreeMap<AdapterVersion, Arc<InstalledVersion>>,
    pub(super) aliases: BTreeMap<Alias, Named>,
    /// What is in the place of versions that were replaced.
    pub(super) successors: BTreeMap<AdapterVersion, AdapterVersion>,
}

/// An installed version.
#[derive(Debug)]
pub struct InstalledVersion {
    /// What the store knows of it.
    pub record: AdapterRecord,
    /// What its manifest says, or why that cannot be read.
    pub about: Result<About, String>,
    /// Whether it can answer: it is made for the base model that is served.
    pub fits: bool,
}

/// What an alias names and tries. The versions are held where they can answer.
#[derive(Debug, Default)]
pub struct Named {
    /// The record; `None`: it names nothing, and only tries a version.
    pub record: Option<AliasRecord>,
    /// The version that it tries on some users.
    pub canary: Option<CanaryRecord>,
    pub(super) current: Option<Arc<Loaded>>,
    pub(super) tried: Option<Arc<Loaded>>,
}

impl Projection {
    /// Nothing; canaries divide users by `split`.
    pub(super) fn divided_by(split: SplitKey) -> Self {
        Self {
            split,
            ..Self::default()
        }
    }

    /// A lease of what answers `user` under `alias`: what the alias names, or its canary for the people
    /// that it answers. Nobody in particular (`None`) is never answered by a canary.
    pub fn by_alias_for(&self, alias: &Alias, user: Option<&UserKey>) -> Option<Lease> {
        let named = self.aliases.get(alias)?;
        let tried = named.canary.as_ref().zip(named.tried.as_ref()).zip(user);
        if let Some(((canary, tried), user)) = tried {
            // The hash is computed only while there is a canary.
            if self.split.place(alias, user) < canary.permille {
                return Some(Lease::of(tried));
            }
        }
        named.current.as_ref().map(Lease::of)
    }

    /// A lease of what `alias` names.
    pub fn by_alias(&self, alias: &Alias) -> Option<Lease> {
        self.by_alias_for(alias, None)
    }

    /// The installed version that begins with `digits`, or is in the place of one that did.
    ///
    /// # Errors
    /// [`VersionsError::Unknown`], [`VersionsError::Ambiguous`].
    pub fn find(&self, digits: &VersionDigits) -> Result<&Arc<InstalledVersion>, VersionsError> {
        let begin = |v: &&Arc<InstalledVersion>| digits.begin(&v.record.version);
        let mut found = self.versions.values().filter(begin);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => self.replaced(digits),
            _ => Err(VersionsError::Ambiguous(digits.clone())),
        }
    }

    fn replaced(&self, digits: &VersionDigits) -> Result<&Arc<InstalledVersion>, VersionsError> {
        let old = self.successors.iter().filter(|(old, _)| digits.begin(old));
        let mut new = old.map(|(_, new)| new);
        let unknown = || VersionsError::Unknown(digits.clone());
        let first = new.next().ok_or_else(unknown)?;
        if new.any(|other| other != first) {
            return Err(VersionsError::Ambiguous(digits.clone()));
        }
        self.versions.get(first).ok_or_else(unknown)
    }

    /// The version in the place of `version`: itself, if it was not replaced.
    pub fn successor<'a>(&'a self, version: &'a AdapterVersion) -> &'a AdapterVersion {
        self.successors.get(version).unwrap_or(version)
    }

    /// Whether an alias names or tries `version`.
    pub fn names(&self, version: &AdapterVersion) -> bool {
        let is_it = |held: &Option<Arc<Loaded>>| {
            held.as_ref()
                .is_some_and(|held| held.adapter().version == *version)
        };
        let mut aliases = self.aliases.values();
        aliases.any(|named| is_it(&named.current) || is_it(&named.tried))
    }

    /// What is known of an installed version.
    pub fn version(&self, version: &AdapterVersion) -> Option<&Arc<InstalledVersion>> {
        self.versions.get(version)
    }

    /// The installed versions, by name.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<InstalledVersion>> {
        self.versions.values()
    }

    /// What an alias names and tries.
    pub fn alias(&self, alias: &Alias) -> Option<&Named> {
        self.aliases.get(alias)
    }

    /// The aliases, by name.
    pub fn aliases(&self) -> impl Iterator<Item = (&Alias, &Named)> {
        self.aliases.iter()
    }
}

impl Named {
    /// The version that it names.
    pub fn version(&self) -> Option<&AdapterVersion> {
        self.record.as_ref().map(|record| &record.version)
    }
}
