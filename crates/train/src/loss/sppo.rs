//! SPPO with hard labels (2405.00675), the mean of the two squares, as in the MarginPO code (`sppo`).
//!
//! ```text
//! L = ((D_w - 1 / (2 beta))^2 + (D_l + 1 / (2 beta))^2) / 2
//! d_w = 1 / (2 beta) - D_w
//! d_l = 1 / (2 beta) + D_l
//! ```
//!
//! Each side has a target of its own. Their sum is `sppo-hard`.

use serde::{Deserialize, Serialize};

use super::objective::Loss;
use super::pair::{PairLogps, PairLoss, Side};
use super::params::Positive;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sppo {
    /// The temperature.
    pub beta: Positive,
}

impl Default for Sppo {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
        }
    }
}

impl Loss for Sppo {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let target = 0.5 / self.beta.get();
        let (miss_w, miss_l) = (pair.w().ratio() - target, pair.l().ratio() + target);
        PairLoss {
            value: 0.5 * (miss_w * miss_w + miss_l * miss_l),
            d_chosen: miss_w,
            d_rejected: miss_l,
        }
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
