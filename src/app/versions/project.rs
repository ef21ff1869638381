//! The store becomes the next projection.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::VersionsError;
use super::live::LiveVersions;
use super::projection::{InstalledVersion, Named, Projection};
use crate::adapter::about::About;
use crate::adapter::bundle::bundle_dir;
use crate::adapter::lease::Loaded;
use crate::ids::{AdapterVersion, Alias};
use crate::store::AdapterRecord;

type Versions = BTreeMap<AdapterVersion, Arc<InstalledVersion>>;

impl LiveVersions {
    /// What the store says now. What `before` knows of a version's manifest is not read again.
    ///
    /// # Errors
    /// The store cannot be read; a version that an alias names or tries cannot be loaded.
    pub(super) fn project(&self, before: &Projection) -> Result<Projection, VersionsError> {
        let mut versions = Versions::new();
        for record in self.store().adapters()? {
            let known = before.versions.get(&record.version);
            let known = known.filter(|known| known.record == record).cloned();
            let installed = known.unwrap_or_else(|| Arc::new(self.look_at(record)));
            versions.insert(installed.record.version.clone(), installed);
        }
        let mut aliases: BTreeMap<Alias, Named> = BTreeMap::new();
        for record in self.store().aliases()? {
            let named = aliases.entry(record.alias.clone()).or_default();
            named.current = self.answering(&versions, &record.alias, &record.version)?;
            named.record = Some(record);
        }
        for canary in self.store().canaries()? {
            let named = aliases.entry(canary.alias.clone()).or_default();
            named.tried = self.answering(&versions, &canary.alias, &canary.version)?;
            named.canary = Some(canary);
        }
        Ok(Projection {
            split: before.split.clone(),
            versions,
            aliases,
            successors: self.store().successors()?,
        })
    }

    /// Warns of versions that cannot answer. What an alias names can, or the start has failed.
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
                    tracing::warn!(%version, "a version is made for another base model");
                }
                Ok(_) => {}
            }
        }
        for (alias, named) in now.aliases() {
            if named.record.is_some() && named.current.is_none() {
                tracing::warn!(%alias, "the alias names the bare base: its version is for another model");
            }
            if named.canary.is_some() && named.tried.is_none() {
                tracing::warn!(%alias, "no canary: its version is for another model");
            }
        }
    }

    fn look_at(&self, record: AdapterRecord) -> InstalledVersion {
        let about = match self.loaded.hold(&record.version) {
            Some(loaded) => Ok(About::of(loaded.adapter(), &self.base.sha256)),
            None => About::read(&bundle_dir(self.disk.adapters_dir(), &record.version)),
        };
        let about = about.map_err(|error| error.to_string());
        InstalledVersion {
            fits: matches!(&about, Ok(about) if about.base_sha256 == self.base.sha256),
            record,
            about,
        }
    }

    /// The version that an alias names or tries, in memory; `None`: it is for another base model, and
    /// the bare base answers.
    fn answering(
        &self,
        versions: &Versions,
        alias: &Alias,
        version: &AdapterVersion,
    ) -> Result<Option<Arc<Loaded>>, VersionsError> {
        let held = match versions.get(version) {
            Some(installed) => self.hold(installed),
            None => Err(VersionsError::NotInstalled(version.clone())),
        };
        match held {
            Ok(loaded) => Ok(Some(loaded)),
            Err(VersionsError::OtherBase(_)) => Ok(None),
            Err(error) => Err(VersionsError::Named {
                alias: alias.clone(),
                version: version.clone(),
                reason: error.to_string(),
            }),
        }
    }
}
