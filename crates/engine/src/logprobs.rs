//! Log-probabilities of the logits as the model gave them.

use super::request::TokenLogprob;
use super::topk::best;

/// What stands for the log-probability of an impossible token: JSON has no infinity (OpenAI answers
/// the same number).
pub const IMPOSSIBLE: f32 = -9999.0;

/// The log-probabilities of one row of logits.
#[derive(Debug)]
pub struct Logprobs<'a> {
    logits: &'a [f32],
    /// log(sum(exp(logits))), in double precision.
    log_sum: f64,
}

impl<'a> Logprobs<'a> {
    /// `logits` have no NaN and no positive infinity, and at least one is finite.
    pub fn new(logits: &'a [f32]) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let max = f64::from(max);
        let sum: f64 = logits.iter().map(|l| (f64::from(*l) - max).exp()).sum();
        Self {
            logits,
            log_sum: max + sum.ln(),
        }
    }

    /// Of one token, in nats.
    pub fn of(&self, id: u32) -> f32 {
        let logit = self.logits.get(id as usize).copied();
        let logit = f64::from(logit.unwrap_or(f32::NEG_INFINITY));
        ((logit - self.log_sum) as f32).max(IMPOSSIBLE)
    }

    /// The `n` best tokens, best first, lower ids first among equals.
    pub fn top(&self, n: usize) -> Vec<TokenLogprob> {
        let token = |id| TokenLogprob {
            id,
            logprob: self.of(id),
        };
        best(self.logits, n).into_iter().map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_a_log_softmax() {
        // softmax([0, ln 2, ln 5]) = [1, 2, 5] / 8
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let logprobs = Logprobs::new(&logits);
        for (id, p) in [(0, 0.125f32), (1, 0.25), (2, 0.625)] {
            assert!((logprobs.of(id) - p.ln()).abs() < 1e-6);
        }
        let top: Vec<u32> = logprobs.top(2).iter().map(|t| t.id).collect();
        assert_eq!(top, [2, 1]);
        assert!(logprobs.top(0).is_empty());
        assert_eq!(logprobs.top(20).len(), 3);
    }

    #[test]
    fn large_and_impossible_logits_stay_finite() {
        let logits = [3e38, f32::NEG_INFINITY, -3e38];
        let logprobs = Logprobs::new(&logits);
        assert_eq!(logprobs.of(0), 0.0);
        assert_eq!(logprobs.of(1), IMPOSSIBLE);
        assert_eq!(logprobs.of(2), IMPOSSIBLE);
    }
}
