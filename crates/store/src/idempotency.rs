//! Which requests were done already: a repetition gets the record of the first.

use serde::{Deserialize, Serialize};

use crate::by_user::{ByUserRecord, OwnedKind};
use crate::keys;
use crate::owned::{InsertError, Owned};
use crate::record::Record;
use crate::trees::{Edit, Trees};
use crate::StoreError;
use attune_ids::{IdempotencyKey, RecordId, Tenant, UserId};

/// A request that can be told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotent {
    /// What the caller sent.
    pub key: IdempotencyKey,
    /// SHA-256 of what was asked, in hex: route and body.
    pub sha256: String,
}

/// A request that was done. Key: (tenant, key).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdempotencyRecord {
    /// Whose caller sent it.
    pub(super) tenant: Tenant,
    /// Its key.
    pub(super) key: IdempotencyKey,
    /// The person whom its record belongs to.
    pub(super) user: Option<UserId>,
    /// What was asked.
    pub(super) sha256: String,
    /// What its record is.
    pub(super) kind: OwnedKind,
    /// The record.
    pub(super) id: RecordId,
    /// When it was done, in milliseconds since 1970.
    pub(super) created_unix_ms: u64,
}

impl Record for IdempotencyRecord {
    const KIND: &'static str = "idempotency";
    const VERSION: u32 = 1;
    const TREE: &'static str = "idempotency";

    fn key(&self) -> Vec<u8> {
        key(&self.tenant, &self.key)
    }

    fn problem(&self, trees: &Trees) -> Result<Option<String>, StoreError> {
        let record = keys::encode(&[self.tenant.as_str(), self.id.as_str()]);
        if trees.get(self.kind.tree(), &record)?.is_none() {
            return Ok(Some(format!("its record {} is not there", self.id)));
        }
        let Some(entry) = self.index() else {
            return Ok(None);
        };
        Ok(match trees.get(ByUserRecord::TREE, &entry.key())? {
            Some(_) => None,
            None => Some("the index of its user does not have it".to_owned()),
        })
    }
}

impl IdempotencyRecord {
    fn index(&self) -> Option<ByUserRecord> {
        self.user.as_ref().map(|user| ByUserRecord {
            tenant: self.tenant.clone(),
            user: user.clone(),
            kind: OwnedKind::Idempotency,
            id: self.key.as_str().to_owned(),
        })
    }
}

/// The record of the first request with this key, if there was one.
///
/// # Errors
/// [`InsertError::KeyReused`] if that was another request.
pub(super) fn find(
    trees: &Trees,
    tenant: &Tenant,
    request: &Idempotent,
) -> Result<Option<RecordId>, InsertError> {
    let known: Option<IdempotencyRecord> = trees.record(&key(tenant, &request.key))?;
    match known {
        Some(known) if known.sha256 == request.sha256 => Ok(Some(known.id)),
        Some(_) => Err(InsertError::KeyReused),
        None => Ok(None),
    }
}

/// What makes a repetition of `request`, whose record is `record`, known.
pub(super) fn edits<R: Owned>(record: &R, request: &Idempotent) -> Result<Vec<Edit>, StoreError> {
    let done = IdempotencyRecord {
        tenant: record.tenant().clone(),
        key: request.key.clone(),
        user: record.user().cloned(),
        sha256: request.sha256.clone(),
        kind: R::OWNED,
        id: record.id().clone(),
        created_unix_ms: record.created_unix_ms(),
    };
    let mut edits = vec![Edit::put(&done)?];
    if let Some(entry) = done.index() {
        edits.push(Edit::put(&entry)?);
    }
    Ok(edits)
}

fn key(tenant: &Tenant, key: &IdempotencyKey) -> Vec<u8> {
    keys::encode(&[tenant.as_str(), key.as_str()])
}
