//! Log-probabilities of the logits as the model gave them.

use super::draw::{sum_of_exp, Scratch};
use super::request::TokenLogprob;

/// What stands for the log-probability of an impossible token: JSON has no infinity (OpenAI answers
/// the same number).
pub const IMPOSSIBLE: f32 = -9999.0;

/// The log-probabilities of one row of logits.
#[derive(Debug)]
pub struct Logprobs {
    /// log(sum(exp(logits))), in double precision.
    log_sum: f64,
    /// The best tokens, best first, lower ids first among equals.
    pub top: Vec<TokenLogprob>,
}

impl Logprobs {
    /// With the `n` best. `logits` were surveyed with `scratch`, and `max` is the greatest.
    pub fn new(logits: &[f32], max: f32, n: usize, scratch: &mut Scratch) -> Self {
        let mut all = Self {
            log_sum: f64::from(max) + sum_of_exp(logits, max, scratch).ln(),
            top: Vec::new(),
        };
        let best = scratch.best(logits, n);
        let token = |id: u32| TokenLogprob {
            id,
            logprob: all.of(logits[id as usize]),
        };
        all.top = best.map(token).collect();
        all
    }

    /// Of the token with this logit, in nats.
    pub fn of(&self, logit: f32) -> f32 {
        ((f64::from(logit) - self.log_sum) as f32).max(IMPOSSIBLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::survey;

    fn logprobs(logits: &[f32], n: usize) -> Logprobs {
        let mut scratch = Scratch::default();
        let max = survey(logits, &mut scratch.maxima).unwrap();
        Logprobs::new(logits, max, n, &mut scratch)
    }

    #[test]
    fn they_are_a_log_softmax() {
        // softmax([0, ln 2, ln 5]) = [1, 2, 5] / 8
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let two = logprobs(&logits, 2);
        for (logit, p) in logits.iter().zip([0.125f32, 0.25, 0.625]) {
            assert!((two.of(*logit) - p.ln()).abs() < 1e-6);
        }
        let top: Vec<u32> = two.top.iter().map(|t| t.id).collect();
        assert_eq!(top, [2, 1]);
        assert!(logprobs(&logits, 0).top.is_empty());
        assert_eq!(logprobs(&logits, 20).top.len(), 3);
    }

    #[test]
    fn large_and_impossible_logits_stay_finite() {
        let logits = [3e38, f32::NEG_INFINITY, -3e38];
        let logprobs = logprobs(&logits, 0);
        assert_eq!(logprobs.of(logits[0]), 0.0);
        assert_eq!(logprobs.of(logits[1]), IMPOSSIBLE);
        assert_eq!(logprobs.of(logits[2]), IMPOSSIBLE);
    }
}
