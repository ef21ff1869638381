//! Old versions go: of those that nobody needs, the newest few are kept.

use std::collections::BTreeSet;

use super::live::LiveVersions;
use crate::app::error::AppError;
use attune_ids::AdapterVersion;
use attune_store::{AdapterRecord, Store, StoreError};

/// A version that was just installed is about to be promoted: how long it stays whatever happens, in
/// milliseconds.
const GRACE_MS: u64 = 3_600_000;

impl LiveVersions {
    /// Takes out the versions that nobody needs, but for the `keep` newest of them. Needed is what an alias
    /// names, named before, or tries, what a request holds, and what was installed within the last hour.
    ///
    /// # Errors
    /// The store cannot be read or written; what was taken out is out.
    pub fn prune(&self, keep: usize, now_unix_ms: u64) -> Result<Vec<AdapterVersion>, AppError> {
        let _changing = self.changing();
        let mut idle = unreferenced(self.store())?;
        idle.sort_by_key(|record| std::cmp::Reverse(record.installed_unix_ms));
        let is_old = |record: &AdapterRecord| {
            record.installed_unix_ms.saturating_add(GRACE_MS) <= now_unix_ms
        };
        let mut pruned = Vec::new();
        for record in idle.into_iter().skip(keep).filter(is_old) {
            let version = record.version;
            if self.loaded.leases(&version).unwrap_or(0) > 0 {
                continue;
            }
            self.take_out(&version)?;
            tracing::info!(%version, keep, "retired: it is not among the newest that are kept");
            pruned.push(version);
        }
        Ok(pruned)
    }
}

/// The versions that no alias names, named before, or tries.
fn unreferenced(store: &Store) -> Result<Vec<AdapterRecord>, StoreError> {
    let mut needed = BTreeSet::new();
    for alias in store.aliases()? {
        needed.insert(alias.version);
        needed.extend(alias.previous);
    }
    needed.extend(store.canaries()?.into_iter().map(|canary| canary.version));
    let mut records = store.adapters()?;
    records.retain(|record| !needed.contains(&record.version));
    Ok(records)
}
