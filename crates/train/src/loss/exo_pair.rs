//! EXO on a pair (2402.00856): the reverse KL to smoothed labels.
//!
//! ```text
//! s = beta (D_w - D_l)
//! L = sigmoid(s) (log sigmoid(s) - log(1 - epsilon)) + sigmoid(-s) (log sigmoid(-s) - log epsilon)
//! d_w = d_l = -beta sigmoid(s) sigmoid(-s) (s - log((1 - epsilon) / epsilon))
//! ```
//!
//! TRL: `exo_pair`, which reads epsilon = 0 as 0.001; here 0 is refused.

use serde::{Deserialize, Serialize};

use super::math::{log_sigmoid, sigmoid};
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::{Positive, PositiveSmoothing};

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExoPair {
    /// The temperature.
    pub beta: Positive,
    /// epsilon: the share of labels that are taken to be flipped.
    pub label_smoothing: PositiveSmoothing,
}

impl Default for ExoPair {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            label_smoothing: PositiveSmoothing::constant(0.001),
        }
    }
}

impl Loss for ExoPair {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let (beta, epsilon) = (self.beta.get(), self.label_smoothing.get());
        let s = beta * pair.logratio_margin();
        let (log_keep, log_flip) = ((-epsilon).ln_1p(), epsilon.ln());
        let (p, q) = (sigmoid(s), sigmoid(-s));
        let value = p * (log_sigmoid(s) - log_keep) + q * (log_sigmoid(-s) - log_flip);
        let d = p * q * (s - log_keep + log_flip);
        PairLoss::chain(value, d, beta, -beta)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
