//! [`Matrices::add`] for CPUs that have vectors of 16.

use std::arch::x86_64::{
    _mm512_add_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use super::row::{vector, Matrices, LANES, TILE};
use crate::kernels::avx512::is_available;
use crate::kernels::vectors_16::{load, store};

/// Vectors of y that are added to together.
const VECTORS: usize = 4;

/// y += B (A x); `inner` is A x, (rank).
pub(super) fn add(matrices: &Matrices, x: &[f32], y: &mut [f32], inner: &mut [f32]) {
    debug_assert!(is_available());
    // SAFETY: callers ask `is_available` first; nothing else is required of them.
    #[expect(unsafe_code, reason = "functions that need a CPU feature")]
    unsafe {
        add_row(matrices, x, y, inner);
    }
}

#[target_feature(enable = "avx512f")]
fn add_row(matrices: &Matrices, x: &[f32], y: &mut [f32], inner: &mut [f32]) {
    let n_in = matrices.a.len() / matrices.rank;
    let tiles = matrices.a.chunks(TILE * n_in);
    for (inner, a) in inner.chunks_mut(TILE).zip(tiles) {
        match inner.len() {
            1 => dots::<1>(x, a, inner),
            2 => dots::<2>(x, a, inner),
            3 => dots::<3>(x, a, inner),
            4 => dots::<4>(x, a, inner),
            5 => dots::<5>(x, a, inner),
            6 => dots::<6>(x, a, inner),
            7 => dots::<7>(x, a, inner),
            _ => dots::<TILE>(x, a, inner),
        }
    }
    let (vectors, rest) = y.as_chunks_mut::<LANES>();
    let whole = vectors.len();
    let mut tiles = vectors.chunks_exact_mut(VECTORS);
    let mut at = 0;
    for y in tiles.by_ref() {
        weigh::<VECTORS>(matrices, inner, at, y);
        at += VECTORS;
    }
    for y in tiles.into_remainder() {
        weigh::<1>(matrices, inner, at, std::slice::from_mut(y));
        at += 1;
    }
    if !rest.is_empty() {
        let mut last = vector(rest);
        weigh::<1>(matrices, inner, whole, std::slice::from_mut(&mut last));
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Products of x with K rows of A.
#[inline]
#[target_feature(enable = "avx512f")]
fn dots<const K: usize>(x: &[f32], a: &[[f32; LANES]], inner: &mut [f32]) {
    let (x, rest) = x.as_chunks::<LANES>();
    let n_in = a.len() / K;
    let mut rows = [&a[..x.len()]; K];
    for (k, row) in rows.iter_mut().enumerate() {
        *row = &a[k * n_in..][..x.len()];
    }
    let mut sums = [_mm512_setzero_ps(); K];
    for (i, x) in x.iter().enumerate() {
        let x = load(x);
        for k in 0..K {
            sums[k] = _mm512_fmadd_ps(x, load(&rows[k][i]), sums[k]);
        }
    }
    if !rest.is_empty() {
        let rest = vector(rest);
        for k in 0..K {
            sums[k] = _mm512_fmadd_ps(load(&rest), load(&a[k * n_in + x.len()]), sums[k]);
        }
    }
    for (inner, sum) in inner.iter_mut().zip(sums) {
        *inner = _mm512_reduce_add_ps(sum);
    }
}

/// Adds V vectors of B's products, from vector `at` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn weigh<const V: usize>(matrices: &Matrices, inner: &[f32], at: usize, y: &mut [[f32; LANES]]) {
    let n_out = matrices.b.len() / matrices.rank;
    let mut sums = [_mm512_setzero_ps(); V];
    for (inner, b) in inner.iter().zip(matrices.b.chunks_exact(n_out)) {
        let (inner, b) = (_mm512_set1_ps(*inner), &b[at..at + V]);
        for v in 0..V {
            sums[v] = _mm512_fmadd_ps(inner, load(&b[v]), sums[v]);
        }
    }
    for (y, sum) in y.iter_mut().zip(sums) {
        store(y, _mm512_add_ps(load(y), sum));
    }
}
