//! A training run, from settings to a published version.
//!
//! The directory of a run:
//!
//! | file | what |
//! |---|---|
//! | `run.json` | settings, counts of the data, base model |
//! | `metrics.jsonl` | a line each few steps |
//! | `checkpoint.safetensors` | the state to go on from |
//! | `best.safetensors` | the state of the best evaluation |
//! | `eval.json` | the best one, evaluated on the pairs that were held out |
//! | `bundle/VERSION/` | the version |
//! | `report.html` | all of it, to look at |

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{json, Value};

use super::adapter::TrainedAdapter;
use super::checkpoint::{self, Progress};
use super::evaluate::{compare, evaluate, Bootstrap, Evaluation};
use super::files::replace;
use super::init::{self, UserModelShape};
use super::learner::Learner;
use super::memory::{plan, MemoryPlan};
use super::metrics::{eval_line, train_line, Means, MetricsFile, StepFacts};
use super::optimizer::{AdamW, OptimizerState, Rates};
use super::order::Order;
use super::pairs::IdPair;
use super::parameters::{Parameter, ParameterKind};
use super::policy::Policy;
use super::prepare::{prepare, Prepared};
use super::publish::{contents, publish_only, Description};
use super::scoring::{add_reference, base_pairs, score, scored_pairs};
use super::settings::Settings;
use super::TrainError;
use crate::adapter::manifest;
use crate::base_model::{self, BaseModel};
use crate::ids::AdapterVersion;
use crate::model::linear::LinearFormat;
use crate::model::lora::LoraDropout;

/// What a run was started with.
const RUN_FILE: &str = "run.json";
/// The best state.
const BEST_FILE: &str = "best.safetensors";
/// Where the version goes.
pub const BUNDLE_DIR: &str = "bundle";

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

/// Where a run is, and what it may take.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// Its directory.
    pub out: PathBuf,
    /// Go on from the checkpoint there.
    pub resume: bool,
    /// Bytes.
    pub max_memory: usize,
    /// Set from outside: stop after the step in progress.
    pub stop: &'a AtomicBool,
    /// Show a progress bar.
    pub progress: bool,
}

/// Trains.
///
/// # Errors
/// See [`TrainError`]; files that were written are whole.
pub fn run(settings: &Settings, place: &Place) -> Result<Outcome, TrainError> {
    fs::create_dir_all(&place.out).map_err(TrainError::io(&place.out))?;
    let base = base_model::load(&settings.base, LinearFormat::Differentiable)?;
    let prepared = prepare(settings, &base)?;
    let mut adapter = fresh_adapter(settings, &prepared, &base)?;
    let description = describe(settings, &prepared, &base);
    // Before anything is computed: a directory of another run, or a checkpoint that does not fit.
    let start = Start::find(place, &description, &mut adapter)?;
    let trained = adapter.parameters.iter().map(|p| p.values.len()).sum();
    let longest = prepared.longest_pair();
    let memory = plan(base.decoder.config(), trained, longest, place.max_memory)?;
    Run {
        settings,
        place,
        base: &base,
        memory,
        prepared,
        description,
    }
    .go(adapter, start)
}

/// A run on its way.
struct Run<'a> {
    settings: &'a Settings,
    place: &'a Place<'a>,
    base: &'a BaseModel,
    memory: MemoryPlan,
    prepared: Prepared,
    description: Value,
}

/// Where the first step is.
struct Start {
    optimizer: OptimizerState,
    progress: Progress,
    metrics: MetricsFile,
}

/// What happened since the last line of metrics.
struct Since {
    means: Means,
    loss: f64,
    steps: usize,
    tokens: usize,
    pairs: usize,
    clock: Instant,
}

impl Since {
    fn now() -> Self {
        Self {
            means: Means::default(),
            loss: 0.0,
            steps: 0,
            tokens: 0,
            pairs: 0,
            clock: Instant::now(),
        }
    }
}

impl Start {
    fn find(
        place: &Place,
        description: &Value,
        adapter: &mut TrainedAdapter,
    ) -> Result<Self, TrainError> {
        let run_file = place.out.join(RUN_FILE);
        let checkpoint = place.out.join(checkpoint::FILE_NAME);
        if !place.resume {
            let metrics = MetricsFile::create(&place.out)?;
            replace(&run_file, &pretty(description))?;
            return Ok(Self {
                optimizer: OptimizerState::new(&adapter.parameters),
                progress: Progress::default(),
                metrics,
            });
        }
        same_run(&run_file, description)?;
        let (optimizer, progress) = if checkpoint.exists() {
            checkpoint::load(&checkpoint, adapter)?
        } else {
            (
                OptimizerState::new(&adapter.parameters),
                Progress::default(),
            )
        };
        let metrics = MetricsFile::resume(&place.out, progress.step as u64)?;
        Ok(Self {
            optimizer,
            progress,
            metrics,
        })
    }
}

impl Run<'_> {
    fn go(mut self, mut adapter: TrainedAdapter, mut start: Start) -> Result<Outcome, TrainError> {
        self.compute_reference()?;
        let learner = self.learner();
        let total = self.settings.total_steps(self.prepared.train.len());
        let mut order = Order::new(
            self.prepared.train.len(),
            self.settings.batch_size,
            self.settings.seed,
        );
        let bar = self.bar(total, start.progress.step);
        let mut since = Since::now();
        while start.progress.step < total {
            let step = start.progress.step;
            let batch: Vec<&IdPair> = order
                .batch(step)
                .into_iter()
                .map(|i| &self.prepared.train[i])
                .collect();
            let facts = self.step(
                &learner,
                &mut adapter,
                &mut start,
                &batch,
                &mut since,
                total,
            )?;
            start.progress.step += 1;
            let done = start.progress.step;
            bar.set_position(done as u64);
            let stopped = self.place.stop.load(Ordering::Relaxed);
            let last = done == total || stopped;
            if done % self.settings.log_every == 0 || last {
                let epoch = order.epochs(done);
                self.log(&mut start, &mut since, &facts, epoch, &bar)?;
            }
            if done % self.settings.eval_every == 0 || done == total {
                let epoch = order.epochs(done);
                self.evaluate_step(&adapter, &mut start, epoch)?;
                since.clock = Instant::now();
            }
            if done % self.settings.log_every == 0 || last {
                self.save(&adapter, &start, checkpoint::FILE_NAME)?;
            }
            if stopped && done < total {
                bar.abandon_with_message("stopped");
                return Ok(Outcome::Stopped { step: done });
            }
            if self.out_of_patience(&start.progress) {
                break;
            }
        }
        bar.finish_with_message("trained");
        self.publish(adapter, &start.progress)
    }

    fn learner(&self) -> Learner<'_> {
        Learner {
            decoder: &self.base.decoder,
            front: self.prepared.front,
            objective: self.settings.objective,
            mixture: self.settings.mixture(),
            pack_rows: self.memory.pack_rows,
            activations: self.memory.activations,
        }
    }

    fn compute_reference(&mut self) -> Result<(), TrainError> {
        let reference = Policy::reference(&self.base.decoder, self.prepared.front.bos);
        let bar = self.place.bar("reference");
        let Prepared {
            train, held_out, ..
        } = &mut self.prepared;
        let pairs = train
            .iter_mut()
            .chain(held_out.iter_mut().map(|p| &mut p.pair));
        add_reference(&reference, pairs, self.memory.pack_rows, |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        Ok(())
    }

    fn step(
        &self,
        learner: &Learner,
        adapter: &mut TrainedAdapter,
        start: &mut Start,
        batch: &[&IdPair],
        since: &mut Since,
        total: usize,
    ) -> Result<(f64, f64), TrainError> {
        let step = start.progress.step;
        let dropout = (self.settings.lora_dropout > 0.0).then(|| LoraDropout {
            rate: self.settings.lora_dropout,
            seed: self.settings.seed ^ (step as u64 + 1) << 20,
        });
        let result = learner.learn(adapter, batch, dropout);
        let result = result.map_err(|e| e.at_step(step + 1))?;
        let factor = self
            .settings
            .schedule
            .factor(step, self.settings.warmup_steps(total), total);
        let rates = |parameter: &Parameter| self.rates(parameter, factor);
        let norm = AdamW::default().step(&mut adapter.parameters, &mut start.optimizer, rates);
        if !norm.is_finite() {
            return Err(TrainError::NotFinite { step: step + 1 });
        }
        result.rows.iter().for_each(|row| since.means.add(row));
        since.loss += result.loss;
        since.steps += 1;
        since.tokens += result.packed_rows;
        since.pairs += batch.len();
        Ok((factor * self.settings.lr, norm))
    }

    fn rates(&self, parameter: &Parameter, factor: f64) -> Rates {
        let (lr, decay) = match parameter.kind {
            ParameterKind::Lora => (self.settings.lr, self.settings.weight_decay),
            ParameterKind::UserModel => (self.settings.user_lr, self.settings.user_decay),
        };
        Rates {
            lr: lr * factor,
            decay,
        }
    }

    fn log(
        &self,
        start: &mut Start,
        since: &mut Since,
        (learning_rate, grad_norm): &(f64, f64),
        epoch: f64,
        bar: &ProgressBar,
    ) -> Result<(), TrainError> {
        let seconds = since.clock.elapsed().as_secs_f64();
        let loss = since.loss / since.steps.max(1) as f64;
        let line = train_line(
            &StepFacts {
                step: start.progress.step as u64,
                epoch,
                loss,
                learning_rate: *learning_rate,
                grad_norm: *grad_norm,
                tokens: since.tokens as u64,
                pairs: since.pairs as u64,
                seconds,
            },
            &since.means,
        );
        start.metrics.append(&line)?;
        let accuracy = line.get("rewards/accuracies").and_then(Value::as_f64);
        bar.set_message(format!(
            "loss {loss:.4}  accuracy {:.3}  {:.0} tokens/s  {:.1} pairs/s",
            accuracy.unwrap_or(f64::NAN),
            since.tokens as f64 / seconds,
            since.pairs as f64 / seconds,
        ));
        *since = Since::now();
        Ok(())
    }

    /// Evaluates on the held-out pairs and keeps the adapter if it is the best so far.
    fn evaluate_step(
        &self,
        adapter: &TrainedAdapter,
        start: &mut Start,
        epoch: f64,
    ) -> Result<(), TrainError> {
        if self.prepared.held_out.is_empty() {
            return self.save(adapter, start, BEST_FILE);
        }
        let rows = self.score(adapter)?;
        let mut means = Means::default();
        rows.iter().for_each(|row| means.add(row));
        let line = eval_line(start.progress.step as u64, epoch, &means);
        start.metrics.append(&line)?;
        let right = |row: &&super::metrics::RowResult| row.chosen_reward > row.rejected_reward;
        let accuracy = rows.iter().filter(right).count() as f64 / rows.len() as f64;
        let loss = means.loss().unwrap_or(f64::NAN);
        let progress = &mut start.progress;
        let better = progress.best_step.is_none()
            || (accuracy, -loss) > (progress.best_accuracy, -progress.best_loss);
        if better {
            progress.best_step = Some(progress.step);
            progress.best_accuracy = accuracy;
            progress.best_loss = loss;
            progress.evaluations_since_best = 0;
            self.save(adapter, start, BEST_FILE)?;
        } else {
            progress.evaluations_since_best += 1;
        }
        Ok(())
    }

    fn score(
        &self,
        adapter: &TrainedAdapter,
    ) -> Result<Vec<super::metrics::RowResult>, TrainError> {
        let policy = self.policy(adapter)?;
        let (objective, pairs) = (&self.settings.objective, &self.prepared.held_out);
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

    fn out_of_patience(&self, progress: &Progress) -> bool {
        let patience = self.settings.patience.unwrap_or(usize::MAX);
        progress.evaluations_since_best >= patience
    }

    fn save(&self, adapter: &TrainedAdapter, start: &Start, file: &str) -> Result<(), TrainError> {
        let path = self.place.out.join(file);
        checkpoint::save(&path, adapter, &start.optimizer, &start.progress)
    }

    /// Evaluates the best state once more, with intervals, and publishes it.
    fn publish(
        &self,
        mut adapter: TrainedAdapter,
        progress: &Progress,
    ) -> Result<Outcome, TrainError> {
        let best = self.place.out.join(BEST_FILE);
        if best.exists() {
            checkpoint::load(&best, &mut adapter)?;
        }
        let evaluation = self.evaluation(&adapter)?;
        if let Some(evaluation) = &evaluation {
            let json = serde_json::to_value(evaluation).unwrap_or_default();
            replace(&self.place.out.join("eval.json"), &pretty(&json))?;
        }
        let mut training = self.description.clone();
        training["best_step"] = json!(progress.best_step);
        training["evaluation"] = evaluation.as_ref().map_or(Value::Null, summary);
        let description = Description {
            name: self.settings.name.clone(),
            created_unix: now_unix(),
            base: manifest::BaseModel {
                name: self.base.id.clone(),
                sha256: self.base.sha256.clone(),
            },
            lora: Some(manifest::LoraManifest {
                rank: self.settings.lora.rank,
                alpha: self.settings.lora.alpha,
                targets: self.settings.lora.targets.clone(),
                layers: None,
                overrides: Vec::new(),
            }),
            users: self.prepared.users.iter().cloned().zip(1..).collect(),
            training,
        };
        let contents = contents(&adapter, description);
        let version = publish_only(&self.place.out.join(BUNDLE_DIR), &contents)?;
        super::report::report(&self.place.out).map_err(|e| TrainError::Unfit(e.to_string()))?;
        Ok(Outcome::Published {
            version,
            evaluation: evaluation.map(Box::new),
        })
    }

    fn evaluation(&self, adapter: &TrainedAdapter) -> Result<Option<Evaluation>, TrainError> {
        if self.prepared.held_out.is_empty() {
            return Ok(None);
        }
        let rows = self.score(adapter)?;
        let scored = scored_pairs(&self.prepared.held_out, &rows);
        let base = base_pairs(&self.prepared.held_out);
        let bootstrap = Bootstrap {
            seed: self.settings.seed,
            ..Bootstrap::default()
        };
        let unfit = |e: super::evaluate::EvaluateError| TrainError::Unfit(e.to_string());
        let mut evaluation = evaluate(&scored, bootstrap).map_err(unfit)?;
        evaluation
            .against
            .push(compare(&scored, "base", &base, bootstrap).map_err(unfit)?);
        Ok(Some(evaluation))
    }

    fn bar(&self, total: usize, done: usize) -> ProgressBar {
        let bar = self.place.bar("training");
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.reset_eta();
        bar
    }
}

impl Place<'_> {
    fn bar(&self, what: &'static str) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let template = "{prefix:>10} {bar:30} {pos}/{len} {elapsed} left {eta}  {msg}";
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::new(0).with_prefix(what);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }
}

impl Prepared {
    /// Rows of the longest pair: its beginning and both responses.
    fn longest_pair(&self) -> usize {
        let held_out = self.held_out.iter().map(|p| &p.pair);
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

/// What `run.json` says, and the manifest under `training`.
fn describe(settings: &Settings, prepared: &Prepared, base: &BaseModel) -> Value {
    json!({
        "program": concat!("attune-train ", env!("CARGO_PKG_VERSION")),
        "settings": settings,
        "base": {"id": base.id, "sha256": base.sha256},
        "data": prepared.counts,
        "users": prepared.users.len(),
    })
}

/// A run goes on with the settings, data and base that it began with.
fn same_run(run_file: &Path, description: &Value) -> Result<(), TrainError> {
    let bytes = fs::read(run_file).map_err(TrainError::io(run_file))?;
    let began: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let names = ["settings", "base", "data"];
    let differs = names
        .into_iter()
        .find(|name| began[*name] != description[*name]);
    match differs {
        None => Ok(()),
        Some(name) => Err(TrainError::Unfit(format!(
            "{} began with other {name}: resume with the same ones, or train into another directory",
            run_file.display()
        ))),
    }
}

/// The numbers of an evaluation that a manifest keeps: no users' names beyond its rows.
fn summary(evaluation: &Evaluation) -> Value {
    json!({
        "overall": evaluation.overall,
        "mean_user_accuracy": evaluation.mean_user_accuracy,
        "groups": evaluation.groups,
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}").into_bytes();
    text.push(b'\n');
    text
}

fn now_unix() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
