//! NCA on a pair (2402.05369): also absolute log-ratios count.
//!
//! ```text
//! r = beta D
//! L = -log sigmoid(r_w) - log sigmoid(-r_w) / 2 - log sigmoid(-r_l) / 2
//! d_w = beta (sigmoid(-r_w) - sigmoid(r_w) / 2)
//! d_l = beta sigmoid(r_l) / 2
//! ```
//!
//! TRL: `nca_pair`.

use serde::{Deserialize, Serialize};

use super::math::{log_sigmoid, sigmoid};
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::Positive;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NcaPair {
    /// The temperature.
    pub beta: Positive,
}

impl Default for NcaPair {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
        }
    }
}

impl Loss for NcaPair {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let beta = self.beta.get();
        let (r_w, r_l) = (beta * pair.w().ratio(), beta * pair.l().ratio());
        PairLoss {
            value: -log_sigmoid(r_w) - 0.5 * log_sigmoid(-r_w) - 0.5 * log_sigmoid(-r_l),
            d_chosen: beta * (0.5 * sigmoid(r_w) - sigmoid(-r_w)),
            d_rejected: beta * 0.5 * sigmoid(r_l),
        }
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
