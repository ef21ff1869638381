//! The path of CPUs with AVX2: products of bytes are added up in 16 bits where they fit, then in 32.

use std::arch::x86_64::*;

use super::vectors_256::vectors_256;

vectors_256!("avx2,fma,f16c");

/// Whether this CPU can.
pub(super) fn is_available() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot<const F: usize, const HALF: usize>(groups: &[__m256i; GROUPS], x: &Bytes) -> __m256i {
    let bits = const { Format::ALL[F].bits() };
    // Two products of numbers below 2^bits and of 127 at most, for so many groups, are below 2^15.
    let of_16_bits = match bits {
        4 | 5 => 4,
        6 => 2,
        _ => 1,
    };
    let mut sum = match bits {
        8 => _mm256_setzero_si256(),
        _ => excess::<F, HALF>(x),
    };
    let half = HALF * GROUPS / 2..(HALF + 1) * GROUPS / 2;
    for (few, groups) in groups[half].chunks_exact(of_16_bits).enumerate() {
        let mut sum_16 = _mm256_setzero_si256();
        for (g, group) in groups.iter().enumerate() {
            let x = four(x, HALF * GROUPS / 2 + few * of_16_bits + g);
            let products = if bits == 8 {
                // Unsigned numbers would be too great: magnitudes, up to 128, with their signs moved over to x.
                let weight = _mm256_xor_si256(*group, _mm256_set1_epi8(-128));
                _mm256_maddubs_epi16(_mm256_abs_epi8(weight), _mm256_sign_epi8(x, weight))
            } else {
                _mm256_maddubs_epi16(*group, x)
            };
            sum_16 = _mm256_add_epi16(sum_16, products);
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(sum_16, _mm256_set1_epi16(1)));
    }
    sum
}
