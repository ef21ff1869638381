//! `metrics.jsonl`: one JSON object per line, in the names of TRL and of the P-RLHF authors' trainer.
//!
//! | file | subject |
//! |---|---|
//! | [`means`] | rows since the last line, averaged: all of them, by user, and pooled over users |
//! | [`named`] | other numbers since the last line, averaged |
//! | [`mod@line`] | the fields of a training line and of an evaluation line |
//! | [`mod@file`] | whole lines appended; a resumed run goes on after its checkpoint |
//! | [`memory`] | the most memory that the process held |
//!
//! | field | of |
//! |---|---|
//! | `step`, `epoch` | every line |
//! | `loss`, `learning_rate`, `grad_norm`, `tokens_per_second`, `pairs_per_second`, `peak_memory_bytes` | training |
//! | `eval_loss`, and `eval_` before each name below | evaluation |
//! | `rewards/chosen`, `rewards/rejected`, `rewards/margins`, `rewards/accuracies` | all rows |
//! | `logps/chosen`, `logps/rejected` | all rows |
//! | `rewards/user_07_accuracies`, `logps/user_07_accuracies`, `.._chosen`, `.._rejected` | rows of user row 7; 00 is the generic user |
//! | `rewards/user_each_accuracies`, `logps/user_each_..` | rows of every user but the generic one |
//! | `reward`, `groups/unsolved`, `groups/agree`, `answers/tokens`, `answers/unreadable`, `grpo/surrogate`, `grpo/kl`, `grpo/clipped` | groups of answers; there `pairs_per_second` counts answers |
//! | `expsft/beta`, `expsft/groups`, `expsft/nll` | positive answers: coefficient, share of groups that have one, -log pi |
//! | `rollout_tokens_per_second`, `rollout_time_share`, `explained_pairs` | what answers take, of the time since the last line; pairs made of them |
//! | `eval_pass@1`, `eval_unsolved_share`, `eval_nll_own`, `eval_answer_after_own`, .. | held-out tasks, see `expo::signals` |
//! | `gradients/cosine`, `.._condition`, `.._case_ideal`, .. | pairs whose gradients were measured, see `entangle::diagnose` |
//!
//! A number that is none (a run that diverged) is `null`.

pub mod file;
pub mod line;
pub mod means;
pub mod memory;
pub mod named;

pub use file::{MetricsError, MetricsFile};
pub use line::{eval_line, train_line, StepFacts};
pub use means::Means;
pub use named::NamedMeans;

use super::loss::{PairLogps, PairLoss};

/// What a computed row gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowResult {
    /// The user row it was computed for; 0 is the generic user.
    pub user: usize,
    /// Its log-probabilities.
    pub logps: PairLogps,
    /// Its loss.
    pub loss: PairLoss,
    /// The implicit reward of the chosen response.
    pub chosen_reward: f64,
    /// The implicit reward of the rejected response.
    pub rejected_reward: f64,
}
