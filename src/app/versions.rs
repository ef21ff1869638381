//! Store, bundles and registry, kept in step: what is installed, what the alias names.
//!
//! A data directory holds `store/` (records) and `adapters/VERSION/` (bundles). A version is
//! installed when its bundle is in place *and* its record is durable, in this order; a crash between
//! the two leaves a bundle that nobody names.

use std::path::{Path, PathBuf};

use crate::adapter::bundle::{self, bundle_dir};
use crate::adapter::canary::Canary;
use crate::adapter::error::AdapterError;
use crate::adapter::manifest::Manifest;
use crate::adapter::registry::{AdapterRegistry, PromoteError};
use crate::adapter::{demo, publish};
use crate::base_model::BaseModel;
use crate::ids::{AdapterVersion, Alias, IdError, VersionDigits};
use crate::model::config::ModelConfig;
use crate::store::{
    AdapterRecord, AdapterSource, AliasRecord, CanaryRecord, CasError, Store, StoreError,
};

/// What goes wrong with the versions of a data directory.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bundle.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The alias was not moved.
    #[error(transparent)]
    Alias(#[from] CasError),
    /// The registry refused what the store says.
    #[error(transparent)]
    Registry(#[from] PromoteError),
    /// What was given is not a version's digits.
    #[error(transparent)]
    Digits(#[from] IdError),
    /// No installed version begins with these digits.
    #[error("no installed version begins with {0}; `attune adapter list` shows those there are")]
    Unknown(VersionDigits),
    /// Several do.
    #[error("several installed versions begin with {0}; give more digits")]
    Ambiguous(VersionDigits),
    /// The alias is not where the caller thought it was: somebody else moved it.
    #[error(
        "alias {alias} names {}, which is not what was expected; look at it again, then promote",
        .actual.as_ref().map_or("nothing", AdapterVersion::as_str)
    )]
    Conflict {
        /// The alias.
        alias: Alias,
        /// What it names.
        actual: Option<AdapterVersion>,
    },
    /// The alias named nothing before, or what it named was removed.
    #[error("alias {0} has no version to go back to; promote one by its name")]
    NothingBefore(Alias),
}

/// What a version must fit: the loaded base model.
#[derive(Debug, Clone)]
pub struct LoadedBase {
    /// Its shape.
    pub config: ModelConfig,
    /// SHA-256 of its weights.
    pub sha256: String,
}

impl From<&BaseModel> for LoadedBase {
    fn from(base: &BaseModel) -> Self {
        Self {
            config: base.decoder.config().clone(),
            sha256: base.sha256.clone(),
        }
    }
}

/// Where whoever moves an alias thinks that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Wherever it is.
    Anything,
    /// It names nothing yet.
    Nothing,
    /// It names the version that begins so.
    Version(VersionDigits),
}

impl Expected {
    /// Whether that is where it is.
    pub fn is_met_by(&self, actual: Option<&AdapterVersion>) -> bool {
        match self {
            Self::Anything => true,
            Self::Nothing => actual.is_none(),
            Self::Version(digits) => actual.is_some_and(|actual| digits.begin(actual)),
        }
    }
}

/// The versions of one data directory.
#[derive(Debug, Clone)]
pub struct Versions {
    store: Store,
    data_dir: PathBuf,
    adapters: PathBuf,
}

impl Versions {
    /// Opens `data_dir`; makes it if it is not there.
    ///
    /// # Errors
    /// The store is locked by another process, damaged, newer than this program, or the disk fails.
    pub fn open(data_dir: &Path, now_unix_ms: u64) -> Result<Self, StoreError> {
        let store = Store::open(&data_dir.join("store"), now_unix_ms)?;
        let adapters = data_dir.join("adapters");
        // The store's lock is held: nobody else publishes here.
        if let Err(error) = publish::sweep(&adapters) {
            tracing::warn!(%error, "what a killed process left is still there");
        }
        Ok(Self {
            store,
            adapters,
            data_dir: data_dir.to_owned(),
        })
    }

    /// The records.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The directory of all this.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory of bundles.
    pub fn adapters_dir(&self) -> &Path {
        &self.adapters
    }

    /// Copies the bundle in `dir` into the data directory and records it.
    ///
    /// # Errors
    /// A bundle that does not verify; nothing was changed.
    pub fn install(
        &self,
        dir: &Path,
        source: AdapterSource,
        now_unix_ms: u64,
    ) -> Result<AdapterVersion, VersionsError> {
        let version = publish::copy(dir, &self.adapters)?;
        let name = bundle::verify(&bundle_dir(&self.adapters, &version))?
            .manifest
            .name;
        self.record(&version, name, source, now_unix_ms)?;
        Ok(version)
    }

    /// Records a version whose bundle is in place.
    ///
    /// # Errors
    /// The write fails.
    pub fn record(
        &self,
        version: &AdapterVersion,
        name: Option<String>,
        source: AdapterSource,
        installed_unix_ms: u64,
    ) -> Result<(), StoreError> {
        let version = version.clone();
        self.store.insert_adapter(&AdapterRecord {
            version,
            name,
            installed_unix_ms,
            source,
        })?;
        Ok(())
    }

    /// Removes a version: its record, durably, then its bundle. A crash between the two leaves a bundle
    /// that nobody names.
    ///
    /// # Errors
    /// An alias names it or tries it; the write fails.
    pub fn remove(&self, version: &AdapterVersion) -> Result<(), StoreError> {
        self.store.remove_adapter(version)?;
        if let Err(error) = publish::remove(&self.adapters, version) {
            // It is not installed any more, which is what was asked for.
            tracing::warn!(%version, %error, "the bundle of a retired version is left");
        }
        Ok(())
    }

    /// An installed version by its first digits.
    ///
    /// # Errors
    /// None or several begin so.
    pub fn find(&self, digits: &VersionDigits) -> Result<AdapterVersion, VersionsError> {
        let mut found = self.store.adapters()?;
        found.retain(|adapter| digits.begin(&adapter.version));
        match found.as_slice() {
            [one] => Ok(one.version.clone()),
            [] => Err(VersionsError::Unknown(digits.clone())),
            _ => Err(VersionsError::Ambiguous(digits.clone())),
        }
    }

    /// Moves `alias` to `version` if it is where it is expected; durable on return.
    ///
    /// # Errors
    /// [`VersionsError::Conflict`], a version that is not installed, a store that fails.
    pub fn promote(
        &self,
        alias: &Alias,
        version: &AdapterVersion,
        expected: &Expected,
        now_unix_ms: u64,
    ) -> Result<AliasRecord, VersionsError> {
        let actual = self.store.alias(alias)?.map(|record| record.version);
        let conflict = |actual| VersionsError::Conflict {
            alias: alias.clone(),
            actual,
        };
        if !expected.is_met_by(actual.as_ref()) {
            return Err(conflict(actual));
        }
        self.store
            .compare_and_swap_alias(alias, actual.as_ref(), version, now_unix_ms)
            .map_err(|error| match error {
                // Between the look above and the store's own somebody was faster.
                CasError::Conflict { actual, .. } => conflict(actual),
                error => error.into(),
            })
    }

    /// The version that `alias` named before, while it is installed: promote it to go back.
    ///
    /// # Errors
    /// [`VersionsError::NothingBefore`]; the store cannot be read.
    pub fn previous(&self, alias: &Alias) -> Result<AdapterVersion, VersionsError> {
        let previous = self.store.alias(alias)?.and_then(|record| record.previous);
        let nothing = || VersionsError::NothingBefore(alias.clone());
        let previous = previous.ok_or_else(nothing)?;
        match self.store.adapter(&previous)? {
            Some(_) => Ok(previous),
            None => Err(nothing()),
        }
    }

    /// Puts the demo version into a store that never had a version, and lets `alias` name it. It is
    /// made for the default model: with another one, the alias stays the bare base.
    ///
    /// # Errors
    /// The disk fails.
    pub fn install_demo(
        &self,
        base: &BaseModel,
        alias: &Alias,
        now_unix_ms: u64,
    ) -> Result<(), VersionsError> {
        if !self.store.adapters()?.is_empty() || self.store.alias(alias)?.is_some() {
            return Ok(());
        }
        let contents = demo::contents()?;
        let made_for = &contents.manifest.base;
        if made_for.sha256 != base.sha256 {
            tracing::info!(model = %base.id, "no demo version: it is made for {}", made_for.name);
            return Ok(());
        }
        let version = publish::write(&self.adapters, &contents)?;
        self.record(
            &version,
            contents.manifest.name,
            AdapterSource::Demo,
            now_unix_ms,
        )?;
        self.store
            .compare_and_swap_alias(alias, None, &version, now_unix_ms)?;
        tracing::info!(%version, "installed the demo version: users alice and bob");
        Ok(())
    }

    /// Loads every installed version that is made for `base`, and points the aliases and begins the
    /// canaries as the store has them. Versions of other base models stay on disk, with a warning.
    ///
    /// # Errors
    /// A version of this base model that is damaged: better no start than another answer.
    pub fn restore(
        &self,
        base: &LoadedBase,
        registry: &AdapterRegistry,
    ) -> Result<(), VersionsError> {
        let mut skipped = Vec::new();
        for record in self.store.adapters()? {
            let dir = bundle_dir(&self.adapters, &record.version);
            match bundle::read(&dir, &base.config, &base.sha256) {
                Ok(adapter) => drop(registry.install(adapter)),
                Err(error @ AdapterError::Base { .. }) => {
                    tracing::warn!(version = %record.version, %error, "version not loaded");
                    skipped.push(record.version);
                }
                Err(error) => return Err(error.into()),
            }
        }
        for record in self.store.aliases()? {
            if skipped.contains(&record.version) {
                tracing::warn!(alias = %record.alias, "the alias names the bare base: its version is for another model");
                continue;
            }
            registry.restore(&record.alias, &record.version, record.previous.as_ref())?;
        }
        for record in self.store.canaries()? {
            if skipped.contains(&record.version) {
                tracing::warn!(alias = %record.alias, "no canary: its version is for another model");
                continue;
            }
            let alias = record.alias.clone();
            registry.set_canary(&alias, record.into())?;
        }
        Ok(())
    }
}

impl From<CanaryRecord> for Canary {
    fn from(record: CanaryRecord) -> Self {
        Self {
            version: record.version,
            permille: record.permille,
            started_unix_ms: record.started_unix_ms,
        }
    }
}

/// A line for each installed version, for people.
///
/// # Errors
/// The store cannot be read.
pub fn describe(versions: &Versions) -> Result<String, VersionsError> {
    let (aliases, canaries) = (versions.store.aliases()?, versions.store.canaries()?);
    let mut lines = String::new();
    for record in versions.store.adapters()? {
        let named = aliases.iter().filter(|a| a.version == record.version);
        let tried = canaries.iter().filter(|c| c.version == record.version);
        let share = |c: &CanaryRecord| format!("{} ({} %)", c.alias, f64::from(c.permille) / 10.0);
        let named = named.map(|a| a.alias.to_string());
        let named: Vec<String> = named.chain(tried.map(share)).collect();
        let manifest = read_manifest(&bundle_dir(&versions.adapters, &record.version));
        lines.push_str(&format!(
            "{}  {:<10} {:<24} {}\n",
            record.version,
            named.join(","),
            record.name.as_deref().unwrap_or("-"),
            manifest.map_or_else(|e| e.to_string(), |m| summary(&m)),
        ));
    }
    Ok(lines)
}

fn read_manifest(dir: &Path) -> Result<Manifest, AdapterError> {
    bundle::verify(dir).map(|v| v.manifest)
}

/// What a version is made of, in one line.
pub fn summary(manifest: &Manifest) -> String {
    let lora = manifest
        .lora
        .as_ref()
        .map(|l| format!("LoRA rank {}", l.rank));
    let users = manifest
        .user_model
        .as_ref()
        .map(|u| format!("{} users x {} rows", u.n_users, u.n_user_tokens));
    let parts: Vec<String> = [lora, users].into_iter().flatten().collect();
    format!("{} for {}", parts.join(", "), manifest.base.name)
}
