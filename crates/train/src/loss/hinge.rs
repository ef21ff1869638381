//! Hinge on DPO's margin (SLiC, 2305.10425, on log-ratios as in RSO, 2309.06657).
//!
//! ```text
//! L = max(0, 1 - beta (D_w - D_l))
//! d_w = d_l = beta 1[active]
//! ```
//!
//! TRL: `hinge` of its DPO trainer.

use serde::{Deserialize, Serialize};

use super::math::relu;
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::Positive;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hinge {
    /// The temperature.
    pub beta: Positive,
}

impl Default for Hinge {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
        }
    }
}

impl Loss for Hinge {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let beta = self.beta.get();
        let (value, active) = relu(1.0 - beta * pair.logratio_margin());
        PairLoss::chain(value, -active, beta, -beta)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}
