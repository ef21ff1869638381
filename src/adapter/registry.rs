//! Which versions are loaded, and which one each alias names.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::bundle::Adapter;
use super::canary::{Canary, SplitKey};
use super::lease::Lease;
use crate::ids::{AdapterVersion, Alias, UserKey};

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

/// Why a version was not retired; it stays installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    /// The version is not installed.
    #[error("adapter version {0} is not installed; `attune adapter list` shows those that are")]
    NotInstalled(AdapterVersion),
    /// An alias names it, or tries it as its canary.
    #[error(
        "alias {alias} names or tries the version; promote another one or end the canary first"
    )]
    InUse {
        /// One of the aliases.
        alias: Alias,
    },
}

/// The loaded versions. Shared by all requests; every method takes `&self`.
///
/// A version is loaded while it is installed here or a [`Lease`] of it lives.
#[derive(Debug, Default)]
pub struct AdapterRegistry {
    state: RwLock<State>,
    split: SplitKey,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of installation.
    installed: Vec<Arc<Adapter>>,
    aliases: BTreeMap<Alias, Named>,
    /// By alias; each an installed version other than the one that the alias names.
    canaries: BTreeMap<Alias, Canary>,
}

/// What an alias names. Both versions are installed.
#[derive(Debug)]
struct Named {
    current: AdapterVersion,
    previous: Option<AdapterVersion>,
}

impl AdapterRegistry {
    /// No version.
    pub fn new() -> Self {
        Self::default()
    }

    /// No version; canaries divide users by `split`.
    pub fn divided_by(split: SplitKey) -> Self {
        Self {
            split,
            ..Self::default()
        }
    }

    /// Makes a version available; a version that is already there stays.
    pub fn install(&self, adapter: Adapter) -> Lease {
        let mut state = self.write();
        if let Some(installed) = state.find(&adapter.version) {
            return Lease::new(installed);
        }
        let adapter = Arc::new(adapter);
        state.installed.push(adapter.clone());
        Lease::new(adapter)
    }

    /// Moves `alias` to `version` if it names `expected` now (`None`: nothing).
    ///
    /// # Errors
    /// See [`PromoteError`].
    pub fn promote(
        &self,
        alias: &Alias,
        version: &AdapterVersion,
        expected: Option<&AdapterVersion>,
    ) -> Result<(), PromoteError> {
        let mut state = self.write();
        if state.find(version).is_none() {
            return Err(PromoteError::NotInstalled(version.clone()));
        }
        let named = state.aliases.get(alias);
        let actual = named.map(|named| &named.current);
        if actual != expected {
            return Err(PromoteError::Conflict {
                actual: actual.cloned(),
            });
        }
        let previous = match named {
            // Promoting what is promoted must not forget what came before.
            Some(named) if named.current == *version => named.previous.clone(),
            Some(named) => Some(named.current.clone()),
            None => None,
        };
        let current = version.clone();
        state.name(alias, Named { current, previous });
        Ok(())
    }

    /// Points `alias` at `version`, whatever it names now: after the store was read or moved it. A
    /// `previous` that is not installed is dropped.
    ///
    /// # Errors
    /// [`PromoteError::NotInstalled`].
    pub fn restore(
        &self,
        alias: &Alias,
        version: &AdapterVersion,
        previous: Option<&AdapterVersion>,
    ) -> Result<(), PromoteError> {
        let mut state = self.write();
        if state.find(version).is_none() {
            return Err(PromoteError::NotInstalled(version.clone()));
        }
        let previous = previous.filter(|p| state.find(p).is_some()).cloned();
        let current = version.clone();
        state.name(alias, Named { current, previous });
        Ok(())
    }

    /// Lets `canary` answer its share of the users of `alias`, in place of an earlier one.
    ///
    /// # Errors
    /// [`PromoteError::NotInstalled`].
    pub fn set_canary(&self, alias: &Alias, canary: Canary) -> Result<(), PromoteError> {
        let mut state = self.write();
        if state.find(&canary.version).is_none() {
            return Err(PromoteError::NotInstalled(canary.version));
        }
        state.canaries.insert(alias.clone(), canary);
        Ok(())
    }

    /// Everybody gets what `alias` names; false if there was no canary.
    pub fn end_canary(&self, alias: &Alias) -> bool {
        self.write().canaries.remove(alias).is_some()
    }

    /// Takes a version out. Requests that hold a lease finish on it; its memory is freed with the
    /// last one.
    ///
    /// # Errors
    /// See [`RetireError`].
    pub fn retire(&self, version: &AdapterVersion) -> Result<(), RetireError> {
        let mut state = self.write();
        if state.find(version).is_none() {
            return Err(RetireError::NotInstalled(version.clone()));
        }
        if let Some(alias) = state.alias_of(version) {
            return Err(RetireError::InUse { alias });
        }
        for named in state.aliases.values_mut() {
            named.previous.take_if(|p| p == version);
        }
        let at = state.installed.iter().position(|a| a.version == *version);
        let retired = at.map(|at| state.installed.remove(at));
        // Freeing the memory must not keep requests waiting for the lock.
        drop(state);
        drop(retired);
        Ok(())
    }

    /// A pin of what answers `user` under `alias` now: what the alias names, or its canary for the
    /// people that it answers. Nobody in particular (`None`) is never answered by a canary.
    pub fn by_alias_for(&self, alias: &Alias, user: Option<&UserKey>) -> Option<Lease> {
        let state = self.read();
        let canary = state
            .canaries
            .get(alias)
            .zip(user)
            .filter(|(canary, user)| {
                // The hash is computed only while there is a canary.
                self.split.place(alias, user) < canary.permille
            });
        let version = match canary {
            Some((canary, _)) => &canary.version,
            None => &state.aliases.get(alias)?.current,
        };
        state.find(version).map(Lease::new)
    }

    /// A pin of what `alias` names now.
    pub fn by_alias(&self, alias: &Alias) -> Option<Lease> {
        let state = self.read();
        let named = state.aliases.get(alias)?;
        state.find(&named.current).map(Lease::new)
    }

    /// A pin of a version.
    pub fn by_version(&self, version: &AdapterVersion) -> Option<Lease> {
        self.read().find(version).map(Lease::new)
    }

    /// What `alias` named before: promote it to roll back.
    pub fn previous(&self, alias: &Alias) -> Option<AdapterVersion> {
        self.read().aliases.get(alias)?.previous.clone()
    }

    /// The canary of `alias`.
    pub fn canary(&self, alias: &Alias) -> Option<Canary> {
        self.read().canaries.get(alias).cloned()
    }

    /// How many leases of a version live; `None`: it is not installed.
    pub fn leases(&self, version: &AdapterVersion) -> Option<usize> {
        let state = self.read();
        let installed = state.installed.iter().find(|a| a.version == *version)?;
        // One is the list's own.
        Some(Arc::strong_count(installed).saturating_sub(1))
    }

    /// The loaded versions, oldest first.
    pub fn versions(&self) -> Vec<Arc<Adapter>> {
        self.read().installed.clone()
    }

    /// Aliases and what they name, sorted.
    pub fn aliases(&self) -> Vec<(Alias, AdapterVersion)> {
        let state = self.read();
        let pairs = state.aliases.iter();
        pairs.map(|(a, n)| (a.clone(), n.current.clone())).collect()
    }

    /// No method panics between two changes that belong together, hence poison is ignored.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, version: &AdapterVersion) -> Option<Arc<Adapter>> {
        let found = self.installed.iter().find(|a| a.version == *version);
        found.cloned()
    }

    /// Moves an alias. A canary that became what everybody gets is over.
    fn name(&mut self, alias: &Alias, named: Named) {
        let canary = self.canaries.get(alias);
        if canary.is_some_and(|canary| canary.version == named.current) {
            self.canaries.remove(alias);
        }
        self.aliases.insert(alias.clone(), named);
    }

    /// An alias that needs `version`.
    fn alias_of(&self, version: &AdapterVersion) -> Option<Alias> {
        let mut named = self.aliases.iter().filter(|(_, n)| n.current == *version);
        let mut tried = self.canaries.iter().filter(|(_, c)| c.version == *version);
        let named = named.next().map(|(alias, _)| alias);
        named.or(tried.next().map(|(alias, _)| alias)).cloned()
    }
}
