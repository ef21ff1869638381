//! SPPO with hard labels (2405.00675): `sppo` is the mean of the two squares, as in the MarginPO code, `sppo-hard`
//! their sum, as in TRL (`sppo_hard`).
//!
//! ```text
//! L = c ((D_w - 1 / (2 beta))^2 + (D_l + 1 / (2 beta))^2),   c = 1/2 (sppo) | 1 (sppo-hard)
//! d_w = 2 c (1 / (2 beta) - D_w)
//! d_l = 2 c (1 / (2 beta) + D_l)
//! ```
//!
//! Each side has a target of its own.

use serde::{Deserialize, Serialize};

use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::params::Positive;

const BETA: Positive = Positive::constant(0.1);

/// Parameters of `sppo`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sppo {
    /// The temperature.
    pub beta: Positive,
}

/// Parameters of `sppo-hard`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SppoHard {
    /// The temperature.
    pub beta: Positive,
}

impl Default for Sppo {
    fn default() -> Self {
        Self { beta: BETA }
    }
}

impl Default for SppoHard {
    fn default() -> Self {
        Self { beta: BETA }
    }
}

impl Loss for Sppo {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        squares(pair, self.beta, 0.5)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}

impl Loss for SppoHard {
    fn loss(&self, pair: &PairLogps) -> PairLoss {
        squares(pair, self.beta, 1.0)
    }

    fn reward(&self, side: Side) -> f64 {
        self.beta.get() * side.ratio()
    }
}

/// `c` times the two squares.
fn squares(pair: &PairLogps, beta: Positive, c: f64) -> PairLoss {
    let target = 0.5 / beta.get();
    let (miss_w, miss_l) = (pair.w().ratio() - target, pair.l().ratio() + target);
    PairLoss {
        value: c * (miss_w * miss_w + miss_l * miss_l),
        d_chosen: 2.0 * c * miss_w,
        d_rejected: 2.0 * c * miss_l,
    }
}
