//! Versions change while the server runs.
//!
//! Everything is checked before anything changes. A change is durable first, then the registry follows,
//! and requests see it: after a crash between the two the next start restores it. Requests never wait
//! for a change, and those under way keep the version that they began with.
//!
//! All of it blocks, on disk and on other changes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bundle_folder;
use super::decisions::Decision;
use super::error::AppError;
use super::versions::{Expected, LoadedBase, Versions, VersionsError};
use crate::adapter::publish;
use crate::adapter::registry::AdapterRegistry;
use crate::ids::{AdapterVersion, Alias, VersionDigits};
use crate::store::{AdapterSource, AliasRecord, CanaryRecord, CasError, DecisionRecord};

/// The versions of a running server.
#[derive(Debug)]
pub struct LiveVersions {
    versions: Versions,
    registry: Arc<AdapterRegistry>,
    base: LoadedBase,
    bundles: PathBuf,
    /// Held from a look at the store until the registry has followed: one change at a time.
    changing: Mutex<()>,
}

/// What an installation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The version.
    pub version: AdapterVersion,
    /// False: it was installed before, and nothing was done.
    pub new: bool,
}

impl LiveVersions {
    /// `registry` has what `versions` has; `bundles` is the folder from which bundles are installed.
    pub fn new(
        versions: Versions,
        registry: Arc<AdapterRegistry>,
        base: LoadedBase,
        bundles: PathBuf,
    ) -> Self {
        Self {
            versions,
            registry,
            base,
            bundles,
            changing: Mutex::new(()),
        }
    }

    /// Makes a bundle of the bundle folder available.
    ///
    /// # Errors
    /// A bundle that is not there or does not fit the loaded model; a disk or a store that fails.
    /// Nothing answers otherwise than before.
    pub fn install(&self, name: &str, now_unix_ms: u64) -> Result<Installed, AppError> {
        let dir = bundle_folder::locate(&self.bundles, name)?;
        // The long part, before others have to wait.
        let checked = publish::check(&dir, &self.base.config, &self.base.sha256)
            .map_err(bundle_folder::unusable)?;
        let version = checked.version().clone();
        let _changing = self.changing();
        if self.registry.by_version(&version).is_some() {
            let new = false;
            return Ok(Installed { version, new });
        }
        let adapter = checked
            .publish(self.versions.adapters_dir())
            .map_err(|error| AppError::Store(error.to_string()))?;
        // If this fails, the bundle stays: whether the record is there tells the next start only.
        let (name, source) = (adapter.name.clone(), AdapterSource::Installed);
        self.versions.record(&version, name, source, now_unix_ms)?;
        drop(self.registry.install(adapter));
        tracing::info!(%version, "installed");
        let new = true;
        Ok(Installed { version, new })
    }

    /// Lets `alias` name a version.
    ///
    /// # Errors
    /// The alias is not where it is expected; a version that is not installed or not for this model.
    pub fn promote(
        &self,
        alias: &Alias,
        digits: &VersionDigits,
        expected: &Expected,
        now_unix_ms: u64,
    ) -> Result<AliasRecord, AppError> {
        let _changing = self.changing();
        let version = self.versions.find(digits)?;
        self.move_alias(alias, &version, expected, now_unix_ms)
    }

    /// Lets `alias` name what it named before.
    ///
    /// # Errors
    /// As [`promote`](Self::promote); there is nothing to go back to.
    pub fn roll_back(
        &self,
        alias: &Alias,
        expected: &Expected,
        now_unix_ms: u64,
    ) -> Result<AliasRecord, AppError> {
        let _changing = self.changing();
        if self.versions.store().alias(alias)?.is_none() {
            return Err(no_alias(alias));
        }
        let version = self.versions.previous(alias)?;
        self.move_alias(alias, &version, expected, now_unix_ms)
    }

    /// Records a decision, and carries it out if it is to promote: both or neither.
    ///
    /// # Errors
    /// As [`promote`](Self::promote), if it is to promote; the write fails.
    pub fn decide(&self, decision: Decision, now_unix_ms: u64) -> Result<DecisionRecord, AppError> {
        let _changing = self.changing();
        let store = self.versions.store();
        if let (true, Some(candidate)) = (decision.promoted, &decision.candidate) {
            if store.adapter(candidate)?.is_none() {
                return Err(no_adapter(candidate.to_string()));
            }
            self.check_loaded(candidate)?;
        }
        let record = decision.into_record(now_unix_ms);
        if let Some(moved) = store.decide(&record)? {
            self.follow(&moved)?;
        }
        Ok(record)
    }

    /// Lets another version answer a share of the users of `alias`, in place of an earlier canary.
    ///
    /// # Errors
    /// The alias names the version itself; a version that is not installed or not for this model.
    pub fn start_canary(
        &self,
        alias: &Alias,
        digits: &VersionDigits,
        permille: u16,
        now_unix_ms: u64,
    ) -> Result<(), AppError> {
        let _changing = self.changing();
        let version = self.versions.find(digits)?;
        self.check_loaded(&version)?;
        let store = self.versions.store();
        let named = store.alias(alias)?;
        if named.is_some_and(|record| record.version == version) {
            return Err(AppError::Conflict(format!(
                "alias {alias} names {version} already; a canary is another version"
            )));
        }
        // A share that grows is still the same canary.
        let mut running = store.canaries()?.into_iter();
        let running = running.find(|c| c.alias == *alias && c.version == version);
        let started_unix_ms = running.map_or(now_unix_ms, |canary| canary.started_unix_ms);
        let record = CanaryRecord {
            alias: alias.clone(),
            version,
            permille,
            started_unix_ms,
        };
        store.put_canary(&record)?;
        tracing::info!(%alias, version = %record.version, permille, "canary");
        self.registry
            .set_canary(alias, record.into())
            .map_err(out_of_step)
    }

    /// Lets everybody have what `alias` names.
    ///
    /// # Errors
    /// There is no canary.
    pub fn end_canary(&self, alias: &Alias) -> Result<(), AppError> {
        let _changing = self.changing();
        let there = self.versions.store().delete_canary(alias)?;
        self.registry.end_canary(alias);
        if there {
            tracing::info!(%alias, "no canary any more");
            return Ok(());
        }
        let (what, id) = ("canary", alias.to_string());
        Err(AppError::NotFound { what, id })
    }

    /// Takes a version out: of the store, of the disk, and of memory with its last lease.
    ///
    /// # Errors
    /// An alias names it, or tries it.
    pub fn retire(&self, digits: &VersionDigits) -> Result<AdapterVersion, AppError> {
        let _changing = self.changing();
        let version = self.versions.find(digits)?;
        self.versions.remove(&version)?;
        // A version for another model is not there; one that is in use the store has refused.
        let _ = self.registry.retire(&version);
        tracing::info!(%version, "retired");
        Ok(version)
    }

    fn move_alias(
        &self,
        alias: &Alias,
        version: &AdapterVersion,
        expected: &Expected,
        now_unix_ms: u64,
    ) -> Result<AliasRecord, AppError> {
        self.check_loaded(version)?;
        let record = self
            .versions
            .promote(alias, version, expected, now_unix_ms)?;
        self.follow(&record)?;
        Ok(record)
    }

    /// Lets the registry do what the store did.
    fn follow(&self, moved: &AliasRecord) -> Result<(), AppError> {
        self.registry
            .restore(&moved.alias, &moved.version, moved.previous.as_ref())
            .map_err(out_of_step)?;
        tracing::info!(alias = %moved.alias, version = %moved.version, "promoted");
        Ok(())
    }

    /// A version for another base model is installed, but cannot answer.
    fn check_loaded(&self, version: &AdapterVersion) -> Result<(), AppError> {
        match self.registry.by_version(version) {
            Some(_) => Ok(()),
            None => Err(AppError::Conflict(format!(
                "version {version} is made for another base model than the one that is served"
            ))),
        }
    }

    /// No change panics between store and registry, and the store is what counts: poison is ignored.
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error for an alias that does not exist.
pub(super) fn no_alias(alias: &Alias) -> AppError {
    let (what, id) = ("alias", alias.to_string());
    AppError::NotFound { what, id }
}

/// What was checked under the lock cannot fail behind it.
fn out_of_step(error: impl std::fmt::Display) -> AppError {
    AppError::Internal(format!("the registry does not follow the store: {error}"))
}

impl From<VersionsError> for AppError {
    fn from(error: VersionsError) -> Self {
        let message = error.to_string();
        match error {
            VersionsError::Store(error) => error.into(),
            VersionsError::Alias(error) => error.into(),
            VersionsError::Unknown(digits) => no_adapter(digits.to_string()),
            VersionsError::Conflict { .. } | VersionsError::NothingBefore(_) => {
                Self::Conflict(message)
            }
            VersionsError::Digits(_) | VersionsError::Ambiguous(_) => Self::Invalid {
                field: "version",
                message,
            },
            VersionsError::Adapter(_) | VersionsError::Registry(_) => Self::Internal(message),
        }
    }
}

impl From<CasError> for AppError {
    fn from(error: CasError) -> Self {
        match error {
            CasError::Store(error) => error.into(),
            CasError::NotInstalled { version } => no_adapter(version.to_string()),
            CasError::Conflict { .. } => Self::Conflict(error.to_string()),
        }
    }
}

/// The error for a version that is not installed.
pub(super) fn no_adapter(id: String) -> AppError {
    let what = "adapter";
    AppError::NotFound { what, id }
}
