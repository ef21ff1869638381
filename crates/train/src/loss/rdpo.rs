//! R-DPO (2403.19159): DPO with a term for length.
//!
//! ```text
//! s = beta (D_w - D_l) + alpha (n_w - n_l)
//! L = -log sigmoid(s)
//! d_w = d_l = beta sigmoid(-s)
//! ```
//!
//! As in the MarginPO code (`rdpo`): the term is outside beta, and lengths count EOS.

use serde::{Deserialize, Serialize};

use super::math::{log_sigmoid, sigmoid};
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::{NonNegative, Positive};

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rdpo {
    /// The temperature.
    pub beta: Positive,
    /// What a token of length difference weighs.
    pub alpha: NonNegative,
}

impl Default for Rdpo {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            alpha: NonNegative::constant(0.2),
        }
    }
}

impl Loss for Rdpo {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let beta = self.beta.get();
        let (w, l) = (pair.w(), pair.l());
        let s = beta * pair.logratio_margin() + self.alpha.get() * (w.n - l.n);
        PairLoss::chain(-log_sigmoid(s), -sigmoid(-s), beta, -beta)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
