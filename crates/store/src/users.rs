//! Users: who has been seen, and since when.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::record::{self, Record};
use crate::trees::{Edit, Trees};
use crate::{keys, Store, StoreError};
use attune_ids::{Tenant, UserId, UserKey};

/// A user of a tenant. Key: (tenant, user).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRecord {
    /// Whose user it is.
    pub tenant: Tenant,
    /// The id inside that tenant.
    pub user: UserId,
    /// When the user was first recorded, in milliseconds since 1970.
    pub created_unix_ms: u64,
}

impl Record for UserRecord {
    const KIND: &'static str = "user";
    const VERSION: u32 = 1;
    const TREE: &'static str = "users";

    fn key(&self) -> Vec<u8> {
        keys::encode(&[self.tenant.as_str(), self.user.as_str()])
    }
}

impl Store {
    /// Writes `user`, in place of an earlier record of the same key.
    ///
    /// # Errors
    /// The write or the flush fails; then the record may or may not be there after a restart.
    pub fn put_user(&self, user: &UserRecord) -> Result<(), StoreError> {
        let edit = Edit::put(user)?;
        self.trees().writer()?.grow(&[edit])
    }

    /// The record of `user`, if there is one.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn user(&self, user: &UserKey) -> Result<Option<UserRecord>, StoreError> {
        self.trees().record(&key(user))
    }

    /// Removes the record of `user`; false if there was none.
    ///
    /// # Errors
    /// The write or the flush fails.
    pub fn delete_user(&self, user: &UserKey) -> Result<bool, StoreError> {
        let key = key(user);
        let writer = self.trees().writer()?;
        if self.trees().get(UserRecord::TREE, &key)?.is_none() {
            // It may have been removed by a thread whose flush is still under way.
            writer.commit(&[])?;
            return Ok(false);
        }
        writer.commit(&[Edit::delete::<UserRecord>(key)])?;
        Ok(true)
    }

    /// All users, by tenant and then by id. Records written meanwhile may or may not appear.
    pub fn users(&self) -> impl Iterator<Item = Result<UserRecord, StoreError>> + '_ {
        self.trees().records()
    }

    /// The users of one tenant, by id. Records written meanwhile may or may not appear.
    pub fn users_of(
        &self,
        tenant: &Tenant,
    ) -> impl Iterator<Item = Result<UserRecord, StoreError>> + '_ {
        let prefix = keys::encode(&[tenant.as_str()]);
        self.trees()
            .scan(UserRecord::TREE, &prefix)
            .map(|entry| entry.and_then(|(key, value)| record::decode(&key, &value)))
    }
}

/// Refuses a store that knows somebody by an id with white space around it, as stores of early builds may: no
/// [`UserId`] names them, so nothing of theirs could be shown or deleted. Whoever has records has one of these.
pub(super) fn refuse_white_space(trees: &Trees, dir: &Path) -> Result<(), StoreError> {
    for entry in trees.scan(UserRecord::TREE, &[]) {
        let parts = keys::decode(&entry?.0).unwrap_or_default();
        if let Some(user) = parts.into_iter().nth(1).filter(|user| user.trim() != user) {
            let dir = dir.to_owned();
            return Err(StoreError::WhiteSpace { dir, user });
        }
    }
    Ok(())
}

/// The key of what there is once for each user.
pub(super) fn key(user: &UserKey) -> Vec<u8> {
    keys::encode(&[user.tenant.as_str(), user.user.as_str()])
}
