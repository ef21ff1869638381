//! Scalar functions that vectorise: no branches, no calls.

/// a * b + c, fused where the target has it; the choice is the build's, so one binary always
/// rounds in one way.
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// ln 2 in two parts: products with the first are exact.
pub(super) const LN_2_HIGH: f32 = 0.693_359_4;
pub(super) const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Of the polynomial of [`exp`], from the highest power of x down to its square.
pub(super) const EXP: [f32; 6] = [
    1.987_569_1e-4,
    1.398_2e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
];

/// e^x within 2 units in the last place for x in -87..=88, 0 below and f32::MAX-like above;
/// the usual range reduction and a polynomial of degree 6.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-87.0, 88.0);
    let n = (clamped * std::f32::consts::LOG2_E).round_ties_even();
    let r = fma(n, -LN_2_LOW, fma(n, -LN_2_HIGH, clamped));
    let mut p = EXP[0];
    for c in &EXP[1..] {
        p = fma(p, r, *c);
    }
    let y = fma(p * r, r, r) + 1.0;
    // n is an integer in -126..=127: 2^n from its exponent bits.
    let power = f32::from_bits((((n as i32) + 127) as u32) << 23);
    if x < -87.0 {
        0.0
    } else {
        y * power
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_agrees_with_the_standard_library() {
        let mut x = -87.0f32;
        while x < 88.0 {
            let want = f64::from(x).exp();
            let got = f64::from(super::exp(x));
            assert!(
                ((got - want) / want).abs() < 3e-7,
                "exp({x}) = {got}, not {want}"
            );
            x += 0.003_7;
        }
        assert_eq!(super::exp(0.0), 1.0);
        assert_eq!(super::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(super::exp(-1e4), 0.0);
    }
}
