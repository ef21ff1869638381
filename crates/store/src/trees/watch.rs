//! What changes while somebody reads everything.
//!
//! sled has no snapshots. Who reads all records without stopping writers watches them: each transaction
//! notes, before it is done, the keys that it changes and what was there. A reader that meets a record
//! later takes what was noted; a compaction reads again what was noted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::PoisonError;

use crate::trees::opened::{backend, Opened};
use crate::trees::{Edit, Trees};
use crate::StoreError;

/// Bytes of keys and old values that are noted; beyond them the watch is given up.
const MOST_BYTES: usize = 256 << 20;

/// What was under a key when the watch began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Was {
    /// Nothing.
    Nothing,
    /// A record that was removed since, and whose content nobody may have any more.
    Removed,
    /// This.
    Value(Vec<u8>),
}

/// A key that was changed.
pub(crate) struct Touched {
    pub(crate) tree: &'static str,
    pub(crate) key: Vec<u8>,
    /// What was there when the watch began, or when such keys were taken last.
    pub(crate) was: Was,
}

/// Which trees lose what is removed at once, and which show the moment when the watch began.
pub(crate) type Removals = fn(&'static str) -> bool;

/// The keys that were changed since the watch began.
pub(super) struct Watch {
    wins: Removals,
    touched: BTreeMap<(&'static str, Vec<u8>), Was>,
    bytes: usize,
    overflowed: bool,
}

impl Watch {
    /// Notes what `edits` are about to change.
    pub(super) fn note(&mut self, opened: &Opened, edits: &[Edit]) -> Result<(), StoreError> {
        for edit in edits {
            let key = (edit.tree, edit.key.clone());
            let removed = edit.value.is_none() && (self.wins)(edit.tree);
            if let Some(was) = self.touched.get_mut(&key) {
                if removed && !matches!(was, Was::Nothing) {
                    *was = Was::Removed;
                }
                continue;
            }
            let old = opened.tree(edit.tree).get(&edit.key);
            let was = match old.map_err(backend("read"))? {
                None => Was::Nothing,
                Some(_) if removed => Was::Removed,
                Some(old) => Was::Value(old.to_vec()),
            };
            self.bytes += edit.key.len() + 64;
            if let Was::Value(old) = &was {
                self.bytes += old.len();
            }
            self.overflowed |= self.bytes > MOST_BYTES;
            if !self.overflowed {
                self.touched.insert(key, was);
            }
        }
        Ok(())
    }
}

/// A watch that lasts as long as this.
pub(crate) struct Watching<'a>(&'a Trees);

impl Trees {
    /// Notes what changes from now on. The caller holds the writer for this moment, and is the only one
    /// that watches. `wins`: in these trees a removal is not undone by the watch.
    pub(crate) fn watch(&self, wins: Removals) -> Watching<'_> {
        *self.watched() = Some(Watch {
            wins,
            touched: BTreeMap::new(),
            bytes: 0,
            overflowed: false,
        });
        Watching(self)
    }

    pub(super) fn watched(&self) -> std::sync::MutexGuard<'_, Option<Watch>> {
        // Each note is whole.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching<'_> {
    /// What was under `key` when the watch began; `None`: what is there now.
    pub(crate) fn was(&self, tree: &'static str, key: &[u8]) -> Option<Was> {
        let watched = self.0.watched();
        let touched = &watched.as_ref()?.touched;
        match touched.is_empty() {
            true => None,
            false => touched.get(&(tree, key.to_vec())).cloned(),
        }
    }

    /// The values, of keys of `tree` between `after` and `before`, that were there when the watch began:
    /// of what a reader does not meet any more.
    pub(crate) fn gone(
        &self,
        tree: &'static str,
        after: Option<&[u8]>,
        before: Option<&[u8]>,
    ) -> Vec<Vec<u8>> {
        let watched = self.0.watched();
        let Some(touched) = watched.as_ref().map(|watch| &watch.touched) else {
            return Vec::new();
        };
        if touched.is_empty() {
            return Vec::new();
        }
        let from = match after {
            Some(key) => Bound::Excluded((tree, key.to_vec())),
            None => Bound::Included((tree, Vec::new())),
        };
        let noted = touched.range((from, Bound::Unbounded));
        let noted = noted.take_while(|((t, key), _)| {
            *t == tree && before.is_none_or(|before| key.as_slice() < before)
        });
        let values = noted.filter_map(|(_, was)| match was {
            Was::Value(value) => Some(value.clone()),
            _ => None,
        });
        values.collect()
    }

    /// All keys that were noted and not taken yet, with what was there.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if so much was changed that not all of it was noted.
    pub(crate) fn take(&self) -> Result<Vec<Touched>, StoreError> {
        let mut watched = self.0.watched();
        let Some(watch) = watched.as_mut() else {
            return Ok(Vec::new());
        };
        if watch.overflowed {
            return Err(StoreError::Busy);
        }
        watch.bytes = 0;
        let touched = std::mem::take(&mut watch.touched).into_iter();
        Ok(touched
            .map(|((tree, key), was)| Touched { tree, key, was })
            .collect())
    }

    /// As if that much had been changed.
    #[cfg(test)]
    pub(crate) fn overflow(&self) {
        if let Some(watch) = self.0.watched().as_mut() {
            watch.overflowed = true;
        }
    }

    /// # Errors
    /// [`StoreError::Busy`] if so much was changed that not all of it was noted.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self
            .0
            .watched()
            .as_ref()
            .is_some_and(|watch| watch.overflowed)
        {
            true => Err(StoreError::Busy),
            false => Ok(()),
        }
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        *self.0.watched() = None;
    }
}
