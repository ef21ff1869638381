//! CPO (2401.08417): no reference, and the likelihood of the chosen response.
//!
//! ```text
//! s = beta (a_w - a_l)
//! L = -log sigmoid(s) + lambda NLL_w,   NLL_w = -a_w (sum) | -m_w (mean)
//! d_w = beta sigmoid(-s) + lambda (1 | 1 / n_w)
//! d_l = beta sigmoid(-s)
//! ```
//!
//! TRL: `sigmoid` of its CPO trainer, whose NLL is the mean over all chosen tokens of a batch.

use serde::{Deserialize, Serialize};

use super::math::{log_sigmoid, sigmoid};
use super::nll::Nll;
use super::objective::Loss;
use super::pair::{PairLogps, PairLoss, Side};
use super::params::{NonNegative, Positive};

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpo {
    /// The temperature.
    pub beta: Positive,
    /// What the likelihood of the chosen response weighs; 0 is without.
    pub lambda: NonNegative,
    /// How that likelihood is counted.
    pub nll: Nll,
}

impl Default for Cpo {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            lambda: NonNegative::constant(1.0),
            nll: Nll::Mean,
        }
    }
}

impl Loss for Cpo {
    const NEEDS_REFERENCE: bool = false;

    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let beta = self.beta.get();
        let s = beta * (pair.chosen - pair.rejected);
        let pull = PairLoss::chain(-log_sigmoid(s), -sigmoid(-s), beta, -beta);
        pull.plus_nll(self.lambda, self.nll.of(pair.w()))
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.logp
    }
}
