//! All that is recorded of one person: how much, and what.

use crate::by_user::{self, ByUserRecord, OwnedKind};
use crate::profiles::ProfileRecord;
use crate::record::{self, Record};
use crate::{derived, users, Store, StoreError, UserRecord};
use attune_ids::UserKey;
use attune_json::escaped;

/// How many records a person has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserCounts {
    /// Preferences.
    pub preferences: u64,
    /// Ratings.
    pub feedback: u64,
    /// Kept completions.
    pub completions: u64,
}

impl Store {
    /// How many records `user` has.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn user_counts(&self, user: &UserKey) -> Result<UserCounts, StoreError> {
        let value = self.trees().get(derived::SUMS, &derived::person(user))?;
        let sums = derived::read_sums(value.as_deref());
        let sum = |kind| sums.get(derived::counted(kind)).copied().unwrap_or(0);
        Ok(UserCounts {
            preferences: sum(OwnedKind::Preference),
            feedback: sum(OwnedKind::Feedback),
            completions: sum(OwnedKind::Completion),
        })
    }

    /// A part of all that is recorded of `user`, a JSON object a line as it is kept: the user, their
    /// profile, then their records by kind and time. `None` is the start; a part ends with the line that
    /// brings it to `bytes`, and says where to go on. What is deleted meanwhile is in no later part.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn export_user(
        &self,
        user: &UserKey,
        from: Option<ExportPlace>,
        bytes: usize,
    ) -> Result<(Vec<u8>, Option<ExportPlace>), StoreError> {
        let (own, view) = (users::key(user), self.trees().view()?);
        let mut lines = Vec::new();
        let mut line = |value: Option<Vec<u8>>| {
            if let Some(value) = value {
                lines.extend_from_slice(&escaped(&value));
                lines.push(b'\n');
            }
            lines.len() >= bytes
        };
        if from.is_none() {
            line(view.get(UserRecord::TREE, &own)?);
            line(view.get(ProfileRecord::TREE, &own)?);
        }
        let after = from.map(|place| place.0);
        let index = by_user::prefix(user, None);
        for entry in view.page(ByUserRecord::TREE, &index, after.as_deref(), false) {
            let (key, value) = entry?;
            let entry: ByUserRecord = record::decode(&key, &value)?;
            if line(view.get(entry.kind.tree(), &entry.target())?) {
                return Ok((lines, Some(ExportPlace(key))));
            }
        }
        Ok((lines, None))
    }
}

/// How far a person's export came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPlace(Vec<u8>);
