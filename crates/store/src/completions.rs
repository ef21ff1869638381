//! Completions that are kept, so that they can be shown again, compared and rated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::list::{Listed, Owners, Page, Source};
use crate::owned::{self, owned, InsertError};
use crate::preferences::Turn;
use crate::record::Record;
use crate::trees::{Edit, Trees};
use crate::{derived, keys, Store, StoreError};
use attune_ids::{AdapterVersion, RecordId, Tenant, UserId};

/// Records that a sweep removes in one transaction.
const SWEEP: usize = 256;

/// One of the answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptChoice {
    /// Its place.
    pub index: u32,
    /// Its text.
    pub content: String,
    /// Why it ended: `stop` or `length`.
    pub finish_reason: String,
}

/// A completion. Key: (tenant, id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletionRecord {
    /// Owners it is.
    pub tenant: Tenant,
    /// Its name.
    pub id: RecordId,
    /// The person who was answered.
    pub user: Option<UserId>,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// When it goes by itself; `None`: it stays until it is deleted.
    pub expires_unix_ms: Option<u64>,
    /// The model id that was asked.
    pub model: String,
    /// The version that answered; `None`: the bare base model.
    pub adapter_version: Option<AdapterVersion>,
    /// `fp_...`
    pub fingerprint: String,
    /// Owners soft prompt it was: `none`, `generic` or `user`.
    pub user_row: String,
    /// T_u.
    pub soft_prompt_tokens: u64,
    /// What was asked.
    pub messages: Vec<Turn>,
    /// The answers.
    pub choices: Vec<KeptChoice>,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of all answers.
    pub completion_tokens: u64,
    /// What the caller wants to find it by.
    pub metadata: BTreeMap<String, String>,
}

impl Record for CompletionRecord {
    const KIND: &'static str = "completion";
    const VERSION: u32 = 1;
    const TREE: &'static str = "completions";

    fn key(&self) -> Vec<u8> {
        owned::key(&self.tenant, &self.id)
    }

    fn problem(&self, trees: &Trees) -> Result<Option<String>, StoreError> {
        owned::problem(self, trees)
    }
}

owned!(CompletionRecord, Completion);

/// Which completions are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionFilter {
    /// Owners.
    pub whose: Owners,
    /// Only those of this model id.
    pub model: Option<String>,
    /// Only those with all of these pairs.
    pub metadata: BTreeMap<String, String>,
}

impl CompletionRecord {
    /// Whether its time is over.
    pub fn expired(&self, now_unix_ms: u64) -> bool {
        self.expires_unix_ms.is_some_and(|at| at <= now_unix_ms)
    }
}

impl Store {
    /// Keeps a completion.
    ///
    /// # Errors
    /// It is too large, or the write or the flush fails.
    pub fn insert_completion(&self, record: &CompletionRecord) -> Result<(), StoreError> {
        match self.insert_owned(record, None) {
            Ok(_) => Ok(()),
            Err(InsertError::Store(error)) => Err(error),
            Err(InsertError::KeyReused) => unreachable!("no key was given"),
        }
    }

    /// The completion `id` of `tenant`, if its time is not over.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn completion(
        &self,
        tenant: &Tenant,
        id: &RecordId,
        now_unix_ms: u64,
    ) -> Result<Option<CompletionRecord>, StoreError> {
        let record: Option<CompletionRecord> = self.owned(tenant, id)?;
        Ok(record.filter(|record| !record.expired(now_unix_ms)))
    }

    /// A part of a tenant's completions that fit `filter` and whose time is not over.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn completions(
        &self,
        tenant: &Tenant,
        filter: &CompletionFilter,
        page: &Page,
        now_unix_ms: u64,
    ) -> Result<Listed<CompletionRecord>, StoreError> {
        let index = |tree, parts: &[&str]| Source::new(tree, vec![keys::encode(parts)]);
        let mut sources = Vec::new();
        for (key, value) in &filter.metadata {
            sources.push(index(derived::BY_METADATA, &[tenant.as_str(), key, value]));
        }
        if let Some(model) = &filter.model {
            sources.push(index(derived::BY_MODEL, &[tenant.as_str(), model]));
        }
        if sources.is_empty() || filter.whose != Owners::Everybody {
            sources.push(Source::of::<CompletionRecord>(tenant, &filter.whose));
        }
        self.list(tenant, sources, page, |record: &CompletionRecord| {
            !record.expired(now_unix_ms)
        })
    }

    /// Gives a completion other metadata; `None` if there is none of that id.
    ///
    /// # Errors
    /// It gets too large, or the write or the flush fails.
    pub fn set_completion_metadata(
        &self,
        tenant: &Tenant,
        id: &RecordId,
        metadata: BTreeMap<String, String>,
        now_unix_ms: u64,
    ) -> Result<Option<CompletionRecord>, StoreError> {
        let writer = self.trees().writer()?;
        let Some(mut record) = self.completion(tenant, id, now_unix_ms)? else {
            writer.commit(&[])?;
            return Ok(None);
        };
        record.metadata = metadata;
        let edit = [Edit::put(&record)?];
        writer.grow(&edit)?;
        Ok(Some(record))
    }

    /// Removes a completion; false if there is none. Ratings and preferences that name it stay.
    ///
    /// # Errors
    /// The write or the flush fails.
    pub fn delete_completion(&self, tenant: &Tenant, id: &RecordId) -> Result<bool, StoreError> {
        self.delete_owned::<CompletionRecord>(tenant, id)
    }

    /// Some of the completions whose time is over.
    fn over(&self, now_unix_ms: u64) -> Result<Vec<(Tenant, RecordId)>, StoreError> {
        let mut found = Vec::new();
        for entry in self.trees().scan(derived::BY_EXPIRY, &[]) {
            let (key, _) = entry?;
            let parts = keys::decode(&key).unwrap_or_default();
            let [at, tenant, id] = &parts[..] else {
                continue;
            };
            if *at > derived::time(now_unix_ms) || found.len() == SWEEP {
                break;
            }
            if let (Ok(tenant), Ok(id)) = (Tenant::new(tenant), RecordId::new(id)) {
                found.push((tenant, id));
            }
        }
        Ok(found)
    }

    /// Removes the completions whose time is over, and says how many.
    ///
    /// # Errors
    /// A record cannot be read, or a write fails; those before it are gone.
    pub fn sweep_completions(&self, now_unix_ms: u64) -> Result<u64, StoreError> {
        let mut swept = 0;
        loop {
            let batch = self.over(now_unix_ms)?;
            if batch.is_empty() {
                break;
            }
            let writer = self.trees().writer()?;
            let mut edits = Vec::new();
            for (tenant, id) in &batch {
                let record: Option<CompletionRecord> = self.owned(tenant, id)?;
                edits.extend(record.iter().flat_map(owned::removal));
                swept += u64::from(record.is_some());
            }
            writer.commit(&edits)?;
            if edits.is_empty() {
                // Entries without records: `verify` names them, and no sweep can do anything about them.
                break;
            }
        }
        Ok(swept)
    }
}
