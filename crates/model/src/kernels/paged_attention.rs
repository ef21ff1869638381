//! Causal attention of packed rows over block-paged keys and values.
//!
//! Keys of a block are kept transposed, (head_dim, BLOCK_SIZE), so that the scores of 16 positions
//! are computed side by side; values are (BLOCK_SIZE, head_dim). A row's result depends on the
//! sequence's keys, values and the row's position only: not on the chunk it came in, the blocks
//! that hold its context, or its neighbours.

use rayon::prelude::*;

use super::math::{exp, fma};
use crate::input::SequenceSpan;
use crate::placement::Route;

/// Positions of a KV block.
pub const BLOCK_SIZE: usize = 16;
/// Query heads that share one pass over a key block.
const HEADS: usize = 4;

/// The numbers that attention needs of a layer.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Position i sees i - window + 1 ..= i; `None` sees all.
    pub window: Option<usize>,
    /// Who computes.
    pub route: Route,
}

/// Keys and values of one layer for every block.
#[derive(Debug)]
pub struct LayerKv {
    /// (block, kv head, head_dim, BLOCK_SIZE)
    keys: Vec<f32>,
    /// (block, kv head, BLOCK_SIZE, head_dim)
    values: Vec<f32>,
}

impl LayerKv {
    /// Room for `n_blocks`.
    pub fn new(n_blocks: usize, n_kv_heads: usize, head_dim: usize) -> Self {
        let size = n_blocks * n_kv_heads * head_dim * BLOCK_SIZE;
        Self {
            keys: vec![0.0; size],
            values: vec![0.0; size],
        }
    }

    /// Keeps the keys and values of this step's rows, each (rows, kv heads * head_dim).
    pub fn write(&mut self, shape: AttentionShape, k: &[f32], v: &[f32], spans: &[SequenceSpan]) {
        let AttentionShape {
            n_kv_heads,
            head_dim,
            ..
        } = shape;
        let slots = spans
            .iter()
            .flat_map(|s| s.rows.clone().zip(s.slot_mapping(BLOCK_SIZE)));
        for (row, slot) in slots {
            let (block, offset) = (slot / BLOCK_SIZE, slot % BLOCK_SIZE);
            for head in 0..n_kv_heads {
                let from = (row * n_kv_heads + head) * head_dim;
                let base = (block * n_kv_heads + head) * head_dim * BLOCK_SIZE;
                for (d, value) in k[from..from + head_dim].iter().enumerate() {
                    self.keys[base + d * BLOCK_SIZE + offset] = *value;
                }
                let to = base + offset * head_dim;
                self.values[to..to + head_dim].copy_from_slice(&v[from..from + head_dim]);
            }
        }
    }

    /// Attention of every row; q is (rows, heads * head_dim), and so is the result. The rows' own
    /// keys and values have been written.
    pub fn attend(&self, shape: AttentionShape, q: &[f32], spans: &[SequenceSpan]) -> Vec<f32> {
        let group = shape.n_heads / shape.n_kv_heads * shape.head_dim;
        let mut owner = vec![(0usize, 0usize); q.len() / (shape.n_heads * shape.head_dim)];
        for (s, span) in spans.iter().enumerate() {
            for (i, row) in span.rows.clone().enumerate() {
                owner[row] = (s, span.past + i);
            }
        }
        let mut out = vec![0f32; q.len()];
        // One piece of work is the query heads of one row that share one key head.
        out.par_chunks_mut(group)
            .zip(q.par_chunks(group))
            .enumerate()
            .for_each_init(Vec::new, |scores, (piece, (out, q))| {
                let (row, kv_head) = (piece / shape.n_kv_heads, piece % shape.n_kv_heads);
                let (span, position) = owner[row];
                let context = Context::new(&spans[span].block_table, position, shape, kv_head);
                let chunk = HEADS * shape.head_dim;
                for (out, q) in out.chunks_mut(chunk).zip(q.chunks(chunk)) {
                    self.attend_heads(&context, q, out, scores);
                }
            });
        out
    }

    fn attend_heads(&self, context: &Context, q: &[f32], out: &mut [f32], scores: &mut Vec<f32>) {
        let head_dim = context.shape.head_dim;
        let n_heads = q.len() / head_dim;
        scores.clear();
        scores.resize(n_heads * context.padded_len(), 0.0);
        match n_heads {
            1 => self.score::<1>(context, q, scores),
            2 => self.score::<2>(context, q, scores),
            3 => self.score::<3>(context, q, scores),
            _ => self.score::<HEADS>(context, q, scores),
        }
        let heads = scores
            .chunks_exact_mut(context.padded_len())
            .zip(out.chunks_exact_mut(head_dim));
        for (scores, out) in heads {
            let total = softmax_numerators(scores, context.valid());
            self.weigh_values(context, scores, out);
            let factor = 1.0 / total;
            out.iter_mut().for_each(|o| *o *= factor);
        }
    }

    /// `scores[h][p] = q[h] . k[p] * scale`, for every position of the context's blocks.
    #[inline(always)]
    fn score<const H: usize>(&self, context: &Context, q: &[f32], scores: &mut [f32]) {
        let (head_dim, padded) = (context.shape.head_dim, context.padded_len());
        let q: [&[f32]; H] = std::array::from_fn(|h| &q[h * head_dim..(h + 1) * head_dim]);
        for (b, base) in context.block_offsets().enumerate() {
            let keys = &self.keys[base..base + head_dim * BLOCK_SIZE];
            let mut sums = [[0f32; BLOCK_SIZE]; H];
            for (d, keys) in keys.chunks_exact(BLOCK_SIZE).enumerate() {
                for (q, sums) in q.iter().zip(&mut sums) {
                    let value = q[d];
                    for (sum, key) in sums.iter_mut().zip(keys) {
                        *sum = fma(value, *key, *sum);
                    }
                }
            }
            for (h, sums) in sums.iter().enumerate() {
                let at = h * padded + b * BLOCK_SIZE;
                for (score, sum) in scores[at..at + BLOCK_SIZE].iter_mut().zip(sums) {
                    *score = sum * context.shape.scale;
                }
            }
        }
    }

    fn weigh_values(&self, context: &Context, weights: &[f32], out: &mut [f32]) {
        let head_dim = out.len();
        for (base, weights) in context
            .block_offsets()
            .zip(weights.chunks_exact(BLOCK_SIZE))
        {
            let values = &self.values[base..base + head_dim * BLOCK_SIZE];
            for (values, weight) in values.chunks_exact(head_dim).zip(weights) {
                // Positions outside the context have weight 0 and stale values, which may be
                // anything, NaN of a failed sequence included.
                if *weight != 0.0 {
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = fma(*weight, *value, *out);
                    }
                }
            }
        }
    }
}

/// What one (row, key head) sees.
struct Context<'a> {
    /// Blocks that hold positions `first..=last`.
    blocks: &'a [u32],
    /// The first position that is seen, counted from the first of `blocks`.
    first: usize,
    /// The row's own position, counted likewise.
    last: usize,
    shape: AttentionShape,
    kv_head: usize,
}

impl<'a> Context<'a> {
    fn new(table: &'a [u32], position: usize, shape: AttentionShape, kv_head: usize) -> Self {
        let first = shape.window.map_or(0, |w| (position + 1).saturating_sub(w));
        let first_block = first / BLOCK_SIZE;
        let skipped = first_block * BLOCK_SIZE;
        Self {
            blocks: &table[first_block..=position / BLOCK_SIZE],
            first: first - skipped,
            last: position - skipped,
            shape,
            kv_head,
        }
    }

    fn padded_len(&self) -> usize {
        self.blocks.len() * BLOCK_SIZE
    }

    fn valid(&self) -> std::ops::RangeInclusive<usize> {
        self.first..=self.last
    }

    fn block_offsets(&self) -> impl Iterator<Item = usize> + '_ {
        let AttentionShape {
            n_kv_heads,
            head_dim,
            ..
        } = self.shape;
        self.blocks
            .iter()
            .map(move |b| (*b as usize * n_kv_heads + self.kv_head) * head_dim * BLOCK_SIZE)
    }
}

/// Replaces scores by e^(score - max), 0 outside `valid`; returns their sum.
fn softmax_numerators(scores: &mut [f32], valid: std::ops::RangeInclusive<usize>) -> f32 {
    let (first, last) = (*valid.start(), *valid.end());
    scores[..first].fill(f32::NEG_INFINITY);
    scores[last + 1..].fill(f32::NEG_INFINITY);
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0f32; BLOCK_SIZE];
    for block in scores.chunks_exact_mut(BLOCK_SIZE) {
        for (score, sum) in block.iter_mut().zip(&mut sums) {
            *score = exp(*score - max);
            *sum += *score;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed | 1;
        (0..n)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 40) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect()
    }

    /// Attention as the textbook has it, in f64, without blocks.
    fn naive(shape: AttentionShape, q: &[f32], k: &[f32], v: &[f32], position: usize) -> Vec<f64> {
        let AttentionShape {
            n_heads,
            n_kv_heads,
            head_dim,
            scale,
            window,
            ..
        } = shape;
        let mut out = vec![0f64; n_heads * head_dim];
        for h in 0..n_heads {
            let kv = h / (n_heads / n_kv_heads);
            let first = window.map_or(0, |w| (position + 1).saturating_sub(w));
            let at =
                |x: &[f32], p: usize, d: usize| f64::from(x[(p * n_kv_heads + kv) * head_dim + d]);
            let scores: Vec<f64> = (first..=position)
                .map(|p| {
                    (0..head_dim)
                        .map(|d| f64::from(q[h * head_dim + d]) * at(k, p, d))
                        .sum::<f64>()
                        * f64::from(scale)
                })
                .collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            for (p, score) in (first..=position).zip(&scores) {
                for d in 0..head_dim {
                    out[h * head_dim + d] += (score - max).exp() / total * at(v, p, d);
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn chunks_and_blocks_do_not_matter(
            length in 1usize..70, split in 0usize..70, group in 1usize..6, n_kv_heads in 1usize..3,
            window in proptest::option::of(1usize..40), seed in any::<u64>(),
        ) {
            let split = split.min(length);
            let shape = AttentionShape {
                n_heads: group * n_kv_heads, n_kv_heads, head_dim: 8, scale: 0.4, window,
                route: Route::Kernels,
            };
            let kv_width = n_kv_heads * 8;
            let (q, k, v) = (
                noise(length * shape.n_heads * 8, seed),
                noise(length * kv_width, seed ^ 1),
                noise(length * kv_width, seed ^ 2),
            );
            let mut whole: Vec<f32> = Vec::new();
            for (tables, cuts) in [
                ([0u32, 1, 2, 3, 4], vec![0, length]),
                ([7, 2, 5, 0, 3], vec![0, split, length]),
            ] {
                let mut kv = LayerKv::new(8, n_kv_heads, 8);
                kv.keys.fill(f32::MAX);
                kv.values.fill(f32::NAN);
                let mut out = Vec::new();
                for cut in cuts.windows(2) {
                    let span = SequenceSpan {
                        rows: 0..cut[1] - cut[0], past: cut[0],
                        block_table: Arc::from(tables.to_vec()), lora: None,
                    };
                    let rows = |x: &[f32], w: usize| x[cut[0] * w..cut[1] * w].to_vec();
                    kv.write(shape, &rows(&k, kv_width), &rows(&v, kv_width), std::slice::from_ref(&span));
                    out.extend(kv.attend(shape, &rows(&q, shape.n_heads * 8), &[span]));
                }
                if whole.is_empty() {
                    for p in 0..length {
                        let width = shape.n_heads * 8;
                        let want = naive(shape, &q[p * width..], &k, &v, p);
                        for (got, want) in out[p * width..].iter().zip(want) {
                            prop_assert!((f64::from(*got) - want).abs() < 1e-4, "{} {}", got, want);
                        }
                    }
                    whole = out;
                } else {
                    let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    prop_assert_eq!(bits(&out), bits(&whole));
                }
            }
        }
    }
}
