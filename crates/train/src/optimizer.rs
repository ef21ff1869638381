//! AdamW with a clip by the global norm, as PyTorch and the Hugging Face Trainer compute it, in f32.
//!
//! Decoupled weight decay: arXiv 1711.05101. Every loop runs in one order, so a step gives the same
//! bits each time.

use super::parameters::Parameter;

/// The numbers of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the second mean.
    pub eps: f64,
    /// Gradients are scaled down to this global norm.
    pub clip_norm: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip_norm: 1.0,
        }
    }
}

/// The two moments of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Mean of gradients.
    pub first: Vec<f32>,
    /// Mean of squares.
    pub second: Vec<f32>,
}

/// The state that a checkpoint keeps besides the parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerState {
    /// Steps taken.
    pub step: u64,
    /// One for each parameter, in their order.
    pub moments: Vec<Moments>,
}

impl OptimizerState {
    /// Before the first step.
    pub fn new(parameters: &[Parameter]) -> Self {
        let zeros = |p: &Parameter| Moments {
            first: vec![0.0; p.values.len()],
            second: vec![0.0; p.values.len()],
        };
        Self {
            step: 0,
            moments: parameters.iter().map(zeros).collect(),
        }
    }
}

impl AdamW {
    /// One step with the gradients of `parameters`; `rates` gives a parameter's learning rate and
    /// weight decay. Returns the global norm before the clip.
    pub fn step(
        &self,
        parameters: &mut [Parameter],
        state: &mut OptimizerState,
        rates: impl Fn(&Parameter) -> Rates,
    ) -> f64 {
        let norm = global_norm(parameters);
        // As torch.nn.utils.clip_grad_norm_ has it.
        let clip = (self.clip_norm / (norm + 1e-6)).min(1.0) as f32;
        state.step += 1;
        let steps = state.step as i32;
        let first_correction = 1.0 - self.beta1.powi(steps);
        let second_correction = (1.0 - self.beta2.powi(steps)).sqrt();
        let (b1, b2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        let (root, eps) = (second_correction as f32, self.eps as f32);
        for (parameter, moments) in parameters.iter_mut().zip(&mut state.moments) {
            let Rates { lr, decay } = rates(parameter);
            let (size, keep) = ((lr / first_correction) as f32, (1.0 - lr * decay) as f32);
            for i in parameter.trained.clone() {
                let g = parameter.gradient[i] * clip;
                let (first, second) = (&mut moments.first[i], &mut moments.second[i]);
                *first += (g - *first) * b1;
                *second = *second * self.beta2 as f32 + g * g * b2;
                let value = &mut parameter.values[i];
                if i >= parameter.decayed_from {
                    *value *= keep;
                }
                *value -= size * (*first / (second.sqrt() / root + eps));
            }
        }
        norm
    }
}

/// The learning rate and weight decay of one parameter at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub decay: f64,
}

/// sqrt of the sum of the squares of all gradients that count.
fn global_norm(parameters: &[Parameter]) -> f64 {
    let squares = |p: &Parameter| -> f64 {
        let square = |g: &f32| f64::from(*g) * f64::from(*g);
        p.gradient[p.trained.clone()].iter().map(square).sum()
    };
    parameters.iter().map(squares).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::parameters::ParameterKind;
    use super::*;

    fn parameter(values: &[f32], gradient: &[f32]) -> Parameter {
        let (shape, kind) = (vec![values.len()], ParameterKind::Lora);
        let mut parameter = Parameter::new("p".into(), shape, values.to_vec(), kind);
        parameter.gradient = gradient.to_vec();
        parameter
    }

    #[test]
    fn the_first_step_moves_by_the_learning_rate_and_the_decay() {
        // m / bc1 = g and sqrt(v) / sqrt(bc2) = |g|: each value moves by lr against its gradient.
        let mut parameters = [parameter(&[1.0, -2.0, 0.5], &[0.3, -0.4, 0.0])];
        let mut state = OptimizerState::new(&parameters);
        let rates = |_: &Parameter| Rates {
            lr: 0.1,
            decay: 0.01,
        };
        let norm = AdamW::default().step(&mut parameters, &mut state, rates);
        assert!((norm - 0.5).abs() < 1e-7);
        let want = [1.0 * 0.999 - 0.1, -2.0 * 0.999 + 0.1, 0.5 * 0.999];
        for (got, want) in parameters[0].values.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{got}, not {want}");
        }
        assert_eq!(state.step, 1);
    }

    #[test]
    fn frozen_values_stay_and_decay_begins_where_it_is_told() {
        let mut parameters = [parameter(&[1.0; 4], &[0.5; 4])];
        parameters[0].trained = 1..4;
        parameters[0].decayed_from = 3;
        let mut state = OptimizerState::new(&parameters);
        let rates = |_: &Parameter| Rates {
            lr: 0.1,
            decay: 1.0,
        };
        let norm = AdamW::default().step(&mut parameters, &mut state, rates);
        assert!((norm - 0.75f64.sqrt()).abs() < 1e-7, "{norm}");
        for (got, want) in parameters[0].values.iter().zip([1.0, 0.9, 0.9, 0.8]) {
            assert!((got - want).abs() < 1e-6, "{got}, not {want}");
        }
    }

    #[test]
    fn long_gradients_are_clipped_together() {
        let mut parameters = [parameter(&[0.0], &[30.0]), parameter(&[0.0], &[-40.0])];
        let mut state = OptimizerState::new(&parameters);
        let rates = |_: &Parameter| Rates {
            lr: 1.0,
            decay: 0.0,
        };
        let norm = AdamW::default().step(&mut parameters, &mut state, rates);
        assert!((norm - 50.0).abs() < 1e-6);
        let first = [state.moments[0].first[0], state.moments[1].first[0]];
        assert!((first[0] - 0.06).abs() < 1e-6 && (first[1] + 0.08).abs() < 1e-6);
    }
}
