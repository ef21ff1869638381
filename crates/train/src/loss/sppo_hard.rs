//! SPPO with hard labels (2405.00675), the sum of the two squares, as in TRL (`sppo_hard`).
//!
//! ```text
//! L = (D_w - 1 / (2 beta))^2 + (D_l + 1 / (2 beta))^2
//! d_w = 2 (1 / (2 beta) - D_w)
//! d_l = 2 (1 / (2 beta) + D_l)
//! ```

use serde::{Deserialize, Serialize};

use super::objective::Loss;
use super::pair::{PairLogps, PairLoss, Side};
use super::params::Positive;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SppoHard {
    /// The temperature.
    pub beta: Positive,
}

impl Default for SppoHard {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
        }
    }
}

impl Loss for SppoHard {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let target = 0.5 / self.beta.get();
        let (miss_w, miss_l) = (pair.w().ratio() - target, pair.l().ratio() + target);
        PairLoss {
            value: miss_w * miss_w + miss_l * miss_l,
            d_chosen: 2.0 * miss_w,
            d_rejected: 2.0 * miss_l,
        }
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
