//! The gradients of a pair's two log-probabilities, and what a step really changes.

use super::measure::{Entanglement, Pull};
use crate::adapter::TrainedAdapter;
use crate::pack::{Completion, PromptPrefix};
use crate::policy::{Activations, Policy};
use crate::TrainError;
use attune_model::decoder::Decoder;

/// Where gradients are taken: at an adapter, over what of it is trained.
#[derive(Debug)]
pub struct Probe<'a> {
    /// The frozen base.
    pub decoder: &'a Decoder,
    /// What precedes every prompt.
    pub prefix: PromptPrefix,
    /// Whether blocks run a second time in the backward pass.
    pub activations: Activations,
}

/// Gradients of the log-probabilities of chosen and of rejected, each over all trained numbers in the
/// order of the parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct PairGradients {
    /// log pi of chosen and of rejected, summed over the tokens that count.
    pub logps: [f64; 2],
    /// Their gradients.
    pub gradients: [Vec<f32>; 2],
}

impl PairGradients {
    /// Norms and inner product.
    pub fn measure(&self) -> Entanglement {
        Entanglement::of(&self.gradients[0], &self.gradients[1])
    }
}

impl Probe<'_> {
    /// The policy of an adapter.
    ///
    /// # Errors
    /// A failure of the tensor library; a user model that is no longer made of numbers.
    pub fn policy(&self, adapter: &TrainedAdapter) -> Result<Policy<'_>, TrainError> {
        Policy::of(self.decoder, self.prefix.bos, adapter, None)
    }

    /// Both gradients of a pair. `adapter` gives the values; its own gradients are left undefined.
    ///
    /// # Errors
    /// As [`Self::policy`].
    pub fn pair(
        &self,
        policy: &Policy,
        adapter: &mut TrainedAdapter,
        pair: &[Completion; 2],
    ) -> Result<PairGradients, TrainError> {
        let mut logps = [0.0; 2];
        let mut gradients = [Vec::new(), Vec::new()];
        for side in 0..2 {
            adapter.zero_gradients();
            policy.learn(adapter, &pair[side..=side], self.activations, |sums| {
                logps[side] = sums[0];
                Ok::<_, TrainError>(vec![1.0])
            })?;
            gradients[side] = trained_gradient(adapter);
        }
        Ok(PairGradients { logps, gradients })
    }

    /// The gradient of each token's log-probability of a response.
    ///
    /// # Errors
    /// As [`Self::policy`].
    pub fn tokens(
        &self,
        policy: &Policy,
        adapter: &mut TrainedAdapter,
        completion: Completion,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let of_token = |token: usize| {
            adapter.zero_gradients();
            policy.learn_tokens(adapter, &[completion], self.activations, |scored| {
                let mut grads = vec![0.0; scored.values.len()];
                grads[token] = 1.0;
                Ok::<_, TrainError>(grads)
            })?;
            Ok(trained_gradient(adapter))
        };
        (0..completion.response.len()).map(of_token).collect()
    }

    /// By how much one SGD step of size `eta` on this pair alone changes the two log-probabilities.
    /// `adapter` is what it was afterwards.
    ///
    /// # Errors
    /// As [`Self::policy`].
    pub fn realised(
        &self,
        adapter: &mut TrainedAdapter,
        pair: &[Completion; 2],
        found: &PairGradients,
        pull: Pull,
        eta: f64,
    ) -> Result<[f64; 2], TrainError> {
        let before: Vec<Vec<f32>> = adapter
            .parameters
            .iter()
            .map(|p| p.values.clone())
            .collect();
        step(adapter, found, pull, eta);
        let after = self
            .policy(adapter)
            .and_then(|policy| Ok(policy.log_probs(pair)?));
        for (parameter, values) in adapter.parameters.iter_mut().zip(before) {
            parameter.values = values;
        }
        let after = after?;
        Ok([after[0] - found.logps[0], after[1] - found.logps[1]])
    }
}

/// theta += eta (d_w g_w - d_l g_l).
fn step(adapter: &mut TrainedAdapter, found: &PairGradients, pull: Pull, eta: f64) {
    let [chosen, rejected] = &found.gradients;
    let mut by = chosen
        .iter()
        .zip(rejected)
        .map(|(w, l)| eta * (pull.chosen * f64::from(*w) - pull.rejected * f64::from(*l)));
    for parameter in &mut adapter.parameters {
        let trained = parameter.trained.clone();
        for value in &mut parameter.values[trained] {
            *value = (f64::from(*value) + by.next().unwrap_or(0.0)) as f32;
        }
    }
}

fn trained_gradient(adapter: &TrainedAdapter) -> Vec<f32> {
    let parts = adapter.parameters.iter();
    parts
        .flat_map(|p| p.gradient[p.trained.clone()].iter().copied())
        .collect()
}
