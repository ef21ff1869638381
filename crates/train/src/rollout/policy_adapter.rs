//! Who answers when answers are sampled: a base model, alone or with a version.

use std::path::Path;
use std::sync::Arc;

use crate::adapter::TrainedAdapter;
use crate::init::{self, Init, LoraShape};
use crate::load::locate_and_read;
use crate::TrainError;
use attune_adapter::bundle::Adapter;
use attune_base_model::BaseModel;
use attune_engine::request::EngineAdapter;
use attune_ids::{AdapterVersion, UserKey};
use attune_model::user_model::model::UserModel;
use attune_model::user_model::soft_prompt::{RowKind, SoftPrompt};

/// What rollouts are sampled from: a base model, alone or with an adapter, and the soft prompt of a user.
#[derive(Debug, Clone)]
pub struct PolicyAdapter {
    pub(super) adapter: Option<EngineAdapter>,
    pub(super) soft_prompt: SoftPrompt,
}

impl PolicyAdapter {
    /// The bare base model.
    pub fn base() -> Self {
        Self {
            adapter: None,
            soft_prompt: SoftPrompt::none(),
        }
    }

    /// Somebody, or for nobody the generic user, as a version knows them.
    pub fn of_person(adapter: &Arc<Adapter>, person: Option<&UserKey>) -> Self {
        let people = adapter.people.as_ref();
        Self {
            adapter: Some(EngineAdapter {
                version: adapter.version.clone(),
                lora: adapter.lora.clone(),
                lease: adapter.clone(),
            }),
            soft_prompt: people.map_or_else(SoftPrompt::none, |people| people.soft_prompt(person)),
        }
    }

    /// The bundle in `dir`, or the bare base model.
    ///
    /// # Errors
    /// A bundle that cannot be used.
    pub fn of(bundle: Option<&Path>, base: &BaseModel) -> Result<Self, TrainError> {
        match bundle {
            None => Ok(Self::base()),
            Some(dir) => Ok(Self::of_person(
                &Arc::new(locate_and_read(dir, base)?),
                None,
            )),
        }
    }

    /// Whose rows these are.
    pub fn row(&self) -> RowKind {
        self.soft_prompt.kind()
    }
}

/// An adapter in training as it is at one step, with everybody whom it knows.
#[derive(Debug)]
pub struct PolicySnapshot {
    adapter: EngineAdapter,
    user_model: Option<UserModel>,
}

impl PolicySnapshot {
    /// With the current values, which the engine takes as they are: nothing of the base is loaded anew.
    ///
    /// # Errors
    /// A user model that is no longer made of numbers, or no memory.
    pub fn of(adapter: &TrainedAdapter) -> Result<Self, TrainError> {
        Ok(Self {
            adapter: EngineAdapter {
                version: AdapterVersion::from_digest(adapter.digest()),
                lora: Arc::new(adapter.lora_set()?),
                lease: Arc::new(()),
            },
            user_model: adapter.user_model()?,
        })
    }

    /// The base model as a run finds it: with a fresh LoRA, which adds nothing, and no user model.
    ///
    /// # Errors
    /// No memory.
    pub fn untrained(base: &BaseModel, lora: &LoraShape) -> Result<Self, TrainError> {
        Self::of(&init::adapter(&base.decoder, lora, None, Init::Zero, 0)?)
    }

    /// The person of a user row, 0 being the generic user.
    pub fn of_row(&self, row: usize) -> PolicyAdapter {
        let soft_prompt = match &self.user_model {
            None => SoftPrompt::none(),
            Some(model) => model.soft_prompt(row),
        };
        PolicyAdapter {
            adapter: Some(self.adapter.clone()),
            soft_prompt,
        }
    }
}
