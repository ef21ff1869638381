//! DPO (2305.18290, eq. 7); with label smoothing cDPO (Mitchell, "A note on DPO with noisy preferences").
//!
//! ```text
//! s = beta (D_w - D_l)
//! L = -(1 - epsilon) log sigmoid(s) - epsilon log sigmoid(-s)
//! d_w = d_l = beta ((1 - epsilon) sigmoid(-s) - epsilon sigmoid(s))
//! ```
//!
//! TRL: `sigmoid`.

use serde::{Deserialize, Serialize};

use super::math::{log_sigmoid, sigmoid};
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::{Positive, Smoothing};

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpo {
    /// The temperature.
    pub beta: Positive,
    /// epsilon: the share of labels that are taken to be flipped.
    pub label_smoothing: Smoothing,
}

impl Default for Dpo {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            label_smoothing: Smoothing::constant(0.0),
        }
    }
}

impl Loss for Dpo {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let (beta, epsilon) = (self.beta.get(), self.label_smoothing.get());
        let s = beta * pair.logratio_margin();
        let value = -(1.0 - epsilon) * log_sigmoid(s) - epsilon * log_sigmoid(-s);
        let d = epsilon * sigmoid(s) - (1.0 - epsilon) * sigmoid(-s);
        PairLoss::chain(value, d, beta, -beta)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
