//! What requests see of the versions: one moment of the store, which never changes. After each commit
//! another one is put in its place.
//!
//! Versions that an alias names or tries are held in memory, so that an alias can always answer. One that
//! cannot be loaded answers nobody, and nothing answers in its place; a canary that cannot is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::VersionsError;
use attune_adapter::about::About;
use attune_adapter::canary::SplitKey;
use attune_adapter::error::AdapterError;
use attune_adapter::lease::{Lease, Loaded};
use attune_ids::{AdapterVersion, Alias, UserKey, VersionDigits};
use attune_store::{AdapterRecord, AliasRecord, CanaryRecord};

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
    pub about: Result<About, AdapterError>,
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
    pub(super) current: Held,
    pub(super) tried: Held,
}

/// What is held of a version that an alias names or tries.
#[derive(Debug, Default)]
pub(super) enum Held {
    /// There is none, or it is made for another base model: the bare base answers.
    #[default]
    Nothing,
    /// The version.
    Version(Arc<Loaded>),
    /// It cannot be loaded.
    Broken {
        version: AdapterVersion,
        reason: Arc<VersionsError>,
    },
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
    /// that it answers. Nobody in particular (`None`) is never answered by a canary. `None`: the bare base.
    ///
    /// # Errors
    /// [`VersionsError::Unavailable`].
    pub fn by_alias_for(
        &self,
        alias: &Alias,
        user: Option<&UserKey>,
    ) -> Result<Option<Lease>, VersionsError> {
        let Some(named) = self.aliases.get(alias) else {
            return Ok(None);
        };
        let tried = named.canary.as_ref().zip(named.tried.loaded()).zip(user);
        if let Some(((canary, tried), user)) = tried {
            // The hash is computed only while there is a canary.
            if self.split.place(alias, user) < canary.permille {
                return Ok(Some(Lease::of(tried)));
            }
        }
        match &named.current {
            Held::Nothing => Ok(None),
            Held::Version(loaded) => Ok(Some(Lease::of(loaded))),
            Held::Broken { version, .. } => Err(VersionsError::Unavailable {
                alias: alias.clone(),
                version: version.clone(),
            }),
        }
    }

    /// A lease of what `alias` names.
    ///
    /// # Errors
    /// [`VersionsError::Unavailable`].
    pub fn by_alias(&self, alias: &Alias) -> Result<Option<Lease>, VersionsError> {
        self.by_alias_for(alias, None)
    }

    /// The aliases that cannot answer.
    pub fn unavailable(&self) -> impl Iterator<Item = &Alias> {
        let broken = |(_, named): &(&Alias, &Named)| named.unavailable().is_some();
        self.aliases.iter().filter(broken).map(|(alias, _)| alias)
    }

    /// The versions that an alias names or tries and that cannot be loaded.
    pub(super) fn all_broken(&self) -> impl Iterator<Item = &AdapterVersion> {
        self.held().filter_map(|held| match held {
            Held::Broken { version, .. } => Some(version),
            Held::Nothing | Held::Version(_) => None,
        })
    }

    /// Why a version that an alias names or tries cannot be loaded; `None`: it can, or no alias does.
    pub(super) fn broken(&self, version: &AdapterVersion) -> Option<Arc<VersionsError>> {
        self.held().find_map(|held| match held {
            Held::Broken {
                version: it,
                reason,
            } if it == version => Some(reason.clone()),
            _ => None,
        })
    }

    /// Why an installed version cannot answer, as far as that is known.
    pub fn unavailable_version(&self, installed: &InstalledVersion) -> Option<String> {
        let version = &installed.record.version;
        let broken = self.broken(version);
        match (&installed.about, broken) {
            (Err(error), _) => Some(error.without_paths()),
            (Ok(_), Some(reason)) => Some(reason.without_paths()),
            (Ok(_), None) if installed.fits => None,
            (Ok(_), None) => Some(VersionsError::OtherBase(version.clone()).to_string()),
        }
    }

    fn held(&self) -> impl Iterator<Item = &Held> {
        let aliases = self.aliases.values();
        aliases.flat_map(|named| [&named.current, &named.tried])
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

    /// Whether `version` answers under an alias.
    pub fn names(&self, version: &AdapterVersion) -> bool {
        let mut loaded = self.held().filter_map(Held::loaded);
        loaded.any(|loaded| loaded.adapter().version == *version)
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

    /// Why what it names cannot be loaded, if it cannot.
    pub fn unavailable(&self) -> Option<&VersionsError> {
        self.current.reason()
    }

    /// Why what it tries cannot be loaded, if it cannot.
    pub fn canary_unavailable(&self) -> Option<&VersionsError> {
        self.tried.reason()
    }
}

impl Held {
    fn loaded(&self) -> Option<&Arc<Loaded>> {
        match self {
            Self::Version(loaded) => Some(loaded),
            Self::Nothing | Self::Broken { .. } => None,
        }
    }

    fn reason(&self) -> Option<&VersionsError> {
        match self {
            Self::Broken { reason, .. } => Some(reason),
            Self::Nothing | Self::Version(_) => None,
        }
    }
}
