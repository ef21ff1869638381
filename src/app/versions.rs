//! Store, bundles and registry, kept in step: what is installed, what the alias names.
//!
//! A data directory holds `store/` (records) and `adapters/VERSION/` (bundles). A version is
//! installed when its bundle is in place *and* its record is durable, in this order; a crash between
//! the two leaves a bundle that nobody names.

use std::path::{Path, PathBuf};

use crate::adapter::bundle::{self, bundle_dir};
use crate::adapter::error::AdapterError;
use crate::adapter::manifest::Manifest;
use crate::adapter::registry::{AdapterRegistry, PromoteError};
use crate::adapter::{demo, publish};
use crate::base_model::BaseModel;
use crate::ids::{AdapterVersion, Alias};
use crate::store::{AdapterRecord, AdapterSource, CasError, Store, StoreError};

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
    /// A version that is not installed, or several that begin alike.
    #[error("{0}")]
    Unknown(String),
}

/// The versions of one data directory.
#[derive(Debug, Clone)]
pub struct Versions {
    store: Store,
    adapters: PathBuf,
}

impl Versions {
    /// Opens `data_dir`; makes it if it is not there.
    ///
    /// # Errors
    /// The store is locked by another process, damaged, newer than this program, or the disk fails.
    pub fn open(data_dir: &Path, now_unix_ms: u64) -> Result<Self, StoreError> {
        let store = Store::open(&data_dir.join("store"), now_unix_ms)?;
        Ok(Self {
            store,
            adapters: data_dir.join("adapters"),
        })
    }

    /// The records.
    pub fn store(&self) -> &Store {
        &self.store
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

    /// An installed version by its first digits.
    ///
    /// # Errors
    /// None or several begin so.
    pub fn find(&self, digits: &str) -> Result<AdapterVersion, VersionsError> {
        let mut found = self.store.adapters()?;
        found.retain(|a| digits.len() >= 8 && a.version.as_str().starts_with(digits));
        match found.as_slice() {
            [one] => Ok(one.version.clone()),
            [] => Err(VersionsError::Unknown(format!(
                "no installed version begins with {digits:?} (give 8 or more digits); `attune adapter list` shows those there are"
            ))),
            _ => Err(VersionsError::Unknown(format!("several versions begin with {digits:?}"))),
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

    /// Loads every installed version that is made for `base` and points the aliases as the store
    /// has them. Versions of other base models stay on disk, with a warning.
    ///
    /// # Errors
    /// A version of this base model that is damaged: better no start than another answer.
    pub fn restore(
        &self,
        base: &BaseModel,
        registry: &AdapterRegistry,
    ) -> Result<(), VersionsError> {
        let mut skipped = Vec::new();
        for record in self.store.adapters()? {
            let dir = bundle_dir(&self.adapters, &record.version);
            match bundle::read(&dir, base.decoder.config(), &base.sha256) {
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
        Ok(())
    }
}

/// A line for each installed version, for people.
///
/// # Errors
/// The store cannot be read.
pub fn describe(versions: &Versions) -> Result<String, VersionsError> {
    let aliases = versions.store.aliases()?;
    let mut lines = String::new();
    for record in versions.store.adapters()? {
        let named: Vec<&str> = aliases
            .iter()
            .filter(|a| a.version == record.version)
            .map(|a| a.alias.as_str())
            .collect();
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
