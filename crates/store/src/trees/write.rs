//! The one writer.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use sled::transaction::{
    ConflictableTransactionError, TransactionError, Transactional, TransactionalTree,
};

use crate::derived::{self, Derived};
use crate::meta::{self, Meta};
use crate::trees::opened::{backend, Opened};
use crate::trees::{Batch, Edit, Trees};
use crate::StoreError;

/// The one write that is under way.
pub(crate) struct Writer<'a> {
    trees: &'a Trees,
    _guard: MutexGuard<'a, ()>,
}

impl Trees {
    /// Starts a write: what is read from here to `commit` stays true until then.
    ///
    /// # Errors
    /// [`StoreError::Failed`] after an earlier failure.
    pub(crate) fn writer(&self) -> Result<Writer<'_>, StoreError> {
        // A writer that panicked left the lock poisoned, and perhaps half of its work.
        let guard = self.writing.lock().map_err(|_| StoreError::Failed)?;
        self.check()?;
        Ok(Writer {
            trees: self,
            _guard: guard,
        })
    }

    /// Whether writes can succeed as far as is known.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.opened()?.durable.check()
    }

    /// As if a write had failed.
    #[cfg(test)]
    pub(crate) fn fail(&self) {
        self.opened().unwrap().durable.fail();
    }

    /// How many files of large values were synced since the database was opened.
    #[cfg(test)]
    pub(crate) fn blobs_synced(&self) -> u64 {
        self.opened().unwrap().durable.blobs_synced()
    }
}

impl Writer<'_> {
    /// [`commit`](Self::commit), of edits that make the store larger.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`] if less of the disk is free than is to be kept.
    pub(crate) fn grow(self, edits: &[Edit]) -> Result<(), StoreError> {
        self.trees.room.for_record()?;
        self.commit(edits)
    }

    /// Applies all of `edits` or none, with the record counts, and returns once they and every
    /// earlier write are durable. No edits: waits for the earlier writes.
    pub(crate) fn commit(self, edits: &[Edit]) -> Result<(), StoreError> {
        let trees = self.trees;
        if !edits.is_empty() {
            self.transact(edits)?;
        }
        let opened = trees.opened()?;
        let ticket = opened.durable.ticket();
        // The next writer may go on while this one waits for the disk.
        drop(self);
        opened.durable.wait(ticket, || opened.flush())
    }

    /// Like `commit`, while the writer stays: for long jobs of many edits.
    pub(crate) fn apply(&self, edits: &[Edit]) -> Result<(), StoreError> {
        self.transact(edits)?;
        self.settle()
    }

    /// Replaces the record about the store.
    pub(crate) fn set_meta(&self, meta: &Meta) -> Result<(), StoreError> {
        let value = meta::encode_meta(meta)?;
        self.apply(&[Edit::put_raw(meta::TREE, meta::META_KEY.to_vec(), value)])?;
        self.trees.serving.set_store_id(&meta.store_id);
        Ok(())
    }

    /// Removes all records; the record about the store stays.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        let opened = self.trees.opened()?;
        opened.durable.write(|| {
            for tree in opened.by_name.values() {
                tree.clear().map_err(backend("write"))?;
            }
            let removed = opened.meta.remove(meta::COUNTS_KEY);
            removed.map(drop).map_err(backend("write"))
        })?;
        self.trees.serving.clear();
        self.settle()
    }

    /// Makes what follows from `records`, which are all that there are, anew.
    pub(crate) fn derive_all(
        &self,
        records: impl Iterator<Item = Result<Edit, StoreError>>,
    ) -> Result<(), StoreError> {
        let opened = self.trees.opened()?;
        opened.durable.write(|| {
            for tree in derived::TREES {
                opened.tree(tree).clear().map_err(backend("write"))?;
            }
            Ok(())
        })?;
        let mut batch = Batch::default();
        for record in records {
            batch.push(record?);
            if batch.is_full() {
                self.derive_batch(&opened, &batch.take())?;
            }
        }
        self.derive_batch(&opened, &batch.take())?;
        self.settle()
    }

    fn derive_batch(&self, opened: &Opened, records: &[Edit]) -> Result<(), StoreError> {
        let trees: Vec<&sled::Tree> = derived::TREES.iter().map(|&n| opened.tree(n)).collect();
        let of = |record: &Edit| Some(derived::of(record.tree, record.value.as_deref()?));
        let new: Vec<Derived> = records.iter().filter_map(of).collect();
        opened.durable.write(|| {
            let done = trees.as_slice().transaction(|trees| {
                let by_name = derived::TREES.iter().copied().zip(trees).collect();
                let mut sums = SumChanges::new();
                for new in &new {
                    change(&by_name, &Derived::default(), new, &mut sums)?;
                }
                change_sums(&by_name, sums)
            });
            done.map_err(transaction_error)
        })
    }

    fn settle(&self) -> Result<(), StoreError> {
        let opened = self.trees.opened()?;
        let durable = &opened.durable;
        durable.wait(durable.ticket(), || opened.flush())
    }

    fn transact(&self, edits: &[Edit]) -> Result<(), StoreError> {
        let mut names: Vec<&'static str> = edits.iter().map(|edit| edit.tree).collect();
        names.push(meta::TREE);
        if edits.iter().any(|edit| derived::concerns(edit.tree)) {
            names.extend(derived::TREES);
        }
        names.sort_unstable();
        names.dedup();
        let opened = self.trees.opened()?;
        let trees: Vec<&sled::Tree> = names.iter().map(|&name| opened.tree(name)).collect();
        if let Some(watch) = self.trees.watched().as_mut() {
            // Before the transaction: who sees what it did finds the note.
            watch.note(&opened, edits)?;
        }
        opened.durable.write(|| {
            let done = trees.as_slice().transaction(|trees| {
                let by_name = names.iter().copied().zip(trees).collect();
                apply(&by_name, edits)
            });
            done.map_err(transaction_error)
        })?;
        // Still before the next writer, so that memory sees writes in the order of the disk.
        self.trees.serving.follow(edits)
    }
}

fn transaction_error(error: TransactionError<StoreError>) -> StoreError {
    match error {
        TransactionError::Abort(error) => error,
        TransactionError::Storage(error) => backend("write")(error),
    }
}

type Applied<T> = Result<T, ConflictableTransactionError<StoreError>>;

/// Inside a transaction over `trees`: the edits, and the counts that follow from them.
fn apply(trees: &BTreeMap<&'static str, &TransactionalTree>, edits: &[Edit]) -> Applied<()> {
    let abort = ConflictableTransactionError::Abort;
    let meta = trees[meta::TREE];
    let before = meta.get(meta::COUNTS_KEY)?.map(|value| value.to_vec());
    let mut counts = meta::read_counts(before.clone()).map_err(abort)?;
    let mut sums = SumChanges::new();
    for edit in edits {
        let tree = trees[edit.tree];
        let old = match &edit.value {
            Some(value) => tree.insert(edit.key.as_slice(), value.as_slice())?,
            None => tree.remove(edit.key.as_slice())?,
        };
        if derived::concerns(edit.tree) {
            let of = |value: Option<&[u8]>| value.map(|v| derived::of(edit.tree, v));
            let (old, new) = (of(old.as_deref()), of(edit.value.as_deref()));
            change(
                trees,
                &old.unwrap_or_default(),
                &new.unwrap_or_default(),
                &mut sums,
            )?;
        }
        let counted = edit.tree != meta::TREE && !derived::TREES.contains(&edit.tree);
        if !counted || old.is_some() == edit.value.is_some() {
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
    if !sums.is_empty() {
        change_sums(trees, sums)?;
    }
    Ok(())
}

/// What is added to sums, by key and name.
type SumChanges = BTreeMap<(Vec<u8>, &'static str), i128>;

/// Indexes follow from `new` in place of `old`; what changes in sums is collected.
fn change(
    trees: &BTreeMap<&'static str, &TransactionalTree>,
    old: &Derived,
    new: &Derived,
    sums: &mut SumChanges,
) -> Applied<()> {
    for (tree, key) in old.entries.difference(&new.entries) {
        trees[tree].remove(key.as_slice())?;
    }
    for (tree, key) in new.entries.difference(&old.entries) {
        trees[tree].insert(key.as_slice(), &[])?;
    }
    for ((key, name), sum) in &old.sums {
        *sums.entry((key.clone(), *name)).or_insert(0) -= i128::from(*sum);
    }
    for ((key, name), sum) in &new.sums {
        *sums.entry((key.clone(), *name)).or_insert(0) += i128::from(*sum);
    }
    Ok(())
}

fn change_sums(
    trees: &BTreeMap<&'static str, &TransactionalTree>,
    changes: SumChanges,
) -> Applied<()> {
    let mut by_key: BTreeMap<Vec<u8>, Vec<(&'static str, i128)>> = BTreeMap::new();
    for ((key, name), more) in changes {
        if more != 0 {
            by_key.entry(key).or_default().push((name, more));
        }
    }
    let tree = trees[derived::SUMS];
    for (key, changes) in by_key {
        let mut sums = derived::read_sums(tree.get(key.as_slice())?.as_deref());
        for (name, more) in changes {
            let sum = sums.entry(name.to_owned()).or_insert(0);
            // A sum that is off already must not stop a write; `verify` reports it.
            *sum = u64::try_from(i128::from(*sum) + more).unwrap_or(0);
        }
        sums.retain(|_, sum| *sum > 0);
        if sums.is_empty() {
            tree.remove(key.as_slice())?;
        } else {
            let value = meta::encode_sums(&sums).map_err(ConflictableTransactionError::Abort)?;
            tree.insert(key.as_slice(), value)?;
        }
    }
    Ok(())
}
