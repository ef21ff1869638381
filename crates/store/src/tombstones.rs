//! Who was deleted, without saying who: a digest that only an id can be compared with.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys;
use crate::record::Record;
use crate::trees::Trees;
use crate::{Store, StoreError};
use attune_ids::UserKey;

/// A deleted user. Key: (digest).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TombstoneRecord {
    /// See [`tombstone_digest`].
    pub digest: String,
    /// When the user was deleted last, in milliseconds since 1970.
    pub deleted_unix_ms: u64,
}

impl Record for TombstoneRecord {
    const KIND: &'static str = "tombstone";
    const VERSION: u32 = 1;
    const TREE: &'static str = "tombstones";

    fn key(&self) -> Vec<u8> {
        keys::encode(&[&self.digest])
    }

    fn problem(&self, _trees: &Trees) -> Result<Option<String>, StoreError> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let is_digest = self.digest.len() == 64 && self.digest.bytes().all(hex);
        Ok((!is_digest).then(|| "its digest is not 64 hex digits".to_owned()))
    }
}

/// SHA-256 of store id and key of `user`, in hex. With the store's id in it, two stores' tombstones
/// of one person have nothing in common.
pub fn tombstone_digest(store_id: &str, user: &UserKey) -> String {
    hex::encode(digest(store_id, user))
}

/// The same, as bytes.
pub(super) fn digest(store_id: &str, user: &UserKey) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(keys::encode(&[
        store_id,
        user.tenant.as_str(),
        user.user.as_str(),
    ]));
    hash.finalize().into()
}

impl Store {
    /// When `user` was deleted, if they were.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn tombstone(&self, user: &UserKey) -> Result<Option<TombstoneRecord>, StoreError> {
        let digest = tombstone_digest(&self.info()?.store_id, user);
        self.trees().record(&keys::encode(&[&digest]))
    }

    /// Refuses what began before its person was deleted: writing it would bring them back. For a writer.
    pub(super) fn refuse_forgotten(
        &self,
        user: &UserKey,
        began_unix_ms: u64,
    ) -> Result<(), StoreError> {
        match self.tombstone(user)? {
            Some(tombstone) if tombstone.deleted_unix_ms >= began_unix_ms => {
                Err(StoreError::UserDeleted)
            }
            _ => {
                self.moments().saw(began_unix_ms);
                Ok(())
            }
        }
    }

    /// Nothing begins before the deletions that the store knows, even if the clock was set back since.
    pub(super) fn recall_deletions(&self) -> Result<(), StoreError> {
        for tombstone in self.trees().records::<TombstoneRecord>() {
            let deleted = tombstone?.deleted_unix_ms;
            self.moments().saw(deleted.saturating_add(1));
        }
        Ok(())
    }

    /// All tombstones.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn tombstones(&self) -> Result<Vec<TombstoneRecord>, StoreError> {
        self.trees().records().collect()
    }
}
