//! SLiC-HF (2305.10425): a hinge on log-probabilities, and the likelihood of the chosen response.
//!
//! ```text
//! L = max(0, delta - a_w + a_l) - lambda a_w
//! d_w = 1[active] + lambda
//! d_l = 1[active]
//! ```

use serde::{Deserialize, Serialize};

use super::math::relu;
use super::nll::Nll;
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::NonNegative;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlicHf {
    /// The margin.
    pub delta: NonNegative,
    /// What the likelihood of the chosen response weighs; 0 is without.
    pub lambda: NonNegative,
}

impl Default for SlicHf {
    fn default() -> Self {
        Self {
            delta: NonNegative::constant(1.0),
            lambda: NonNegative::constant(0.1),
        }
    }
}

impl Loss for SlicHf {
    const NEEDS_REFERENCE: bool = false;

    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let (value, active) = relu(self.delta.get() - pair.chosen + pair.rejected);
        let pull = PairLoss::chain(value, active, -1.0, 1.0);
        pull.plus_nll(self.lambda, Nll::Sum.of(pair.w()))
    }

    // It has no beta: what it compares is a itself.
    fn reward(&self, side: Side) -> f64 {
        side.logp
    }
}
