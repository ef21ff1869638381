//! Preferences: of two answers to one conversation, a person liked this one better.

use serde::{Deserialize, Serialize};

use crate::idempotency::Idempotent;
use crate::list::{Listed, Owners, Page, Source};
use crate::owned::{self, owned, InsertError, Inserted};
use crate::record::Record;
use crate::trees::Trees;
use crate::{Store, StoreError};
use attune_ids::{AdapterVersion, RecordId, Tenant, UserId};

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Who says it: `system`, `user` or `assistant`.
    pub role: String,
    /// What.
    pub content: String,
}

/// One of the two answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparedAnswer {
    /// Its text.
    pub text: String,
    /// The completion that it is part of, where it was named by that.
    pub completion: Option<RecordId>,
    /// Its place in that completion.
    pub index: Option<u32>,
    /// The version that made it; `None`: the bare base model, or nobody knows.
    pub adapter_version: Option<AdapterVersion>,
}

/// How a preference was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceSource {
    /// Both answers as texts.
    Texts,
    /// Answers of two completions.
    Completions,
    /// Two answers of one completion.
    Choices,
}

/// A preference. Key: (tenant, id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferenceRecord {
    /// Owners it is.
    pub tenant: Tenant,
    /// Its name.
    pub id: RecordId,
    /// Who prefers; nobody in particular if there is none.
    pub user: Option<UserId>,
    /// When it was sent, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// How.
    pub source: PreferenceSource,
    /// The version that answered this person then: that of the chosen answer, where it is known.
    pub adapter_version: Option<AdapterVersion>,
    /// What was answered.
    pub messages: Vec<Turn>,
    /// The better answer.
    pub chosen: ComparedAnswer,
    /// The other one.
    pub rejected: ComparedAnswer,
}

impl Record for PreferenceRecord {
    const KIND: &'static str = "preference";
    const VERSION: u32 = 1;
    const TREE: &'static str = "preferences";

    fn key(&self) -> Vec<u8> {
        owned::key(&self.tenant, &self.id)
    }

    fn problem(&self, trees: &Trees) -> Result<Option<String>, StoreError> {
        owned::problem(self, trees)
    }
}

owned!(PreferenceRecord, Preference);

impl Store {
    /// Writes a preference; a repetition of a request that was done gets the first record.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub fn insert_preference(
        &self,
        record: &PreferenceRecord,
        idempotent: Option<&Idempotent>,
    ) -> Result<Inserted<PreferenceRecord>, InsertError> {
        self.insert_owned(record, idempotent)
    }

    /// The preference of a request that was done, if it was.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub fn known_preference(
        &self,
        tenant: &Tenant,
        request: &Idempotent,
    ) -> Result<Option<PreferenceRecord>, InsertError> {
        self.known_owned(tenant, request)
    }

    /// The preference `id` of `tenant`.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn preference(
        &self,
        tenant: &Tenant,
        id: &RecordId,
    ) -> Result<Option<PreferenceRecord>, StoreError> {
        self.owned(tenant, id)
    }

    /// A part of a tenant's preferences.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn preferences(
        &self,
        tenant: &Tenant,
        whose: &Owners,
        page: &Page,
    ) -> Result<Listed<PreferenceRecord>, StoreError> {
        let sources = vec![Source::of::<PreferenceRecord>(tenant, whose)];
        self.list(tenant, sources, page, |_| true)
    }

    /// All preferences, by tenant and time.
    pub fn all_preferences(
        &self,
    ) -> impl Iterator<Item = Result<PreferenceRecord, StoreError>> + '_ {
        self.trees().records()
    }
}
