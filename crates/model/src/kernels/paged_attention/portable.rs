//! A tile through a chunk in vectors of 8, which any CPU has or is given by the compiler. Lane by lane the same
//! numbers come together in the same order as in [`super::avx512`].

use wide::f32x8;

use super::blocks::Element;
use super::tile::{Chunk, Tile, CHUNK, LANES, QUERIES};
use super::BLOCK_SIZE;
use crate::kernels::math::exp;

/// Scores of a tile's queries, and then what values are multiplied with.
type Weights = [[f32; CHUNK]; QUERIES];

/// Takes the chunk into what the tile knows; `room` is for numbers that are widened.
pub(super) fn absorb<T: Element>(chunk: &Chunk<T>, tile: &mut Tile, room: &mut Vec<[f32; LANES]>) {
    let n = tile.visible.len();
    let mut weights: Weights = [[0.0; CHUNK]; QUERIES];
    for (b, keys) in chunk.keys[..chunk.n_blocks].iter().enumerate() {
        let keys = T::widen(keys, room);
        let at = b * BLOCK_SIZE;
        match n {
            1 => score::<1>(keys, tile, &mut weights, at),
            2 => score::<2>(keys, tile, &mut weights, at),
            3 => score::<3>(keys, tile, &mut weights, at),
            4 => score::<4>(keys, tile, &mut weights, at),
            5 => score::<5>(keys, tile, &mut weights, at),
            _ => score::<QUERIES>(keys, tile, &mut weights, at),
        }
    }
    for (query, weights) in weights[..n].iter_mut().enumerate() {
        soften(chunk, tile, query, weights);
    }
    let vectors = tile.vectors();
    for (b, values) in chunk.values[..chunk.n_blocks].iter().enumerate() {
        let values = T::widen(values, room);
        let block = b * BLOCK_SIZE..(b + 1) * BLOCK_SIZE;
        let mut start = 0;
        while start < n {
            let run = tile.run(start);
            let seen = &tile.visible[start];
            let seen = seen.start.max(block.start)..seen.end.min(block.end);
            let out = &mut tile.out[start * vectors..run.end * vectors];
            for vector in 0..vectors {
                let positions = seen.clone();
                let values = positions.map(|p| (p, &values[(p - block.start) * vectors + vector]));
                let weights = &weights[run.clone()];
                match weights.len() {
                    1 => weigh::<1>(values, weights, out, vector),
                    2 => weigh::<2>(values, weights, out, vector),
                    3 => weigh::<3>(values, weights, out, vector),
                    4 => weigh::<4>(values, weights, out, vector),
                    5 => weigh::<5>(values, weights, out, vector),
                    _ => weigh::<QUERIES>(values, weights, out, vector),
                }
            }
            start = run.end;
        }
    }
}

/// Products of Q queries with the keys of one block.
#[inline(always)]
fn score<const Q: usize>(keys: &[[f32; LANES]], tile: &Tile, scores: &mut Weights, at: usize) {
    let mut sums = [[f32x8::ZERO; 2]; Q];
    for (keys, q) in keys.iter().zip(tile.q.chunks(tile.stride)) {
        let keys = halves(keys);
        for (sums, q) in sums.iter_mut().zip(&q[..Q]) {
            let q = f32x8::splat(*q);
            sums[0] = q.mul_add(keys[0], sums[0]);
            sums[1] = q.mul_add(keys[1], sums[1]);
        }
    }
    for (scores, [low, high]) in scores.iter_mut().zip(&sums) {
        scores[at..at + LANES / 2].copy_from_slice(&low.to_array());
        scores[at + LANES / 2..at + LANES].copy_from_slice(&high.to_array());
    }
}

/// Scores of one query become e^(score - maximum), which are added up, times the factors of values.
fn soften<T: Element>(chunk: &Chunk<T>, tile: &mut Tile, query: usize, weights: &mut [f32; CHUNK]) {
    if T::SCALED {
        multiply(weights, &chunk.scales[0]);
    }
    let seen = tile.visible[query].clone();
    weights[..seen.start].fill(f32::NEG_INFINITY);
    weights[seen.end..].fill(f32::NEG_INFINITY);
    let max = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max > tile.maxima[query] {
        let factor = exp(tile.maxima[query] - max);
        let vectors = tile.vectors();
        let out = &mut tile.out[query * vectors..][..vectors];
        let numbers = tile.sums[query].iter_mut().chain(out.as_flattened_mut());
        numbers.for_each(|number| *number *= factor);
        tile.maxima[query] = max;
    }
    let max = tile.maxima[query];
    weights.iter_mut().for_each(|w| *w = exp(*w - max));
    let (blocks, _) = weights.as_chunks::<LANES>();
    for (lane, sum) in tile.sums[query].iter_mut().enumerate() {
        *sum += blocks[1..]
            .iter()
            .fold(blocks[0][lane], |sum, b| sum + b[lane]);
    }
    if T::SCALED {
        multiply(weights, &chunk.scales[1]);
    }
}

fn multiply(numbers: &mut [f32; CHUNK], by: &[&[f32; BLOCK_SIZE]]) {
    let by = by.iter().flat_map(|factors| factors.iter());
    numbers.iter_mut().zip(by).for_each(|(n, by)| *n *= by);
}

/// Adds one vector of the values of some positions to those of Q queries.
#[inline(always)]
fn weigh<'a, const Q: usize>(
    values: impl Iterator<Item = (usize, &'a [f32; LANES])>,
    weights: &[[f32; CHUNK]],
    out: &mut [[f32; LANES]],
    vector: usize,
) {
    let vectors = out.len() / Q;
    let mut sums: [[f32x8; 2]; Q] = std::array::from_fn(|i| halves(&out[i * vectors + vector]));
    for (position, values) in values {
        let values = halves(values);
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let weight = f32x8::splat(weights[position]);
            sums[0] = weight.mul_add(values[0], sums[0]);
            sums[1] = weight.mul_add(values[1], sums[1]);
        }
    }
    for (i, [low, high]) in sums.iter().enumerate() {
        let out = &mut out[i * vectors + vector];
        out[..LANES / 2].copy_from_slice(&low.to_array());
        out[LANES / 2..].copy_from_slice(&high.to_array());
    }
}

#[inline(always)]
fn halves(values: &[f32; LANES]) -> [f32x8; 2] {
    let mut halves = [[0f32; LANES / 2]; 2];
    halves[0].copy_from_slice(&values[..LANES / 2]);
    halves[1].copy_from_slice(&values[LANES / 2..]);
    halves.map(f32x8::new)
}
