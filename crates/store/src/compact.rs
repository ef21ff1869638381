//! Compaction: the same records in new files, without the bytes of what was deleted or replaced.
//!
//! sled keeps old bytes in its log until it reuses their space. So the records are written to a new
//! database beside the old one, which then takes its place: at no moment is there less than one
//! complete database in the directory. Writers go on while it is written, and what they changed is
//! written again, until little is left: only for that, and while the files change places, they wait.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::durable::Found;
use crate::record::KINDS;
use crate::trees::{Batch, Edit, Touched, Trees, Writer};
use crate::{keys, open, Store, StoreError};

/// How long readers that are under way may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Changed records that are few enough to let writers wait for them.
const FEW: usize = 200;
/// How often what was changed is written again before writers wait for the rest, however much it is.
const ROUNDS: usize = 20;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactSummary {
    /// Bytes of the files before.
    pub before: u64,
    /// Bytes of the files after.
    pub after: u64,
}

impl Store {
    /// Rewrites the store's files so that nothing is left in them that was deleted before the call.
    /// Writers wait for its end only, readers for the moment in which the files change places.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::NoRoom`], a full disk: the store is as it was. If the new files
    /// cannot be opened, it has failed until it is opened anew.
    pub fn compact(&self) -> Result<CompactSummary, StoreError> {
        self.compact_within(PATIENCE, &mut || {})
    }

    /// [`compact`](Self::compact), with a call between parts of the work.
    pub(super) fn compact_within(
        &self,
        patience: Duration,
        step: &mut dyn FnMut(),
    ) -> Result<CompactSummary, StoreError> {
        let _alone = self.alone();
        self.dir().tidy()?;
        let before = size(&self.dir().sled())?;
        self.trees().room().for_copy(before)?;
        let swapped = self.compact_alone(patience, step);
        if let Err(error) = swapped {
            self.dir().tidy()?;
            return Err(error);
        }
        Ok(CompactSummary {
            before,
            after: size(&self.dir().sled())?,
        })
    }

    fn compact_alone(&self, patience: Duration, step: &mut dyn FnMut()) -> Result<(), StoreError> {
        let (watching, erasures) = {
            let _writer = self.trees().writer()?;
            (self.trees().watch(|_| true), self.erasures())
        };
        let new = Trees::open(&self.dir().compacted(), Found::Durable)?;
        let writer = new.writer()?;
        self.copy_all(&writer, step)?;
        check_copy(self, &new)?;
        step();
        let mut rounds = 0;
        while rounds < ROUNDS {
            // No writer is between its note and its transaction while notes are taken.
            let touched = {
                let _writer = self.trees().writer()?;
                watching.take()?
            };
            let few = touched.len() <= FEW;
            self.copy_again(&writer, &touched)?;
            if few {
                break;
            }
            rounds += 1;
        }
        let last = self.trees().writer()?;
        self.copy_again(&writer, &watching.take()?)?;
        drop(watching);
        writer.set_meta(&open::current_meta(self.trees())?)?;
        drop(writer);
        if new.counts()? != self.trees().counts()? {
            let problem = "its counts are not those of its records; run `attune store verify`";
            return Err(self.dir().damaged(vec![problem.to_owned()]));
        }
        drop(new);
        drop(open::let_go(&self.dir().compacted())?);
        crate::files::sync_new(&self.dir().compacted())?;
        self.trees().replace(&last, patience, || {
            drop(open::let_go(&self.dir().sled())?);
            self.dir().swap_in_compacted()
        })?;
        // Who was erased meanwhile may have been copied before: their bytes wait for the next time.
        match self.erasures() == erasures {
            true => self.dir().unmark_erased(),
            false => Ok(()),
        }
    }

    /// Whether a person was erased whose bytes may be in the files still.
    pub fn wants_compaction(&self) -> bool {
        self.dir().is_marked_erased()
    }

    /// All records, as each is when it is met.
    fn copy_all(&self, new: &Writer<'_>, step: &mut dyn FnMut()) -> Result<(), StoreError> {
        for kind in KINDS {
            let mut batch = Batch::default();
            for entry in self.trees().scan(kind.tree, &[]) {
                let (key, value) = entry?;
                batch.push(Edit::put_raw(kind.tree, key, value));
                step();
                if batch.apply_if_full(new)? {
                    self.trees().room().for_copy(0)?;
                }
            }
            new.apply(&batch.take())?;
        }
        Ok(())
    }

    /// What was changed since the last time, as it is now.
    fn copy_again(&self, new: &Writer<'_>, touched: &[Touched]) -> Result<(), StoreError> {
        let view = self.trees().view()?;
        let mut batch = Batch::default();
        for Touched { tree, key, .. } in touched {
            batch.push(match view.get(tree, key)? {
                Some(value) => Edit::put_raw(tree, key.clone(), value),
                None => Edit::delete_raw(tree, key.clone()),
            });
            // What names another record may come before it: only the last time counts.
            batch.apply_if_full(new)?;
        }
        new.apply(&batch.take())
    }
}

/// Whether each record of the copy can be read: damage must not be carried on unseen.
fn check_copy(store: &Store, new: &Trees) -> Result<(), StoreError> {
    let mut problems = Vec::new();
    for kind in KINDS {
        for entry in new.scan(kind.tree, &[]) {
            let (key, value) = entry?;
            if let Err(reason) = (kind.canonical)(&value) {
                problems.push(format!("{} {}: {reason}", kind.tree, keys::show(&key)));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.truncate(100);
    problems.push("run `attune store verify`".to_owned());
    Err(store.dir().damaged(problems))
}

/// Bytes of the files below `path`.
pub(super) fn size(path: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for entry in fs::read_dir(path).map_err(StoreError::io("read", path))? {
        let entry = entry.map_err(StoreError::io("read", path))?;
        let metadata = match entry.metadata() {
            // sled removes files of large values that were replaced.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            metadata => metadata.map_err(StoreError::io("read", path))?,
        };
        bytes += match metadata.is_dir() {
            true => size(&entry.path())?,
            false => metadata.len(),
        };
    }
    Ok(bytes)
}
