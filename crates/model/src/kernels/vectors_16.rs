//! Vectors of 16 for CPUs that have them ([`super::avx512::is_available`]): what several kernels do with them.

use std::arch::x86_64::{
    __m512, _mm512_add_epi32, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtps_epi32, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_mov_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_roundscale_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
    _CMP_NLT_UQ,
};

use super::avx512::is_available;
use super::gated::{CUBIC, SQRT_2_OVER_PI};
use super::math;

/// Numbers of a vector.
pub(super) const LANES: usize = 16;

/// `out = silu(gate) * up`, as [`super::gated`] has it, to the bit; whole vectors only.
pub(super) fn gate_silu(out: &mut [[f32; LANES]], gate: &[[f32; LANES]], up: &[[f32; LANES]]) {
    debug_assert!(is_available());
    // SAFETY: callers ask `is_available` first; nothing else is required of them.
    #[expect(unsafe_code, reason = "functions that need a CPU feature")]
    unsafe {
        gate_by_silu(out, gate, up);
    }
}

/// The same with the tanh form of GELU.
pub(super) fn gate_gelu(out: &mut [[f32; LANES]], gate: &[[f32; LANES]], up: &[[f32; LANES]]) {
    debug_assert!(is_available());
    // SAFETY: callers ask `is_available` first; nothing else is required of them.
    #[expect(unsafe_code, reason = "functions that need a CPU feature")]
    unsafe {
        gate_by_gelu(out, gate, up);
    }
}

#[target_feature(enable = "avx512f")]
fn gate_by_silu(out: &mut [[f32; LANES]], gate: &[[f32; LANES]], up: &[[f32; LANES]]) {
    let one = _mm512_set1_ps(1.0);
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let x = load(gate);
        // -x, of 0 too.
        let e = exp(_mm512_mul_ps(x, _mm512_set1_ps(-1.0)));
        let act = _mm512_div_ps(x, _mm512_add_ps(one, e));
        store(out, _mm512_mul_ps(act, load(up)));
    }
}

#[target_feature(enable = "avx512f")]
fn gate_by_gelu(out: &mut [[f32; LANES]], gate: &[[f32; LANES]], up: &[[f32; LANES]]) {
    let of = _mm512_set1_ps;
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let x = load(gate);
        let cube = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(of(CUBIC), x), x), x);
        let z = _mm512_mul_ps(of(SQRT_2_OVER_PI), _mm512_add_ps(x, cube));
        let e = exp(_mm512_mul_ps(of(2.0), z));
        let part = _mm512_div_ps(of(1.0), _mm512_add_ps(of(1.0), e));
        let act = _mm512_mul_ps(x, _mm512_sub_ps(of(1.0), part));
        store(out, _mm512_mul_ps(act, load(up)));
    }
}

/// [`math::exp`], to the bit.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn exp(x: __m512) -> __m512 {
    let of = _mm512_set1_ps;
    // Of a number and NaN the second one comes out.
    let clamped = _mm512_min_ps(of(88.0), _mm512_max_ps(of(-87.0), x));
    let n = _mm512_roundscale_ps::<0x08>(_mm512_mul_ps(clamped, of(std::f32::consts::LOG2_E)));
    let r = _mm512_fmadd_ps(n, of(-math::LN_2_HIGH), clamped);
    let r = _mm512_fmadd_ps(n, of(-math::LN_2_LOW), r);
    let mut p = of(math::EXP[0]);
    for c in &math::EXP[1..] {
        p = _mm512_fmadd_ps(p, r, of(*c));
    }
    let y = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r), of(1.0));
    let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    let power = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent));
    let within = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, of(-87.0));
    _mm512_mask_mov_ps(_mm512_setzero_ps(), within, _mm512_mul_ps(y, power))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(values: &[f32; LANES]) -> __m512 {
    // SAFETY: 16 numbers are there; the instruction takes any alignment.
    #[expect(unsafe_code, reason = "a vector from memory")]
    unsafe {
        _mm512_loadu_ps(values.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(values: &mut [f32; LANES], vector: __m512) {
    // SAFETY: there is room for 16 numbers; the instruction takes any alignment.
    #[expect(unsafe_code, reason = "a vector into memory")]
    unsafe {
        _mm512_storeu_ps(values.as_mut_ptr(), vector);
    }
}
