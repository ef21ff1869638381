//! Plain slices of tensors, and loops over them that vectorise in one fixed order of summation.

use candle_core::{bail, CpuStorage, Layout, Result, Storage, Tensor};
use wide::f32x8;

/// Numbers of a vector.
const LANES: usize = 8;

/// The values of a contiguous f32 CPU tensor, without a copy.
///
/// # Errors
/// A strided tensor, or one of another type or device.
pub fn with_f32<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!("a CPU kernel was given a tensor of another device");
    };
    Ok(f(of_storage(storage, layout)?))
}

/// The values of what a custom operation is given.
///
/// # Errors
/// Strided values, or values of another type.
pub fn of_storage<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a CPU kernel needs contiguous tensors");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// The same, to be changed in place.
///
/// # Errors
/// Strided values, or values of another type.
pub fn of_storage_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a CPU kernel needs contiguous tensors");
    };
    match storage {
        CpuStorage::F32(values) => Ok(&mut values[start..end]),
        _ => bail!("a CPU kernel changes f32 only"),
    }
}

/// The dot product: 8 sums in ascending order, added up at the end.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (mut sums, mut rest) = (f32x8::ZERO, 0.0);
    let (a8, b8) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in a8.remainder().iter().zip(b8.remainder()) {
        rest += a * b;
    }
    for (a, b) in a8.zip(b8) {
        sums = load(a).mul_add(load(b), sums);
    }
    sums.reduce_add() + rest
}

/// The sum of 16 lanes, in halves: those 8 apart first.
#[inline(always)]
pub fn sum_of_lanes(lanes: &[f32; 16]) -> f32 {
    let mut sums = *lanes;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

/// y += factor * x.
#[inline(always)]
pub fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = super::math::fma(factor, *x, *y);
    }
}

#[inline(always)]
fn load(values: &[f32]) -> f32x8 {
    let mut lanes = [0f32; LANES];
    lanes.copy_from_slice(values);
    f32x8::new(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_lengths_count_too() {
        for n in 0..40 {
            let a: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
            let mut b: Vec<f32> = (0..n).map(|i| 0.5 * i as f32).collect();
            let want: f32 = (0..n).map(|i| (i as f32 + 1.0) * 0.5 * i as f32).sum();
            assert_eq!(dot(&a, &b), want);
            add_scaled(&mut b, 2.0, &a);
            assert!(b
                .iter()
                .enumerate()
                .all(|(i, b)| *b == 2.5 * i as f32 + 2.0));
        }
    }
}
