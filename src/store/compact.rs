//! Compaction: the same records in new files, without the bytes of what was deleted or replaced.
//!
//! sled keeps old bytes in its log until it reuses their space. So the records are written to a new
//! database beside the old one, which then takes its place: at no moment is there less than one
//! complete database in the directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::store::migrate::BATCH;
use crate::store::record::KINDS;
use crate::store::trees::{Edit, Trees};
use crate::store::{open, verify, Store, StoreError};

/// How long readers that are under way may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactSummary {
    /// Bytes of the files before.
    pub before: u64,
    /// Bytes of the files after.
    pub after: u64,
}

impl Store {
    /// Rewrites the store's files so that nothing deleted is left in them. Writers wait meanwhile,
    /// readers only for the moment in which the files change places.
    ///
    /// # Errors
    /// [`StoreError::Busy`], a full disk: the store is as it was. If the new files cannot be opened,
    /// it has failed until a restart.
    pub fn compact(&self) -> Result<CompactSummary, StoreError> {
        self.compact_within(PATIENCE)
    }

    pub(super) fn compact_within(&self, patience: Duration) -> Result<CompactSummary, StoreError> {
        let writer = self.trees().writer()?;
        self.dir().tidy()?;
        let before = size(&self.dir().sled())?;
        if let Err(error) = self.write_compacted() {
            self.dir().tidy()?;
            return Err(error);
        }
        self.trees().replace(&writer, patience, || {
            drop(open::let_go(&self.dir().sled())?);
            self.dir().swap_in_compacted()
        })?;
        self.dir().unmark_erased()?;
        Ok(CompactSummary {
            before,
            after: size(&self.dir().sled())?,
        })
    }

    /// Whether a person was erased whose bytes may be in the files still.
    pub fn wants_compaction(&self) -> bool {
        self.dir().is_marked_erased()
    }

    /// All records into a new database, which is verified and closed.
    fn write_compacted(&self) -> Result<(), StoreError> {
        let path = self.dir().compacted();
        let new = Trees::open(&path)?;
        let writer = new.writer()?;
        for kind in KINDS {
            let mut edits = Vec::new();
            for entry in self.trees().scan(kind.tree, &[]) {
                let (key, value) = entry?;
                edits.push(Edit::put_raw(kind.tree, key, value));
                if edits.len() >= BATCH {
                    writer.apply(&edits)?;
                    edits.clear();
                }
            }
            writer.apply(&edits)?;
        }
        writer.set_meta(&open::current_meta(self.trees())?)?;
        drop(writer);
        let report = verify::verify(&new)?;
        let counts_differ = new.counts()? != self.trees().counts()?;
        if !report.is_clean() || counts_differ {
            let mut problems = report.problems;
            problems.push("run `attune store verify`".to_owned());
            return Err(self.dir().damaged(problems));
        }
        drop(new);
        drop(open::let_go(&path)?);
        crate::store::files::sync_dir(&path)
    }
}

fn size(path: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for entry in fs::read_dir(path).map_err(StoreError::io("read", path))? {
        let entry = entry.map_err(StoreError::io("read", path))?;
        let metadata = entry.metadata().map_err(StoreError::io("read", path))?;
        bytes += match metadata.is_dir() {
            true => size(&entry.path())?,
            false => metadata.len(),
        };
    }
    Ok(bytes)
}
