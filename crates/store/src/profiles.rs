//! What a person, or their app, has set: text about them, and whether they take part in learning.

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::trees::{Edit, Trees};
use crate::{keys, users, Store, StoreError, UserRecord};
use attune_ids::{Tenant, UserId, UserKey};

/// A person's settings. Key: (tenant, user).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileRecord {
    /// Whose user it is.
    pub tenant: Tenant,
    /// The person.
    pub user: UserId,
    /// Text about them for the prompt (P-RLHF's explicit user information u^t).
    pub text: Option<String>,
    /// Whether what they prefer may be learned.
    pub learning: bool,
    /// When it was set last, in milliseconds since 1970.
    pub updated_unix_ms: u64,
}

impl Record for ProfileRecord {
    const KIND: &'static str = "profile";
    const VERSION: u32 = 1;
    const TREE: &'static str = "profiles";

    fn key(&self) -> Vec<u8> {
        keys::encode(&[self.tenant.as_str(), self.user.as_str()])
    }

    fn problem(&self, trees: &Trees) -> Result<Option<String>, StoreError> {
        Ok(match trees.get(UserRecord::TREE, &self.key())? {
            Some(_) => None,
            None => Some("its user is not recorded".to_owned()),
        })
    }
}

impl Store {
    /// Changes a person's profile, which is empty and takes part in learning at first; they are recorded
    /// if they are new. No other write comes between reading and writing. `began_unix_ms`: when the request for
    /// it began, by [`Store::begin`].
    ///
    /// # Errors
    /// The person was deleted after that; it gets too large, or the write or the flush fails.
    pub fn change_profile(
        &self,
        user: &UserKey,
        began_unix_ms: u64,
        change: impl FnOnce(&mut ProfileRecord),
    ) -> Result<(), StoreError> {
        let writer = self.trees().writer()?;
        self.refuse_forgotten(user, began_unix_ms)?;
        let mut profile = self.profile(user)?.unwrap_or_else(|| ProfileRecord {
            tenant: user.tenant.clone(),
            user: user.user.clone(),
            text: None,
            learning: true,
            updated_unix_ms: began_unix_ms,
        });
        let text = profile.text.clone();
        change(&mut profile);
        profile.updated_unix_ms = began_unix_ms;
        let mut edits = vec![Edit::put(&profile)?];
        edits.extend(self.first_seen(user, began_unix_ms)?);
        if profile.text.is_none() || profile.text == text {
            // Whoever wants nothing to be learned is never refused.
            return writer.commit(&edits);
        }
        self.check_quota(&user.tenant, &edits)?;
        writer.grow(&edits)
    }

    /// A person's profile, if one was set.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn profile(&self, user: &UserKey) -> Result<Option<ProfileRecord>, StoreError> {
        self.trees().record(&users::key(user))
    }
}
