//! Decisions: which trained version was promoted, which was not, and why.

use serde::{Deserialize, Serialize};

use crate::list::{Listed, Page};
use crate::record::{self, Record};
use crate::trees::{Edit, Trees};
use crate::{keys, AliasRecord, CasError, Store, StoreError};
use attune_ids::{AdapterVersion, Alias, RecordId};

/// What became of a turn of the loop. Key: (id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRecord {
    /// Its name; sorts by time.
    pub id: RecordId,
    /// When it was taken, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The alias it is about.
    pub alias: Alias,
    /// The version that the alias named.
    pub current: Option<AdapterVersion>,
    /// The version that was made; `None`: none was.
    pub candidate: Option<AdapterVersion>,
    /// Whether the alias names the candidate now.
    pub promoted: bool,
    /// Why, for people.
    pub reason: String,
    /// SHA-256 of the snapshot that was learned from.
    pub snapshot: Option<String>,
    /// The numbers that were compared, as JSON text.
    pub evaluation: Option<String>,
}

impl DecisionRecord {
    /// A name for a decision that is taken at `now_unix_ms`.
    pub fn new_id(now_unix_ms: u64) -> RecordId {
        RecordId::generate("dec_", now_unix_ms)
    }
}

impl Record for DecisionRecord {
    const KIND: &'static str = "decision";
    const VERSION: u32 = 1;
    const TREE: &'static str = "decisions";

    fn key(&self) -> Vec<u8> {
        keys::encode(&[self.id.as_str()])
    }

    fn problem(&self, _: &Trees) -> Result<Option<String>, StoreError> {
        let nothing = self.promoted && self.candidate.is_none();
        Ok(nothing.then(|| "promotes, but names no candidate".to_owned()))
    }
}

impl Store {
    /// Writes a decision. If it is to promote, the alias moves from `current` to `candidate` in the same
    /// transaction, and its new record is returned.
    ///
    /// # Errors
    /// As [`Store::compare_and_swap_alias`]; nothing is written then.
    pub fn decide(&self, decision: &DecisionRecord) -> Result<Option<AliasRecord>, CasError> {
        let edit = Edit::put(decision)?;
        match &decision.candidate {
            Some(candidate) if decision.promoted => {
                let (current, now) = (decision.current.as_ref(), decision.created_unix_ms);
                self.swap_alias(&decision.alias, current, candidate, now, vec![edit])
                    .map(Some)
            }
            _ => {
                self.trees().writer()?.commit(&[edit])?;
                Ok(None)
            }
        }
    }

    /// All decisions, the oldest first.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn decisions(&self) -> Result<Vec<DecisionRecord>, StoreError> {
        self.trees().records().collect()
    }

    /// A part of the decisions.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn decisions_page(&self, page: &Page) -> Result<Listed<DecisionRecord>, StoreError> {
        let after = page.after.as_ref().map(|id| keys::encode(&[id.as_str()]));
        let view = self.trees().view()?;
        let found = view.page(
            DecisionRecord::TREE,
            &[],
            after.as_deref(),
            page.newest_first,
        );
        let mut records: Vec<DecisionRecord> = Vec::new();
        // One more than is shown says that there are more.
        for entry in found {
            let (key, value) = entry?;
            if records.len() == page.limit {
                let more = records.last().map(|record| record.id.clone());
                return Ok(Listed { records, more });
            }
            records.push(record::decode(&key, &value)?);
        }
        let more = None;
        Ok(Listed { records, more })
    }
}
