//! What was typed to `attune-train`, unchecked. Settings of a run may stand in a TOML file too, under
//! the names of their flags; a flag wins.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::train_expo::{ExpDpo, ExpGrpo};
use attune_train::init::Init;
use attune_train::schedule::Schedule;

/// Preference pairs become adapter versions: a LoRA and a user model, learned together.
#[derive(Debug, Parser)]
#[command(name = "attune-train", version, about)]
pub struct TrainCli {
    /// What to do.
    #[command(subcommand)]
    pub command: TrainCommand,
}

/// The subcommands of `attune-train`.
#[derive(Debug, Subcommand)]
pub enum TrainCommand {
    /// Train by P-DPO, or by the personal form of another preference loss.
    Pdpo(Box<Pdpo>),
    /// Score pairs: accuracy and margin, with intervals, by user.
    Eval(Eval),
    /// Give new users rows of their own in a bundle; the model and the known users stay as they are.
    FitUsers(Box<FitUsers>),
    /// Answer one prompt for several users, side by side.
    Sample(Sample),
    /// Measure how the gradients of chosen and rejected responses pull at each other.
    Entangle(Entangle),
    /// Make up tasks with an answer that a program can check.
    Tasks(Tasks),
    /// Solve tasks: pass@k.
    Solve(Solve),
    /// Turn tasks into preference pairs: self-explanations above wrong answers (ExP-DPO).
    Explain(Explain),
    /// Learn tasks from pairs that the policy makes: its explanations above its wrong answers (ExP-DPO).
    ExpDpo(Box<ExpDpo>),
    /// Learn tasks by reinforcement, with self-explanations beside it (ExP-GRPO).
    ExpGrpo(Box<ExpGrpo>),
    /// Write RUN/report.html anew.
    Report {
        /// The run's directory.
        run: PathBuf,
    },
}

/// `attune-train pdpo`.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pdpo {
    /// A TOML file with any of these settings, named like the flags.
    #[arg(long)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Directory of the run; made if it is not there.
    #[arg(long)]
    #[serde(skip)]
    pub out: Option<PathBuf>,
    /// Go on from the run's last checkpoint.
    #[arg(long)]
    #[serde(skip)]
    pub resume: bool,
    /// The base model: a name that `attune model list` shows, a GGUF file, or a Hugging Face
    /// directory [default: smollm2-135m-instruct].
    #[arg(long)]
    pub base: Option<String>,
    /// Preference pairs: JSONL, JSON, CSV or Parquet files, or a PRISM directory.
    #[arg(long, value_delimiter = ',')]
    pub data: Vec<PathBuf>,
    /// An export of a server's store, by `attune store export`; the same as in --data.
    #[arg(long)]
    pub snapshot: Option<PathBuf>,
    /// Until when the data reaches that is no snapshot: 2026-11-01T00:00:00Z, or milliseconds since 1970.
    /// People who were deleted before that keep their rows, all others who were ever deleted lose them.
    #[arg(long)]
    pub data_until: Option<String>,
    /// Only the newest so many pairs of each user.
    #[arg(long)]
    pub max_user_pairs: Option<usize>,
    /// All pairs of one user weigh no more than so many pairs, so that nobody outvotes the others in
    /// the shared weights.
    #[arg(long)]
    pub clip_user_pairs: Option<f64>,
    /// All pairs with the same prompt and answers, of whomever, weigh no more than so many pairs, so that
    /// many accounts that say the same are not heard more than a few.
    #[arg(long)]
    pub clip_equal_pairs: Option<f64>,
    /// All pairs of one tenant weigh no more than so many pairs.
    #[arg(long)]
    pub clip_tenant_pairs: Option<f64>,
    /// The loss, with its parameters: dpo, or for example simpo:beta=2,gamma=1 [default: dpo].
    #[arg(long)]
    pub loss: Option<String>,
    /// The loss's beta [default: 0.5 for dpo, else the loss's own].
    #[arg(long)]
    pub beta: Option<f64>,
    /// Which tokens of a pair count: all, only those that are not on a longest common subsequence of the
    /// two responses (lcs), or those and a learned part of the others (learned) [default: none].
    #[arg(long, value_enum)]
    pub mask: Option<MaskName>,
    /// With --mask learned: what each shared token costs that is let through [default: 0.01].
    #[arg(long)]
    pub mask_cost: Option<f64>,
    /// Let each pair's gradients of chosen and of rejected count by their direction only, so that neither
    /// outweighs the other. Takes about twice the time.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub normalized: Option<bool>,
    /// Measure the gradients of so many pairs with each evaluation: gradients.jsonl, and curves in the
    /// report [default: 0].
    #[arg(long)]
    pub diagnose_gradients: Option<usize>,
    /// Share of the loss as each user sees a pair, the rest is as the generic user sees it; 0 trains
    /// a plain LoRA without user model [default: 0.5].
    #[arg(long)]
    pub alpha: Option<f64>,
    /// What makes a user's soft prompt [default: individual].
    #[arg(long, value_enum)]
    pub user_model: Option<UserModelName>,
    /// T_u: rows of a user's soft prompt [default: 10].
    #[arg(long)]
    pub n_user_tokens: Option<usize>,
    /// K, for the cluster user model [default: 10].
    #[arg(long)]
    pub clusters: Option<usize>,
    /// Where users start [default: zero].
    #[arg(long, value_enum)]
    pub init: Option<Init>,
    /// Rank of the LoRA [default: 8].
    #[arg(long)]
    pub lora_rank: Option<usize>,
    /// Numerator of the LoRA's scale alpha / rank [default: 16].
    #[arg(long)]
    pub lora_alpha: Option<f64>,
    /// Adapted projections: any of q,k,v,o,gate,up,down, or all-linear [default: q,k,v].
    #[arg(long, value_delimiter = ',')]
    pub lora_targets: Vec<String>,
    /// Share of the LoRA's inputs that are dropped in training [default: 0].
    #[arg(long)]
    pub lora_dropout: Option<f64>,
    /// Learning rate [default: 5e-5].
    #[arg(long)]
    pub lr: Option<f64>,
    /// Learning rate of the user model [default: that of --lr].
    #[arg(long)]
    pub user_lr: Option<f64>,
    /// Learning rate of the cluster model's logits [default: as --user-lr].
    #[arg(long)]
    pub user_weight_lr: Option<f64>,
    /// Weight decay of the LoRA [default: 0].
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// Weight decay of the user model; of an individual one, of the users' offsets only [default: 0].
    #[arg(long)]
    pub user_decay: Option<f64>,
    /// Learning rate after the warm-up [default: cosine].
    #[arg(long, value_enum)]
    pub schedule: Option<Schedule>,
    /// Steps over which the learning rate rises from 0 [default: 150, at most a tenth of the run].
    #[arg(long)]
    pub warmup: Option<usize>,
    /// Passes over the data [default: 1].
    #[arg(long)]
    pub epochs: Option<f64>,
    /// Steps, at most.
    #[arg(long)]
    pub max_steps: Option<usize>,
    /// Pairs a step; each counts as its user sees it and as the generic user sees it [default: 32].
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Pairs of one user that follow each other, at most: those with equal prompts share them in a
    /// pass, which is faster [default: 1].
    #[arg(long)]
    pub user_pairs: Option<usize>,
    /// Share of pairs that nothing is trained on, and no state is chosen by: the last evaluation is on
    /// them. The same pairs are set aside when more come later [default: 0].
    #[arg(long)]
    pub test: Option<f64>,
    /// Bundles to compare with on the same pairs, in eval.json.
    #[arg(long, value_delimiter = ',')]
    #[serde(skip)]
    pub against: Vec<PathBuf>,
    /// Share of each user's pairs that is held out [default: 0.2].
    #[arg(long)]
    pub holdout: Option<f64>,
    /// Share of users of whom nothing is trained on [default: 0].
    #[arg(long)]
    pub unseen_users: Option<f64>,
    /// Train on the first so many users only, in the order of their names.
    #[arg(long)]
    pub max_users: Option<usize>,
    /// Longest prompt that is kept of a pair that is too long, in tokens [default: half of
    /// --max-length].
    #[arg(long)]
    pub max_prompt: Option<usize>,
    /// Longest prompt and response, in tokens [default: 1024].
    #[arg(long)]
    pub max_length: Option<usize>,
    /// Steps from one line of metrics to the next [default: 10].
    #[arg(long)]
    pub log_every: Option<usize>,
    /// Steps from one evaluation to the next [default: 100]. The best one is published.
    #[arg(long)]
    pub eval_every: Option<usize>,
    /// Stop after so many evaluations without a better one.
    #[arg(long)]
    pub patience: Option<usize>,
    /// Seed of everything that is drawn [default: 123].
    #[arg(long)]
    pub seed: Option<u64>,
    /// A name for people, in the bundle's manifest.
    #[arg(long)]
    pub name: Option<String>,
    /// Where to compute: auto, cpu, cuda, cuda:1, ... [default: auto].
    #[arg(long, env = "ATTUNE_DEVICE")]
    pub device: Option<String>,
    /// Type of frozen weights and activations on a GPU: bf16, f16, f32 [default: bf16].
    #[arg(long)]
    pub dtype: Option<String>,
    /// CPU threads; 0 is one a core [default: 0].
    #[arg(long)]
    pub threads: Option<usize>,
    /// Memory that the run may take, for example 8GiB [default: 8GiB].
    #[arg(long)]
    pub max_memory: Option<String>,
}

/// The user models by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserModelName {
    /// e_i = e_0 + o_i.
    Individual,
    /// e_i = o_i: no generic user is added.
    IndividualNoGeneric,
    /// K shared prompts, mixed by user.
    Cluster,
    /// No soft prompts.
    None,
}

/// Where to compute.
#[derive(Debug, Clone, Args)]
pub struct ComputeFlags {
    /// Where to compute: auto, cpu, cuda, cuda:1, ... [default: auto].
    #[arg(long, env = "ATTUNE_DEVICE")]
    pub device: Option<String>,
    /// Type of frozen weights and activations on a GPU: bf16, f16, f32 [default: bf16].
    #[arg(long)]
    pub dtype: Option<String>,
}

/// `attune-train eval`.
#[derive(Debug, Clone, Args)]
pub struct Eval {
    /// The base model.
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub base: String,
    /// Where to compute.
    #[command(flatten)]
    pub compute: ComputeFlags,
    /// The bundle; without it the bare base is scored.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Bundles to compare with on the same pairs, for example one of plain DPO.
    #[arg(long, value_delimiter = ',')]
    pub against: Vec<PathBuf>,
    /// Pairs.
    #[arg(long, value_delimiter = ',', required = true)]
    pub data: Vec<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Temperature of the implicit rewards.
    #[arg(long, default_value_t = 0.5)]
    pub beta: f64,
    /// Longest prompt that is kept of a pair that is too long, in tokens.
    #[arg(long, default_value_t = 512)]
    pub max_prompt: usize,
    /// Longest prompt and response, in tokens.
    #[arg(long, default_value_t = 1024)]
    pub max_length: usize,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 123)]
    pub seed: u64,
    /// CPU threads; 0 is one a core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// Names of masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskName {
    /// All tokens count.
    None,
    /// Those that the two responses do not share.
    Lcs,
    /// Those, and of the shared ones as much as is learned.
    Learned,
}

/// Names of task families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FamilyName {
    /// Sums and products, from left to right.
    Arithmetic,
    /// Reach a number with others, each used once.
    Countdown,
    /// The last letters of words, joined.
    Letters,
}

/// `attune-train tasks`.
#[derive(Debug, Clone, Args)]
pub struct Tasks {
    /// What they are about.
    #[arg(long, value_enum)]
    pub family: FamilyName,
    /// How hard they are, 1 to 12: steps, numbers or words.
    #[arg(long, default_value_t = 3)]
    pub difficulty: u32,
    /// How many.
    #[arg(long, default_value_t = 100)]
    pub n: usize,
    /// The same seed makes the same tasks.
    #[arg(long, default_value_t = 123)]
    pub seed: u64,
    /// The file.
    #[arg(long)]
    pub out: PathBuf,
}

/// How tasks are asked.
#[derive(Debug, Clone, Args)]
pub struct Asking {
    /// The base model.
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub base: String,
    /// Where to compute.
    #[command(flatten)]
    pub compute: ComputeFlags,
    /// A version, as its generic user; without it the bare base answers.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Files of tasks: attune's own (question, answer, solution, verifier), GSM8K's, SVAMP's or MATH's.
    #[arg(long, value_delimiter = ',', required = true)]
    pub tasks: Vec<PathBuf>,
    /// Only so many tasks, the first ones.
    #[arg(long, default_value_t = 100)]
    pub max_tasks: usize,
    /// Answers to each task.
    #[arg(long, default_value_t = 4)]
    pub samples: usize,
    /// 0 is greedy.
    #[arg(long, default_value_t = 0.7)]
    pub temperature: f32,
    /// Tokens of an answer, at most.
    #[arg(long, default_value_t = 160)]
    pub max_tokens: usize,
    /// Seed of the answers.
    #[arg(long, default_value_t = 123)]
    pub seed: u64,
    /// CPU threads; 0 is one a core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// `attune-train solve`.
#[derive(Debug, Clone, Args)]
pub struct Solve {
    /// How tasks are asked.
    #[command(flatten)]
    pub asking: Asking,
    /// The k of pass@k, each at most --samples.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    pub k: Vec<usize>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// `attune-train explain`.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// How tasks are asked.
    #[command(flatten)]
    pub asking: Asking,
    /// Choose each task's own solution instead of a self-explanation.
    #[arg(long)]
    pub expert: bool,
    /// Take explanations that end with another answer, too, and put the right one behind them.
    #[arg(long)]
    pub keep_unverified: bool,
    /// Reject ordinary answers that are right, too.
    #[arg(long)]
    pub any_rejected: bool,
    /// The file of pairs, for `pdpo --data`.
    #[arg(long)]
    pub out: PathBuf,
}

/// `attune-train entangle`.
#[derive(Debug, Clone, Args)]
pub struct Entangle {
    /// The base model.
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub base: String,
    /// Where to compute.
    #[command(flatten)]
    pub compute: ComputeFlags,
    /// The bundle at which gradients are taken; without it, the bare base with a fresh LoRA.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Pairs.
    #[arg(long, value_delimiter = ',', required = true)]
    pub data: Vec<PathBuf>,
    /// How many of them are measured, the first ones.
    #[arg(long, default_value_t = 64)]
    pub pairs: usize,
    /// A loss, with its parameters; may be given several times [default: dpo, simpo, cpo, dpop, orpo].
    #[arg(long)]
    pub loss: Vec<String>,
    /// Which tokens of a pair count.
    #[arg(long, value_enum, default_value_t = MaskName::None)]
    pub mask: MaskName,
    /// How many of the pairs get a heat map of their tokens' cosines.
    #[arg(long, default_value_t = 5)]
    pub heat_maps: usize,
    /// Directory that gets entangle.json and the heat maps.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Longest prompt that is kept of a pair that is too long, in tokens.
    #[arg(long, default_value_t = 512)]
    pub max_prompt: usize,
    /// Longest prompt and response, in tokens.
    #[arg(long, default_value_t = 1024)]
    pub max_length: usize,
    /// Seed of a fresh LoRA.
    #[arg(long, default_value_t = 123)]
    pub seed: u64,
    /// CPU threads; 0 is one a core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// `attune-train fit-users`.
#[derive(Debug, Clone, Args)]
pub struct FitUsers {
    /// The bundle that is to know more users.
    #[arg(long)]
    pub bundle: PathBuf,
    /// Pairs of the new users; those of users that the bundle knows are passed over.
    #[arg(long, value_delimiter = ',', required = true)]
    pub data: Vec<PathBuf>,
    /// Until when the data reaches that is no snapshot: 2026-11-01T00:00:00Z, or milliseconds since 1970.
    #[arg(long)]
    pub data_until: Option<String>,
    /// Directory that gets the new bundle.
    #[arg(long)]
    pub out: PathBuf,
    /// The base model.
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub base: String,
    /// Where to compute.
    #[command(flatten)]
    pub compute: ComputeFlags,
    /// Passes over a user's pairs.
    #[arg(long, default_value_t = 1)]
    pub epochs: usize,
    /// Learning rate of the new rows [default: 0.02, for clusters 0.5].
    #[arg(long)]
    pub lr: Option<f64>,
    /// Beta of the loss [default: that of the bundle].
    #[arg(long)]
    pub beta: Option<f64>,
    /// Pairs a step, all of one user.
    #[arg(long, default_value_t = 4)]
    pub batch_size: usize,
    /// Longest prompt that is kept of a pair that is too long, in tokens.
    #[arg(long, default_value_t = 512)]
    pub max_prompt: usize,
    /// Longest prompt and response, in tokens.
    #[arg(long, default_value_t = 1024)]
    pub max_length: usize,
    /// Share of each new user's pairs that is held out, to judge their row by: who is not as well off with it as
    /// with the generic one, or has a single pair, gets none. 0: everybody gets one.
    #[arg(long, default_value_t = 0.0)]
    pub holdout: f64,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = 123)]
    pub seed: u64,
    /// CPU threads; 0 is one a core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}

/// `attune-train sample`.
#[derive(Debug, Clone, Args)]
pub struct Sample {
    /// The bundle.
    #[arg(long)]
    pub bundle: PathBuf,
    /// What all are asked.
    #[arg(long)]
    pub prompt: String,
    /// Who asks; the generic user and the bare base answer beside them.
    #[arg(long, value_delimiter = ',')]
    pub users: Vec<String>,
    /// The base model.
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub base: String,
    /// Where to compute.
    #[command(flatten)]
    pub compute: ComputeFlags,
    /// Tokens of an answer, at most.
    #[arg(long, default_value_t = 80)]
    pub max_tokens: usize,
    /// 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f32,
    /// Seed of every answer.
    #[arg(long, default_value_t = 123)]
    pub seed: u64,
    /// CPU threads; 0 is one a core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}
