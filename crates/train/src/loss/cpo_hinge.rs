//! CPO with a hinge (SLiC, 2305.10425, on beta-scaled log-probabilities), as in TRL's CPO trainer (`hinge`).
//!
//! ```text
//! L = max(0, 1 - beta (a_w - a_l)) + lambda NLL_w,   NLL_w = -a_w (sum) | -m_w (mean)
//! d_w = beta 1[active] + lambda (1 | 1 / n_w)
//! d_l = beta 1[active]
//! ```

use serde::{Deserialize, Serialize};

use super::math::relu;
use super::nll::Nll;
use super::objective::Loss;
use super::pair::{PairLogps, PairLoss, Side};
use super::params::{NonNegative, Positive};

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CpoHinge {
    /// The temperature.
    pub beta: Positive,
    /// What the likelihood of the chosen response weighs; 0 is without.
    pub lambda: NonNegative,
    /// How that likelihood is counted.
    pub nll: Nll,
}

impl Default for CpoHinge {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            lambda: NonNegative::constant(1.0),
            nll: Nll::Mean,
        }
    }
}

impl Loss for CpoHinge {
    const NEEDS_REFERENCE: bool = false;

    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let beta = self.beta.get();
        let (value, active) = relu(1.0 - beta * (pair.chosen - pair.rejected));
        let pull = PairLoss::chain(value, -active, beta, -beta);
        pull.plus_nll(self.lambda, self.nll.of(pair.w()))
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.logp
    }
}
