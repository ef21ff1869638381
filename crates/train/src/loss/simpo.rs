//! SimPO (2405.14734, eq. 6): no reference, averages over tokens, a target margin.
//!
//! ```text
//! s = beta (m_w - m_l) - gamma
//! L = -log sigmoid(s)
//! d_w = beta sigmoid(-s) / n_w
//! d_l = beta sigmoid(-s) / n_l
//! ```
//!
//! The defaults are of the range that the paper recommends; TRL has beta 0.1 and gamma 0.5.

use serde::{Deserialize, Serialize};

use super::math::{log_sigmoid, sigmoid};
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::{NonNegative, Positive};

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Simpo {
    /// The temperature.
    pub beta: Positive,
    /// The target margin, outside beta.
    pub gamma: NonNegative,
}

impl Default for Simpo {
    fn default() -> Self {
        Self {
            beta: Positive::constant(2.0),
            gamma: NonNegative::constant(1.0),
        }
    }
}

impl Loss for Simpo {
    const NEEDS_REFERENCE: bool = false;

    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let beta = self.beta.get();
        let (w, l) = (pair.w(), pair.l());
        let s = beta * (w.mean() - l.mean()) - self.gamma.get();
        PairLoss::chain(-log_sigmoid(s), -sigmoid(-s), beta / w.n, -beta / l.n)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.mean()
    }
}
