//! APO-down (2408.06266): for pairs whose chosen response is worse than the policy.
//!
//! ```text
//! s = beta (D_w - D_l)
//! L = sigmoid(beta D_w) + 1 - sigmoid(s)
//! d_w = beta (sigmoid(s) sigmoid(-s) - sigmoid(beta D_w) sigmoid(-beta D_w))
//! d_l = beta sigmoid(s) sigmoid(-s)
//! ```
//!
//! TRL: `apo_down`. The chosen response falls, the rejected one falls further.

use serde::{Deserialize, Serialize};

use super::math::sigmoid;
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::Positive;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApoDown {
    /// The temperature.
    pub beta: Positive,
}

impl Default for ApoDown {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
        }
    }
}

impl Loss for ApoDown {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let beta = self.beta.get();
        let (r_w, s) = (beta * pair.w().ratio(), beta * pair.logratio_margin());
        let (slope_w, slope) = (sigmoid(r_w) * sigmoid(-r_w), sigmoid(s) * sigmoid(-s));
        PairLoss {
            value: sigmoid(r_w) + sigmoid(-s),
            d_chosen: beta * (slope_w - slope),
            d_rejected: beta * slope,
        }
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
