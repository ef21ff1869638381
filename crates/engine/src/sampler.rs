//! How a row of logits becomes a token.
//!
//! Order: log-probabilities are taken from the logits as they are; then penalties and bias
//! (`penalties.rs`), end ids masked while too few tokens were made, temperature, top-k, top-p,
//! min-p, draw. This is Hugging Face's order; vLLM applies min-p before top-k, llama.cpp the
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

use super::logprobs::Logprobs;
use super::penalties::Penalties;
use super::request::{EngineRequest, SamplingParams, SequenceError, TokenOutput};
use super::topk::{best_keys, key, key_id, keys};

/// Chooses the tokens of one sequence.
#[derive(Debug)]
pub struct Sampler {
    params: SamplingParams,
    penalties: Penalties,
    rng: ChaCha8Rng,
    /// Not to be chosen before `min_tokens`.
    end_ids: std::sync::Arc<[u32]>,
    min_tokens: usize,
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

    /// The token; `logits` are numbers, and one of them is possible.
    pub fn choose(&self, logits: &[f32]) -> u32 {
        match self.is_greedy() {
            true => greedy(logits),
            false => draw(self, logits),
        }
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
            rng,
            end_ids: request.end_ids.clone(),
            min_tokens: request.min_tokens,
            made: 0,
        }
    }

    /// The next token, from the logits of the sequence's last row.
    ///
    /// # Errors
    /// `NotFinite` for NaN, positive infinity, or no possible token. Negative infinity is a token
    /// that cannot be.
    pub fn sample(&mut self, logits: &[f32]) -> Result<TokenOutput, SequenceError> {
        check(logits)?;
        let id = if self.penalties.are_off() && self.made >= self.min_tokens {
            self.choose(logits)
        } else {
            let mut changed = logits.to_vec();
            self.penalties.apply(&mut changed);
            self.mask_end_ids(&mut changed);
            check(&changed)?;
            self.choose(&changed)
        };
        self.penalties.record(id);
        self.made += 1;
        Ok(self.with_logprobs(logits, id))
    }

    /// What to choose by, if the token after the next `ahead` ones can be chosen without a look at the
    /// logits here: nobody asked for log-probabilities, and nothing changes the logits. [`Self::take`] takes
    /// the tokens in, in order.
    pub fn plan(&self, ahead: usize) -> Option<SamplingPlan> {
        let plain = self.penalties.are_off() && self.made + ahead >= self.min_tokens;
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

    fn choose(&mut self, logits: &[f32]) -> u32 {
        // Greedy choice leaves the generator alone.
        let u = match self.params.temperature == 0.0 {
            true => 0.0,
            false => self.rng.random(),
        };
        SamplingPlan::of(&self.params, u).choose(logits)
    }

    fn mask_end_ids(&self, logits: &mut [f32]) {
        if self.made >= self.min_tokens {
            return;
        }
        for id in self.end_ids.iter() {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn with_logprobs(&self, logits: &[f32], id: u32) -> TokenOutput {
        let Some(n) = self.params.logprobs else {
            return TokenOutput {
                id,
                logprob: None,
                top: Vec::new(),
            };
        };
        let logprobs = Logprobs::new(logits);
        TokenOutput {
            id,
            logprob: Some(logprobs.of(id)),
            top: logprobs.top(n),
        }
    }
}

/// The greatest logit, the lowest id among equals. `logits` passed `check`.
fn greedy(logits: &[f32]) -> u32 {
    let max = greatest(logits);
    logits.iter().position(|l| *l == max).unwrap_or(0) as u32
}

/// A token by temperature (not 0), top-k, top-p and min-p; `u` decides. `logits` passed `check`.
///
/// The tokens that stay are laid side by side in order of id, each as wide as its probability.
fn draw(plan: &SamplingPlan, logits: &[f32]) -> u32 {
    let mut weights = top_k(plan, logits);
    if plan.top_p < 1.0 {
        top_p(&mut weights, f64::from(plan.top_p));
    }
    if plan.min_p > 0.0 {
        // The best token's weight is 1.
        drop_where(&mut weights, |_, weight| weight < plan.min_p);
    }
    let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    let mut rest = plan.u * total;
    let mut chosen = 0;
    for (id, weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        chosen = id as u32;
        rest -= f64::from(*weight);
        if rest < 0.0 {
            break;
        }
    }
    chosen
}

/// Probabilities in units of the best one's; 0 for tokens that top-k drops.
fn top_k(plan: &SamplingPlan, logits: &[f32]) -> Vec<f32> {
    let max = greatest(logits);
    let weight = |logit: f32| ((logit - max) / plan.temperature).exp();
    if plan.top_k == 0 || plan.top_k >= logits.len() {
        return logits.iter().map(|l| weight(*l)).collect();
    }
    let mut keys = keys(logits);
    let (_, least, _) = keys.select_nth_unstable_by(plan.top_k - 1, |a, b| b.cmp(a));
    let least = *least;
    let weight_or_0 = |(id, logit): (usize, &f32)| {
        let stays = key(id as u32, *logit) >= least;
        if stays {
            weight(*logit)
        } else {
            0.0
        }
    };
    logits.iter().enumerate().map(weight_or_0).collect()
}

/// Drops what the shortest list of best tokens that reaches `p` of all weight does not need.
fn top_p(weights: &mut [f32], p: f64) {
    let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    let mut keys = keys(weights);
    // Such a list is short as a rule: look among few, then among eight times as many.
    let mut n = 64.min(keys.len());
    let least = loop {
        let mut sum = 0.0;
        let front = best_keys(&mut keys, n);
        let reached = front.iter().find(|key| {
            sum += f64::from(weights[key_id(**key) as usize]);
            sum >= p * total
        });
        match reached {
            Some(key) => break *key,
            // Rounding: the sum of all fell short of all of the sum.
            None if n == weights.len() => return,
            None => n = n.saturating_mul(8).min(weights.len()),
        }
    };
    drop_where(weights, |id, weight| key(id, weight) < least);
}

fn drop_where(weights: &mut [f32], drop: impl Fn(u32, f32) -> bool) {
    for (id, weight) in weights.iter_mut().enumerate() {
        if drop(id as u32, *weight) {
            *weight = 0.0;
        }
    }
}

fn greatest(logits: &[f32]) -> f32 {
    // A plain comparison becomes vector code; `f32::max` and its NaN rules do not.
    let max = |m, l: &f32| if *l > m { *l } else { m };
    logits.iter().fold(f32::NEG_INFINITY, max)
}

/// Whether all are numbers below infinity, and one of them is more than negative infinity.
pub(super) fn is_choosable(logits: &[f32]) -> bool {
    let bad = |bad, l: &f32| bad | l.is_nan() | (*l == f32::INFINITY);
    !logits.iter().fold(false, bad) && greatest(logits) > f32::NEG_INFINITY
}

fn check(logits: &[f32]) -> Result<(), SequenceError> {
    match is_choosable(logits) {
        true => Ok(()),
        false => Err(SequenceError::NotFinite),
    }
}
