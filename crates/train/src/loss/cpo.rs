//! CPO (2401.08417): no reference, and the likelihood of the chosen response. `cpo-hinge` has a hinge (SLiC,
//! 2305.10425, on beta-scaled log-probabilities) in place of the log-sigmoid.
//!
//! ```text
//! s = beta (a_w - a_l)
//! L = f(s) + lambda NLL_w,   f = -log sigmoid(s) (cpo) | max(0, 1 - s) (cpo-hinge)
//!                            NLL_w = -a_w (sum) | -m_w (mean)
//! d_w = -beta f'(s) + lambda (1 | 1 / n_w),   -f' = sigmoid(-s) | 1[s < 1]
//! d_l = -beta f'(s)
//! ```
//!
//! TRL: `sigmoid` and `hinge` of its CPO trainer, whose NLL is the mean over all chosen tokens of a batch.

use serde::{Deserialize, Serialize};

use super::math::{log_sigmoid, relu, sigmoid};
use super::nll::Nll;
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::{NonNegative, Positive};

const BETA: Positive = Positive::constant(0.1);
const LAMBDA: NonNegative = NonNegative::constant(1.0);

/// Parameters of `cpo`.
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

/// Parameters of `cpo-hinge`.
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

impl Default for Cpo {
    fn default() -> Self {
        Self {
            beta: BETA,
            lambda: LAMBDA,
            nll: Nll::Mean,
        }
    }
}

impl Default for CpoHinge {
    fn default() -> Self {
        Self {
            beta: BETA,
            lambda: LAMBDA,
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
