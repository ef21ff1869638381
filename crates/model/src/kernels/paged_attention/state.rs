//! What queries know of the positions that they have seen.

use super::tile::LANES;
use crate::kernels::math::{exp, fma};
use crate::kernels::slices::sum_of_lanes;

/// Of nothing yet. Less than any score, and not infinite: the difference of two of them is 0.
const NOTHING: f32 = f32::MIN;

/// Of some queries: the softmax over what they have seen, before it is divided by its sum.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The greatest score of each query.
    pub(super) maxima: Vec<f32>,
    /// Sums of e^(score - maximum), lane by lane.
    pub(super) sums: Vec<[f32; LANES]>,
    /// Values times e^(score - maximum), (query, vectors).
    pub(super) out: Vec<[f32; LANES]>,
    /// The sums of all lanes, once a range is done.
    totals: Vec<f32>,
}

impl State {
    /// Of `n` queries that have seen nothing.
    pub(super) fn reset(&mut self, n: usize, vectors: usize) {
        self.maxima.clear();
        self.maxima.resize(n, NOTHING);
        self.sums.clear();
        self.sums.resize(n, [0.0; LANES]);
        self.out.clear();
        self.out.resize(n * vectors, [0.0; LANES]);
        self.totals.clear();
        self.totals.resize(n, 0.0);
    }

    /// After the last position of a range.
    pub(super) fn close(&mut self) {
        for (total, sums) in self.totals.iter_mut().zip(&self.sums) {
            *total = sum_of_lanes(sums);
        }
    }

    /// Takes in the range behind those that it knows, once that is closed. What a query saw nothing of leaves no
    /// trace.
    pub(super) fn add(&mut self, range: &Self) {
        let vectors = self.out.len() / self.maxima.len();
        for (i, (theirs, their_total)) in range.maxima.iter().zip(&range.totals).enumerate() {
            if *their_total == 0.0 {
                continue;
            }
            let ours = self.maxima[i];
            let max = if *theirs > ours { *theirs } else { ours };
            let (old, new) = (exp(ours - max), exp(theirs - max));
            self.maxima[i] = max;
            self.totals[i] = fma(*their_total, new, self.totals[i] * old);
            let theirs = range.out[i * vectors..(i + 1) * vectors].as_flattened();
            let ours = self.out[i * vectors..(i + 1) * vectors].as_flattened_mut();
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                *ours = fma(*theirs, new, *ours * old);
            }
        }
    }

    /// The result of a query.
    pub(super) fn write(&self, query: usize, out: &mut [f32]) {
        let vectors = self.out.len() / self.maxima.len();
        let factor = 1.0 / self.totals[query];
        let values = self.out[query * vectors..][..vectors].as_flattened();
        for (out, value) in out.iter_mut().zip(values) {
            *out = value * factor;
        }
    }
}
