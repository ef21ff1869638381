//! A pin that keeps a version loaded.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::bundle::Adapter;
use super::memory::Reservation;
use attune_ids::UserKey;
use attune_model::user_model::soft_prompt::SoftPrompt;

/// A version in memory, with the bytes that are reserved for it.
#[derive(Debug)]
pub struct Loaded {
    adapter: Adapter,
    leases: AtomicUsize,
    _memory: Reservation,
}

impl Loaded {
    pub(super) fn new(adapter: Adapter, memory: Reservation) -> Self {
        Self {
            adapter,
            leases: AtomicUsize::new(0),
            _memory: memory,
        }
    }

    /// The version's content.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// How many leases of it live.
    pub fn leases(&self) -> usize {
        self.leases.load(Ordering::Acquire)
    }
}

/// A request's hold on a version, which stays loaded while this lives. Cheap to clone.
#[derive(Debug)]
pub struct Lease {
    loaded: Arc<Loaded>,
}

impl Lease {
    /// One more lease of `loaded`.
    pub fn of(loaded: &Arc<Loaded>) -> Self {
        loaded.leases.fetch_add(1, Ordering::AcqRel);
        Self {
            loaded: loaded.clone(),
        }
    }

    /// The version's content.
    pub fn adapter(&self) -> &Adapter {
        &self.loaded.adapter
    }

    /// What is held.
    pub fn loaded(&self) -> &Arc<Loaded> {
        &self.loaded
    }

    /// The soft prompt of a person, from this version's user model: their own rows, or the generic
    /// user's where the person is unknown or `None`; no rows where the version has no user model.
    pub fn soft_prompt(&self, user: Option<&UserKey>) -> SoftPrompt {
        match &self.adapter().people {
            Some(people) => people.soft_prompt(user),
            None => SoftPrompt::none(),
        }
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        Self::of(&self.loaded)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.loaded.leases.fetch_sub(1, Ordering::AcqRel);
    }
}
