//! How a row of logits becomes a token.
//!
//! Order: log-probabilities are taken from the logits as they are; then penalties and bias
//! (`penalties.rs`), what may not be chosen now (`mask.rs`), temperature, top-k, top-p,
//! min-p, draw (`draw.rs`). This is Hugging Face's order; vLLM applies min-p before top-k, llama.cpp the
//! temperature last. Each filter sees what the one before it left:
//!
//! - top-k keeps the k greatest, lower ids first among equals;
//! - top-p keeps the shortest such list whose probabilities, over what top-k left, reach p;
//! - min-p keeps p(token) >= min_p * p(best).
//!
//! The result depends on the sequence alone (its logits, its history, its generator), never on what
//! else is in the batch.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::draw::{self, survey, Scratch};
use super::logprobs::Logprobs;
use super::mask::Mask;
use super::penalties::Penalties;
use super::request::{EngineRequest, SamplingParams, SequenceError, TokenOutput};

/// Chooses the tokens of one sequence.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    penalties: Penalties,
    mask: Mask,
    rng: ChaCha8Rng,
    made: usize,
}

/// How a token is to be chosen from logits as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingPlan {
    /// 0 takes the greatest.
    pub temperature: f32,
    /// 0 keeps all.
    pub top_k: usize,
    /// 1 keeps all.
    pub top_p: f32,
    /// 0 keeps all.
    pub min_p: f32,
    /// In 0..1; decides.
    pub u: f64,
}

impl SamplingPlan {
    /// By `params`; `u` in 0..1 decides.
    pub fn of(params: &SamplingParams, u: f64) -> Self {
        Self {
            temperature: params.temperature,
            top_k: params.top_k,
            top_p: params.top_p,
            min_p: params.min_p,
            u,
        }
    }

    /// Whether the greatest logit is wanted, whatever the other numbers.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// The token; `None` for NaN, positive infinity, or no possible token.
    pub fn choose(&self, logits: &[f32], scratch: &mut Scratch) -> Option<u32> {
        let max = survey(logits, &mut scratch.maxima)?;
        Some(draw::choose(self, logits, max, scratch))
    }
}

impl Sampler {
    /// For one answer. `engine_seed` and `stream` make the generator of a request without a seed.
    pub fn new(request: &EngineRequest, engine_seed: u64, stream: u64) -> Self {
        let rng = match request.sampling.seed {
            Some(seed) => ChaCha8Rng::seed_from_u64(seed),
            None => {
                let mut rng = ChaCha8Rng::seed_from_u64(engine_seed);
                rng.set_stream(stream);
                rng
            }
        };
        Self {
            penalties: Penalties::new(&request.sampling, &request.prompt),
            params: request.sampling.clone(),
            mask: Mask::new(request.end_ids.clone(), request.min_tokens),
            rng,
            made: 0,
        }
    }

    /// The next token, from the logits of the sequence's last row.
    ///
    /// # Errors
    /// `NotFinite` for NaN, positive infinity, or no possible token. Negative infinity is a token
    /// that cannot be.
    pub fn sample(
        &mut self,
        logits: &[f32],
        scratch: &mut Scratch,
    ) -> Result<TokenOutput, SequenceError> {
        let max = survey(logits, &mut scratch.maxima).ok_or(SequenceError::NotFinite)?;
        let n_top = self.params.logprobs;
        let logprobs = n_top.map(|n| Logprobs::new(logits, max, n, scratch));
        let id = if self.takes_logits_as_they_are(self.made) {
            draw::choose(&self.next_plan(), logits, max, scratch)
        } else {
            let id = self.choose_changed(logits, scratch);
            id.ok_or(SequenceError::NotFinite)?
        };
        self.penalties.record(id);
        self.made += 1;
        let logprob = logprobs.as_ref().map(|of| of.of(logits[id as usize]));
        let top = logprobs.map_or_else(Vec::new, |of| of.top);
        Ok(TokenOutput { id, logprob, top })
    }

    /// What to choose by, if the token after the next `ahead` ones can be chosen without a look at the
    /// logits here: nobody asked for log-probabilities, and nothing changes the logits. [`Self::take`] takes
    /// the tokens in, in order.
    pub fn plan(&self, ahead: usize) -> Option<SamplingPlan> {
        let plain = self.takes_logits_as_they_are(self.made + ahead);
        (plain && self.params.logprobs.is_none()).then(|| {
            let mut rng = self.rng.clone();
            for _ in 0..ahead {
                let _: f64 = rng.random();
            }
            SamplingPlan::of(&self.params, rng.random())
        })
    }

    /// Takes a token in that was chosen by [`Self::plan`].
    pub fn take(&mut self, id: u32) -> TokenOutput {
        if self.params.temperature != 0.0 {
            // The number that the plan named.
            let _: f64 = self.rng.random();
        }
        self.penalties.record(id);
        self.made += 1;
        TokenOutput {
            id,
            logprob: None,
            top: Vec::new(),
        }
    }

    /// Whether nothing changes the logits after `made` tokens.
    fn takes_logits_as_they_are(&self, made: usize) -> bool {
        self.penalties.are_off() && self.mask.is_off(made)
    }

    /// A token from the logits that penalties and the mask leave.
    fn choose_changed(&mut self, logits: &[f32], scratch: &mut Scratch) -> Option<u32> {
        let mut changed = std::mem::take(&mut scratch.changed);
        changed.clear();
        changed.extend_from_slice(logits);
        self.penalties.apply(&mut changed);
        self.mask.apply(self.made, &mut changed);
        let max = survey(&changed, &mut scratch.maxima);
        let id = max.map(|max| draw::choose(&self.next_plan(), &changed, max, scratch));
        scratch.changed = changed;
        id
    }

    /// By its next random number; greedy choice leaves the generator alone.
    fn next_plan(&mut self) -> SamplingPlan {
        let u = match self.params.temperature == 0.0 {
            true => 0.0,
            false => self.rng.random(),
        };
        SamplingPlan::of(&self.params, u)
    }
}
