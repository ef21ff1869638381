//! What every part of a run may look at.

use serde_json::Value;

use super::place::Place;
use crate::memory::MemoryPlan;
use crate::pack::Front;
use crate::settings::Settings;
use attune_adapter::data_until::Reach;
use attune_base_model::BaseModel;
use attune_ids::UserKey;

/// A run on its way.
#[derive(Debug)]
pub struct Run<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) place: &'a Place<'a>,
    pub(crate) base: &'a BaseModel,
    pub(crate) memory: MemoryPlan,
    /// The person of user row i + 1.
    pub(crate) users: Vec<UserKey>,
    /// Until when the data of each reaches.
    pub(crate) reach: Reach,
    /// What stands in front of prompts.
    pub(crate) front: Front,
    pub(crate) total_steps: usize,
    /// What `run.json` says.
    pub(crate) description: Value,
}
