//! The logistic function and its logarithm, where `exp` would overflow or cancel too.

/// 1 / (1 + exp(-x)).
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// ln sigmoid(x) = -ln(1 + exp(-x)); about x for x far below 0.
pub fn log_sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        -(-x).exp().ln_1p()
    } else {
        x - x.exp().ln_1p()
    }
}

/// ln(1 - exp(x)) for x < 0, near 0 and far from it.
pub fn log_1m_exp(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 {
        (-x.exp_m1()).ln()
    } else {
        (-x.exp()).ln_1p()
    }
}

/// max(0, x) and its derivative, which is 0 at the kink, as in torch.
pub fn relu(x: f64) -> (f64, f64) {
    if x > 0.0 {
        (x, 1.0)
    } else {
        (0.0, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert!((sigmoid(3f64.ln()) - 0.75).abs() < 1e-15);
        assert!((log_sigmoid(0.0) + std::f64::consts::LN_2).abs() < 1e-15);
        assert!((log_1m_exp(0.5f64.ln()) - 0.5f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn far_out_they_keep_their_digits() {
        assert_eq!(log_sigmoid(-1e6), -1e6);
        // ln(1 + e) = e for e = exp(-40), far below the spacing of numbers around 1.
        assert!((log_sigmoid(40.0) / -(-40f64).exp() - 1.0).abs() < 1e-12);
        assert_eq!((sigmoid(1e6), sigmoid(-1e6)), (1.0, 0.0));
        assert!((sigmoid(-40.0) / (-40f64).exp() - 1.0).abs() < 1e-12);
        // 1 - exp(-1e-12) = 1e-12 up to 5e-25.
        assert!((log_1m_exp(-1e-12) - 1e-12f64.ln()).abs() < 1e-9);
        assert!((log_1m_exp(-40.0) / -(-40f64).exp() - 1.0).abs() < 1e-12);
        assert_eq!(log_1m_exp(-1e6), 0.0);
    }

    #[test]
    fn the_kink_belongs_to_the_flat_side() {
        assert_eq!(relu(0.0), (0.0, 0.0));
        assert_eq!(relu(1e-300), (1e-300, 1.0));
        assert_eq!(relu(-2.0), (0.0, 0.0));
    }
}
