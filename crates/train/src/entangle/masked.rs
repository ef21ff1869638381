//! A pair's tokens in a pack, and how much each of them counts.

use std::ops::Range;

use super::gate::{reference_grads, tokens, Gate};
use crate::loss::{Objective, PairLoss};
use crate::pairs::IdPair;
use crate::policy::Scored;

/// A pair's tokens, with its mask: 1 and 0 of [`IdPair::kept`], or what a gate says.
#[derive(Debug)]
pub struct MaskedPair<'a> {
    pair: &'a IdPair,
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

impl<'a> MaskedPair<'a> {
    /// `places` are the completions of `pair` in the pack; `hidden` is (targets, hidden) of the whole pack
    /// where there is a gate, else empty.
    pub fn new(
        pair: &'a IdPair,
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
            sides: places.iter().enumerate().map(side).collect(),
        }
    }

    /// Masked log-probabilities of chosen and rejected; 0 for a side that the loss does not look at.
    pub fn sums(&self) -> [f64; 2] {
        [0, 1].map(|side| self.sides.get(side).map_or(0.0, |s| s.sum(s.logps)))
    }

    /// The same of the reference.
    pub fn reference(&self) -> [f64; 2] {
        let Some(gated) = &self.pair.gated else {
            return self.pair.reference;
        };
        [0, 1].map(|side| {
            let of_side = self.sides.get(side);
            of_side.map_or(0.0, |s| s.sum(&gated.reference[side]))
        })
    }

    /// Tokens that count; of a gate's, their sum, rounded up. For losses that average it is a constant.
    pub fn lengths(&self) -> [usize; 2] {
        let lengths = self.pair.lengths();
        [0, 1].map(|side| match (&self.pair.gated, self.sides.get(side)) {
            (Some(_), Some(s)) => s.mask.iter().sum::<f64>().ceil() as usize,
            _ => lengths[side],
        })
    }

    /// Adds `grad` of a side's sum to the derivatives of its tokens in the pack.
    pub fn spread(&self, side: usize, grad: f64, grads: &mut [f64]) {
        if let Some(side) = self.sides.get(side) {
            for (sum, m) in grads[side.at.clone()].iter_mut().zip(&side.mask) {
                *sum += grad * m;
            }
        }
    }

    /// What the mask costs; its gradient goes to `gate`.
    pub fn learn(
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

impl Side<'_> {
    fn sum(&self, of: &[f32]) -> f64 {
        let products = of.iter().zip(&self.mask).map(|(v, m)| f64::from(*v) * m);
        products.sum()
    }
}
