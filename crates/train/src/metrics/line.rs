//! The fields of a line.

use serde_json::{Map, Value};

use super::memory;
use super::Means;

/// What a training line says beside the means of its rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepFacts {
    /// Optimizer steps done.
    pub step: u64,
    /// Passes over the data done, with a fraction.
    pub epoch: f64,
    /// The mixed loss, averaged over the steps since the last line.
    pub loss: f64,
    /// Of the last step.
    pub learning_rate: f64,
    /// Norm of the last step's gradient before clipping.
    pub grad_norm: f64,
    /// Rows of the decoder since the last line: prompts, soft prompts and responses.
    pub tokens: u64,
    /// Pairs, or answers to tasks, since the last line.
    pub pairs: u64,
    /// Wall clock since the last line.
    pub seconds: f64,
}

/// A line of training: the facts. The means since the last one follow.
pub fn train_line(facts: &StepFacts) -> Map<String, Value> {
    let mut line = head(facts.step, facts.epoch);
    let mut put = |name: &str, value: f64| line.insert(name.to_owned(), Value::from(value));
    put("loss", facts.loss);
    put("learning_rate", facts.learning_rate);
    put("grad_norm", facts.grad_norm);
    if facts.seconds > 0.0 {
        put("tokens_per_second", facts.tokens as f64 / facts.seconds);
        put("pairs_per_second", facts.pairs as f64 / facts.seconds);
    }
    if let Some(bytes) = memory::peak_resident_bytes() {
        line.insert("peak_memory_bytes".to_owned(), Value::from(bytes));
    }
    line
}

/// A line of evaluation: the plain mean loss over all rows, and their means.
pub fn eval_line(step: u64, epoch: f64, means: &Means) -> Map<String, Value> {
    let mut line = head(step, epoch);
    if let Some(loss) = means.loss() {
        line.insert("eval_loss".to_owned(), Value::from(loss));
    }
    means.write("eval_", &mut line);
    line
}

pub(crate) fn head(step: u64, epoch: f64) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("step".to_owned(), Value::from(step));
    line.insert("epoch".to_owned(), Value::from(epoch));
    line
}

#[cfg(test)]
mod tests {
    use super::super::RowResult;
    use super::*;
    use crate::loss::{PairLogps, PairLoss};

    fn facts() -> StepFacts {
        StepFacts {
            step: 10,
            epoch: 0.5,
            loss: 0.625,
            learning_rate: 5e-5,
            grad_norm: 2.0,
            tokens: 300,
            pairs: 12,
            seconds: 1.5,
        }
    }

    fn means() -> Means {
        let mut means = Means::default();
        means.add(&RowResult {
            user: 3,
            logps: PairLogps {
                chosen: -1.0,
                rejected: -2.0,
                ref_chosen: -1.0,
                ref_rejected: -1.0,
                n_chosen: 1,
                n_rejected: 1,
            },
            loss: PairLoss {
                value: 0.25,
                d_chosen: 0.0,
                d_rejected: 0.0,
            },
            chosen_reward: 1.0,
            rejected_reward: 0.0,
        });
        means
    }

    #[test]
    fn a_training_line_has_the_facts_and_the_means() {
        let mut line = train_line(&facts());
        means().write("", &mut line);
        for (name, want) in [
            ("step", 10.0),
            ("epoch", 0.5),
            ("loss", 0.625),
            ("learning_rate", 5e-5),
            ("grad_norm", 2.0),
            ("tokens_per_second", 200.0),
            ("pairs_per_second", 8.0),
            ("rewards/accuracies", 1.0),
        ] {
            assert_eq!(line[name].as_f64(), Some(want), "{name}");
        }
        assert!(line["step"].is_u64());
    }

    #[test]
    fn an_evaluation_line_has_the_plain_mean_and_its_prefix() {
        let line = eval_line(10, 0.5, &means());
        assert_eq!(line["eval_loss"].as_f64(), Some(0.25));
        assert_eq!(line["eval_rewards/user_03_accuracies"].as_f64(), Some(1.0));
        let bare = |name: &&String| !name.starts_with("eval_");
        let bare: Vec<&String> = line.keys().filter(bare).collect();
        assert_eq!(bare.len(), 2, "{bare:?}");
    }

    #[test]
    fn a_number_that_is_none_is_null() {
        let line = train_line(&StepFacts {
            loss: f64::NAN,
            seconds: 0.0,
            ..facts()
        });
        assert!(line["loss"].is_null());
        assert!(!line.contains_key("tokens_per_second"));
    }
}
