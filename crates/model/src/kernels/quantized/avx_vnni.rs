//! The path of CPUs with AVX2 and dot products of bytes (AVX-VNNI).

use std::arch::x86_64::*;

use super::vectors_256::vectors_256;

vectors_256!("avx2,fma,f16c,avxvnni");

/// Whether this CPU can.
pub(super) fn is_available() -> bool {
    super::avx2::is_available() && std::arch::is_x86_feature_detected!("avxvnni")
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn dot<const F: usize, const HALF: usize>(groups: &[__m256i; GROUPS], x: &Bytes) -> __m256i {
    let half = groups.iter().enumerate().skip(HALF * GROUPS / 2);
    let mut sum = excess::<F, HALF>(x);
    for (g, group) in half.take(GROUPS / 2) {
        sum = _mm256_dpbusd_avx_epi32(sum, *group, four(x, g));
    }
    sum
}
