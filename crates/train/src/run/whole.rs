//! From settings to a version.

use std::fs;

use serde_json::Value;

use super::finish::publish;
use super::material::Material;
use super::start::{describe, Start};
use super::steps::Steps;
use super::Place;
use crate::adapter::TrainedAdapter;
use crate::entangle::{gate, mask::Mask};
use crate::evaluate::Evaluation;
use crate::expo::judge::TaskEvaluation;
use crate::init::{self, UserModelShape};
use crate::memory::{plan, Footprint, MemoryPlan, Need};
use crate::pack::Front;
use crate::settings::Settings;
use crate::TrainError;
use attune_adapter::data_until::Reach;
use attune_base_model::{self as base_model, BaseModel};
use attune_ids::{AdapterVersion, UserKey};

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All steps are done, and the best version is published.
    Published {
        /// The version.
        version: AdapterVersion,
        /// Its evaluation, where pairs were held out.
        evaluation: Option<Box<Evaluation>>,
        /// Its evaluation, where it was trained on tasks.
        tasks: Option<Box<TaskEvaluation>>,
    },
    /// It was told to stop; the checkpoint of `step` is whole.
    Stopped {
        /// Steps done.
        step: usize,
    },
}

/// Trains.
///
/// # Errors
/// See [`TrainError`]; files that were written are whole.
pub fn run(settings: &Settings, place: &Place) -> Result<Outcome, TrainError> {
    fs::create_dir_all(&place.out).map_err(TrainError::io(&place.out))?;
    let base = base_model::load(&settings.base, place.compute.for_gradients()?)?;
    for rival in &place.against {
        rival.check(&base)?;
    }
    let material = Material::prepare(settings, &base)?;
    let mut adapter = fresh_adapter(settings, material.users().len(), &base)?;
    let description = describe(settings, &material, &base);
    // Before anything is computed: a directory of another run, or a checkpoint that does not fit.
    let diagnosed = settings.diagnose_gradients > 0;
    let start = Start::find(place, &description, &mut adapter, diagnosed)?;
    let trained = adapter.parameters.iter().map(|p| p.values.len()).sum();
    let need = Need {
        trained,
        longest: material.longest(),
        taken: material.cache_bytes(&base),
    };
    let footprint = Footprint::of(base.decoder.placement());
    let run = Run {
        settings,
        place,
        base: &base,
        memory: plan(base.decoder.config(), footprint, need, place.max_memory)?,
        users: material.users().to_vec(),
        reach: material.reach(settings.data_until),
        front: material.front(),
        total_steps: settings.total_steps(material.len()),
        description,
    };
    let work = material.work(&run, &start.progress)?;
    let mut steps = Steps::new(&run, work, adapter, start);
    match steps.all()? {
        Some(step) => Ok(Outcome::Stopped { step }),
        None => publish(&run, steps.into_parts()),
    }
}

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

fn fresh_adapter(
    settings: &Settings,
    n_users: usize,
    base: &BaseModel,
) -> Result<TrainedAdapter, TrainError> {
    let users = settings.user_model.map(|users| UserModelShape {
        kind: users.kind,
        n_users,
        n_user_tokens: users.n_user_tokens,
        clusters: users.clusters,
    });
    let init = settings.user_model.map_or(init::Init::Zero, |u| u.init);
    let (lora, seed) = (&settings.lora, settings.seed);
    let mut adapter = init::adapter(&base.decoder, lora, users.as_ref(), init, seed)?;
    if settings.mask == Mask::Learned {
        gate::add_to(&mut adapter, base.decoder.config().hidden_size);
    }
    Ok(adapter)
}
