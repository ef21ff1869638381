//! The negative log-likelihood of the chosen response, which some losses add (Lambda of 2410.13828).

use serde::{Deserialize, Serialize};

use super::pair::Side;

/// How the likelihood of a response is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nll {
    /// -a: as papers write it; long responses weigh more.
    Sum,
    /// -a / n: the mean over the tokens of this response. TRL takes the mean over all chosen tokens
    /// of a batch instead, which is no function of one pair.
    Mean,
}

impl Nll {
    /// The term and its derivative by a.
    pub(super) fn of(self, side: Side) -> (f64, f64) {
        match self {
            Self::Sum => (-side.logp, -1.0),
            Self::Mean => (-side.mean(), -1.0 / side.n),
        }
    }
}
