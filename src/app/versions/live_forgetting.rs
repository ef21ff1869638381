//! People who were deleted leave the versions of a running server. Nobody else notices but for a new version
//! in their answers: those under way finish on the old one, whose memory goes with the last of them.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use super::error::VersionsError;
use super::forgetting::{Remembering, Replaced};
use super::live::LiveVersions;
use crate::app::error::AppError;
use attune_adapter::bundle::bundle_dir;
use attune_adapter::lease::Loaded;
use attune_adapter::publish;
use attune_store::AdapterRecord;

impl LiveVersions {
    /// [`forget_deleted`](Self::forget_deleted), once the first deletion that no run has seen yet is older than
    /// half of `within`: so all of them are done in time, and at most twice in that time versions get
    /// other names, which empties their prefix cache. (What is installed after a deletion leaves the person out;
    /// each installation has the deletions looked at again, for it may have been read before one of them.)
    ///
    /// # Errors
    /// As [`forget_deleted`](Self::forget_deleted).
    pub fn forget_when_due(
        &self,
        within: Duration,
        now_unix_ms: u64,
    ) -> Result<Vec<Replaced>, AppError> {
        let seen = self.forgotten_until.load(Ordering::Acquire);
        let deletions = self.store().deletions()?;
        let first = deletions.times().filter(|time| *time > seen).min();
        let patience = u64::try_from(within.as_millis() / 2).unwrap_or(u64::MAX);
        match first {
            Some(first) if first.saturating_add(patience) <= now_unix_ms => {
                self.forget_deleted(now_unix_ms)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Replaces the versions that know people who were deleted, and such bundles in the bundle folder.
    ///
    /// # Errors
    /// The first version that could not be replaced, after all others were: a bundle that is damaged, no
    /// room in memory, a disk or a store that fails. The next call goes on.
    pub fn forget_deleted(&self, now_unix_ms: u64) -> Result<Vec<Replaced>, AppError> {
        let _one = self.forgetting();
        let newest = self.store().deletions()?.times().max().unwrap_or(0);
        let (mut replaced, mut failed) = (Vec::new(), None);
        for found in self.disk.remembering()? {
            match self.replace(&found, now_unix_ms) {
                Ok(done) => replaced.extend(done),
                Err(error) => {
                    failed.get_or_insert(found.not_replaced(error));
                }
            }
        }
        self.disk.forget_in_folder(self.bundles())?;
        let _changing = self.changing();
        self.disk.sweep()?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        // Unless something was installed meanwhile that was read before somebody's deletion.
        if self.disk.remembering()?.is_empty() {
            self.forgotten_until.fetch_max(newest, Ordering::AcqRel);
        }
        Ok(replaced)
    }

    /// `None`: it was retired meanwhile.
    fn replace(
        &self,
        found: &Remembering,
        now_unix_ms: u64,
    ) -> Result<Option<Replaced>, VersionsError> {
        // The long part, before others have to wait.
        let new = self.disk.publish_without(found)?;
        let old = &found.record.version;
        let answers = self.now().names(old);
        let _held = answers.then(|| self.hold_new(&new)).transpose()?;
        let _changing = self.changing();
        if self.store().adapter(old)?.is_none() {
            return Ok(None);
        }
        self.store().replace_adapter(old, &new, now_unix_ms)?;
        self.follow()?;
        self.loaded.forget(old);
        publish::remove(self.disk.adapters_dir(), old)?;
        let replaced = found.replaced_by(new.version);
        let (old, new, people) = (&replaced.old, &replaced.new, replaced.people);
        tracing::info!(%old, %new, people, "a version was replaced by one without people who were deleted");
        Ok(Some(replaced))
    }

    /// In memory before an alias names it, so that nothing can fail then.
    fn hold_new(&self, new: &AdapterRecord) -> Result<Arc<Loaded>, VersionsError> {
        let dir = bundle_dir(self.disk.adapters_dir(), &new.version);
        let base = &self.base;
        let loaded = self.loaded.load(&dir, &base.config, &base.sha256);
        loaded.map_err(|source| VersionsError::Load {
            version: new.version.clone(),
            source,
        })
    }
}
