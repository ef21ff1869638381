//! What was typed to `attune-train exp-dpo`, `exp-grpo` and the other commands on tasks, and what it means.

use std::path::PathBuf;

use clap::Args;

use super::resolved::ConfigError;
use super::train::{Asking, Explain, FamilyName, Pdpo, Solve};
use super::training::{count, problem, run_config, share, with_file, within, TrainConfig};
use attune_train::expo::explain::ExplainRequest;
use attune_train::expo::solve::SolveRequest;
use attune_train::loss::grpo::{Grpo, Weigh};
use attune_train::rollout::engine::Sampling;
use attune_train::settings::expo::{Anneal, Explainer, ExpoSettings, Filters, Method, Positive};
use attune_train::task::family::Family;

/// Tasks, and how they are asked.
#[derive(Debug, Clone, Args)]
pub struct Expo {
    /// Files of tasks to learn from: attune's own (question, answer, solution, verifier, user), GSM8K's,
    /// SVAMP's or MATH's.
    #[arg(long, value_delimiter = ',', required = true)]
    pub tasks: Vec<PathBuf>,
    /// Files of tasks to judge by [default: the share --holdout of --tasks].
    #[arg(long, value_delimiter = ',')]
    pub held_out_tasks: Vec<PathBuf>,
    /// Only so many tasks to learn from, the first ones.
    #[arg(long, default_value_t = 1000)]
    pub max_tasks: usize,
    /// Only so many tasks to judge by, the first ones.
    #[arg(long, default_value_t = 50)]
    pub max_held_out: usize,
    /// Answers to each question [default: 8 for exp-grpo, 4 for exp-dpo]; 0 with exp-grpo learns from
    /// positive answers alone.
    #[arg(long)]
    pub samples: Option<usize>,
    /// Explanations that are sampled to find one that can be used.
    #[arg(long, default_value_t = 4)]
    pub explanations: usize,
    /// Of answers and explanations.
    #[arg(long, default_value_t = 0.9)]
    pub temperature: f32,
    /// Tokens of an answer, at most.
    #[arg(long, default_value_t = 160)]
    pub max_tokens: usize,
    /// Tokens of an explanation, at most; the answer that may be put behind it has to fit into --max-tokens
    /// all the same [default: 16 less than --max-tokens, but half of it at least].
    #[arg(long)]
    pub explanation_tokens: Option<usize>,
    /// What positive answers are: self-explanations, the tasks' own solutions, or none (plain GRPO).
    #[arg(long, value_enum, default_value_t = Positive::Explanation)]
    pub positive: Positive,
    /// Whose self-explanations: the policy's as it is, or those of the base model.
    #[arg(long, value_enum, default_value_t = Explainer::Current)]
    pub explainer: Explainer,
    /// Take explanations that end with another answer, too, and put the right one behind them.
    #[arg(long)]
    pub keep_unverified: bool,
    /// Reject ordinary answers that are right, too.
    #[arg(long)]
    pub any_rejected: bool,
    /// Answers to each question that is judged by.
    #[arg(long, default_value_t = 4)]
    pub eval_samples: usize,
    /// Temperature of those answers.
    #[arg(long, default_value_t = 0.7)]
    pub eval_temperature: f32,
    /// The k of pass@k, each at most --eval-samples.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    pub k: Vec<usize>,
    /// Held-out questions on which each evaluation measures how likely explanations are, and how likely
    /// they make the right answer.
    #[arg(long, default_value_t = 0)]
    pub signals: usize,
}

/// `attune-train exp-dpo`.
#[derive(Debug, Clone, Args)]
pub struct ExpDpo {
    /// Tasks, and how they are asked.
    #[command(flatten)]
    pub expo: Expo,
    /// Steps after which the policy makes all pairs anew (online); without it, they are made once.
    #[arg(long)]
    pub regenerate_every: Option<usize>,
    /// Everything that a run over pairs has, too.
    #[command(flatten)]
    pub run: Pdpo,
}

/// `attune-train exp-grpo`.
#[derive(Debug, Clone, Args)]
pub struct ExpGrpo {
    /// Tasks, and how they are asked.
    #[command(flatten)]
    pub expo: Expo,
    /// Coefficient of the log-probability of positive answers (ExP-SFT).
    #[arg(long, default_value_t = 0.04)]
    pub expsft_beta: f64,
    /// Sum that log-probability over tokens instead of averaging it.
    #[arg(long)]
    pub expsft_sum: bool,
    /// How that coefficient changes: not, or with the running share of groups without a right answer.
    #[arg(long, value_enum, default_value_t = Anneal::None)]
    pub expsft_anneal: Anneal,
    /// Coefficient of the distance to the base model.
    #[arg(long, default_value_t = 0.04)]
    pub kl: f64,
    /// Ratios of new to old probability count within 1 +- this.
    #[arg(long, default_value_t = 0.2)]
    pub clip: f64,
    /// Updates from the answers of one step.
    #[arg(long, default_value_t = 1)]
    pub updates: usize,
    /// What a token of an answer weighs.
    #[arg(long, value_enum, default_value_t = Weigh::Tokens)]
    pub weigh: Weigh,
    /// What a run over pairs has, too, as far as it makes sense; a step has --batch-size questions
    /// [default: 8].
    #[command(flatten)]
    pub run: Pdpo,
}

impl ExpDpo {
    /// Checks what was typed.
    ///
    /// # Errors
    /// The first setting that cannot be used, by its flag.
    pub fn config(&self) -> Result<TrainConfig, ConfigError> {
        let method = Method::Dpo {
            regenerate_every: self
                .regenerate_every
                .map(|n| count("--regenerate-every", n))
                .transpose()?,
        };
        if self.expo.positive == Positive::None {
            let text = "a pair needs a chosen answer: explanation or expert";
            return Err(problem("--positive", text));
        }
        let samples = count("--samples", self.expo.samples.unwrap_or(4))?;
        let run = with_file(&self.run)?;
        no_pairs(&run)?;
        let run = Pdpo {
            alpha: run.alpha.or(Some(0.0)),
            ..run
        };
        run_config(&run, Some(self.expo.settings(method, samples)?))
    }
}

impl ExpGrpo {
    /// Checks what was typed.
    ///
    /// # Errors
    /// The first setting that cannot be used, by its flag.
    pub fn config(&self) -> Result<TrainConfig, ConfigError> {
        let method = Method::Grpo {
            objective: Grpo {
                clip: within("--clip", self.clip, 1e-6..=1.0)?,
                kl: within("--kl", self.kl, 0.0..=100.0)?,
                weigh: self.weigh,
            },
            updates: count("--updates", self.updates)?,
            expsft_beta: match self.expo.positive {
                Positive::None => 0.0,
                _ => within("--expsft-beta", self.expsft_beta, 0.0..=100.0)?,
            },
            expsft_sum: self.expsft_sum,
            anneal: self.expsft_anneal,
        };
        let samples = match self.expo.samples.unwrap_or(8) {
            0 if self.expo.positive == Positive::None || self.expsft_beta == 0.0 => {
                let text = "0 answers and no positive ones leave nothing to learn from";
                return Err(problem("--samples", text));
            }
            1 => return Err(problem("--samples", "a group of 1 has no mean to be above")),
            n => n.min(count("--samples", n.max(1))?),
        };
        let run = with_file(&self.run)?;
        no_pairs(&run)?;
        no_pair_losses(&run)?;
        let run = Pdpo {
            alpha: Some(0.0),
            batch_size: run.batch_size.or(Some(8)),
            ..run
        };
        run_config(&run, Some(self.expo.settings(method, samples)?))
    }
}

impl Expo {
    fn settings(&self, method: Method, samples: usize) -> Result<ExpoSettings, ConfigError> {
        let eval_samples = count("--eval-samples", self.eval_samples)?;
        if let Some(k) = self.k.iter().find(|k| !(1..=eval_samples).contains(*k)) {
            let text = format!("{k} is not in 1..={eval_samples}, the --eval-samples");
            return Err(problem("--k", text));
        }
        let max_tokens = count("--max-tokens", self.max_tokens)?;
        let usual = max_tokens.saturating_sub(16).max(max_tokens.div_ceil(2));
        let explanation_tokens = self.explanation_tokens.unwrap_or(usual);
        // A group of equal answers teaches nothing, so that 0 is for evaluations only.
        let temperature = within("--temperature", f64::from(self.temperature), 0.01..=2.0)?;
        let eval = f64::from(self.eval_temperature);
        Ok(ExpoSettings {
            tasks: self.tasks.clone(),
            held_out: self.held_out_tasks.clone(),
            max_tasks: count("--max-tasks", self.max_tasks)?,
            max_held_out: self.max_held_out,
            samples,
            explanations: count("--explanations", self.explanations)?,
            temperature: temperature as f32,
            max_tokens,
            explanation_tokens: count("--explanation-tokens", explanation_tokens)?.min(max_tokens),
            positive: self.positive,
            explainer: self.explainer,
            filters: Filters {
                keep_unverified: self.keep_unverified,
                any_rejected: self.any_rejected,
            },
            eval_samples,
            ks: self.k.clone(),
            eval_temperature: within("--eval-temperature", eval, 0.0..=2.0)? as f32,
            signals: self.signals,
            method,
        })
    }
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::Arithmetic => Self::Arithmetic,
            FamilyName::Countdown => Self::Countdown,
            FamilyName::Letters => Self::Letters,
        }
    }
}

/// Checks how tasks are asked: the base, the sampling, the most tasks.
fn sampling(raw: &Asking) -> Result<Sampling, ConfigError> {
    // What the engine takes.
    let hottest = 0.0..=2.0;
    Ok(Sampling {
        samples: count("--samples", raw.samples)?,
        temperature: within("--temperature", f64::from(raw.temperature), hottest)? as f32,
        max_tokens: count("--max-tokens", raw.max_tokens)?,
        seed: raw.seed,
    })
}

/// Checks what was typed. The error is about a number that cannot be used.
impl TryFrom<Solve> for SolveRequest {
    type Error = ConfigError;

    fn try_from(raw: Solve) -> Result<Self, ConfigError> {
        let sampling = sampling(&raw.asking)?;
        if let Some(k) = raw.k.iter().find(|k| !(1..=sampling.samples).contains(*k)) {
            let text = format!("{k} is not in 1..={}, the --samples", sampling.samples);
            return Err(problem("--k", text));
        }
        Ok(Self {
            compute: raw.asking.compute.resolve()?,
            base: raw.asking.base,
            bundle: raw.asking.bundle,
            tasks: raw.asking.tasks,
            max_tasks: count("--max-tasks", raw.asking.max_tasks)?,
            sampling,
            ks: raw.k,
            json: raw.json,
        })
    }
}

/// Checks what was typed. The error is about a number that cannot be used.
impl TryFrom<Explain> for ExplainRequest {
    type Error = ConfigError;

    fn try_from(raw: Explain) -> Result<Self, ConfigError> {
        Ok(Self {
            sampling: sampling(&raw.asking)?,
            compute: raw.asking.compute.resolve()?,
            base: raw.asking.base,
            bundle: raw.asking.bundle,
            tasks: raw.asking.tasks,
            max_tasks: count("--max-tasks", raw.asking.max_tasks)?,
            expert: raw.expert,
            filters: Filters {
                keep_unverified: raw.keep_unverified,
                any_rejected: raw.any_rejected,
            },
            out: raw.out,
        })
    }
}

/// Settings of files of pairs, where there are none.
fn no_pairs(run: &Pdpo) -> Result<(), ConfigError> {
    share("--holdout", run.holdout.unwrap_or(0.0))?;
    let given = [
        ("--data", !run.data.is_empty()),
        ("--snapshot", run.snapshot.is_some()),
        ("--max-user-pairs", run.max_user_pairs.is_some()),
        ("--test", run.test.is_some()),
        ("--unseen-users", run.unseen_users.is_some()),
        ("--max-users", run.max_users.is_some()),
        ("--against", !run.against.is_empty()),
    ];
    refuse(
        &given,
        "is of files of pairs, and this learns from --tasks: leave it out",
    )
}

/// Settings of losses of pairs, where groups are learned from.
fn no_pair_losses(run: &Pdpo) -> Result<(), ConfigError> {
    let given = [
        ("--loss", run.loss.is_some()),
        ("--beta", run.beta.is_some()),
        ("--mask", run.mask.is_some()),
        ("--normalized", run.normalized.is_some()),
        ("--diagnose-gradients", run.diagnose_gradients.is_some()),
        ("--alpha", run.alpha.is_some()),
        ("--lora-dropout", run.lora_dropout.is_some()),
        ("--user-model", run.user_model.is_some()),
        ("--n-user-tokens", run.n_user_tokens.is_some()),
        ("--user-lr", run.user_lr.is_some()),
        ("--user-pairs", run.user_pairs.is_some()),
    ];
    refuse(
        &given,
        "is of pairs, and exp-grpo learns from groups: leave it out",
    )
}

fn refuse(given: &[(&'static str, bool)], why: &str) -> Result<(), ConfigError> {
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(problem(flag, why)),
        None => Ok(()),
    }
}
