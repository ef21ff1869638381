//! A token by temperature, top-k, top-p and min-p: a few passes over the vocabulary that become vector code, no
//! sort of it, and no allocation.
//!
//! 1. [`survey`] looks at every logit once: whether it is a number, and which is the greatest of each block.
//! 2. *Candidates* are few tokens, among them all that the filters keep. Top-k's are no less than the kth greatest of
//!    the blocks' greatest. Top-p's are no less than the mean of what it may drop: all that is less is, together,
//!    less than that. Min-p's are no less than a logit that is a little too low.
//!    No more of them are put in order than top-p's last one takes to find, by halves.
//! 3. The filters look at candidates only. What stays lies side by side in order of id, each token as wide as its
//!    probability, and `u` points at one. Where all stay, whole blocks are passed over.

use attune_model::kernels::math::exp;

use super::sampler::SamplingPlan;
use super::topk::{at_least, best_keys, key, key_id, key_value, nth_greatest_of_blocks, BLOCK};

/// Lanes of the loops that become vector code.
const LANES: usize = 16;

/// Buffers that are used again for each token; one for each thread that chooses.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The greatest logit of each block.
    pub(super) maxima: Vec<f32>,
    /// Candidates.
    pub(super) keys: Vec<u64>,
    /// Probabilities in units of the best one's, by id.
    weights: Vec<f32>,
    /// Logits as penalties and the mask leave them.
    pub(super) changed: Vec<f32>,
}

impl Scratch {
    /// The `n` greatest of `logits`, greatest first, lower ids first among equals; they were surveyed last.
    pub(super) fn best(&mut self, logits: &[f32], n: usize) -> impl Iterator<Item = u32> + '_ {
        let n = n.min(logits.len());
        self.keys.clear();
        if n > 0 {
            let bound = nth_greatest_of_blocks(&self.maxima, n, &mut self.weights);
            at_least(bound, logits, &self.maxima, &mut self.keys);
        }
        best_keys(&mut self.keys, n).iter().map(|k| key_id(*k))
    }
}

/// The sum of e^(logit - `max`), in double precision.
pub(super) fn sum_of_exp(logits: &[f32], max: f32, scratch: &mut Scratch) -> f64 {
    fill(&mut scratch.weights, logits, |logit| exp(logit - max));
    scratch.weights.chunks(BLOCK).map(sum_of_block).sum()
}

/// The greatest of `logits`, if all are numbers below infinity and one is more than negative infinity. Leaves the
/// greatest of each block in `maxima`.
pub fn survey(logits: &[f32], maxima: &mut Vec<f32>) -> Option<f32> {
    maxima.clear();
    let mut all_fine = true;
    for block in logits.chunks(BLOCK) {
        let (max, is_fine) = survey_block(block);
        maxima.push(max);
        all_fine &= is_fine;
    }
    let max = maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (all_fine && max > f32::NEG_INFINITY).then_some(max)
}

/// The token of `plan`. `logits` were surveyed: `max` is the greatest, `scratch.maxima` has that of each block.
pub fn choose(plan: &SamplingPlan, logits: &[f32], max: f32, scratch: &mut Scratch) -> u32 {
    let Scratch {
        maxima,
        keys,
        weights,
        ..
    } = scratch;
    if plan.is_greedy() {
        return first_of(max, logits, maxima);
    }
    let weight = |logit: f32| exp((logit - max) / plan.temperature);
    let to_weights = |keys: &mut [u64]| {
        for k in keys {
            *k = key(key_id(*k), weight(key_value(*k)));
        }
    };
    keys.clear();
    if plan.top_k > 0 && plan.top_k < logits.len() {
        let bound = nth_greatest_of_blocks(maxima, plan.top_k, weights);
        at_least(bound, logits, maxima, keys);
        keys.select_nth_unstable_by(plan.top_k - 1, |a, b| b.cmp(a));
        keys.truncate(plan.top_k);
        to_weights(keys);
        if plan.top_p < 1.0 {
            let total: f64 = keys.iter().map(|k| f64::from(key_value(*k))).sum();
            let last = last_of_nucleus(keys, f64::from(plan.top_p) * total);
            keys.retain(|k| *k >= last);
        }
    } else if plan.top_p < 1.0 {
        fill(weights, logits, weight);
        let total: f64 = weights.chunks(BLOCK).map(sum_of_block).sum();
        // Half of the mean, for rounding.
        let dropped = (1.0 - f64::from(plan.top_p)) * total / 2.0;
        collect((dropped / logits.len() as f64) as f32, weights, keys);
        let last = last_of_nucleus(keys, f64::from(plan.top_p) * total);
        // Once more: they are wanted in order of id.
        keys.clear();
        collect(key_value(last), weights, keys);
        keys.retain(|k| *k >= last);
    } else if plan.min_p > 0.0 {
        // Lower by more than rounding takes.
        let lower = plan.temperature * (0.01 - plan.min_p.ln()) + max.abs() * 1e-6;
        at_least(max - lower, logits, maxima, keys);
        to_weights(keys);
    } else {
        fill(weights, logits, weight);
        return draw_of_all(weights, plan.u);
    }
    // The best token's weight is 1.
    keys.retain(|k| key_value(*k) >= plan.min_p);
    draw(keys, plan.u)
}

fn survey_block(block: &[f32]) -> (f32, bool) {
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut fine = [true; LANES];
    let chunks = block.chunks_exact(LANES);
    let rest = chunks.remainder();
    let mut look = |lane: usize, logit: f32| {
        // Plain comparisons become vector code; `f32::max` and its NaN rules do not.
        max[lane] = if logit > max[lane] { logit } else { max[lane] };
        fine[lane] &= logit < f32::INFINITY;
    };
    for chunk in chunks {
        for (lane, logit) in chunk.iter().enumerate() {
            look(lane, *logit);
        }
    }
    for (lane, logit) in rest.iter().enumerate() {
        look(lane, *logit);
    }
    let max = max.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (max, fine == [true; LANES])
}

/// The first of `values` that is `value`, the greatest.
fn first_of(value: f32, values: &[f32], maxima: &[f32]) -> u32 {
    let block = maxima.iter().position(|m| *m == value).unwrap_or(0);
    let start = block * BLOCK;
    let within = values[start..].iter().position(|v| *v == value);
    (start + within.unwrap_or(0)) as u32
}

/// The weight of each logit.
fn fill(weights: &mut Vec<f32>, logits: &[f32], weight: impl Fn(f32) -> f32) {
    weights.clear();
    weights.extend(logits.iter().map(|l| weight(*l)));
}

/// In one order, whatever the machine: by lanes.
fn sum_of_block(block: &[f32]) -> f64 {
    const WIDE: usize = 8;
    let mut sums = [0.0; WIDE];
    let chunks = block.chunks_exact(WIDE);
    for (sum, weight) in sums.iter_mut().zip(chunks.remainder()) {
        *sum = f64::from(*weight);
    }
    for chunk in chunks {
        for (sum, weight) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*weight);
        }
    }
    sums.iter().sum()
}

/// Adds the keys of weights that are at least `bound`.
fn collect(bound: f32, weights: &[f32], keys: &mut Vec<u64>) {
    for (start, block) in (0u32..).step_by(BLOCK).zip(weights.chunks(BLOCK)) {
        if block.iter().fold(false, |any, w| any | (*w >= bound)) {
            let found = (start..).zip(block).filter(|(_, w)| **w >= bound);
            keys.extend(found.map(|(id, w)| key(id, *w)));
        }
    }
}

/// The last of the shortest list of best tokens whose weights reach `wanted`; of all, if rounding keeps them below.
fn last_of_nucleus(keys: &mut [u64], wanted: f64) -> u64 {
    let descending = |a: &u64, b: &u64| b.cmp(a);
    let sum = |keys: &[u64]| keys.iter().map(|k| f64::from(key_value(*k))).sum::<f64>();
    // Those in front of `keys` are in the list, and what is still wanted without them.
    let (mut keys, mut rest) = (keys, wanted);
    while keys.len() > 32 {
        let half = keys.len() / 2;
        keys.select_nth_unstable_by(half, descending);
        let (better, worse) = keys.split_at_mut(half);
        let reached = sum(better);
        if reached >= rest {
            keys = better;
        } else {
            (keys, rest) = (worse, rest - reached);
        }
    }
    keys.sort_unstable_by(descending);
    let mut reached = 0.0;
    let last = keys.iter().find(|key| {
        reached += f64::from(key_value(**key));
        reached >= rest
    });
    last.or(keys.last()).copied().unwrap_or(0)
}

/// What `u` points at when the tokens of `keys` lie side by side in order of id.
fn draw(keys: &mut [u64], u: f64) -> u32 {
    keys.sort_unstable_by_key(|k| key_id(*k));
    let weights = keys.iter().map(|k| (key_id(*k), key_value(*k)));
    let total: f64 = weights.clone().map(|(_, w)| f64::from(w)).sum();
    point(u * total, weights)
}

/// The same where all tokens stay.
fn draw_of_all(weights: &[f32], u: f64) -> u32 {
    let blocks = || (0u32..).step_by(BLOCK).zip(weights.chunks(BLOCK));
    let mut rest = u * blocks().map(|(_, block)| sum_of_block(block)).sum::<f64>();
    // The last block with a possible token, and what is left in front of it.
    let mut found = (0, rest);
    for (start, block) in blocks() {
        let sum = sum_of_block(block);
        if sum > 0.0 {
            found = (start, rest);
        }
        if rest < sum {
            break;
        }
        rest -= sum;
    }
    let (start, rest) = found;
    let block = weights[start as usize..].iter().take(BLOCK);
    point(rest, (start..).zip(block.copied()))
}

/// The token in which `rest` ends; if it is behind all of them, the last that is possible.
fn point(mut rest: f64, weights: impl Iterator<Item = (u32, f32)>) -> u32 {
    let mut chosen = 0;
    for (id, weight) in weights.filter(|(_, w)| *w > 0.0) {
        chosen = id;
        rest -= f64::from(weight);
        if rest < 0.0 {
            break;
        }
    }
    chosen
}
