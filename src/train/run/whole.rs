//! From settings to a version.

use std::fs;

use serde_json::Value;

use super::finish::publish;
use super::start::{describe, Start};
use super::steps::Steps;
use super::Place;
use crate::base_model::{self, BaseModel};
use crate::ids::AdapterVersion;
use crate::train::adapter::TrainedAdapter;
use crate::train::evaluate::Evaluation;
use crate::train::init::{self, UserModelShape};
use crate::train::memory::{plan, MemoryPlan};
use crate::train::metrics::RowResult;
use crate::train::pairs::IdPair;
use crate::train::policy::Policy;
use crate::train::prepare::{prepare, HeldOutPair, Prepared};
use crate::train::scoring::{add_reference, score};
use crate::train::settings::Settings;
use crate::train::TrainError;

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All steps are done, and the best version is published.
    Published {
        /// The version.
        version: AdapterVersion,
        /// Its evaluation, where pairs were held out.
        evaluation: Option<Box<Evaluation>>,
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
    let prepared = prepare(settings, &base)?;
    let mut adapter = fresh_adapter(settings, &prepared, &base)?;
    let description = describe(settings, &prepared, &base);
    // Before anything is computed: a directory of another run, or a checkpoint that does not fit.
    let diagnosed = settings.diagnose_gradients > 0;
    let start = Start::find(place, &description, &mut adapter, diagnosed)?;
    let trained = adapter.parameters.iter().map(|p| p.values.len()).sum();
    let longest = prepared.longest_pair();
    let memory = plan(base.decoder.config(), trained, longest, place.max_memory)?;
    let mut run = Run {
        settings,
        place,
        base: &base,
        memory,
        prepared,
        description,
    };
    run.compute_reference()?;
    let mut steps = Steps::new(&run, adapter, start);
    match steps.all()? {
        Some(step) => Ok(Outcome::Stopped { step }),
        None => publish(&run, steps.into_adapter()),
    }
}

/// A run on its way.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) settings: &'a Settings,
    pub(super) place: &'a Place<'a>,
    pub(super) base: &'a BaseModel,
    pub(super) memory: MemoryPlan,
    pub(super) prepared: Prepared,
    pub(super) description: Value,
}

impl Run<'_> {
    fn compute_reference(&mut self) -> Result<(), TrainError> {
        let reference = Policy::reference(&self.base.decoder, self.prepared.front.bos);
        let bar = self.place.bar("reference");
        let Prepared {
            train,
            held_out,
            test,
            ..
        } = &mut self.prepared;
        let held_out = held_out.iter_mut().chain(test).map(|p| &mut p.pair);
        let pairs = train.iter_mut().chain(held_out);
        add_reference(&reference, pairs, self.memory.pack_rows, |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Pairs that were not trained on, under `adapter`.
    pub(super) fn score(
        &self,
        adapter: &TrainedAdapter,
        pairs: &[HeldOutPair],
    ) -> Result<Vec<RowResult>, TrainError> {
        let policy = self.policy(adapter)?;
        let objective = &self.settings.objective;
        let bar = self.place.bar("evaluation");
        let rows = score(
            &policy,
            objective,
            pairs,
            self.memory.pack_rows,
            |done, of| {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            },
        );
        bar.finish_and_clear();
        rows
    }

    fn policy(&self, adapter: &TrainedAdapter) -> Result<Policy<'_>, TrainError> {
        Ok(Policy {
            decoder: &self.base.decoder,
            front: self.prepared.front,
            lora: Some(adapter.lora_variables(None)?),
            user_model: adapter.user_model()?,
        })
    }
}

impl Prepared {
    /// Rows of the longest pair: its beginning and both responses.
    fn longest_pair(&self) -> usize {
        let held_out = self.held_out.iter().chain(&self.test).map(|p| &p.pair);
        let rows = |pair: &IdPair| {
            let front = usize::from(self.front.bos.is_some()) + self.front.n_user_tokens;
            front + pair.prompt.len() + pair.chosen.len() + pair.rejected.len()
        };
        self.train
            .iter()
            .chain(held_out)
            .map(rows)
            .max()
            .unwrap_or(0)
    }
}

fn fresh_adapter(
    settings: &Settings,
    prepared: &Prepared,
    base: &BaseModel,
) -> Result<TrainedAdapter, TrainError> {
    let users = settings.user_model.map(|users| UserModelShape {
        kind: users.kind,
        n_users: prepared.users.len(),
        n_user_tokens: users.n_user_tokens,
        clusters: users.clusters,
    });
    let init = settings.user_model.map_or(init::Init::Zero, |u| u.init);
    let (lora, seed) = (&settings.lora, settings.seed);
    Ok(init::adapter(
        &base.decoder,
        lora,
        users.as_ref(),
        init,
        seed,
    )?)
}
