//! Deleting a person: their records, what indexes them, and a tombstone in their place.

use crate::by_user::{self, ByUserRecord, OwnedKind};
use crate::profiles::ProfileRecord;
use crate::record::{self, Record};
use crate::tombstones::{tombstone_digest, TombstoneRecord};
use crate::trees::Edit;
use crate::{users, Store, StoreError, UserRecord};
use attune_ids::UserKey;

/// Records that go in one transaction.
const BATCH: usize = 500;

impl Store {
    /// Removes everything that is recorded of `user`, and remembers by a digest that they were
    /// deleted. Returns the number of records that went, those of indexes not counted.
    ///
    /// The tombstone comes first, then goes what names other records, and the user's own record goes last: after a
    /// crash in between the store is whole, and the same call completes it. When all is gone the tombstone gets its moment anew, so that it is after
    /// everything that began while something could still be read of them. The bytes leave the files when
    /// the store is compacted: [`Store::wants_compaction`] says so.
    ///
    /// # Errors
    /// A record cannot be read, or a write fails: call it again.
    pub fn erase_user(&self, user: &UserKey, now_unix_ms: u64) -> Result<u64, StoreError> {
        self.erase_in_steps(user, now_unix_ms, &mut || {})
    }

    /// [`erase_user`](Self::erase_user), with a call between transactions.
    pub(super) fn erase_in_steps(
        &self,
        user: &UserKey,
        now_unix_ms: u64,
        step: &mut dyn FnMut(),
    ) -> Result<u64, StoreError> {
        let writer = self.trees().writer()?;
        self.dir().mark_erased()?;
        self.count_erasure();
        let mut tombstone = TombstoneRecord {
            digest: tombstone_digest(&self.info()?.store_id, user),
            deleted_unix_ms: self.moments().delete(now_unix_ms),
        };
        let mut edits = vec![Edit::put(&tombstone)?];
        let mut erased = 0;
        let kinds = OwnedKind::NAMING_FIRST.map(|kind| by_user::prefix(user, Some(kind)));
        for entry in kinds
            .iter()
            .flat_map(|prefix| self.trees().scan(ByUserRecord::TREE, prefix))
        {
            let (key, value) = entry?;
            let entry: ByUserRecord = record::decode(&key, &value)?;
            edits.push(Edit::delete_raw(entry.kind.tree(), entry.target()));
            edits.push(Edit::delete::<ByUserRecord>(key));
            erased += 1;
            if edits.len() >= BATCH {
                writer.apply(&edits)?;
                edits.clear();
                step();
            }
        }
        let own = users::key(user);
        for tree in [ProfileRecord::TREE, UserRecord::TREE] {
            erased += u64::from(self.trees().get(tree, &own)?.is_some());
            edits.push(Edit::delete_raw(tree, own.clone()));
        }
        writer.apply(&edits)?;
        tombstone.deleted_unix_ms = self.moments().delete(now_unix_ms);
        writer.commit(&[Edit::put(&tombstone)?])?;
        Ok(erased)
    }
}
