//! The trees: the only file that names sled.
//!
//! All writes go through one [`Writer`] at a time: it checks and then applies its edits and the new
//! record counts in one sled transaction, lets the next writer in, and flushes before it returns.
//! Writers that wait for the disk at the same time share the work.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use sled::transaction::{
    ConflictableTransactionError, TransactionError, Transactional, TransactionalTree,
};

use crate::store::durable::Durable;
use crate::store::meta::{self, Counts, Meta};
use crate::store::record::{self, Record, KINDS};
use crate::store::StoreError;

/// Pages that sled may keep in memory, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// The tree that sled makes by itself. We keep nothing in it.
const SLED_DEFAULT_TREE: &str = "__sled__default";

/// A database that is open: the tree `meta` and one tree for each kind of record. A compaction puts
/// another one in its place.
pub(super) struct Trees {
    path: PathBuf,
    /// `None` while it is replaced, and for good if that failed half-way.
    open: RwLock<Option<Arc<Opened>>>,
    /// Held by the writer, from its checks to the end of its transaction.
    writing: Mutex<()>,
}

/// sled's handles. Readers hold them no longer than they read: a compaction waits for them.
struct Opened {
    db: sled::Db,
    meta: sled::Tree,
    by_name: BTreeMap<&'static str, sled::Tree>,
    durable: Durable,
}

/// One change of one record.
pub(super) struct Edit {
    tree: &'static str,
    key: Vec<u8>,
    /// `None` deletes.
    value: Option<Vec<u8>>,
}

impl Edit {
    /// Writes `record`.
    pub(super) fn put<R: Record>(record: &R) -> Result<Edit, StoreError> {
        Ok(Edit::put_raw(
            R::TREE,
            record.key(),
            record::encode(record)?,
        ))
    }

    /// Removes the `R` under `key`.
    pub(super) fn delete<R: Record>(key: Vec<u8>) -> Edit {
        Edit::delete_raw(R::TREE, key)
    }

    /// Writes an encoded record.
    pub(super) fn put_raw(tree: &'static str, key: Vec<u8>, value: Vec<u8>) -> Edit {
        Edit {
            tree,
            key,
            value: Some(value),
        }
    }

    /// Removes whatever is under `key`.
    pub(super) fn delete_raw(tree: &'static str, key: Vec<u8>) -> Edit {
        Edit {
            tree,
            key,
            value: None,
        }
    }
}

impl Trees {
    /// Opens or creates the database in `path`.
    pub(super) fn open(path: &Path) -> Result<Trees, StoreError> {
        Ok(Trees {
            path: path.to_owned(),
            open: RwLock::new(Some(Arc::new(Opened::open(path)?))),
            writing: Mutex::new(()),
        })
    }

    /// Closes the database, lets `swap` put another one in its place, and opens that. Reads wait
    /// meanwhile; `writer` keeps writes out.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if a reader does not end in time, and what `swap` says: then the database
    /// is the one that `swap` left in place. If that cannot be opened, the store has failed.
    pub(super) fn replace(
        &self,
        _writer: &Writer<'_>,
        patience: Duration,
        swap: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut slot = self.open.write().map_err(|_| StoreError::Failed)?;
        let deadline = Instant::now() + patience;
        let opened = slot.take().ok_or(StoreError::Failed)?;
        // New readers wait for the slot; those that read already hold a copy of `opened`.
        while Arc::strong_count(&opened) > 1 {
            if Instant::now() > deadline {
                *slot = Some(opened);
                return Err(StoreError::Busy);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(opened);
        let swapped = swap();
        *slot = Some(Arc::new(Opened::open(&self.path)?));
        swapped
    }

    fn opened(&self) -> Result<Arc<Opened>, StoreError> {
        let slot = self.open.read().map_err(|_| StoreError::Failed)?;
        slot.clone().ok_or(StoreError::Failed)
    }
}

impl Opened {
    fn open(path: &Path) -> Result<Opened, StoreError> {
        // No background flusher: every write flushes, and nothing is written between writes.
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let db = config.open().map_err(backend("open"))?;
        let meta = db.open_tree(meta::TREE).map_err(backend("open"))?;
        let mut by_name = BTreeMap::new();
        for kind in KINDS {
            let tree = db.open_tree(kind.tree).map_err(backend("open"))?;
            by_name.insert(kind.tree, tree);
        }
        Ok(Opened {
            db,
            meta,
            by_name,
            durable: Durable::open(path)?,
        })
    }

    fn tree(&self, name: &'static str) -> &sled::Tree {
        if name == meta::TREE {
            return &self.meta;
        }
        // Names come from `Record::TREE` of the rows of `KINDS`, all opened above. A kind that is
        // missing there reads as empty from sled's own tree, and `verify` names what is in it.
        self.by_name.get(name).unwrap_or(&self.db)
    }
}

impl Trees {
    /// Starts a write: what is read from here to `commit` stays true until then.
    ///
    /// # Errors
    /// [`StoreError::Failed`] after an earlier failure.
    pub(super) fn writer(&self) -> Result<Writer<'_>, StoreError> {
        // A writer that panicked left the lock poisoned, and perhaps half of its work.
        let guard = self.writing.lock().map_err(|_| StoreError::Failed)?;
        self.check()?;
        Ok(Writer {
            trees: self,
            _guard: guard,
        })
    }

    /// Whether writes can succeed as far as is known.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.opened()?.durable.check()
    }

    /// The value under `key`.
    pub(super) fn get(
        &self,
        tree: &'static str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let opened = self.opened()?;
        let value = opened.tree(tree).get(key).map_err(backend("read"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// The `R` under `key`.
    pub(super) fn record<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StoreError> {
        let value = self.get(R::TREE, key)?;
        value.map(|value| record::decode(key, &value)).transpose()
    }

    /// All `R`, by key.
    pub(super) fn records<R: Record>(&self) -> impl Iterator<Item = Result<R, StoreError>> + '_ {
        self.scan(R::TREE, &[])
            .map(|entry| entry.and_then(|(key, value)| record::decode(&key, &value)))
    }

    /// Keys and values of `tree` whose key starts with `prefix`, by key, up to the first error.
    pub(super) fn scan(
        &self,
        tree: &'static str,
        prefix: &[u8],
    ) -> impl Iterator<Item = Entry> + '_ {
        let opened = self.opened();
        entries(opened.map(|opened| (opened.tree(tree).scan_prefix(prefix), opened)))
    }

    /// Values of `tree` whose key starts with `prefix`, a whole list of parts: those behind the key
    /// `after`, in the order of keys or against it.
    pub(super) fn page(
        &self,
        tree: &'static str,
        prefix: &[u8],
        after: Option<&[u8]>,
        backwards: bool,
    ) -> Box<dyn Iterator<Item = Entry> + '_> {
        let lower = Bound::Included(prefix.to_vec());
        // Parts end with 00 00, so this is the first key that has not the prefix.
        let mut behind = prefix.to_vec();
        match behind.last_mut() {
            Some(last) => *last += 1,
            None => behind.push(0xff),
        }
        let upper = Bound::Excluded(behind);
        let after = after.map(|key| Bound::Excluded(key.to_vec()));
        let opened = self.opened();
        match backwards {
            false => {
                let range = (after.unwrap_or(lower), upper);
                Box::new(entries(opened.map(|o| (o.tree(tree).range(range), o))))
            }
            true => {
                let range = (lower, after.unwrap_or(upper));
                Box::new(entries(
                    opened.map(|o| (o.tree(tree).range(range).rev(), o)),
                ))
            }
        }
    }

    /// The names of all trees that are in the files, known or not, except sled's own if empty.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let opened = self.opened()?;
        let mut names: Vec<String> = opened
            .db
            .tree_names()
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .filter(|name| name != SLED_DEFAULT_TREE || !opened.db.is_empty())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The record about the store; `None` in a new database.
    pub(super) fn meta(&self) -> Result<Option<Meta>, StoreError> {
        let value = self.get(meta::TREE, meta::META_KEY)?;
        value.map(|value| meta::decode_meta(&value)).transpose()
    }

    /// The recorded number of records of each tree.
    pub(super) fn counts(&self) -> Result<Counts, StoreError> {
        read_counts(self.get(meta::TREE, meta::COUNTS_KEY)?)
    }
}

/// What sled finds, up to the first error. The handles live as long as the iterator.
fn entries<I>(found: Result<(I, Arc<Opened>), StoreError>) -> impl Iterator<Item = Entry>
where
    I: Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
{
    let mut found = found.map_err(Some);
    std::iter::from_fn(move || {
        let next = match &mut found {
            Ok((entries, _opened)) => entries.next()?,
            Err(error) => return error.take().map(Err),
        };
        if next.is_err() {
            found = Err(None);
        }
        let entry = next.map_err(backend("read"));
        Some(entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
    })
}

/// A key and its value, or why they cannot be read.
pub(super) type Entry = Result<(Vec<u8>, Vec<u8>), StoreError>;

/// The one write that is under way.
pub(super) struct Writer<'a> {
    trees: &'a Trees,
    _guard: MutexGuard<'a, ()>,
}

impl Writer<'_> {
    /// Applies all of `edits` or none, with the record counts, and returns once they and every
    /// earlier write are durable. No edits: waits for the earlier writes.
    pub(super) fn commit(self, edits: &[Edit]) -> Result<(), StoreError> {
        let trees = self.trees;
        if !edits.is_empty() {
            self.transact(edits)?;
        }
        let opened = trees.opened()?;
        let ticket = opened.durable.ticket();
        // The next writer may go on while this one waits for the disk.
        drop(self);
        opened.durable.wait(ticket, || flush(&opened.db))
    }

    /// Like `commit`, while the writer stays: for long jobs of many edits.
    pub(super) fn apply(&self, edits: &[Edit]) -> Result<(), StoreError> {
        self.transact(edits)?;
        self.settle()
    }

    /// Replaces the record about the store.
    pub(super) fn set_meta(&self, meta: &Meta) -> Result<(), StoreError> {
        let value = meta::encode_meta(meta)?;
        self.apply(&[Edit::put_raw(meta::TREE, meta::META_KEY.to_vec(), value)])
    }

    /// Removes all records; the record about the store stays.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        let opened = self.trees.opened()?;
        opened.durable.write(|| {
            for tree in opened.by_name.values() {
                tree.clear().map_err(backend("write"))?;
            }
            let removed = opened.meta.remove(meta::COUNTS_KEY);
            removed.map(drop).map_err(backend("write"))
        })?;
        self.settle()
    }

    fn settle(&self) -> Result<(), StoreError> {
        let opened = self.trees.opened()?;
        let durable = &opened.durable;
        durable.wait(durable.ticket(), || flush(&opened.db))
    }

    fn transact(&self, edits: &[Edit]) -> Result<(), StoreError> {
        let mut names: Vec<&'static str> = edits.iter().map(|edit| edit.tree).collect();
        names.push(meta::TREE);
        names.sort_unstable();
        names.dedup();
        let opened = self.trees.opened()?;
        let trees: Vec<&sled::Tree> = names.iter().map(|&name| opened.tree(name)).collect();
        opened.durable.write(|| {
            let done = trees.as_slice().transaction(|trees| {
                let by_name = names.iter().copied().zip(trees).collect();
                apply(&by_name, edits)
            });
            done.map_err(|error| match error {
                TransactionError::Abort(error) => error,
                TransactionError::Storage(error) => backend("write")(error),
            })
        })
    }
}

type Applied<T> = Result<T, ConflictableTransactionError<StoreError>>;

/// Inside a transaction over `trees`: the edits, and the counts that follow from them.
fn apply(trees: &BTreeMap<&'static str, &TransactionalTree>, edits: &[Edit]) -> Applied<()> {
    let abort = ConflictableTransactionError::Abort;
    let meta = trees[meta::TREE];
    let before = meta.get(meta::COUNTS_KEY)?.map(|value| value.to_vec());
    let mut counts = read_counts(before.clone()).map_err(abort)?;
    for edit in edits {
        let tree = trees[edit.tree];
        let old = match &edit.value {
            Some(value) => tree.insert(edit.key.as_slice(), value.as_slice())?,
            None => tree.remove(edit.key.as_slice())?,
        };
        if edit.tree == meta::TREE || old.is_some() == edit.value.is_some() {
            continue;
        }
        let count = counts.entry(edit.tree.to_owned()).or_insert(0);
        // A count that is off already must not stop a write; `verify` reports it.
        *count = match old {
            None => count.saturating_add(1),
            Some(_) => count.saturating_sub(1),
        };
    }
    counts.retain(|_, count| *count > 0);
    let after = meta::encode_counts(&counts).map_err(abort)?;
    if before.as_deref() != Some(after.as_slice()) {
        meta.insert(meta::COUNTS_KEY, after)?;
    }
    Ok(())
}

fn read_counts(value: Option<Vec<u8>>) -> Result<Counts, StoreError> {
    match value {
        Some(value) => meta::decode_counts(&value),
        None => Ok(Counts::new()),
    }
}

fn flush(db: &sled::Db) -> Result<(), StoreError> {
    db.flush().map(drop).map_err(backend("flush"))
}

/// sled's errors become I/O errors here, so that nobody else needs to know them.
fn backend(what: &'static str) -> impl Fn(sled::Error) -> StoreError {
    move |error| StoreError::Backend {
        what,
        source: match error {
            sled::Error::Io(error) => error,
            sled::Error::Corruption { .. } => {
                io::Error::new(io::ErrorKind::InvalidData, "its files are corrupted")
            }
            error => io::Error::other(error.to_string()),
        },
    }
}
