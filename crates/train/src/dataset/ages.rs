//! Until when the data of each person reaches, and who was deleted: what a version says of itself, so that it
//! never brings back whoever was forgotten.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::pair::Pair;
use attune_adapter::data_until::{DataUntil, Reach};
use attune_ids::UserKey;
use attune_store::{Deletions, TrainingSet};

/// How old the pairs of a data set are.
#[derive(Debug, Clone, Default)]
pub struct Ages {
    snapshots: Vec<Snapshot>,
    /// Who has pairs in files that are no snapshots.
    elsewhere: BTreeSet<UserKey>,
}

/// What a snapshot says beside its pairs.
#[derive(Debug, Clone)]
struct Snapshot {
    file: Arc<Path>,
    until: DataUntil,
    deletions: Deletions,
}

impl Ages {
    /// `file` is the snapshot `set`.
    pub(super) fn snapshot(&mut self, file: &Arc<Path>, set: TrainingSet) {
        self.snapshots.push(Snapshot {
            file: file.clone(),
            until: set
                .newest_unix_ms
                .map_or(DataUntil::Unknown, DataUntil::UnixMs),
            deletions: set.deletions,
        });
    }

    /// Whether a snapshot says that the person of `pair` was deleted after it was said, or at a time that
    /// cannot be compared with it. A snapshot itself has only what came after a deletion.
    pub(super) fn forgotten(&self, pair: &Pair) -> bool {
        let Some(user) = &pair.user else {
            return false;
        };
        match self.of_file(&pair.source.file) {
            Some(snapshot) => self.deleted_since(user, snapshot.until),
            None => self.deleted_since(user, DataUntil::Unknown),
        }
    }

    /// Notes whose pairs, of those that are left, are in files that are no snapshots.
    pub(super) fn note(&mut self, pairs: &[Pair]) {
        if self.snapshots.is_empty() {
            return;
        }
        let elsewhere = pairs
            .iter()
            .filter(|pair| self.of_file(&pair.source.file).is_none())
            .filter_map(|pair| pair.user.clone());
        self.elsewhere = elsewhere.collect();
    }

    /// Until when the data of each person reaches; `stated`: that of files that do not say it themselves.
    pub fn reach(&self, stated: DataUntil) -> Reach {
        let Some(oldest) = self.snapshots.iter().map(|s| s.until).min() else {
            return Reach::of_all(stated);
        };
        let mut reach = Reach::of_all(oldest);
        for user in &self.elsewhere {
            reach.set(user.clone(), stated.min(oldest));
        }
        reach
    }

    /// Whether a snapshot says that `user` was deleted when what reaches `until` was already learned.
    pub fn deleted_since(&self, user: &UserKey, until: DataUntil) -> bool {
        let mut deleted = self.snapshots.iter().filter_map(|s| s.deletions.of(user));
        deleted.any(|deleted_unix_ms| !until.is_after(deleted_unix_ms))
    }

    fn of_file(&self, file: &Arc<Path>) -> Option<&Snapshot> {
        self.snapshots.iter().find(|s| *s.file == **file)
    }
}
