//! Tokens chosen where the logits are: of a step, only ids come to the host.
//!
//! It keeps the order and the meaning of `sampler.rs`. Thresholds of top-k and top-p are found by
//! halving an interval of logits, for a vocabulary is too wide to be sorted on a GPU by the tensor
//! library; the token is found by two prefix sums, over parts of the vocabulary and inside one. Sums are
//! in f32 (the host's are in f64), so that a token at the very edge of top-p, or of the draw, may fall
//! to the other side; and among equal greatest logits, greedy choice takes any.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};

use super::sampler::Wish;

/// Tokens of a part of the vocabulary.
const PART: usize = 256;
/// log of the least probability, in units of the best token's, that thresholds tell apart.
const FLOOR: f64 = -64.0;
/// Halvings of 64 after which an interval is as narrow as f32 can tell apart near its middle.
const HALVINGS: usize = 28;

/// What was chosen, on the device.
#[derive(Debug)]
pub struct Choice {
    /// (rows), u32; 0 at a row whose logits are not numbers, or without a possible token.
    pub ids: Tensor,
    /// (rows, 2), f32: the id, and a check that is NaN where there is none.
    pub report: Tensor,
}

/// Chooses tokens on a device.
#[derive(Debug, Default)]
pub struct DeviceSampler {
    /// (n, n), ones on and above the diagonal, by n: x times it is x's prefix sums.
    triangles: HashMap<usize, Tensor>,
}

impl DeviceSampler {
    /// A token for each row of `logits`, (rows, vocab), f32. `wishes` has one entry a row.
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub fn choose(&mut self, logits: &Tensor, wishes: &[Wish]) -> Result<Choice> {
        let greatest = logits.max_keepdim(1)?;
        let below = logits.broadcast_sub(&greatest)?;
        // NaN if a logit is NaN or positive infinity, or all are negative infinity.
        let check = below.sum_keepdim(1)?;
        let mut ids = logits.argmax_keepdim(1)?.to_dtype(DType::F32)?;
        if wishes.iter().any(|w| !w.is_greedy()) {
            let drawn = self.draw(&below, wishes)?;
            let greedy = column(wishes, |w| f32::from(u8::from(w.is_greedy())), logits)?;
            ids = greedy.ne(0f32)?.where_cond(&ids, &drawn)?;
        }
        // The next pass may read the embedding of whatever stands here.
        ids = check.eq(&check)?.where_cond(&ids, &ids.zeros_like()?)?;
        Ok(Choice {
            ids: ids.squeeze(1)?.to_dtype(DType::U32)?,
            // Ids below 2^24 are exact in f32; so there is one copy to the host.
            report: Tensor::cat(&[ids, check], 1)?,
        })
    }

    /// (rows, 1), f32: the id that each row's `u` falls on; `below` are logits less the greatest.
    fn draw(&mut self, below: &Tensor, wishes: &[Wish]) -> Result<Tensor> {
        let vocab = below.dim(1)?;
        let colder = |w: &Wish| {
            if w.is_greedy() {
                1.0
            } else {
                1.0 / w.temperature
            }
        };
        let logits = below.broadcast_mul(&column(wishes, colder, below)?)?;
        let mut weights = logits.exp()?;
        let limits_k = |w: &Wish| !w.is_greedy() && w.top_k > 0 && w.top_k < vocab;
        if wishes.iter().any(limits_k) {
            let wanted = column(wishes, |w| w.top_k as f32, below)?;
            let ones = weights.ones_like()?;
            let least = threshold(&logits, &ones, &wanted)?;
            let stays = stays(&logits, &least, wishes, limits_k)?;
            weights = (weights * stays)?;
        }
        let limits_p = |w: &Wish| !w.is_greedy() && w.top_p < 1.0;
        if wishes.iter().any(limits_p) {
            let shares = column(wishes, |w| w.top_p, below)?;
            // The best token, of weight 1, stays in any case.
            let wanted = (weights.sum_keepdim(1)? * shares)?.maximum(1e-3)?;
            let least = threshold(&logits, &weights, &wanted)?;
            let stays = stays(&logits, &least, wishes, limits_p)?;
            weights = (weights * stays)?;
        }
        if wishes.iter().any(|w| w.min_p > 0.0) {
            // The best token's weight is 1.
            let least = column(wishes, |w| w.min_p, below)?;
            weights = (&weights * weights.broadcast_ge(&least)?.to_dtype(DType::F32)?)?;
        }
        let points = column(wishes, |w| w.u as f32, below)?;
        self.lookup(&weights, &points)
    }

    /// (rows, 1), f32: the place in `weights`, laid side by side, on which `u` of all falls.
    fn lookup(&mut self, weights: &Tensor, u: &Tensor) -> Result<Tensor> {
        let (rows, vocab) = weights.dims2()?;
        let parts = vocab.div_ceil(PART);
        let padded = weights.pad_with_zeros(1, 0, parts * PART - vocab)?;
        let by_part = padded.reshape((rows, parts, PART))?;
        let sums = by_part.sum(2)?;
        let upto = sums.matmul(self.triangle(parts, weights.device())?)?;
        let total = upto.narrow(1, parts - 1, 1)?;
        let point = (u * &total)?;
        let part = place(&upto, &point)?;
        let part_id = part.to_dtype(DType::U32)?;
        let before = (upto - sums)?.gather(&part_id, 1)?;
        let rest = (point - before)?.relu()?;
        let wide = part_id.unsqueeze(2)?.broadcast_as((rows, 1, PART))?;
        let inside = by_part.gather(&wide.contiguous()?, 1)?.squeeze(1)?;
        let upto = inside.matmul(self.triangle(PART, weights.device())?)?;
        part.affine(PART as f64, 0.0)? + place(&upto, &rest)?
    }

    fn triangle(&mut self, n: usize, device: &Device) -> Result<&Tensor> {
        match self.triangles.entry(n) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(free) => {
                Ok(free.insert(Tensor::triu2(n, DType::F32, device)?))
            }
        }
    }
}

/// (rows, 1), f32: the number of entries of each row of prefix sums that do not pass `point`, at most
/// that of those before the last step: a point at the very end falls on the last weight that is not 0.
fn place(upto: &Tensor, point: &Tensor) -> Result<Tensor> {
    let count = |mask: Tensor| mask.to_dtype(DType::F32)?.sum_keepdim(1);
    let passed = count(upto.broadcast_le(point)?)?;
    let last = count(upto.broadcast_lt(&upto.narrow(1, upto.dim(1)? - 1, 1)?)?)?;
    passed.minimum(&last)
}

/// (rows, 1): about the greatest t for which the `weights` whose logits are t or more sum up to `wanted`.
fn threshold(logits: &Tensor, weights: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    let mut low = wanted.zeros_like()?.affine(1.0, FLOOR)?;
    // Just above the best token, so that it can be the threshold itself.
    let mut high = wanted.zeros_like()?.affine(1.0, 1e-6)?;
    for _ in 0..HALVINGS {
        let middle = ((&low + &high)? * 0.5)?;
        let above = logits.broadcast_ge(&middle)?.to_dtype(DType::F32)?;
        let enough = (weights * above)?.sum_keepdim(1)?.ge(wanted)?;
        low = enough.where_cond(&middle, &low)?;
        high = enough.where_cond(&high, &middle)?;
    }
    Ok(low)
}

/// (rows, vocab), 1 where a token stays: above the threshold, or in a row that has no limit.
fn stays(
    logits: &Tensor,
    least: &Tensor,
    wishes: &[Wish],
    is_limited: impl Fn(&Wish) -> bool,
) -> Result<Tensor> {
    let open = |w: &Wish| {
        if is_limited(w) {
            0.0
        } else {
            f32::NEG_INFINITY
        }
    };
    let least = (least + column(wishes, open, logits)?)?;
    logits.broadcast_ge(&least)?.to_dtype(DType::F32)
}

/// (rows, 1), f32, beside `like`.
fn column(wishes: &[Wish], f: impl Fn(&Wish) -> f32, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = wishes.iter().map(f).collect();
    Tensor::from_vec(values, (wishes.len(), 1), like.device())
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::chosen::ChosenTokens;
    use super::super::host_copy::HostCopy;
    use super::super::request::SamplingParams;
    use super::*;

    fn choose(sampler: &mut DeviceSampler, logits: &Tensor, wishes: &[Wish]) -> Vec<Option<u32>> {
        let choice = sampler.choose(logits, wishes).unwrap();
        let ids = choice.ids.to_vec1::<u32>().unwrap();
        let tokens = ChosenTokens::new(choice.ids, HostCopy::of(choice.report));
        let tokens = tokens.wait().unwrap();
        // What the next pass would take is what the host is told.
        let stated = tokens.iter().map(|t| t.unwrap_or(0));
        assert_eq!(ids, stated.collect::<Vec<u32>>());
        tokens
    }

    #[test]
    fn tokens_are_those_of_the_host() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut sampler = DeviceSampler::default();
        let params = |temperature, top_k, top_p, min_p| SamplingParams {
            temperature,
            top_k,
            top_p,
            min_p,
            ..SamplingParams::default()
        };
        let kinds = [
            params(0.0, 0, 1.0, 0.0),
            params(1.0, 0, 1.0, 0.0),
            params(0.7, 5, 1.0, 0.0),
            params(1.3, 0, 0.9, 0.0),
            params(1.0, 40, 0.5, 0.0),
            params(0.9, 0, 1.0, 0.1),
            params(1.5, 1, 1.0, 0.0),
            params(1.0, 900, 0.0, 0.0),
        ];
        // Narrower than a part, and not a multiple of one.
        for vocab in [7, 1000] {
            for _ in 0..40 {
                let rows: Vec<Vec<f32>> = kinds
                    .iter()
                    .map(|_| (0..vocab).map(|_| random.random_range(-6.0..6.0)).collect())
                    .collect();
                let us: Vec<f64> = kinds.iter().map(|_| random.random()).collect();
                let wishes: Vec<Wish> = kinds
                    .iter()
                    .zip(&us)
                    .map(|(k, u)| Wish::of(k, *u))
                    .collect();
                let logits = Tensor::new(rows.clone(), &Device::Cpu).unwrap();
                let got = choose(&mut sampler, &logits, &wishes);
                for (i, (row, kind)) in rows.iter().zip(&kinds).enumerate() {
                    let want = wishes[i].choose(row);
                    assert_eq!(got[i], Some(want), "{kind:?} at {}", us[i]);
                }
            }
        }
    }

    #[test]
    fn impossible_tokens_stay_impossible_and_broken_rows_are_told() {
        let low = f32::NEG_INFINITY;
        let rows = [
            [low, 0.0, low, 0.0],
            [f32::NAN, 0.0, 0.0, 0.0],
            [f32::INFINITY, 0.0, 0.0, 0.0],
            [low; 4],
        ];
        let logits = Tensor::new(&rows, &Device::Cpu).unwrap();
        for (u, want) in [(0.0, 1), (0.49, 1), (0.51, 3), (0.999_999_999, 3)] {
            for params in [SamplingParams::default(), SamplingParams::greedy()] {
                let wishes = [Wish::of(&params, u); 4];
                let got = choose(&mut DeviceSampler::default(), &logits, &wishes);
                assert_eq!(got[1..], [None; 3]);
                let greedy = params.temperature == 0.0;
                assert!(
                    got[0] == Some(want) || greedy && got[0] == Some(1),
                    "{got:?}"
                );
            }
        }
    }
}
