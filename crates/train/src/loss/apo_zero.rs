//! APO-zero (2408.06266): for pairs whose chosen response is better than the policy.
//!
//! ```text
//! L = 1 - sigmoid(beta D_w) + sigmoid(beta D_l)
//! d_w = beta sigmoid(beta D_w) sigmoid(-beta D_w)
//! d_l = beta sigmoid(beta D_l) sigmoid(-beta D_l)
//! ```
//!
//! TRL: `apo_zero`.

use serde::{Deserialize, Serialize};

use super::math::sigmoid;
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::Positive;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApoZero {
    /// The temperature.
    pub beta: Positive,
}

impl Default for ApoZero {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
        }
    }
}

impl Loss for ApoZero {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let beta = self.beta.get();
        let (r_w, r_l) = (beta * pair.w().ratio(), beta * pair.l().ratio());
        PairLoss {
            value: sigmoid(-r_w) + sigmoid(r_l),
            d_chosen: -beta * sigmoid(r_w) * sigmoid(-r_w),
            d_rejected: beta * sigmoid(r_l) * sigmoid(-r_l),
        }
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
