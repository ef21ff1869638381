//! What is decided about a trained version, on its way to the store.

use crate::ids::{AdapterVersion, Alias, RecordId};
use crate::store::DecisionRecord;

/// A decision that is to be recorded, and carried out if it is to promote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The alias it is about.
    pub alias: Alias,
    /// The version that the alias names; it must, if the candidate is to be promoted.
    pub current: Option<AdapterVersion>,
    /// The version that was made.
    pub candidate: Option<AdapterVersion>,
    /// Whether the alias shall name the candidate, which there is then.
    pub promoted: bool,
    /// Why, for people.
    pub reason: String,
    /// SHA-256 of the snapshot that was learned from.
    pub snapshot: Option<String>,
    /// The numbers that were compared, as JSON text.
    pub evaluation: Option<String>,
}

impl Decision {
    /// The record of it.
    pub fn into_record(self, now_unix_ms: u64) -> DecisionRecord {
        DecisionRecord {
            id: RecordId::generate("dec_", now_unix_ms),
            created_unix_ms: now_unix_ms,
            alias: self.alias,
            current: self.current,
            candidate: self.candidate,
            promoted: self.promoted,
            reason: self.reason,
            snapshot: self.snapshot,
            evaluation: self.evaluation,
        }
    }
}
