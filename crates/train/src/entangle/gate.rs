//! A learned sparse mask (2410.13828, section 5): of the tokens that both responses share, a gate lets
//! through as much as pays.
//!
//! ```text
//! l = loss(sum_t M_w^t log pi_w^t, sum_t M_l^t log pi_l^t) + cost * (sum of M over shared tokens)
//! M^t = 1 on contrastive tokens, sigmoid(w h^t + b) on shared ones
//! ```
//!
//! h is what the head sees before the token; no gradient goes through it. The floor of 1 keeps the mask
//! from closing altogether, which the cost alone would do.

use super::super::adapter::TrainedAdapter;
use super::super::loss::PairLoss;
use super::super::pairs::Gated;
use super::super::parameters::{Parameter, ParameterKind};

/// b at first: shared tokens count almost as others do.
const OPEN: f32 = 2.0;

/// Adds a gate over `hidden` numbers to what is trained: (1, hidden + 1), b last.
pub fn add_to(adapter: &mut TrainedAdapter, hidden: usize) {
    let mut values = vec![0.0; hidden];
    values.push(OPEN);
    let shape = vec![1, hidden + 1];
    let parameter = Parameter::new("mask.gate".into(), shape, values, ParameterKind::Gate);
    adapter.gate = Some(adapter.parameters.len());
    adapter.parameters.push(parameter);
}

/// The gate as one step sees it, and what the step needs from it.
#[derive(Debug)]
pub struct Gate {
    weights: Vec<f32>,
    /// What a shared token costs that is let through.
    cost: f64,
    gradient: Vec<f64>,
}

/// One response, token by token.
#[derive(Debug)]
pub struct GatedTokens<'a> {
    /// log pi.
    pub logps: &'a [f32],
    /// Of the reference.
    pub reference: &'a [f32],
    /// Tokens that count fully.
    pub contrastive: &'a [bool],
    /// (tokens, hidden), row-major.
    pub hidden: &'a [f32],
}

impl Gate {
    /// The gate of `adapter`, if it has one.
    pub fn of(adapter: &TrainedAdapter, cost: f64) -> Option<Self> {
        let parameter = &adapter.parameters[adapter.gate?];
        Some(Self {
            weights: parameter.values.clone(),
            cost,
            gradient: vec![0.0; parameter.values.len()],
        })
    }

    /// Gives the gradient to `adapter`.
    pub fn finish(self, adapter: &mut TrainedAdapter) {
        if let Some(index) = adapter.gate {
            let gradient = &mut adapter.parameters[index].gradient;
            for (sum, more) in gradient.iter_mut().zip(self.gradient) {
                *sum += more as f32;
            }
        }
    }

    /// M of each token.
    pub fn mask(&self, tokens: &GatedTokens) -> Vec<f64> {
        let width = self.weights.len() - 1;
        let rows = tokens.hidden.chunks_exact(width);
        let of = |(row, contrastive): (&[f32], &bool)| match contrastive {
            true => 1.0,
            false => {
                let products = row.iter().zip(&self.weights).map(|(h, w)| f64::from(h * w));
                let sum = products.sum::<f64>() + f64::from(self.weights[width]);
                1.0 / (1.0 + (-sum).exp())
            }
        };
        rows.zip(tokens.contrastive).map(of).collect()
    }

    /// What the shared tokens of one response cost.
    pub fn cost(&self, tokens: &GatedTokens, mask: &[f64]) -> f64 {
        let shared = mask.iter().zip(tokens.contrastive).filter(|(_, c)| !**c);
        self.cost * shared.map(|(m, _)| m).sum::<f64>()
    }

    /// Adds d (weight * (loss + cost)) / d gate of one response, whose masked log-probability has the derivative
    /// `grad`, and whose masked one under the reference `reference_grad`.
    pub fn learn(
        &mut self,
        tokens: &GatedTokens,
        mask: &[f64],
        [grad, reference_grad]: [f64; 2],
        weight: f64,
    ) {
        let width = self.weights.len() - 1;
        for (t, m) in mask.iter().enumerate() {
            if tokens.contrastive[t] {
                continue;
            }
            let by_mask = grad * f64::from(tokens.logps[t])
                + reference_grad * f64::from(tokens.reference[t])
                + self.cost;
            let by_sum = weight * by_mask * m * (1.0 - m);
            let row = &tokens.hidden[t * width..(t + 1) * width];
            for (g, h) in self.gradient.iter_mut().zip(row) {
                *g += by_sum * f64::from(*h);
            }
            self.gradient[width] += by_sum;
        }
    }
}

/// Derivatives by the reference's log-probabilities: losses that read them are functions of log pi - log ref.
pub fn reference_grads(loss: &PairLoss, needs_reference: bool) -> [f64; 2] {
    match needs_reference {
        true => [-loss.d_chosen, -loss.d_rejected],
        false => [0.0; 2],
    }
}

/// The tokens of one side of a pair.
pub fn tokens<'a>(
    gated: &'a Gated,
    side: usize,
    logps: &'a [f32],
    hidden: &'a [f32],
) -> GatedTokens<'a> {
    GatedTokens {
        logps,
        reference: &gated.reference[side],
        contrastive: &gated.contrastive[side],
        hidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{Objective, PairLogps};

    const HIDDEN: [f32; 6] = [0.5, -1.0, 2.0, 0.3, -0.7, 1.1];

    /// A response of three tokens, the second one contrastive.
    fn response<'a>(logps: &'a [f32; 3], reference: &'a [f32; 3]) -> GatedTokens<'a> {
        GatedTokens {
            logps,
            reference,
            contrastive: &[false, true, false],
            hidden: &HIDDEN,
        }
    }

    fn loss(objective: &Objective, gate: &Gate, sides: &[GatedTokens; 2]) -> (f64, PairLoss) {
        let masks = sides.each_ref().map(|side| gate.mask(side));
        let sum = |side: usize, of: &[f32]| -> f64 {
            let products = masks[side].iter().zip(of).map(|(m, v)| m * f64::from(*v));
            products.sum()
        };
        let loss = objective.loss(&PairLogps {
            chosen: sum(0, sides[0].logps),
            rejected: sum(1, sides[1].logps),
            ref_chosen: sum(0, sides[0].reference),
            ref_rejected: sum(1, sides[1].reference),
            n_chosen: 3,
            n_rejected: 3,
        });
        let cost = gate.cost(&sides[0], &masks[0]) + gate.cost(&sides[1], &masks[1]);
        (loss.value + cost, loss)
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (w, l) = ([-1.0, -0.5, -2.0], [-1.5, -3.0, -0.2]);
        let (rw, rl) = ([-1.2, -0.7, -1.0], [-1.0, -2.0, -0.4]);
        let sides = [response(&w, &rw), response(&l, &rl)];
        for text in [
            "dpo:beta=0.5",
            "simpo",
            "cpo",
            "dpop",
            "ipo:beta=0.3",
            "sppo",
        ] {
            let objective: Objective = text.parse().unwrap();
            let mut gate = Gate {
                weights: vec![0.3, -0.2, 0.4],
                cost: 0.05,
                gradient: vec![0.0; 3],
            };
            let (_, at) = loss(&objective, &gate, &sides);
            let references = reference_grads(&at, objective.needs_reference());
            let masks = sides.each_ref().map(|side| gate.mask(side));
            for side in 0..2 {
                let grad = [at.d_chosen, at.d_rejected][side];
                gate.learn(&sides[side], &masks[side], [grad, references[side]], 1.0);
            }
            for i in 0..3 {
                let h = 1e-3;
                let mut moved = |by: f32| {
                    gate.weights[i] += by;
                    let value = loss(&objective, &gate, &sides).0;
                    gate.weights[i] -= by;
                    value
                };
                let numeric = (moved(h) - moved(-h)) / f64::from(2.0 * h);
                assert!(
                    (numeric - gate.gradient[i]).abs() < 1e-3,
                    "{text} {i}: {numeric}, not {}",
                    gate.gradient[i]
                );
            }
        }
    }

    #[test]
    fn contrastive_tokens_count_fully_and_others_begin_almost_open() {
        let mut adapter = TrainedAdapter {
            parameters: Vec::new(),
            lora: Vec::new(),
            users: None,
            gate: None,
        };
        assert!(Gate::of(&adapter, 0.1).is_none());
        add_to(&mut adapter, 2);
        let gate = Gate::of(&adapter, 0.1).unwrap();
        let logps = [0.0; 3];
        let mask = gate.mask(&response(&logps, &logps));
        assert_eq!(mask[1], 1.0);
        assert!(
            mask[0] == mask[2] && (0.85..0.9).contains(&mask[0]),
            "{mask:?}"
        );
        let cost = gate.cost(&response(&logps, &logps), &mask);
        assert!((cost - 0.2 * mask[0]).abs() < 1e-12);
    }
}
