//! Step after step, with metrics, evaluations and checkpoints.

use std::sync::atomic::Ordering;
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::Value;

use super::start::Start;
use super::whole::Run;
use crate::model::lora::LoraDropout;
use crate::train::adapter::TrainedAdapter;
use crate::train::checkpoint;
use crate::train::entangle::diagnose::{self, Diagnosis};
use crate::train::entangle::gradients::Probe;
use crate::train::learner::Learner;
use crate::train::metrics::{eval_line, train_line, Means, RowResult, StepFacts};
use crate::train::optimizer::{AdamW, Rates};
use crate::train::order::Order;
use crate::train::pairs::IdPair;
use crate::train::parameters::{Parameter, ParameterKind};
use crate::train::settings::Settings;
use crate::train::TrainError;

/// The state of the best evaluation.
pub(super) const BEST_FILE: &str = "best.safetensors";

/// The loop of a run.
pub(super) struct Steps<'a> {
    run: &'a Run<'a>,
    learner: Learner<'a>,
    adapter: TrainedAdapter,
    start: Start,
    order: Order,
    since: Since,
    total: usize,
    bar: ProgressBar,
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

impl<'a> Steps<'a> {
    pub(super) fn new(run: &'a Run, adapter: TrainedAdapter, start: Start) -> Self {
        let (settings, n_pairs) = (run.settings, run.prepared.train.len());
        let total = settings.total_steps(n_pairs);
        let users = run.prepared.train.iter().map(|pair| pair.user).collect();
        let bar = run.place.bar("training");
        bar.set_length(total as u64);
        bar.set_position(start.progress.step as u64);
        bar.reset_eta();
        Self {
            learner: Learner {
                decoder: &run.base.decoder,
                front: run.prepared.front,
                objective: settings.objective,
                mixture: settings.mixture(),
                normalized: settings.normalized,
                pack_rows: run.memory.pack_rows,
                activations: run.memory.activations,
            },
            order: Order::new(n_pairs, settings.batch_size, settings.seed)
                .with_users_together(users, settings.user_pairs),
            since: Since::now(),
            run,
            adapter,
            start,
            total,
            bar,
        }
    }

    /// All steps that are left; `Some(step)` if the run was told to stop after that one.
    pub(super) fn all(&mut self) -> Result<Option<usize>, TrainError> {
        let settings = self.run.settings;
        if self.start.progress.step == 0 {
            self.diagnose()?;
        }
        while self.start.progress.step < self.total {
            let facts = self.step()?;
            let done = self.start.progress.step;
            self.bar.set_position(done as u64);
            let stopped = self.run.place.stop.load(Ordering::Relaxed) && done < self.total;
            let last = done == self.total;
            let logged = done.is_multiple_of(settings.log_every) || last || stopped;
            if logged {
                self.log(&facts)?;
            }
            if done.is_multiple_of(settings.eval_every) || last {
                self.evaluate()?;
                self.diagnose()?;
                self.since.clock = Instant::now();
            }
            // On a line of metrics, so that a resumed run writes the same lines.
            if logged {
                self.save(checkpoint::FILE_NAME)?;
            }
            if stopped {
                self.bar.abandon_with_message("stopped");
                return Ok(Some(done));
            }
            if self.out_of_patience(settings) {
                break;
            }
        }
        self.bar.finish_with_message("trained");
        Ok(None)
    }

    pub(super) fn into_adapter(self) -> TrainedAdapter {
        self.adapter
    }

    /// One step. Returns its learning rate and the norm of its gradient.
    fn step(&mut self) -> Result<(f64, f64), TrainError> {
        let (settings, step) = (self.run.settings, self.start.progress.step);
        let batch = self.order.batch(step).into_iter();
        let batch: Vec<&IdPair> = batch.map(|i| &self.run.prepared.train[i]).collect();
        let dropout = (settings.lora_dropout > 0.0).then(|| LoraDropout {
            rate: settings.lora_dropout,
            seed: settings.seed ^ ((step as u64 + 1) << 20),
        });
        let result = self.learner.learn(&mut self.adapter, &batch, dropout);
        let result = result.map_err(|e| e.at_step(step + 1))?;
        let warmup = settings.warmup_steps(self.total);
        let factor = settings.schedule.factor(step, warmup, self.total);
        let (parameters, state) = (&mut self.adapter.parameters, &mut self.start.optimizer);
        let rates = |parameter: &Parameter| rates(settings, parameter, factor);
        let norm = AdamW::default().step(parameters, state, rates);
        if !norm.is_finite() {
            return Err(TrainError::NotFinite { step: step + 1 });
        }
        result.rows.iter().for_each(|row| self.since.means.add(row));
        self.since.loss += result.loss;
        self.since.steps += 1;
        self.since.tokens += result.packed_rows;
        self.since.pairs += batch.len();
        self.start.progress.step += 1;
        Ok((factor * settings.lr, norm))
    }

    fn log(&mut self, (learning_rate, grad_norm): &(f64, f64)) -> Result<(), TrainError> {
        let since = std::mem::replace(&mut self.since, Since::now());
        let seconds = since.clock.elapsed().as_secs_f64();
        let loss = since.loss / since.steps.max(1) as f64;
        let step = self.start.progress.step;
        let facts = StepFacts {
            step: step as u64,
            epoch: self.order.epochs(step),
            loss,
            learning_rate: *learning_rate,
            grad_norm: *grad_norm,
            tokens: since.tokens as u64,
            pairs: since.pairs as u64,
            seconds,
        };
        let line = train_line(&facts, &since.means);
        self.start.metrics.append(&line)?;
        let accuracy = line.get("rewards/accuracies").and_then(Value::as_f64);
        self.bar.set_message(format!(
            "loss {loss:.4}  accuracy {:.3}  {:.0} tokens/s  {:.1} pairs/s",
            accuracy.unwrap_or(f64::NAN),
            since.tokens as f64 / seconds,
            since.pairs as f64 / seconds,
        ));
        Ok(())
    }

    /// Evaluates on the held-out pairs and keeps the adapter if it is the best so far.
    fn evaluate(&mut self) -> Result<(), TrainError> {
        if self.run.prepared.held_out.is_empty() {
            return self.save(BEST_FILE);
        }
        let rows = self.run.score(&self.adapter, &self.run.prepared.held_out)?;
        let mut means = Means::default();
        rows.iter().for_each(|row| means.add(row));
        let step = self.start.progress.step;
        let line = eval_line(step as u64, self.order.epochs(step), &means);
        self.start.metrics.append(&line)?;
        let right = |row: &&RowResult| row.chosen_reward > row.rejected_reward;
        let accuracy = rows.iter().filter(right).count() as f64 / rows.len() as f64;
        let loss = means.loss().unwrap_or(f64::NAN);
        let progress = &mut self.start.progress;
        let better = (accuracy, -loss) > (progress.best_accuracy, -progress.best_loss);
        if progress.best_step.is_some() && !better {
            progress.evaluations_since_best += 1;
            return Ok(());
        }
        progress.best_step = Some(step);
        progress.best_accuracy = accuracy;
        progress.best_loss = loss;
        progress.evaluations_since_best = 0;
        self.save(BEST_FILE)
    }

    /// Measures the gradients of some pairs, where the settings ask for it. Parameters stay as they are.
    fn diagnose(&mut self) -> Result<(), TrainError> {
        let (settings, step) = (self.run.settings, self.start.progress.step);
        let Some(file) = &mut self.start.gradients else {
            return Ok(());
        };
        let probe = Probe {
            decoder: self.learner.decoder,
            front: self.learner.front,
            activations: self.learner.activations,
        };
        let policy = probe.policy(&self.adapter)?;
        let diagnosis = Diagnosis {
            probe: &probe,
            objective: settings.objective,
            normalized: settings.normalized,
        };
        let mut measured = Vec::new();
        let pairs = self.run.prepared.train.iter();
        for (number, pair) in pairs.take(settings.diagnose_gradients).enumerate() {
            let user = self.adapter.users.is_some().then_some(pair.user);
            let found = probe.pair(&policy, &mut self.adapter, &pair.completions(user))?;
            let found = diagnosis.measure(&mut self.adapter, pair, user, &found)?;
            file.append(&diagnose::line(step, number, user, &found))?;
            measured.push(found);
        }
        let line = diagnose::means(step, self.order.epochs(step), &measured);
        self.start.metrics.append(&line)?;
        Ok(())
    }

    fn out_of_patience(&self, settings: &Settings) -> bool {
        let patience = settings.patience.unwrap_or(usize::MAX);
        self.start.progress.evaluations_since_best >= patience
    }

    fn save(&self, file: &str) -> Result<(), TrainError> {
        let path = self.run.place.out.join(file);
        let (optimizer, progress) = (&self.start.optimizer, &self.start.progress);
        checkpoint::save(&path, &self.adapter, optimizer, progress)
    }
}

fn rates(settings: &Settings, parameter: &Parameter, factor: f64) -> Rates {
    let (lr, decay) = match parameter.kind {
        ParameterKind::Lora => (settings.lr, settings.weight_decay),
        ParameterKind::UserModel => (settings.user_lr, settings.user_decay),
        ParameterKind::UserWeight => (settings.user_weight_lr(), settings.user_decay),
    };
    Rates {
        lr: lr * factor,
        decay,
    }
}
