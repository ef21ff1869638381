//! IPO (2310.12036, eq. 17) on averages over tokens, as TRL 0.9 and later compute it (`ipo`).
//!
//! ```text
//! h = D_w / n_w - D_l / n_l
//! L = (h - 1 / (2 beta))^2
//! d_w = 2 (1 / (2 beta) - h) / n_w
//! d_l = 2 (1 / (2 beta) - h) / n_l
//! ```

use serde::{Deserialize, Serialize};

use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::Positive;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpoAvg {
    /// The temperature.
    pub beta: Positive,
}

impl Default for IpoAvg {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
        }
    }
}

impl Loss for IpoAvg {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let (w, l) = (pair.w(), pair.l());
        let miss = w.mean_ratio() - l.mean_ratio() - 0.5 / self.beta.get();
        PairLoss::chain(miss * miss, 2.0 * miss, 1.0 / w.n, -1.0 / l.n)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.mean_ratio()
    }
}
