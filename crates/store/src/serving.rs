//! What answers need to know of people, in memory: who was deleted and when, and what is said of them
//! in their prompts. An answer then waits for no disk and no lock that a writer holds.
//!
//! It is read when the store is opened, and every commit changes it after the records. A deletion takes
//! some 60 bytes here, a profile its text (16 KiB at most, `api` bounds its characters) and key; people
//! without either take nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::profiles::ProfileRecord;
use crate::record::{self, Record};
use crate::tombstones::{digest, TombstoneRecord};
use crate::trees::{Edit, Trees};
use crate::{open, users, Store, StoreError};
use attune_ids::UserKey;

/// What an answer has to know of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPerson {
    /// Text about them for the prompt.
    pub profile: Option<Arc<str>>,
    /// When they were deleted last, in milliseconds since 1970.
    pub deleted_unix_ms: Option<u64>,
}

/// The memory of one store; empty, and not kept in step, until it was loaded.
#[derive(Default)]
pub(super) struct Serving(RwLock<Option<Memory>>);

#[derive(Default)]
struct Memory {
    store_id: String,
    /// By digest.
    deleted: HashMap<[u8; 32], u64>,
    /// By the key of the record.
    profiles: HashMap<Vec<u8>, Arc<str>>,
}

impl Serving {
    /// Reads it anew; nobody may write meanwhile.
    ///
    /// # Errors
    /// A record cannot be read.
    pub(super) fn load(&self, trees: &Trees) -> Result<(), StoreError> {
        let mut memory = Memory {
            store_id: open::current_meta(trees)?.store_id,
            ..Memory::default()
        };
        for tree in [TombstoneRecord::TREE, ProfileRecord::TREE] {
            for entry in trees.scan(tree, &[]) {
                let (key, value) = entry?;
                memory.set(tree, &key, Some(&value))?;
            }
        }
        *self.write() = Some(memory);
        Ok(())
    }

    /// Does what a transaction did.
    ///
    /// # Errors
    /// A record cannot be read: none that this build wrote.
    pub(super) fn follow(&self, edits: &[Edit]) -> Result<(), StoreError> {
        let known =
            |edit: &&Edit| [TombstoneRecord::TREE, ProfileRecord::TREE].contains(&edit.tree);
        if !edits.iter().any(|edit| known(&edit)) {
            return Ok(());
        }
        let mut memory = self.write();
        let Some(memory) = memory.as_mut() else {
            return Ok(());
        };
        for edit in edits.iter().filter(known) {
            memory.set(edit.tree, &edit.key, edit.value.as_deref())?;
        }
        Ok(())
    }

    /// Forgets all records.
    pub(super) fn clear(&self) {
        if let Some(memory) = self.write().as_mut() {
            memory.deleted.clear();
            memory.profiles.clear();
        }
    }

    /// The store goes by another name: it is in the digests.
    pub(super) fn set_store_id(&self, store_id: &str) {
        if let Some(memory) = self.write().as_mut() {
            store_id.clone_into(&mut memory.store_id);
        }
    }

    fn person(&self, user: &UserKey) -> KnownPerson {
        let memory = self.read();
        let Some(memory) = memory.as_ref() else {
            return KnownPerson::default();
        };
        // Most stores have deleted few: no hash for those that have deleted nobody.
        let deleted = (!memory.deleted.is_empty())
            .then(|| memory.deleted.get(&digest(&memory.store_id, user)).copied());
        KnownPerson {
            profile: memory.profiles.get(&users::key(user)).cloned(),
            deleted_unix_ms: deleted.flatten(),
        }
    }

    // Whoever panicked with the lock left whole entries: each is set in one call.
    fn read(&self) -> RwLockReadGuard<'_, Option<Memory>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Memory>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn set(&mut self, tree: &str, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        if tree == ProfileRecord::TREE {
            let profile = value.map(|value| record::decode::<ProfileRecord>(key, value));
            match profile.transpose()?.and_then(|profile| profile.text) {
                Some(text) => drop(self.profiles.insert(key.to_vec(), text.into())),
                None => drop(self.profiles.remove(key)),
            }
            return Ok(());
        }
        // A tombstone is never taken back, so a deletion of one changes nothing.
        let Some(value) = value else { return Ok(()) };
        let tombstone: TombstoneRecord = record::decode(key, value)?;
        let mut digest = [0; 32];
        if hex::decode_to_slice(&tombstone.digest, &mut digest).is_ok() {
            self.deleted.insert(digest, tombstone.deleted_unix_ms);
        }
        Ok(())
    }
}

impl Trees {
    /// Keeps in memory, from now on, what answers need; nobody may write meanwhile.
    ///
    /// # Errors
    /// A record cannot be read.
    pub(super) fn load_serving(&self) -> Result<(), StoreError> {
        self.serving().load(self)
    }
}

impl Store {
    /// What an answer has to know of `user`. Reads memory only, and never waits for a writer's disk.
    pub fn known(&self, user: &UserKey) -> KnownPerson {
        self.trees().serving().person(user)
    }
}
