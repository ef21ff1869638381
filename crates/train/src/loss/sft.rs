//! Supervised fine-tuning on the chosen response; with the mixture of individual and generic rows P-SFT.
//!
//! ```text
//! L = -a_w (sum) | -m_w (mean)
//! d_w = 1 | 1 / n_w
//! d_l = 0
//! ```
//!
//! The sum is the likelihood of the response, as P-RLHF (2402.05133) would write it; its authors have no
//! code for it. `nll=mean` weighs responses alike, whatever their length.

use serde::{Deserialize, Serialize};

use super::nll::Nll;
use super::pair::{Loss, PairLogps, PairLoss, Side};

/// Parameters of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sft {
    /// How the likelihood is counted.
    pub nll: Nll,
}

impl Default for Sft {
    fn default() -> Self {
        Self { nll: Nll::Sum }
    }
}

impl Loss for Sft {
    const NEEDS_REFERENCE: bool = false;
    const NEEDS_REJECTED: bool = false;

    fn loss(&self, pair: &PairLogps) -> PairLoss {
        let (value, d_chosen) = self.nll.of(pair.w());
        PairLoss {
            value,
            d_chosen,
            d_rejected: 0.0,
        }
    }

    fn reward(&self, side: Side) -> f64 {
        side.logp
    }
}
