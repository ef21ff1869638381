//! A pair's tokens in a pack, and how much each of them counts: gate, mask and normalisation.

use std::ops::Range;

use candle_core::DType;

use super::gate::{reference_grads, tokens, Gate};
use crate::loss::{Objective, PairLogps, PairLoss};
use crate::pairs::IdPair;
use crate::policy::Scored;

/// A pair's tokens, with its mask: 1 and 0 of [`IdPair::kept`], or what a gate says.
#[derive(Debug)]
pub struct TokenWeights<'a> {
    pair: &'a IdPair,
    /// What the gradients of chosen and rejected are multiplied with.
    factors: [f64; 2],
    /// Chosen, and rejected where the loss looks at it.
    sides: Vec<Side<'a>>,
}

#[derive(Debug)]
struct Side<'a> {
    /// Where its tokens are in the pack.
    at: Range<usize>,
    logps: &'a [f32],
    /// (tokens, hidden); empty without a gate.
    hidden: &'a [f32],
    mask: Vec<f64>,
}

impl<'a> TokenWeights<'a> {
    /// `places` are the completions of `pair` in the pack; `hidden` is what
    /// [`gate_inputs`] gave for the whole pack.
    pub fn new(
        pair: &'a IdPair,
        factors: [f64; 2],
        places: &[usize],
        scored: &'a Scored,
        hidden: &'a [f32],
        gate: Option<&Gate>,
    ) -> Self {
        let width = hidden.len() / scored.values.len().max(1);
        let side = |(side, place): (usize, &usize)| {
            let at = scored.segment(*place);
            let logps = &scored.values[at.clone()];
            let hidden = &hidden[at.start * width..at.end * width];
            let mask = match (gate, &pair.gated, &pair.kept) {
                (Some(gate), Some(gated), _) => gate.mask(&tokens(gated, side, logps, hidden)),
                (_, _, Some(kept)) => kept[side].iter().map(|k| f64::from(u8::from(*k))).collect(),
                _ => vec![1.0; logps.len()],
            };
            Side {
                at,
                logps,
                hidden,
                mask,
            }
        };
        Self {
            pair,
            factors,
            sides: places.iter().enumerate().map(side).collect(),
        }
    }

    /// What the loss looks at: log-probabilities and lengths by the tokens that count.
    pub fn logps(&self) -> PairLogps {
        let [chosen, rejected] =
            [0, 1].map(|side| self.sides.get(side).map_or(0.0, |s| s.sum(s.logps)));
        let [ref_chosen, ref_rejected] = self.reference();
        let [n_chosen, n_rejected] = self.lengths();
        PairLogps {
            chosen,
            rejected,
            ref_chosen,
            ref_rejected,
            n_chosen,
            n_rejected,
        }
    }

    /// Log-probabilities under the reference; 0 for a side that the loss does not look at.
    fn reference(&self) -> [f64; 2] {
        let Some(gated) = &self.pair.gated else {
            return self.pair.reference;
        };
        [0, 1].map(|side| {
            let of_side = self.sides.get(side);
            of_side.map_or(0.0, |s| s.sum(&gated.reference[side]))
        })
    }

    /// Tokens that count; of a gate's, their sum, rounded up. For losses that average it is a constant.
    fn lengths(&self) -> [usize; 2] {
        let lengths = self.pair.lengths();
        [0, 1].map(|side| match (&self.pair.gated, self.sides.get(side)) {
            (Some(_), Some(s)) => s.mask.iter().sum::<f64>().ceil() as usize,
            _ => lengths[side],
        })
    }

    /// Adds what `weight` times `loss` says of the tokens to `grads`, those of the whole pack.
    pub fn backward(&self, loss: &PairLoss, weight: f64, grads: &mut [f64]) {
        let by_sum = [loss.d_chosen, loss.d_rejected];
        for ((side, by_sum), factor) in self.sides.iter().zip(by_sum).zip(self.factors) {
            let grad = weight * factor * by_sum;
            for (sum, m) in grads[side.at.clone()].iter_mut().zip(&side.mask) {
                *sum += grad * m;
            }
        }
    }

    /// What a gate's mask costs; its gradient goes to `gate`.
    pub fn gate_backward(
        &self,
        gate: &mut Gate,
        objective: &Objective,
        loss: &PairLoss,
        weight: f64,
    ) -> f64 {
        let Some(gated) = &self.pair.gated else {
            return 0.0;
        };
        let references = reference_grads(loss, objective.needs_reference());
        let mut cost = 0.0;
        for (number, side) in self.sides.iter().enumerate() {
            let tokens = tokens(gated, number, side.logps, side.hidden);
            let grad = [loss.d_chosen, loss.d_rejected][number];
            gate.learn(&tokens, &side.mask, [grad, references[number]], weight);
            cost += gate.cost(&tokens, &side.mask);
        }
        cost
    }
}

/// What a gate sees, (targets, hidden) of the whole pack; empty where there is none.
///
/// # Errors
/// A failure of the tensor library.
pub fn gate_inputs(gate: Option<&Gate>, scored: &Scored) -> candle_core::Result<Vec<f32>> {
    match gate {
        None => Ok(Vec::new()),
        Some(_) => scored.hidden.to_dtype(DType::F32)?.flatten_all()?.to_vec1(),
    }
}

impl Side<'_> {
    fn sum(&self, of: &[f32]) -> f64 {
        let products = of.iter().zip(&self.mask).map(|(v, m)| f64::from(*v) * m);
        products.sum()
    }
}
