//! Versions change while the server runs.
//!
//! Everything is checked before anything changes. A change is committed to the store, and the next
//! [`Projection`] follows from what the store says then: after a crash between the two the next start
//! sees it. Requests never wait for a change, and those under way keep the version that they began
//! with.
//!
//! All of it blocks, on disk and on other changes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::bundle_folder;
use super::data_dir::{Expected, LoadedBase, Versions};
use super::error::{no_alias, VersionsError};
use super::first_use::FirstUse;
use super::projection::{InstalledVersion, Projection};
use crate::app::error::AppError;
use attune_adapter::bundle::{self, bundle_dir};
use attune_adapter::canary::SplitKey;
use attune_adapter::error::AdapterError;
use attune_adapter::lease::{Lease, Loaded};
use attune_adapter::loaded::{LoadError, LoadedVersions};
use attune_adapter::publish::{self, Offered};
use attune_files::Links;
use attune_ids::{AdapterVersion, Alias, UserKey, VersionDigits};
use attune_store::{AdapterRecord, AdapterSource, CanaryRecord, DecisionRecord, Store};

/// The versions of a running server.
#[derive(Debug)]
pub struct LiveVersions {
    pub(super) disk: Versions,
    pub(super) base: LoadedBase,
    pub(super) loaded: LoadedVersions,
    bundles: PathBuf,
    first_use: FirstUse,
    now: RwLock<Arc<Projection>>,
    /// Held from a look at the store until the projection has followed: one change at a time.
    changing: Mutex<()>,
    /// Held while people who were deleted leave: one such run at a time.
    forgetting: Mutex<()>,
    /// The newest deletion that a run has seen, in milliseconds since 1970.
    pub(super) forgotten_until: AtomicU64,
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
    /// What `disk` says, for the model `base`. `bundles` is the folder from which bundles are installed;
    /// what `loaded` has already is not read again.
    ///
    /// A version that an alias names or tries and that cannot be loaded stops nobody else: see [`Projection`].
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(
        disk: Versions,
        base: LoadedBase,
        bundles: PathBuf,
        loaded: LoadedVersions,
    ) -> Result<Self, VersionsError> {
        let split = SplitKey::of_store(&disk.store().info()?.store_id);
        let live = Self {
            now: RwLock::new(Arc::new(Projection::divided_by(split))),
            changing: Mutex::new(()),
            forgetting: Mutex::new(()),
            forgotten_until: AtomicU64::new(0),
            disk,
            base,
            bundles,
            loaded,
            first_use: FirstUse::default(),
        };
        live.follow()?;
        live.warn();
        // What a process left that was killed between two steps.
        if let Err(error) = live.disk.sweep() {
            tracing::warn!(%error, "bundles that no record names could not be removed");
        }
        Ok(live)
    }

    /// The records.
    pub fn store(&self) -> &Store {
        self.disk.store()
    }

    /// The records and bundles, for whoever changes nothing.
    pub fn disk(&self) -> &Versions {
        &self.disk
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.disk.data_dir()
    }

    /// The versions in memory.
    pub fn loaded(&self) -> &LoadedVersions {
        &self.loaded
    }

    /// Who loads versions, and who waits for it.
    pub(super) fn first_use(&self) -> &FirstUse {
        &self.first_use
    }

    /// The folder from which bundles are installed.
    pub(super) fn bundles(&self) -> &Path {
        &self.bundles
    }

    /// What is installed and named now.
    pub fn now(&self) -> Arc<Projection> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }

    /// See [`Projection::by_alias_for`].
    ///
    /// # Errors
    /// Likewise.
    pub fn by_alias_for(
        &self,
        alias: &Alias,
        user: Option<&UserKey>,
    ) -> Result<Option<Lease>, VersionsError> {
        self.now().by_alias_for(alias, user)
    }

    /// Makes a bundle of the bundle folder available.
    ///
    /// # Errors
    /// A bundle that is not there or does not fit the loaded model; no room in memory; a disk or a
    /// store that fails. Nothing answers otherwise than before.
    pub fn install(&self, name: &str, now_unix_ms: u64) -> Result<Installed, AppError> {
        let dir = bundle_folder::locate(&self.bundles, name)?;
        // The long part, before others have to wait.
        let bytes = publish::bytes(&dir).map_err(bundle_folder::unusable)?;
        // For a moment there are two copies of it.
        self.store().check_room(bytes.saturating_mul(2))?;
        let ours = self.disk.adapters_dir();
        let read = Offered::copied(&dir, ours, Links::Refuse).map_err(|error| match &error {
            AdapterError::Io { path, .. } if path.starts_with(ours) => {
                AppError::Store(error.to_string())
            }
            _ => bundle_folder::unusable(error),
        })?;
        // Made while somebody was deleted: without them.
        let (named, offered) = self.disk.without_deleted(read)?;
        let version = offered.version().clone();
        let now = self.now();
        let there = now.version(&version).is_some_and(|v| v.fits);
        if there && now.successor(&named) == &version && self.is_sound(&version) {
            let new = false;
            return Ok(Installed { version, new });
        }
        let loaded = self.check(&offered)?;
        let _changing = self.changing();
        let published = offered.publish_anew(self.disk.adapters_dir());
        if let Err(error) = published {
            self.loaded.forget(&version);
            return Err(AppError::Store(error.to_string()));
        }
        // If this fails, the bundle stays: whether the record is there tells the next start only.
        let record = AdapterRecord {
            version: version.clone(),
            name: loaded.adapter().name.clone(),
            installed_unix_ms: now_unix_ms,
            source: AdapterSource::Installed,
        };
        let new = self.disk.record_as(&named, &record)?;
        self.follow()?;
        if named != version {
            self.loaded.forget(&named);
        }
        // Who was deleted while it was read is in it: the next run is to look at it, whatever the last one saw.
        self.forgotten_until.store(0, Ordering::Release);
        tracing::info!(%version, "installed");
        Ok(Installed { version, new })
    }

    /// Lets `alias` name a version.
    ///
    /// # Errors
    /// The alias is not where it is expected; a version that is not installed, not for this model, or
    /// cannot be loaded.
    pub fn promote(
        &self,
        alias: &Alias,
        digits: &VersionDigits,
        expected: &Expected,
        now_unix_ms: u64,
    ) -> Result<Arc<Projection>, AppError> {
        let _changing = self.changing();
        let version = self.now().find(digits)?.record.version.clone();
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
    ) -> Result<Arc<Projection>, AppError> {
        let _changing = self.changing();
        if self.store().alias(alias)?.is_none() {
            return Err(no_alias(alias));
        }
        let version = self.disk.previous(alias)?;
        self.move_alias(alias, &version, expected, now_unix_ms)
    }

    /// Records a decision, and carries it out if it is to promote: both or neither.
    ///
    /// # Errors
    /// As [`promote`](Self::promote), if it is to promote; the write fails.
    pub fn decide(&self, decision: &DecisionRecord) -> Result<(), AppError> {
        let _changing = self.changing();
        let candidate = decision.candidate.as_ref().filter(|_| decision.promoted);
        let _held = candidate.map(|version| self.ready(version)).transpose()?;
        if let Some(moved) = self.store().decide(decision)? {
            self.follow()?;
            tracing::info!(alias = %moved.alias, version = %moved.version, "promoted");
        }
        Ok(())
    }

    /// Lets another version answer a share of the users of `alias`, in place of an earlier canary.
    ///
    /// # Errors
    /// The alias names the version itself; a version that is not installed, not for this model, or
    /// cannot be loaded.
    pub fn start_canary(
        &self,
        alias: &Alias,
        digits: &VersionDigits,
        permille: u16,
        now_unix_ms: u64,
    ) -> Result<Arc<Projection>, AppError> {
        let _changing = self.changing();
        let now = self.now();
        let version = now.find(digits)?.record.version.clone();
        let _held = self.ready(&version)?;
        let named = now.alias(alias);
        if named.and_then(|named| named.version()) == Some(&version) {
            return Err(AppError::Conflict(format!(
                "alias {alias} names {version} already; a canary is another version"
            )));
        }
        // A share that grows is still the same canary.
        let running = named.and_then(|named| named.canary.as_ref());
        let running = running.filter(|canary| canary.version == version);
        let started_unix_ms = running.map_or(now_unix_ms, |canary| canary.started_unix_ms);
        let record = CanaryRecord {
            alias: alias.clone(),
            version,
            permille,
            started_unix_ms,
        };
        self.store().put_canary(&record)?;
        let now = self.follow()?;
        tracing::info!(%alias, version = %record.version, permille, "canary");
        Ok(now)
    }

    /// Lets everybody have what `alias` names.
    ///
    /// # Errors
    /// There is no canary.
    pub fn end_canary(&self, alias: &Alias) -> Result<Arc<Projection>, AppError> {
        let _changing = self.changing();
        let there = self.store().delete_canary(alias)?;
        let now = self.follow()?;
        if there {
            tracing::info!(%alias, "the canary has ended");
            return Ok(now);
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
        let version = self.now().find(digits)?.record.version.clone();
        self.take_out(&version)?;
        tracing::info!(%version, "retired");
        Ok(version)
    }

    /// Tries again to load what aliases name or try and what could not be loaded: a disk that was away is back,
    /// or a bundle was put back.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn retry(&self) -> Result<(), AppError> {
        let broken: Vec<AdapterVersion> = self.now().all_broken().cloned().collect();
        // The long part, before others have to wait.
        let held = broken.iter().filter_map(|version| self.ready(version).ok());
        let held: Vec<_> = held.collect();
        if !held.is_empty() {
            let _changing = self.changing();
            self.follow()?;
            for loaded in held {
                let version = &loaded.adapter().version;
                tracing::info!(%version, "a version that could not be loaded before answers now");
            }
        }
        Ok(())
    }

    /// Takes a version out that no alias names or tries; for whoever holds `changing`.
    pub(super) fn take_out(&self, version: &AdapterVersion) -> Result<(), VersionsError> {
        self.disk.remove(version)?;
        self.follow()?;
        self.loaded.forget(version);
        Ok(())
    }

    fn move_alias(
        &self,
        alias: &Alias,
        version: &AdapterVersion,
        expected: &Expected,
        now_unix_ms: u64,
    ) -> Result<Arc<Projection>, AppError> {
        let _held = self.ready(version)?;
        self.disk.promote(alias, version, expected, now_unix_ms)?;
        let now = self.follow()?;
        tracing::info!(%alias, %version, "promoted");
        Ok(now)
    }

    /// Holds an installed version in memory, before an alias names it.
    fn ready(&self, version: &AdapterVersion) -> Result<Arc<Loaded>, VersionsError> {
        let now = self.now();
        let installed = now.version(now.successor(version));
        self.hold(installed.ok_or_else(|| VersionsError::NotInstalled(version.clone()))?)
    }

    /// Holds a version in memory; reads and verifies it first if it is not there.
    pub(super) fn hold(&self, installed: &InstalledVersion) -> Result<Arc<Loaded>, VersionsError> {
        let version = &installed.record.version;
        if installed.about.is_ok() && !installed.fits {
            return Err(VersionsError::OtherBase(version.clone()));
        }
        if let Some(loaded) = self.loaded.hold(version) {
            return Ok(loaded);
        }
        let dir = bundle_dir(self.disk.adapters_dir(), version);
        let base = &self.base;
        let loaded = self.loaded.load(&dir, &base.config, &base.sha256);
        loaded.map_err(|source| VersionsError::Load {
            version: version.clone(),
            source,
        })
    }

    /// Whether the bundle of an installed version is whole: the same content may be offered again because it
    /// is not.
    fn is_sound(&self, version: &AdapterVersion) -> bool {
        let dir = bundle_dir(self.disk.adapters_dir(), version);
        self.now().broken(version).is_none() && bundle::verify(&dir).is_ok()
    }

    /// Checks what is to be installed, which loads it.
    fn check(&self, offered: &Offered) -> Result<Arc<Loaded>, AppError> {
        let base = &self.base;
        let loaded = offered.load(&self.loaded, &base.config, &base.sha256);
        loaded.map_err(|error| match error {
            LoadError::Adapter(error) => bundle_folder::unusable(error),
            LoadError::NoRoom { .. } => AppError::AdapterMemory(error.to_string()),
        })
    }

    /// Puts what the store says now in place of what it said before.
    pub(super) fn follow(&self) -> Result<Arc<Projection>, VersionsError> {
        let next = Arc::new(self.project(&self.now())?);
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *now, next.clone());
        drop(now);
        // Outside the lock: it may hold the last of a version.
        drop(before);
        Ok(next)
    }

    /// No change panics between store and projection, and the store is what counts: poison is ignored.
    pub(super) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Likewise.
    pub(super) fn forgetting(&self) -> MutexGuard<'_, ()> {
        let guard = self.forgetting.lock();
        guard.unwrap_or_else(PoisonError::into_inner)
    }
}
