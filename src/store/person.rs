//! All that is recorded of one person: how much, and what.

use std::io::Write;

use crate::ids::UserKey;
use crate::store::by_user::{self, ByUserRecord};
use crate::store::completions::CompletionRecord;
use crate::store::feedback::FeedbackRecord;
use crate::store::preferences::PreferenceRecord;
use crate::store::profiles::ProfileRecord;
use crate::store::record::{self, Record};
use crate::store::{users, Store, StoreError, UserRecord};

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
        Ok(UserCounts {
            preferences: self.count_owned::<PreferenceRecord>(user)?,
            feedback: self.count_owned::<FeedbackRecord>(user)?,
            completions: self.count_owned::<CompletionRecord>(user)?,
        })
    }

    /// Writes all that is recorded of `user`, a JSON object a line as it is kept: the user, their
    /// profile, then their records by kind and time. Returns the number of lines.
    ///
    /// # Errors
    /// A record cannot be read, or `out` cannot be written.
    pub fn export_user(&self, user: &UserKey, out: &mut impl Write) -> Result<u64, StoreError> {
        let mut lines = 0;
        let mut line = |value: Option<Vec<u8>>| -> Result<(), StoreError> {
            let Some(mut value) = value else {
                return Ok(());
            };
            value.push(b'\n');
            lines += 1;
            out.write_all(&value).map_err(StoreError::Output)
        };
        let (own, view) = (users::key(user), self.trees().view()?);
        line(view.get(UserRecord::TREE, &own)?)?;
        line(view.get(ProfileRecord::TREE, &own)?)?;
        let index = by_user::prefix(user, None);
        for entry in view.scan(ByUserRecord::TREE, &index) {
            let (key, value) = entry?;
            let entry: ByUserRecord = record::decode(&key, &value)?;
            line(view.get(entry.kind.tree(), &entry.target())?)?;
        }
        Ok(lines)
    }
}
