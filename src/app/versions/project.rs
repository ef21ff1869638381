//! The store becomes the next projection.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::VersionsError;
use super::live::LiveVersions;
use super::projection::{Held, InstalledVersion, Named, Projection};
use attune_adapter::about::About;
use attune_adapter::bundle::bundle_dir;
use attune_ids::{AdapterVersion, Alias};
use attune_store::AdapterRecord;

type Versions = BTreeMap<AdapterVersion, Arc<InstalledVersion>>;

impl LiveVersions {
    /// What the store says now. What `before` knows of a version is not read again: neither its manifest, nor
    /// one that could not be loaded.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn project(&self, before: &Projection) -> Result<Projection, VersionsError> {
        let mut versions = Versions::new();
        for record in self.store().adapters()? {
            let known = before.versions.get(&record.version);
            // A manifest that could not be read may have been put back.
            let known = known.filter(|known| known.record == record && known.about.is_ok());
            let known = known.cloned();
            let installed = known.unwrap_or_else(|| Arc::new(self.look_at(record)));
            versions.insert(installed.record.version.clone(), installed);
        }
        let mut aliases: BTreeMap<Alias, Named> = BTreeMap::new();
        for record in self.store().aliases()? {
            let named = aliases.entry(record.alias.clone()).or_default();
            named.current = self.answering(&versions, &record.version, before);
            named.record = Some(record);
        }
        for canary in self.store().canaries()? {
            let named = aliases.entry(canary.alias.clone()).or_default();
            named.tried = self.answering(&versions, &canary.version, before);
            named.canary = Some(canary);
        }
        Ok(Projection {
            split: before.split.clone(),
            versions,
            aliases,
            successors: self.store().successors()?,
        })
    }

    /// Warns of versions that cannot answer.
    pub(super) fn warn(&self) {
        let now = self.now();
        for installed in now.versions() {
            let version = &installed.record.version;
            match &installed.about {
                Err(reason) => tracing::warn!(
                    %version, %reason,
                    "an installed version is damaged; retire it, or put its bundle back"
                ),
                Ok(_) if !installed.fits => {
                    tracing::warn!(%version, "a version was made for a different base model");
                }
                Ok(_) => {}
            }
        }
        for (alias, named) in now.aliases() {
            match &named.current {
                Held::Nothing if named.record.is_some() => tracing::warn!(
                    %alias, "the alias names the bare base: its version is for another model"
                ),
                Held::Broken { version, reason } => tracing::error!(
                    %alias, %version, %reason,
                    "the alias answers nobody: promote another version or roll back, or install this one again"
                ),
                Held::Nothing | Held::Version(_) => {}
            }
            match &named.tried {
                Held::Nothing if named.canary.is_some() => {
                    tracing::warn!(%alias, "no canary: its version is for another model");
                }
                Held::Broken { version, reason } => tracing::error!(
                    %alias, %version, %reason,
                    "no canary: its version cannot be loaded, and what the alias names answers"
                ),
                Held::Nothing | Held::Version(_) => {}
            }
        }
    }

    fn look_at(&self, record: AdapterRecord) -> InstalledVersion {
        let about = match self.loaded.hold(&record.version) {
            Some(loaded) => Ok(About::of(loaded.adapter(), &self.base.sha256)),
            None => About::read(&bundle_dir(self.disk.adapters_dir(), &record.version)),
        };
        InstalledVersion {
            fits: matches!(&about, Ok(about) if about.base_sha256 == self.base.sha256),
            record,
            about,
        }
    }

    /// The version that an alias names or tries, in memory.
    fn answering(
        &self,
        versions: &Versions,
        version: &AdapterVersion,
        before: &Projection,
    ) -> Held {
        let broken = |reason| Held::Broken {
            version: version.clone(),
            reason,
        };
        if let Some(reason) = before.broken(version) {
            // Whoever has tried again has it in memory now, if that went well.
            let loaded = self.loaded.hold(version);
            return loaded.map_or_else(|| broken(reason), Held::Version);
        }
        let held = match versions.get(version) {
            Some(installed) => self.hold(installed),
            None => Err(VersionsError::NotInstalled(version.clone())),
        };
        match held {
            Ok(loaded) => Held::Version(loaded),
            Err(VersionsError::OtherBase(_)) => Held::Nothing,
            Err(error) => broken(Arc::new(error)),
        }
    }
}
