//! RRHF (2304.05302) on a pair: a hinge on averages, and the likelihood of the chosen response.
//!
//! ```text
//! L = max(0, m_l - m_w) + lambda NLL_w,   NLL_w = -a_w (sum) | -m_w (mean)
//! d_w = 1[active] / n_w + lambda (1 | 1 / n_w)
//! d_l = 1[active] / n_l
//! ```
//!
//! The defaults are those of the MarginPO code, whose NLL is the mean over all chosen tokens of a batch.

use serde::{Deserialize, Serialize};

use super::math::relu;
use super::nll::Nll;
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::NonNegative;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rrhf {
    /// What the likelihood of the chosen response weighs; 0 is without.
    pub lambda: NonNegative,
    /// How that likelihood is counted.
    pub nll: Nll,
}

impl Default for Rrhf {
    fn default() -> Self {
        Self {
            lambda: NonNegative::constant(1.0),
            nll: Nll::Mean,
        }
    }
}

impl Loss for Rrhf {
    const NEEDS_REFERENCE: bool = false;

    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let (w, l) = (pair.w(), pair.l());
        let (value, active) = relu(l.mean() - w.mean());
        let pull = PairLoss::chain(value, active, -1.0 / w.n, 1.0 / l.n);
        pull.plus_nll(self.lambda, self.nll.of(w))
    }

    // It has no beta: what it compares is m itself.
    fn reward(&self, side: Side) -> f64 {
        side.mean()
    }
}
