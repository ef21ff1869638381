//! DPO-Positive (2402.13228): DPO that pays when the chosen response falls below the reference.
//!
//! ```text
//! s = beta (D_w - D_l - lambda max(0, -D_w))
//! L = -log sigmoid(s)
//! d_w = beta sigmoid(-s) (1 + lambda 1[D_w < 0])
//! d_l = beta sigmoid(-s)
//! ```
//!
//! The MarginPO code calls it `pdpo`, with lambda fixed at 50. At D_w = 0, where an unpersonalised
//! policy starts, the term is inactive.

use serde::{Deserialize, Serialize};

use super::math::{log_sigmoid, relu, sigmoid};
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::{NonNegative, Positive};

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpop {
    /// The temperature.
    pub beta: Positive,
    /// What falling below the reference weighs, inside beta.
    pub lambda: NonNegative,
}

impl Default for Dpop {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            lambda: NonNegative::constant(50.0),
        }
    }
}

impl Loss for Dpop {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let (beta, lambda) = (self.beta.get(), self.lambda.get());
        let (fall, active) = relu(-pair.w().ratio());
        let s = beta * (pair.logratio_margin() - lambda * fall);
        let ds_chosen = beta * (1.0 + lambda * active);
        PairLoss::chain(-log_sigmoid(s), -sigmoid(-s), ds_chosen, -beta)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
