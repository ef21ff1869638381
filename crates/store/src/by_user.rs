//! Which records belong to a person: the index that finds and deletes them.

use serde::{Deserialize, Serialize};

use crate::completions::CompletionRecord;
use crate::feedback::FeedbackRecord;
use crate::idempotency::IdempotencyRecord;
use crate::keys;
use crate::preferences::PreferenceRecord;
use crate::record::Record;
use crate::trees::Trees;
use crate::StoreError;
use attune_ids::{RecordId, Tenant, UserId, UserKey};

/// A kind of record that belongs to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OwnedKind {
    Completion,
    Feedback,
    Idempotency,
    Preference,
}

impl OwnedKind {
    /// All of them, what names others first: so they can be removed one after the other, and nothing that is left
    /// names something that is not there.
    pub(super) const NAMING_FIRST: [Self; 4] = [
        Self::Idempotency,
        Self::Feedback,
        Self::Preference,
        Self::Completion,
    ];

    /// The word in keys.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Completion => CompletionRecord::KIND,
            Self::Feedback => FeedbackRecord::KIND,
            Self::Idempotency => IdempotencyRecord::KIND,
            Self::Preference => PreferenceRecord::KIND,
        }
    }

    /// Where such records are kept, under (tenant, id).
    pub(super) fn tree(self) -> &'static str {
        match self {
            Self::Completion => CompletionRecord::TREE,
            Self::Feedback => FeedbackRecord::TREE,
            Self::Idempotency => IdempotencyRecord::TREE,
            Self::Preference => PreferenceRecord::TREE,
        }
    }
}

/// A record belongs to a person. Key: (tenant, user, kind, id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByUserRecord {
    /// Whose user it is.
    pub(super) tenant: Tenant,
    /// The person.
    pub(super) user: UserId,
    /// What the record is.
    pub(super) kind: OwnedKind,
    /// Its id: a record id, or an idempotency key.
    pub(super) id: String,
}

impl Record for ByUserRecord {
    const KIND: &'static str = "by_user";
    const VERSION: u32 = 1;
    const TREE: &'static str = "by_user";

    fn key(&self) -> Vec<u8> {
        let (tenant, user) = (self.tenant.as_str(), self.user.as_str());
        keys::encode(&[tenant, user, self.kind.as_str(), &self.id])
    }

    fn problem(&self, trees: &Trees) -> Result<Option<String>, StoreError> {
        let target = self.target();
        Ok(match trees.get(self.kind.tree(), &target)? {
            Some(_) => None,
            None => Some("the record is not there".to_owned()),
        })
    }
}

impl ByUserRecord {
    /// The key of the record.
    pub(super) fn target(&self) -> Vec<u8> {
        keys::encode(&[self.tenant.as_str(), &self.id])
    }
}

/// The start of the keys of all records of `user`, or of those of one kind.
pub(super) fn prefix(user: &UserKey, kind: Option<OwnedKind>) -> Vec<u8> {
    let (tenant, user) = (user.tenant.as_str(), user.user.as_str());
    match kind {
        None => keys::encode(&[tenant, user]),
        Some(kind) => keys::encode(&[tenant, user, kind.as_str()]),
    }
}

/// The key of the entry for record `id`.
pub(super) fn key(user: &UserKey, kind: OwnedKind, id: &RecordId) -> Vec<u8> {
    let (tenant, user) = (user.tenant.as_str(), user.user.as_str());
    keys::encode(&[tenant, user, kind.as_str(), id.as_str()])
}
