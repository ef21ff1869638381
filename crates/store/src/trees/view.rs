//! Reads.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::meta::{self, Counts, Meta};
use crate::record::{self, Record};
use crate::trees::opened::{backend, Opened};
use crate::trees::Trees;
use crate::StoreError;

/// A key and its value, or why they cannot be read.
pub(crate) type Entry = Result<(Vec<u8>, Vec<u8>), StoreError>;

/// Reads of one database. Whoever reads on because of what they read uses one view for all of it: a
/// second one may have to wait for a compaction that waits for the first.
#[derive(Clone)]
pub(crate) struct View {
    opened: Arc<Opened>,
    reads: Arc<AtomicU64>,
}

impl View {
    /// The value under `key`.
    pub(crate) fn get(
        &self,
        tree: &'static str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let value = self.opened.tree(tree).get(key).map_err(backend("read"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// The `R` under `key`.
    pub(crate) fn record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        let value = self.get(R::TREE, key)?;
        value.map(|value| record::decode(key, &value)).transpose()
    }

    /// Keys and values of `tree` whose key starts with `prefix`, by key, up to the first error.
    pub(crate) fn scan(&self, tree: &'static str, prefix: &[u8]) -> impl Iterator<Item = Entry> {
        let found = self.opened.tree(tree).scan_prefix(prefix);
        self.entries(found)
    }

    /// Values of `tree` whose key starts with `prefix`, a whole list of parts: those behind the key
    /// `after`, in the order of keys or against it.
    pub(crate) fn page(
        &self,
        tree: &'static str,
        prefix: &[u8],
        after: Option<&[u8]>,
        backwards: bool,
    ) -> Box<dyn Iterator<Item = Entry>> {
        let (lower, upper) = all_below(prefix);
        let after = after.map(|key| Bound::Excluded(key.to_vec()));
        let tree = self.opened.tree(tree);
        match backwards {
            false => Box::new(self.entries(tree.range((after.unwrap_or(lower), upper)))),
            true => Box::new(self.entries(tree.range((lower, after.unwrap_or(upper))).rev())),
        }
    }

    /// The first key of `tree` that starts with `prefix`, a whole list of parts, from `from` on, in the order
    /// of keys or against it.
    pub(crate) fn first(
        &self,
        tree: &'static str,
        prefix: &[u8],
        from: Bound<Vec<u8>>,
        backwards: bool,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (lower, upper) = all_below(prefix);
        let range = match (from, backwards) {
            (Bound::Unbounded, _) => (lower, upper),
            (from, false) => (from, upper),
            (from, true) => (lower, from),
        };
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut found = self.opened.tree(tree).range(range);
        let first = if backwards {
            found.next_back()
        } else {
            found.next()
        };
        let first = first.transpose().map_err(backend("read"))?;
        Ok(first.map(|(key, _)| key.to_vec()))
    }

    /// What sled finds, up to the first error. The handles live as long as the iterator.
    fn entries<I>(&self, found: I) -> impl Iterator<Item = Entry>
    where
        I: Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    {
        let (view, mut found) = (self.clone(), Some(found));
        std::iter::from_fn(move || {
            // The whole view, not the counter alone: the database stays open for as long as this reads.
            let view = &view;
            let next = found.as_mut()?.next()?;
            view.reads.fetch_add(1, Ordering::Relaxed);
            if next.is_err() {
                found = None;
            }
            let entry = next.map_err(backend("read"));
            Some(entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
        })
    }
}

/// All keys that start with `prefix`, a whole list of parts.
fn all_below(prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    // Parts end with 00 00, so this is the first key that has not the prefix.
    let mut behind = prefix.to_vec();
    match behind.last_mut() {
        Some(last) => *last += 1,
        None => behind.push(0xff),
    }
    (Bound::Included(prefix.to_vec()), Bound::Excluded(behind))
}

impl Trees {
    /// The database as it is open now.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if none is.
    pub(crate) fn view(&self) -> Result<View, StoreError> {
        Ok(View {
            opened: self.opened()?,
            reads: self.reads.clone(),
        })
    }

    /// See [`View::get`].
    pub(crate) fn get(
        &self,
        tree: &'static str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.view()?.get(tree, key)
    }

    /// See [`View::record`].
    pub(crate) fn record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        self.view()?.record(key)
    }

    /// All `R`, by key.
    pub(crate) fn records<R: Record>(&self) -> impl Iterator<Item = Result<R, StoreError>> {
        self.scan(R::TREE, &[])
            .map(|entry| entry.and_then(|(key, value)| record::decode(&key, &value)))
    }

    /// See [`View::scan`].
    pub(crate) fn scan(&self, tree: &'static str, prefix: &[u8]) -> impl Iterator<Item = Entry> {
        let (entries, error) = match self.view() {
            Ok(view) => (Some(view.scan(tree, prefix)), None),
            Err(error) => (None, Some(Err(error))),
        };
        entries.into_iter().flatten().chain(error)
    }

    /// The names of all trees that are in the files, known or not, except sled's own if empty.
    pub(crate) fn names(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.opened()?.names())
    }

    /// The record about the store; `None` in a new database.
    pub(crate) fn meta(&self) -> Result<Option<Meta>, StoreError> {
        let value = self.get(meta::TREE, meta::META_KEY)?;
        value.map(|value| meta::decode_meta(&value)).transpose()
    }

    /// The recorded number of records of each tree.
    pub(crate) fn counts(&self) -> Result<Counts, StoreError> {
        meta::read_counts(self.get(meta::TREE, meta::COUNTS_KEY)?)
    }

    /// Records, and entries of indexes, that were read since the store was opened.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}
