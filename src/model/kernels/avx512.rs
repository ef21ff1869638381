//! The tile of [`super::packed_matmul`] in vectors of 16, for CPUs that have them.
//!
//! A panel has 16 outputs: one vector. Each lane adds the same products in the same order as the
//! portable tile, fused in the same way, so that the bits are the same.

use std::arch::x86_64::{
    __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
};

/// Outputs of a panel, which is a vector.
const LANES: usize = 16;
/// Rows of x that share one pass over two panels: 24 sums, 2 weights and 1 x of 32 registers.
const ROWS: usize = 12;

/// Whether this CPU can.
pub fn is_available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

/// sums += x W^T for two panels and the inputs that they hold.
///
/// `panels` are the weights (inputs, 16) of each; `rows` the same inputs of each row of x; `sums` are
/// (rows, 16) of each panel.
pub fn multiply(panels: [&[f32]; 2], rows: &[&[f32]], sums: [&mut [f32]; 2]) {
    debug_assert!(is_available());
    // SAFETY: callers ask `is_available` first; nothing else is required of them.
    #[expect(unsafe_code, reason = "a function that needs a CPU feature")]
    unsafe {
        multiply_checked(panels, rows, sums);
    }
}

#[target_feature(enable = "avx512f")]
fn multiply_checked(
    panels: [&[f32]; 2],
    mut rows: &[&[f32]],
    [mut low, mut high]: [&mut [f32]; 2],
) {
    while !rows.is_empty() {
        // 16 rows go as 8 + 8, not 12 + 4.
        let n = rows.len().div_ceil(rows.len().div_ceil(ROWS));
        let (tile, rest) = rows.split_at(n);
        let (low_tile, low_rest) = std::mem::take(&mut low).split_at_mut(n * LANES);
        let (high_tile, high_rest) = std::mem::take(&mut high).split_at_mut(n * LANES);
        let sums = [low_tile, high_tile];
        match n {
            1 => tile_of::<1>(panels, tile, sums),
            2 => tile_of::<2>(panels, tile, sums),
            3 => tile_of::<3>(panels, tile, sums),
            4 => tile_of::<4>(panels, tile, sums),
            5 => tile_of::<5>(panels, tile, sums),
            6 => tile_of::<6>(panels, tile, sums),
            7 => tile_of::<7>(panels, tile, sums),
            8 => tile_of::<8>(panels, tile, sums),
            9 => tile_of::<9>(panels, tile, sums),
            10 => tile_of::<10>(panels, tile, sums),
            11 => tile_of::<11>(panels, tile, sums),
            _ => tile_of::<ROWS>(panels, tile, sums),
        }
        (rows, low, high) = (rest, low_rest, high_rest);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn tile_of<const R: usize>(panels: [&[f32]; 2], rows: &[&[f32]], sums: [&mut [f32]; 2]) {
    let n_in = panels[0].len() / LANES;
    let rows: [&[f32]; R] = std::array::from_fn(|r| &rows[r][..n_in]);
    let [low, high] = sums;
    let mut sums: [[__m512; 2]; R] =
        std::array::from_fn(|r| [load(&low[r * LANES..]), load(&high[r * LANES..])]);
    let weights = panels[0]
        .chunks_exact(LANES)
        .zip(panels[1].chunks_exact(LANES));
    for (i, (w_low, w_high)) in weights.enumerate() {
        let (w_low, w_high) = (load(w_low), load(w_high));
        for (row, sums) in rows.iter().zip(&mut sums) {
            let value = _mm512_set1_ps(row[i]);
            sums[0] = _mm512_fmadd_ps(value, w_low, sums[0]);
            sums[1] = _mm512_fmadd_ps(value, w_high, sums[1]);
        }
    }
    for (r, [sum_low, sum_high]) in sums.into_iter().enumerate() {
        store(&mut low[r * LANES..], sum_low);
        store(&mut high[r * LANES..], sum_high);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    let values = &values[..LANES];
    // SAFETY: the slice has 16 numbers; the instruction takes any alignment.
    #[expect(unsafe_code, reason = "a vector from memory")]
    unsafe {
        _mm512_loadu_ps(values.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(values: &mut [f32], vector: __m512) {
    let values = &mut values[..LANES];
    // SAFETY: the slice has 16 numbers; the instruction takes any alignment.
    #[expect(unsafe_code, reason = "a vector into memory")]
    unsafe {
        _mm512_storeu_ps(values.as_mut_ptr(), vector);
    }
}
