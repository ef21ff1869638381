//! What people thought of each adapter version.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::{derived, keys, Store, StoreError};
use attune_ids::AdapterVersion;

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
    /// The tally of each version that was compared or rated; `None` is the bare base model. Reads one sum
    /// a version.
    ///
    /// # Errors
    /// A sum cannot be read.
    pub fn tallies(&self) -> Result<BTreeMap<Option<AdapterVersion>, VersionTally>, StoreError> {
        let mut tallies = BTreeMap::new();
        for entry in self.trees().scan(derived::SUMS, &derived::versions()) {
            let (key, value) = entry?;
            let version = keys::decode(&key).and_then(|mut parts| parts.pop());
            let sums = derived::read_sums(Some(&value));
            let sum = |name: &str| sums.get(name).copied().unwrap_or(0);
            let tally = VersionTally {
                won: sum("won"),
                lost: sum("lost"),
                other_preferences: sum("other"),
                liked: sum("liked"),
                disliked: sum("disliked"),
            };
            // The bare base model has no name.
            tallies.insert(version.and_then(|v| AdapterVersion::new(v).ok()), tally);
        }
        Ok(tallies)
    }
}
