//! The records and bundles of a data directory: what is installed, what the aliases name.
//!
//! A data directory holds `store/` (records) and `adapters/VERSION/` (bundles). A version is
//! installed when its bundle is in place *and* its record is durable, in this order; a crash between
//! the two leaves a bundle that nobody names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::VersionsError;
use super::forgetting;
use attune_adapter::publish::Offered;
use attune_adapter::{demo, publish};
use attune_base_model::BaseModel;
use attune_files::Links;
use attune_ids::{AdapterVersion, Alias, VersionDigits};
use attune_model::config::ModelConfig;
use attune_store::{AdapterRecord, AdapterSource, AliasRecord, CasError, Store, StoreError};

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
            tracing::warn!(%error, "what a killed process left behind could not be removed");
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

    /// A copy of the bundle in `dir`, which is the operator's own: links are followed.
    ///
    /// # Errors
    /// A bundle that does not verify; nothing was changed.
    pub fn offered(&self, dir: &Path) -> Result<Offered, VersionsError> {
        let offered = Offered::copied(dir, &self.adapters, Links::Follow)?;
        offered.verify()?;
        Ok(offered)
    }

    /// Publishes what was read or made, and records it. People who were deleted after what was learned of
    /// them are left out: then the version has another name. `base`: the model that is served, where it is
    /// known.
    ///
    /// # Errors
    /// A bundle that does not verify, or does not fit `base`; nothing was changed.
    pub fn install_offered(
        &self,
        offered: Offered,
        base: Option<&LoadedBase>,
        source: AdapterSource,
        now_unix_ms: u64,
    ) -> Result<AdapterVersion, VersionsError> {
        match base {
            Some(base) => offered.check(&base.config, &base.sha256)?,
            None => offered.verify()?,
        }
        let (named, offered) = self.without_deleted(offered)?;
        let name = offered.name()?;
        let version = offered.publish_anew(&self.adapters)?;
        let record = AdapterRecord {
            version: version.clone(),
            name,
            installed_unix_ms: now_unix_ms,
            source,
        };
        self.record_as(&named, &record)?;
        Ok(version)
    }

    /// A bundle on its way in, without the people who were deleted after what was learned of them; and the
    /// name that it had with them.
    ///
    /// # Errors
    /// A bundle that cannot be used; the store cannot be read.
    pub(super) fn without_deleted(
        &self,
        offered: Offered,
    ) -> Result<(AdapterVersion, Offered), VersionsError> {
        let named = offered.version().clone();
        let deletions = self.store.deletions()?;
        if deletions.is_empty() {
            return Ok((named, offered));
        }
        let gone = forgetting::deleted(&deletions, offered.people()?);
        if gone.is_empty() {
            return Ok((named, offered));
        }
        let people = gone.len();
        tracing::info!(version = %named, people, "a bundle knows people who were deleted; they are left out");
        Ok((named, offered.without(&gone)?))
    }

    /// Records a version whose bundle is in place, which was offered under the name `named`; false if it was
    /// recorded before.
    ///
    /// # Errors
    /// The write fails.
    pub(super) fn record_as(
        &self,
        named: &AdapterVersion,
        record: &AdapterRecord,
    ) -> Result<bool, StoreError> {
        if *named == record.version {
            return Ok(self.store.insert_adapter(record)? == *record);
        }
        let new = self.store.adapter(&record.version)?.is_none();
        let now_unix_ms = record.installed_unix_ms;
        self.store.replace_adapter(named, record, now_unix_ms)?;
        Ok(new)
    }

    /// Records a version whose bundle is in place; false if it was recorded before.
    ///
    /// # Errors
    /// The write fails.
    pub fn record(
        &self,
        version: &AdapterVersion,
        name: Option<String>,
        source: AdapterSource,
        installed_unix_ms: u64,
    ) -> Result<bool, StoreError> {
        let record = AdapterRecord {
            version: version.clone(),
            name,
            installed_unix_ms,
            source,
        };
        self.record_as(version, &record)
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
            tracing::warn!(%version, %error, "the bundle of a retired version could not be removed");
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
            [] => self.replaced(digits),
            _ => Err(VersionsError::Ambiguous(digits.clone())),
        }
    }

    /// The version in the place of the one that began with `digits`.
    fn replaced(&self, digits: &VersionDigits) -> Result<AdapterVersion, VersionsError> {
        let successors = self.store.successors()?.into_iter();
        let new: BTreeSet<_> = successors
            .filter(|(old, _)| digits.begin(old))
            .map(|(_, new)| new)
            .collect();
        let mut new = new.into_iter();
        let unknown = || VersionsError::Unknown(digits.clone());
        match (new.next(), new.next()) {
            (Some(_), Some(_)) => Err(VersionsError::Ambiguous(digits.clone())),
            (Some(one), None) if self.store.adapter(&one)?.is_some() => Ok(one),
            _ => Err(unknown()),
        }
    }

    /// Whether `actual` is where it is expected: a version that was replaced stands for the one in its
    /// place.
    fn is_met(
        &self,
        expected: &Expected,
        actual: Option<&AdapterVersion>,
    ) -> Result<bool, VersionsError> {
        if expected.is_met_by(actual) {
            return Ok(true);
        }
        let Expected::Version(digits) = expected else {
            return Ok(false);
        };
        match self.replaced(digits) {
            Ok(new) => Ok(Some(&new) == actual),
            Err(VersionsError::Unknown(_) | VersionsError::Ambiguous(_)) => Ok(false),
            Err(error) => Err(error),
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
        if !self.is_met(expected, actual.as_ref())? {
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
}
