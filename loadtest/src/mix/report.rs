//! What a soak and a run of kills report alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::Tally;
use super::ledger::Ledger;
use super::scenario::Mix;
use crate::report::environment;
use crate::run::now;
use crate::stats::Errors;

/// What was done, and what the server has of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MixReport {
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Free text from `--note`.
    pub note: Option<String>,
    /// The scenario with all defaults.
    pub scenario: Value,
    /// What made the load.
    pub environment: BTreeMap<String, String>,
    /// Ended before all that was asked for; what was made of the rest is whole.
    pub interrupted: bool,
    /// Deeds that were answered as they should be, by name.
    pub done: BTreeMap<String, u64>,
    /// Answers of 429 and 503.
    pub refused: BTreeMap<String, Errors>,
    /// Changes of versions that were acknowledged.
    pub changes: u64,
    /// Writes and deletions that were acknowledged.
    pub acknowledged: u64,
    /// Records that were there at the end.
    pub kept: usize,
    /// Records that are not as they were acknowledged.
    pub broken: Vec<String>,
}

impl MixReport {
    /// Of a run that went on to its end and broke nothing.
    ///
    /// # Errors
    /// The scenario cannot be written as JSON.
    pub fn new(
        mix: &Mix,
        (started_at, note): (String, Option<String>),
        (ledger, tally): (&Ledger, &Tally),
        changes: u64,
    ) -> serde_json::Result<Self> {
        Ok(Self {
            started_at,
            finished_at: now(),
            note,
            scenario: serde_json::to_value(mix)?,
            environment: environment(),
            interrupted: false,
            done: tally.done.clone(),
            refused: tally.refused.clone(),
            changes,
            acknowledged: ledger.acknowledged,
            kept: ledger.certain(),
            broken: Vec::new(),
        })
    }

    /// All deeds that were done.
    pub fn deeds(&self) -> u64 {
        self.done.values().sum()
    }

    /// The deeds by name.
    pub fn deeds_by_name(&self) -> String {
        let names = self.done.iter().map(|(name, n)| format!("{name} {n}"));
        names.collect::<Vec<_>>().join(", ")
    }
}
