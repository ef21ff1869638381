//! GRPO and ExP-GRPO as functions of log-probabilities (section 2.5 of the notes on 2507.02834; what the
//! paper leaves open is as TRL 0.16.0 has it).

use serde::{Deserialize, Serialize};

/// Added to the standard deviation of a group.
const EPSILON: f64 = 1e-4;

/// The numbers of the objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grpo {
    /// The ratio of new to old probability counts within 1 +- this.
    pub clip: f64,
    /// Coefficient of the distance to the reference (TRL's `beta`); 0 computes no reference.
    pub kl: f64,
    /// What a token of an answer weighs.
    pub weigh: Weigh,
}

/// What a token of an answer weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Weigh {
    /// One over the tokens of all answers of the batch (TRL).
    Tokens,
    /// One over the tokens of its own answer, and one over the answers (the paper's formula).
    Answers,
}

/// What the rewards of a group say of each of its answers: (R - mean) / (std + 1e-4), with the standard
/// deviation of a sample (n - 1). A group that agrees has nothing to say: exactly 0.
pub fn advantages(rewards: &[f64]) -> Vec<f64> {
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n;
    let squares: f64 = rewards.iter().map(|r| (r - mean).powi(2)).sum();
    if squares == 0.0 || rewards.len() < 2 {
        return vec![0.0; rewards.len()];
    }
    let std = (squares / (n - 1.0)).sqrt();
    rewards
        .iter()
        .map(|r| (r - mean) / (std + EPSILON))
        .collect()
}

/// One token of an answer in the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLoss {
    /// - min(rho A, clip(rho) A).
    pub surrogate: f64,
    /// exp(d) - d - 1 with d = log pi_ref - log pi; 0 without a reference.
    pub kl: f64,
    /// d (surrogate + kl coefficient * kl) / d log pi.
    pub grad: f64,
    /// Whether the clip holds it back.
    pub clipped: bool,
}

impl Grpo {
    /// A token with these log-probabilities under the policy, the policy that sampled it, and the
    /// reference.
    pub fn token(
        &self,
        policy: f64,
        old: f64,
        reference: Option<f64>,
        advantage: f64,
    ) -> TokenLoss {
        let ratio = (policy - old).exp();
        let held = ratio.clamp(1.0 - self.clip, 1.0 + self.clip);
        let clipped = held * advantage < ratio * advantage;
        let (surrogate, mut grad) = if clipped {
            (-held * advantage, 0.0)
        } else {
            (-ratio * advantage, -ratio * advantage)
        };
        let mut kl = 0.0;
        if let Some(reference) = reference {
            let d = reference - policy;
            kl = d.exp() - d - 1.0;
            grad += self.kl * (1.0 - d.exp());
        }
        TokenLoss {
            surrogate,
            kl,
            grad,
            clipped,
        }
    }

    /// What each token of an answer of `length` tokens weighs, in a batch of `answers` with `tokens`.
    pub fn weight(&self, length: usize, answers: usize, tokens: usize) -> f64 {
        match self.weigh {
            Weigh::Tokens => 1.0 / tokens as f64,
            Weigh::Answers => 1.0 / (answers * length) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRPO: Grpo = Grpo {
        clip: 0.2,
        kl: 0.04,
        weigh: Weigh::Tokens,
    };

    #[test]
    fn advantages_are_those_of_the_sample() {
        let got = advantages(&[1.0, 0.0, 0.0, 0.0]);
        for (got, want) in got.iter().zip([1.4997, -0.4999, -0.4999, -0.4999]) {
            assert!((got - want).abs() < 1e-4, "{got}, not {want}");
        }
        for agree in [&[0.0; 4][..], &[1.0; 3], &[1.0], &[]] {
            assert!(advantages(agree).iter().all(|a| *a == 0.0));
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let value = |policy: f64, advantage| {
            let token = GRPO.token(policy, -1.0, Some(-1.3), advantage);
            token.surrogate + GRPO.kl * token.kl
        };
        for policy in [-1.5, -1.1, -1.0, -0.9, -0.5] {
            for advantage in [1.5, 0.0, -0.5] {
                let h = 1e-6;
                let numeric =
                    (value(policy + h, advantage) - value(policy - h, advantage)) / (2.0 * h);
                let grad = GRPO.token(policy, -1.0, Some(-1.3), advantage).grad;
                assert!((numeric - grad).abs() < 1e-6, "{policy} {advantage}");
            }
        }
    }

    #[test]
    fn the_clip_holds_back_what_went_far_already() {
        let clipped = |policy, advantage| GRPO.token(policy, -1.0, None, advantage).clipped;
        assert!(clipped(-0.5, 1.0) && clipped(-1.5, -1.0));
        assert!(!clipped(-0.5, -1.0) && !clipped(-1.5, 1.0) && !clipped(-1.0, 1.0));
        assert_eq!(GRPO.token(-0.5, -1.0, None, 1.0).grad, 0.0);
    }

    #[test]
    fn weights_of_a_batch_add_up_to_one_of_each_kind() {
        let lengths = [3, 5];
        for weigh in [Weigh::Tokens, Weigh::Answers] {
            let grpo = Grpo { weigh, ..GRPO };
            let all: f64 = lengths
                .iter()
                .map(|n| *n as f64 * grpo.weight(*n, 2, 8))
                .sum();
            assert!((all - 1.0).abs() < 1e-12);
        }
    }
}
