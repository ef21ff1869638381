//! Feedback: a person rates an answer. It keeps a copy of the answer, as the completion may expire.

use serde::{Deserialize, Serialize};

use crate::idempotency::Idempotent;
use crate::list::{Listed, Owners, Page, Source};
use crate::owned::{self, owned, InsertError, Inserted};
use crate::preferences::Turn;
use crate::record::Record;
use crate::trees::Trees;
use crate::{Store, StoreError};
use attune_ids::{AdapterVersion, RecordId, Tenant, UserId};

/// What a person thinks of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// Thumbs up.
    Up,
    /// Thumbs down.
    Down,
    /// 1 to 5.
    Stars(u8),
}

impl Rating {
    /// Better answers have more: -2 ..= 2; a thumb is as good as all or one star.
    pub fn score(self) -> i8 {
        match self {
            Self::Up => 2,
            Self::Down => -2,
            Self::Stars(stars) => stars.clamp(1, 5) as i8 - 3,
        }
    }
}

/// A rating of one answer. Key: (tenant, id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackRecord {
    /// Owners it is.
    pub tenant: Tenant,
    /// Its name.
    pub id: RecordId,
    /// Who rates: whoever was answered.
    pub user: Option<UserId>,
    /// When it was sent, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The completion.
    pub completion: RecordId,
    /// The answer's place in it.
    pub index: u32,
    /// What the person thinks of it.
    pub rating: Rating,
    /// What they say of it.
    pub comment: Option<String>,
    /// The version that answered; `None`: the bare base model.
    pub adapter_version: Option<AdapterVersion>,
    /// What was answered.
    pub messages: Vec<Turn>,
    /// The answer.
    pub answer: String,
}

impl Record for FeedbackRecord {
    const KIND: &'static str = "feedback";
    const VERSION: u32 = 1;
    const TREE: &'static str = "feedback";

    fn key(&self) -> Vec<u8> {
        owned::key(&self.tenant, &self.id)
    }

    fn problem(&self, trees: &Trees) -> Result<Option<String>, StoreError> {
        match self.rating {
            Rating::Stars(stars) if !(1..=5).contains(&stars) => {
                Ok(Some(format!("it has {stars} stars; ratings have 1 to 5")))
            }
            _ => owned::problem(self, trees),
        }
    }
}

owned!(FeedbackRecord, Feedback);

impl Store {
    /// Writes a rating; a repetition of a request that was done gets the first record.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub fn insert_feedback(
        &self,
        record: &FeedbackRecord,
        idempotent: Option<&Idempotent>,
    ) -> Result<Inserted<FeedbackRecord>, InsertError> {
        self.insert_owned(record, idempotent)
    }

    /// The rating of a request that was done, if it was.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub fn known_feedback(
        &self,
        tenant: &Tenant,
        request: &Idempotent,
    ) -> Result<Option<FeedbackRecord>, InsertError> {
        self.known_owned(tenant, request)
    }

    /// A part of a tenant's ratings.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn feedback(
        &self,
        tenant: &Tenant,
        whose: &Owners,
        page: &Page,
    ) -> Result<Listed<FeedbackRecord>, StoreError> {
        let sources = vec![Source::of::<FeedbackRecord>(tenant, whose)];
        self.list(tenant, sources, page, |_| true)
    }

    /// All ratings, by tenant and time.
    pub fn all_feedback(&self) -> impl Iterator<Item = Result<FeedbackRecord, StoreError>> + '_ {
        self.trees().records()
    }
}
