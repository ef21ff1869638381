//! ORPO (2403.07691, eqs. 6 and 7): the likelihood of the chosen response, and an odds ratio.
//!
//! ```text
//! p = exp(m),   s = log(p_w / (1 - p_w)) - log(p_l / (1 - p_l))
//! L = -m_w - lambda log sigmoid(s)
//! d_w = (1 + lambda sigmoid(-s) / (1 - p_w)) / n_w
//! d_l = lambda sigmoid(-s) / (1 - p_l) / n_l
//! ```
//!
//! TRL: its ORPO trainer, whose `beta` is lambda here and whose likelihood term is the mean over all
//! chosen tokens of a batch.

use serde::{Deserialize, Serialize};

use super::math::{log_1m_exp, log_sigmoid};
use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::NonNegative;

/// Odds have no bound as p nears 1. Log-probabilities a token above this one (p = 1 - 1e-7, what
/// f32 tells from 1) count as this one.
const HIGHEST: f64 = -1e-7;

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Orpo {
    /// What the odds ratio weighs.
    pub lambda: NonNegative,
}

impl Default for Orpo {
    fn default() -> Self {
        Self {
            lambda: NonNegative::constant(0.1),
        }
    }
}

impl Loss for Orpo {
    const NEEDS_REFERENCE: bool = false;

    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let lambda = self.lambda.get();
        let (w, l) = (pair.w(), pair.l());
        let (m_w, m_l) = (w.mean().min(HIGHEST), l.mean().min(HIGHEST));
        let (rest_w, rest_l) = (log_1m_exp(m_w), log_1m_exp(m_l));
        let s = (m_w - rest_w) - (m_l - rest_l);
        // sigmoid(-s) / (1 - p) as one power: the quotient of two tiny numbers loses its digits.
        let slope = |rest: f64| lambda * (log_sigmoid(-s) - rest).exp();
        PairLoss {
            value: -w.mean() - lambda * log_sigmoid(s),
            d_chosen: -(1.0 + slope(rest_w)) / w.n,
            d_rejected: slope(rest_l) / l.n,
        }
    }

    fn reward(&self, side: Side) -> f64 {
        self.lambda.get() * side.mean()
    }
}
