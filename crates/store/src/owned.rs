//! Records that a tenant's callers make, mostly for a person: written once under one transaction
//! with their index entries. `list` shows them.

use crate::by_user::{self, ByUserRecord, OwnedKind};
use crate::idempotency::{self, Idempotent};
use crate::record::Record;
use crate::trees::{Edit, Trees};
use crate::{keys, users, Store, StoreError, UserRecord};
use attune_ids::{RecordId, Tenant, UserId, UserKey};

/// A record with an id inside a tenant. Key: (tenant, id).
pub(super) trait Owned: Record {
    /// Its kind in the index.
    const OWNED: OwnedKind;

    /// Whose it is.
    fn tenant(&self) -> &Tenant;
    /// Its name.
    fn id(&self) -> &RecordId;
    /// The person, if there is one.
    fn user(&self) -> Option<&UserId>;
    /// When the request for it began, by [`Store::begin`].
    fn created_unix_ms(&self) -> u64;
}

/// Makes a record with the usual fields an [`Owned`] one.
macro_rules! owned {
    ($record:ident, $kind:ident) => {
        impl $crate::owned::Owned for $record {
            const OWNED: $crate::by_user::OwnedKind = $crate::by_user::OwnedKind::$kind;

            fn tenant(&self) -> &attune_ids::Tenant {
                &self.tenant
            }
            fn id(&self) -> &attune_ids::RecordId {
                &self.id
            }
            fn user(&self) -> Option<&attune_ids::UserId> {
                self.user.as_ref()
            }
            fn created_unix_ms(&self) -> u64 {
                self.created_unix_ms
            }
        }
    };
}
pub(super) use owned;

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted<R> {
    /// It is in the store now.
    New(R),
    /// The same request was done before: this is its record.
    Known(R),
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// Another request had the same idempotency key.
    #[error("the idempotency key belongs to another request; send a new key with a new request")]
    KeyReused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The key of record `id` of `tenant`.
pub(super) fn key(tenant: &Tenant, id: &RecordId) -> Vec<u8> {
    keys::encode(&[tenant.as_str(), id.as_str()])
}

/// What is wrong with a record that is not in the index of its person.
pub(super) fn problem<R: Owned>(record: &R, trees: &Trees) -> Result<Option<String>, StoreError> {
    let Some(user) = owner(record) else {
        return Ok(None);
    };
    let entry = by_user::key(&user, R::OWNED, record.id());
    if trees.get(ByUserRecord::TREE, &entry)?.is_none() {
        return Ok(Some("the index of its user does not have it".to_owned()));
    }
    let known = users::key(&user);
    Ok(match trees.get(UserRecord::TREE, &known)? {
        Some(_) => None,
        None => Some("its user is not recorded".to_owned()),
    })
}

fn owner<R: Owned>(record: &R) -> Option<UserKey> {
    record.user().map(|user| UserKey {
        tenant: record.tenant().clone(),
        user: user.clone(),
    })
}

impl Store {
    /// Writes `record`, its index entry, its user if they are new, and what makes a repetition known,
    /// in one transaction; refused if its person was deleted after the request for it began.
    pub(super) fn insert_owned<R: Owned + Clone>(
        &self,
        record: &R,
        idempotent: Option<&Idempotent>,
    ) -> Result<Inserted<R>, InsertError> {
        let mut edits = vec![Edit::put(record)?];
        let writer = self.trees().writer()?;
        if let Some(request) = idempotent {
            if let Some(known) = self.find_known(record.tenant(), request)? {
                // It may have been written by a thread whose flush is still under way.
                writer.commit(&[])?;
                return Ok(Inserted::Known(known));
            }
            edits.extend(idempotency::edits(record, request)?);
        }
        if let Some(user) = owner(record) {
            self.refuse_forgotten(&user, record.created_unix_ms())?;
            edits.extend(self.index(record, &user)?);
        }
        self.check_quota(record.tenant(), &edits)?;
        writer.grow(&edits)?;
        Ok(Inserted::New(record.clone()))
    }

    /// The record of the same request; durable when this returns.
    pub(super) fn known_owned<R: Owned>(
        &self,
        tenant: &Tenant,
        request: &Idempotent,
    ) -> Result<Option<R>, InsertError> {
        let known = self.find_known(tenant, request)?;
        if known.is_some() {
            self.flush()?;
        }
        Ok(known)
    }

    fn find_known<R: Owned>(
        &self,
        tenant: &Tenant,
        request: &Idempotent,
    ) -> Result<Option<R>, InsertError> {
        let Some(id) = idempotency::find(self.trees(), tenant, request)? else {
            return Ok(None);
        };
        // A record of another kind, made under the same key.
        let found = self.owned::<R>(tenant, &id)?;
        found.map(Some).ok_or(InsertError::KeyReused)
    }

    fn index<R: Owned>(&self, record: &R, user: &UserKey) -> Result<Vec<Edit>, StoreError> {
        let mut edits = vec![Edit::put(&ByUserRecord {
            tenant: user.tenant.clone(),
            user: user.user.clone(),
            kind: R::OWNED,
            id: record.id().as_str().to_owned(),
        })?];
        edits.extend(self.first_seen(user, record.created_unix_ms())?);
        Ok(edits)
    }

    /// The record of a user who is new; for a writer.
    pub(super) fn first_seen(
        &self,
        user: &UserKey,
        now_unix_ms: u64,
    ) -> Result<Option<Edit>, StoreError> {
        if self.user(user)?.is_some() {
            return Ok(None);
        }
        let record = UserRecord {
            tenant: user.tenant.clone(),
            user: user.user.clone(),
            created_unix_ms: now_unix_ms,
        };
        Edit::put(&record).map(Some)
    }

    pub(super) fn owned<R: Owned>(
        &self,
        tenant: &Tenant,
        id: &RecordId,
    ) -> Result<Option<R>, StoreError> {
        self.trees().record(&key(tenant, id))
    }

    /// Removes record `id` and its index entry; false if there is none.
    pub(super) fn delete_owned<R: Owned>(
        &self,
        tenant: &Tenant,
        id: &RecordId,
    ) -> Result<bool, StoreError> {
        let writer = self.trees().writer()?;
        let Some(record) = self.owned::<R>(tenant, id)? else {
            writer.commit(&[])?;
            return Ok(false);
        };
        writer.commit(&removal(&record))?;
        Ok(true)
    }
}

/// What removes `record` and its index entry.
pub(super) fn removal<R: Owned>(record: &R) -> Vec<Edit> {
    let mut edits = vec![Edit::delete::<R>(record.key())];
    if let Some(user) = owner(record) {
        let entry = by_user::key(&user, R::OWNED, record.id());
        edits.push(Edit::delete::<ByUserRecord>(entry));
    }
    edits
}
