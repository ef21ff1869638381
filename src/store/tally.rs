//! What people thought of each adapter version.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::ids::AdapterVersion;
use crate::store::feedback::Rating;
use crate::store::{Store, StoreError};

/// Comparisons and ratings of one version's answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VersionTally {
    /// Preferences whose chosen answer it made, the other answer being another version's.
    pub won: u64,
    /// Those whose rejected answer it made, likewise.
    pub lost: u64,
    /// Preferences between two of its own answers, or with a text of unknown origin.
    pub other_preferences: u64,
    /// Thumbs up, and four or five stars.
    pub liked: u64,
    /// Thumbs down, and one or two stars.
    pub disliked: u64,
}

impl AddAssign for VersionTally {
    fn add_assign(&mut self, other: Self) {
        self.won += other.won;
        self.lost += other.lost;
        self.other_preferences += other.other_preferences;
        self.liked += other.liked;
        self.disliked += other.disliked;
    }
}

impl Store {
    /// The tally of each version that was compared or rated; `None` is the bare base model. Reads
    /// all preferences and ratings.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn tallies(&self) -> Result<BTreeMap<Option<AdapterVersion>, VersionTally>, StoreError> {
        let mut tallies: BTreeMap<Option<AdapterVersion>, VersionTally> = BTreeMap::new();
        for record in self.all_preferences() {
            let record = record?;
            let (chosen, rejected) = (&record.chosen, &record.rejected);
            let known = chosen.completion.is_some() && rejected.completion.is_some();
            if known && chosen.adapter_version != rejected.adapter_version {
                let won = chosen.adapter_version.clone();
                tallies.entry(won).or_default().won += 1;
                let lost = rejected.adapter_version.clone();
                tallies.entry(lost).or_default().lost += 1;
            } else {
                let version = record.adapter_version;
                tallies.entry(version).or_default().other_preferences += 1;
            }
        }
        for record in self.all_feedback() {
            let record = record?;
            let tally = tallies.entry(record.adapter_version).or_default();
            match record.rating {
                Rating::Up | Rating::Stars(4..) => tally.liked += 1,
                Rating::Down | Rating::Stars(..=2) => tally.disliked += 1,
                Rating::Stars(_) => {}
            }
        }
        Ok(tallies)
    }
}
