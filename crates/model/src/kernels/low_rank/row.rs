//! One row through A and B, in vectors of 16 numbers.
//!
//! A's products are sums of 16 lanes over the inputs in ascending order, which come together in halves; B's are
//! sums over the rank in ascending order.

use wide::f32x8;

use crate::kernels::slices::sum_of_lanes;

/// Numbers of a vector.
pub(super) const LANES: usize = 16;
/// Rows of A that go through x together.
pub(super) const TILE: usize = 8;

/// A, (rank, vectors of inputs), and scale * B transposed, (rank, vectors of outputs): padded with zeros.
#[derive(Debug)]
pub(super) struct Matrices {
    pub(super) a: Vec<[f32; LANES]>,
    pub(super) b: Vec<[f32; LANES]>,
    pub(super) rank: usize,
}

impl Matrices {
    /// `a` is (rank, in), `b` (rank, out), row-major.
    pub(super) fn new(a: &[f32], b: &[f32], rank: usize) -> Self {
        let padded = |rows: &[f32]| {
            let rows = rows.chunks((rows.len() / rank).max(1));
            let vectors = rows.flat_map(|row| row.chunks(LANES).map(vector));
            vectors.collect()
        };
        let (a, b) = (padded(a), padded(b));
        Self { a, b, rank }
    }

    /// y += B (A x); `inner` has room for A x.
    pub(super) fn add(&self, x: &[f32], y: &mut [f32], inner: &mut Vec<f32>) {
        inner.clear();
        inner.resize(self.rank, 0.0);
        #[cfg(target_arch = "x86_64")]
        if crate::kernels::avx512::is_available() {
            super::avx512::add(self, x, y, inner);
            return;
        }
        self.add_portably(x, y, inner);
    }

    pub(super) fn add_portably(&self, x: &[f32], y: &mut [f32], inner: &mut [f32]) {
        let n_in = self.a.len() / self.rank;
        for (inner, a) in inner.iter_mut().zip(self.a.chunks_exact(n_in)) {
            let mut sums = [f32x8::ZERO; 2];
            for (x, a) in x.chunks(LANES).zip(a) {
                let (x, a) = (halves(&vector(x)), halves(a));
                sums = [0, 1].map(|half| x[half].mul_add(a[half], sums[half]));
            }
            let mut lanes = [0f32; LANES];
            lanes[..8].copy_from_slice(&sums[0].to_array());
            lanes[8..].copy_from_slice(&sums[1].to_array());
            *inner = sum_of_lanes(&lanes);
        }
        let n_out = self.b.len() / self.rank;
        for (v, y) in y.chunks_mut(LANES).enumerate() {
            let mut sums = [f32x8::ZERO; 2];
            for (k, inner) in inner.iter().enumerate() {
                let (inner, b) = (f32x8::splat(*inner), halves(&self.b[k * n_out + v]));
                sums = [0, 1].map(|half| inner.mul_add(b[half], sums[half]));
            }
            let sums = sums.map(|s| s.to_array());
            for (y, sum) in y.iter_mut().zip(sums.as_flattened()) {
                *y += sum;
            }
        }
    }
}

/// Up to 16 numbers, and zeros.
#[inline(always)]
pub(super) fn vector(values: &[f32]) -> [f32; LANES] {
    let mut vector = [0f32; LANES];
    vector[..values.len()].copy_from_slice(values);
    vector
}

#[inline(always)]
fn halves(vector: &[f32; LANES]) -> [f32x8; 2] {
    let mut halves = [[0f32; LANES / 2]; 2];
    halves[0].copy_from_slice(&vector[..LANES / 2]);
    halves[1].copy_from_slice(&vector[LANES / 2..]);
    halves.map(f32x8::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let value = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32;
        (0..n as u32)
            .map(|i| value(i) / (1 << 23) as f32 - 1.0)
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_row_gets_the_products_of_plain_sums(
            n_in in 1usize..200, n_out in 1usize..200, rank in 1usize..20, seed in any::<u32>(),
        ) {
            let (a, b) = (noise(rank * n_in, seed), noise(rank * n_out, seed ^ 1));
            let (x, y) = (noise(n_in, seed ^ 2), noise(n_out, seed ^ 3));
            let matrices = Matrices::new(&a, &b, rank);
            let (mut got, mut portable) = (y.clone(), y.clone());
            matrices.add(&x, &mut got, &mut Vec::new());
            matrices.add_portably(&x, &mut portable, &mut vec![0.0; rank]);
            for (o, (got, portable)) in got.iter().zip(&portable).enumerate() {
                prop_assert_eq!(got.to_bits(), portable.to_bits());
                let of_rank = |k: usize| {
                    let products = x.iter().zip(&a[k * n_in..]).map(|(x, a)| f64::from(x * a));
                    products.sum::<f64>() * f64::from(b[k * n_out + o])
                };
                let want = f64::from(y[o]) + (0..rank).map(of_rank).sum::<f64>();
                prop_assert!((f64::from(*got) - want).abs() < 1e-4, "{} is not {}", got, want);
            }
        }
    }

    #[test]
    fn what_is_not_a_number_is_not_lost() {
        let matrices = Matrices::new(&noise(3 * 40, 1), &noise(3 * 40, 2), 3);
        let mut x = noise(40, 3);
        x[37] = f32::NAN;
        let mut y = noise(40, 4);
        matrices.add(&x, &mut y, &mut Vec::new());
        assert!(y.iter().all(|v| v.is_nan()));
    }
}
