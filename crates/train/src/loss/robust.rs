//! Robust DPO (2403.00409): unbiased under a known share of flipped labels.
//!
//! ```text
//! s = beta (D_w - D_l)
//! L = (-(1 - epsilon) log sigmoid(s) + epsilon log sigmoid(-s)) / (1 - 2 epsilon)
//! d_w = d_l = beta ((1 - epsilon) sigmoid(-s) + epsilon sigmoid(s)) / (1 - 2 epsilon)
//! ```
//!
//! TRL: `robust`. At epsilon = 0 it is DPO.

use serde::{Deserialize, Serialize};

use super::math::{log_sigmoid, sigmoid};
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::{Positive, Smoothing};

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Robust {
    /// The temperature.
    pub beta: Positive,
    /// epsilon: the share of labels that are taken to be flipped.
    pub label_smoothing: Smoothing,
}

impl Default for Robust {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            label_smoothing: Smoothing::constant(0.1),
        }
    }
}

impl Loss for Robust {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let (beta, epsilon) = (self.beta.get(), self.label_smoothing.get());
        let s = beta * pair.logratio_margin();
        let scale = 1.0 / (1.0 - 2.0 * epsilon);
        let value = scale * (epsilon * log_sigmoid(-s) - (1.0 - epsilon) * log_sigmoid(s));
        let d = -scale * ((1.0 - epsilon) * sigmoid(-s) + epsilon * sigmoid(s));
        PairLoss::chain(value, d, beta, -beta)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
