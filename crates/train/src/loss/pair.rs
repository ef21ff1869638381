//! What every loss is a function of, and what it gives back.

use super::params::NonNegative;

/// What a file of this folder implements.
pub(super) trait Loss {
    /// Whether it reads the reference's log-probabilities.
    const NEEDS_REFERENCE: bool = true;
    /// Whether it reads the rejected response.
    const NEEDS_REJECTED: bool = true;

    /// Value and derivatives.
    fn loss(&self, pair: &PairLogps) -> PairLoss;

    /// The implicit reward of a response: what the loss compares, times its beta.
    fn reward(&self, side: Side) -> f64;
}

/// Log-probabilities of a preference pair: natural logs, summed over the tokens of each response,
/// EOS included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLogps {
    /// a_w: the chosen response under the policy.
    pub chosen: f64,
    /// a_l: the rejected response under the policy. Not read by `sft`.
    pub rejected: f64,
    /// The chosen response under the reference. Not read by losses without a reference.
    pub ref_chosen: f64,
    /// The rejected response under the reference. Not read by losses without a reference.
    pub ref_rejected: f64,
    /// n_w: tokens of the chosen response, EOS included.
    pub n_chosen: usize,
    /// n_l: tokens of the rejected response, EOS included.
    pub n_rejected: usize,
}

/// The loss of one pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLoss {
    /// L, in nats.
    pub value: f64,
    /// dL/da_w = -d_w.
    pub d_chosen: f64,
    /// dL/da_l = d_l.
    pub d_rejected: f64,
}

/// One response of a pair.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    /// a.
    pub logp: f64,
    /// The same under the reference.
    pub ref_logp: f64,
    /// n, at least 1.
    pub n: f64,
}

impl PairLogps {
    /// The chosen response.
    pub fn w(&self) -> Side {
        Side::new(self.chosen, self.ref_chosen, self.n_chosen)
    }

    /// The rejected response.
    pub fn l(&self) -> Side {
        Side::new(self.rejected, self.ref_rejected, self.n_rejected)
    }

    /// D_w - D_l.
    pub fn logratio_margin(&self) -> f64 {
        self.w().ratio() - self.l().ratio()
    }
}

impl Side {
    /// A response without tokens has a = 0, and so has its mean: n is taken as 1.
    fn new(logp: f64, ref_logp: f64, n: usize) -> Self {
        Self {
            logp,
            ref_logp,
            n: n.max(1) as f64,
        }
    }

    /// D = a - ref.
    pub fn ratio(&self) -> f64 {
        self.logp - self.ref_logp
    }

    /// m = a / n.
    pub fn mean(&self) -> f64 {
        self.logp / self.n
    }

    /// D / n.
    pub fn mean_ratio(&self) -> f64 {
        self.ratio() / self.n
    }
}

impl PairLoss {
    /// A loss that is a function of one number s: `d` = dL/ds, and ds/da of both sides.
    pub(super) fn chain(value: f64, d: f64, ds_chosen: f64, ds_rejected: f64) -> Self {
        Self {
            value,
            d_chosen: d * ds_chosen,
            d_rejected: d * ds_rejected,
        }
    }

    /// With `weight` times a likelihood term and its derivative by a_w.
    pub(super) fn plus_nll(self, weight: NonNegative, (nll, d_nll): (f64, f64)) -> Self {
        Self {
            value: self.value + weight.get() * nll,
            d_chosen: self.d_chosen + weight.get() * d_nll,
            ..self
        }
    }
}
