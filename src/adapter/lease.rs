//! A pin that keeps a version loaded.

use std::sync::Arc;

use super::bundle::Adapter;
use crate::ids::UserKey;
use crate::user_model::soft_prompt::SoftPrompt;

/// A version that stays loaded while this lives. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lease {
    adapter: Arc<Adapter>,
}

impl Lease {
    pub(super) fn new(adapter: Arc<Adapter>) -> Self {
        Self { adapter }
    }

    /// The version's content.
    pub fn adapter(&self) -> &Arc<Adapter> {
        &self.adapter
    }

    /// The soft prompt of a person, from this version's user model: their own rows, or the generic
    /// user's where the person is unknown or `None`; no rows where the version has no user model.
    pub fn soft_prompt(&self, user: Option<&UserKey>) -> SoftPrompt {
        match &self.adapter.people {
            Some(people) => people.soft_prompt(user),
            None => SoftPrompt::none(),
        }
    }
}
