//! IPO (2310.12036, eq. 17), with sums over tokens as in the paper.
//!
//! ```text
//! h = D_w - D_l
//! L = (h - 1 / (2 beta))^2
//! d_w = d_l = 2 (1 / (2 beta) - h), below 0 once the margin is past its target
//! ```
//!
//! TRL averages over tokens: that is `ipo-avg`.

use serde::{Deserialize, Serialize};

use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::Positive;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ipo {
    /// The temperature.
    pub beta: Positive,
}

impl Default for Ipo {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
        }
    }
}

impl Loss for Ipo {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let miss = pair.logratio_margin() - 0.5 / self.beta.get();
        PairLoss::chain(miss * miss, 2.0 * miss, 1.0, -1.0)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
