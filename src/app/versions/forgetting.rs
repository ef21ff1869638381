//! People who were deleted leave the versions, too.
//!
//! A deleted person's rows are out of reach at once (`app::people`). Some time later, for many deletions at
//! once, each installed version that knows them is replaced by one without their ids and rows:
//!
//! 1. *publish*: the new bundle lies beside the old one. Nobody names it yet.
//! 2. *replace*: one transaction of the store (`store::successors`): the new version is installed, aliases and
//!    canaries name it, and the old name leads to it.
//! 3. *remove*: the old files go.
//!
//! After a crash before 2 the next run makes the same bundle again, which changes nothing, and goes on.
//! After one before 3 the old files are those of a version that was replaced, which `sweep` removes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::data_dir::Versions;
use super::error::VersionsError;
use attune_adapter::bundle::{self, bundle_dir};
use attune_adapter::data_until::DataUntil;
use attune_adapter::error::AdapterError;
use attune_adapter::publish::{self, Offered};
use attune_adapter::without::people_of;
use attune_files::Links;
use attune_ids::{AdapterVersion, UserKey};
use attune_store::{AdapterRecord, Deletions};

/// An installed version that knows people who were deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembering {
    /// Its record.
    pub record: AdapterRecord,
    /// Those people.
    pub gone: BTreeSet<UserKey>,
}

/// What became of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The version that knew them.
    pub old: AdapterVersion,
    /// The version in its place.
    pub new: AdapterVersion,
    /// How many people left.
    pub people: usize,
}

/// Those of `people` who were deleted after what was learned of them, or may have been.
pub fn deleted(deletions: &Deletions, people: Vec<(UserKey, DataUntil)>) -> BTreeSet<UserKey> {
    let is_gone =
        |user: &UserKey, until: DataUntil| deletions.of(user).is_some_and(|at| !until.is_after(at));
    let gone = people
        .into_iter()
        .filter(|(user, until)| is_gone(user, *until));
    gone.map(|(user, _)| user).collect()
}

impl Versions {
    /// The installed versions that know people who were deleted. One whose manifest cannot be read is left
    /// out, with a warning.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn remembering(&self) -> Result<Vec<Remembering>, VersionsError> {
        let deletions = self.store().deletions()?;
        if deletions.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for record in self.store().adapters()? {
            let dir = bundle_dir(self.adapters_dir(), &record.version);
            match people_of(&dir) {
                Ok(people) => {
                    let gone = deleted(&deletions, people);
                    if !gone.is_empty() {
                        found.push(Remembering { record, gone });
                    }
                }
                Err(error) => tracing::warn!(
                    version = %record.version, %error,
                    "whether a damaged version knows people who were deleted is not known; retire it"
                ),
            }
        }
        Ok(found)
    }

    /// Step 1: the version without those people lies beside the old one.
    ///
    /// # Errors
    /// A bundle that cannot be used; a disk that fails.
    pub fn publish_without(&self, found: &Remembering) -> Result<AdapterRecord, VersionsError> {
        let dir = bundle_dir(self.adapters_dir(), &found.record.version);
        let without = Offered::read(&dir)?.without(&found.gone)?;
        let name = without.name()?;
        let version = without.publish(self.adapters_dir())?;
        Ok(AdapterRecord {
            version,
            name,
            ..found.record.clone()
        })
    }

    /// Steps 1 to 3 for every version, where no server runs.
    ///
    /// # Errors
    /// The first version that could not be replaced, after all others were: as
    /// [`publish_without`](Self::publish_without); the store cannot write.
    pub fn forget_deleted(&self, now_unix_ms: u64) -> Result<Vec<Replaced>, VersionsError> {
        let (mut replaced, mut failed) = (Vec::new(), None);
        for found in self.remembering()? {
            match self.replace(&found, now_unix_ms) {
                Ok(done) => replaced.push(done),
                Err(error) => {
                    failed.get_or_insert(found.not_replaced(error));
                }
            }
        }
        self.sweep()?;
        failed.map_or(Ok(replaced), Err)
    }

    fn replace(&self, found: &Remembering, now_unix_ms: u64) -> Result<Replaced, VersionsError> {
        let new = self.publish_without(found)?;
        let old = &found.record.version;
        self.store().replace_adapter(old, &new, now_unix_ms)?;
        publish::remove(self.adapters_dir(), old)?;
        Ok(found.replaced_by(new.version))
    }

    /// Removes bundles of versions that were replaced, and bundles that nobody names and that know people
    /// who were deleted. Only while nobody installs.
    ///
    /// # Errors
    /// The store cannot be read; a disk that fails.
    pub fn sweep(&self) -> Result<(), VersionsError> {
        let (successors, deletions) = (self.store().successors()?, self.store().deletions()?);
        if !self.adapters_dir().is_dir() {
            return Ok(());
        }
        for listed in bundle::versions_in(self.adapters_dir())? {
            if self.store().adapter(&listed)?.is_some() {
                continue;
            }
            let knows = || match people_of(&bundle_dir(self.adapters_dir(), &listed)) {
                Ok(people) => !deleted(&deletions, people).is_empty(),
                Err(_) => false,
            };
            if successors.contains_key(&listed) || (!deletions.is_empty() && knows()) {
                publish::remove(self.adapters_dir(), &listed)?;
                tracing::info!(version = %listed, "removed a bundle that no record names");
            }
        }
        Ok(())
    }

    /// Replaces, in a folder from which bundles are installed, those that know people who were deleted by
    /// bundles without them: in the folder itself, and in the directories in it. Links are not followed. A
    /// bundle that cannot be read or replaced is left, with a warning.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn forget_in_folder(&self, folder: &Path) -> Result<usize, VersionsError> {
        let deletions = self.store().deletions()?;
        if deletions.is_empty() {
            return Ok(0);
        }
        let mut replaced = 0;
        let is_plain_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let inner = entries
            .map(|entry| entry.path())
            .filter(|p| is_plain_dir(p));
        for parent in inner.chain([folder.to_owned()]) {
            for version in bundle::versions_in(&parent).unwrap_or_default() {
                let dir = bundle_dir(&parent, &version);
                if !is_plain_dir(&dir) {
                    continue;
                }
                match forget_in(&parent, &version, &deletions) {
                    Ok(done) => replaced += usize::from(done),
                    Err(error) => tracing::warn!(
                        dir = %dir.display(), %error,
                        "a bundle in the bundle folder may know people who were deleted; remove it"
                    ),
                }
            }
        }
        Ok(replaced)
    }
}

impl Remembering {
    /// What became of it.
    pub fn replaced_by(&self, new: AdapterVersion) -> Replaced {
        Replaced {
            old: self.record.version.clone(),
            new,
            people: self.gone.len(),
        }
    }

    /// Logs that it could not be replaced; the error names it.
    pub fn not_replaced(&self, error: VersionsError) -> VersionsError {
        let version = &self.record.version;
        tracing::error!(%version, %error, "a version still knows people who were deleted");
        match error {
            VersionsError::Adapter(source) => VersionsError::Load {
                version: version.clone(),
                source: source.into(),
            },
            other => other,
        }
    }
}

/// Replaces one bundle, which need not be installed; false: it knows nobody who was deleted.
fn forget_in(
    parent: &Path,
    version: &AdapterVersion,
    deletions: &Deletions,
) -> Result<bool, AdapterError> {
    let dir = bundle_dir(parent, version);
    let gone = deleted(deletions, people_of(&dir)?);
    if gone.is_empty() {
        return Ok(false);
    }
    // The folder may be the operator's: what others may cut short is not mapped.
    Offered::copied(&dir, parent, Links::Refuse)?
        .without(&gone)?
        .publish(parent)?;
    publish::remove(parent, version)?;
    Ok(true)
}
