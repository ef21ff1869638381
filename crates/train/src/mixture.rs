//! How individual and generic rows of a batch share its loss (P-RLHF, 2402.05133).
//!
//! Every training pair is there twice: with its user, and with the generic user u_0. Over the rows I of
//! the first kind and G of the second, with l a row's loss and mean the plain mean,
//!
//! ```text
//! L = alpha mean_I l + (1 - alpha) mean_G l,   an absent group counts 0
//! ```
//!
//! An absent group is not made up for: the other keeps its share. The authors take the groups of each
//! micro-batch on its own; here they are those of a whole optimizer batch, so that the loss does not
//! depend on how a batch is cut for the sake of memory. In evaluation there is no mixture: the loss is
//! the plain mean over rows.

/// Why an alpha is none.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("alpha is {0}: give a number from 0 (only the generic user) to 1 (only individual ones)")]
pub struct AlphaError(pub f64);

/// The shares of the two groups: alpha for individual rows, 1 - alpha for generic ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixture {
    alpha: f64,
}

impl Mixture {
    /// Checks `alpha`.
    ///
    /// # Errors
    /// Anything but a number from 0 to 1.
    pub fn new(alpha: f64) -> Result<Self, AlphaError> {
        if (0.0..=1.0).contains(&alpha) {
            Ok(Self { alpha })
        } else {
            Err(AlphaError(alpha))
        }
    }

    /// alpha = 1: no generic rows.
    pub const INDIVIDUAL: Self = Self { alpha: 1.0 };

    /// The share of individual rows.
    pub fn alpha(self) -> f64 {
        self.alpha
    }

    /// Whether rows of this kind have any weight. The others need not be computed.
    pub fn needed(self, is_generic: bool) -> bool {
        self.share(is_generic) > 0.0
    }

    /// The weight of each row in the loss of a whole optimizer batch, given which rows are generic.
    /// dL/d(row's loss) is the same number.
    pub fn weights(self, is_generic: &[bool]) -> Vec<f64> {
        let n_generic = is_generic.iter().filter(|generic| **generic).count();
        let n_individual = is_generic.len() - n_generic;
        let weight = |generic: &bool| {
            let n = if *generic { n_generic } else { n_individual };
            self.share(*generic) / n as f64
        };
        is_generic.iter().map(weight).collect()
    }

    /// The loss of the batch. Losses of rows that are not [`Self::needed`] are not read.
    pub fn total(self, is_generic: &[bool], losses: &[f64]) -> f64 {
        debug_assert_eq!(is_generic.len(), losses.len(), "a loss for each row");
        let weights = self.weights(is_generic);
        let parts = weights.iter().zip(losses);
        parts.filter(|(w, _)| **w > 0.0).map(|(w, l)| w * l).sum()
    }

    fn share(self, is_generic: bool) -> f64 {
        if is_generic {
            1.0 - self.alpha
        } else {
            self.alpha
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{Objective, PairLogps};

    /// Rows (user, log pi_w, log pi_l) of one pair, whose reference is (-13.0, -11.8).
    const ROWS: [(usize, f64, f64); 4] = [
        (1, -12.5, -11.0),
        (0, -12.9, -11.5),
        (2, -12.0, -12.2),
        (0, -13.1, -11.9),
    ];
    const GENERIC: [bool; 4] = [false, true, false, true];

    /// DPO, beta = 0.5.
    fn losses() -> Vec<f64> {
        let dpo: Objective = "dpo:beta=0.5".parse().unwrap();
        let loss = |(_, chosen, rejected): &(usize, f64, f64)| {
            let pair = PairLogps {
                chosen: *chosen,
                rejected: *rejected,
                ref_chosen: -13.0,
                ref_rejected: -11.8,
                n_chosen: 10,
                n_rejected: 8,
            };
            dpo.loss(&pair).value
        };
        ROWS.iter().map(loss).collect()
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 5.1e-7, "{got}, not {want}");
    }

    #[test]
    fn golden_scalars() {
        for (got, want) in
            losses()
                .iter()
                .zip([0.770957, 0.744397, 0.403186, std::f64::consts::LN_2])
        {
            close(*got, want);
        }
        for (alpha, want) in [(0.5, 0.652922), (0.25, 0.685847), (0.0, 0.718772)] {
            close(
                Mixture::new(alpha).unwrap().total(&GENERIC, &losses()),
                want,
            );
        }
    }

    #[test]
    fn an_absent_group_counts_nothing() {
        let mixture = Mixture::new(0.25).unwrap();
        assert_eq!(mixture.weights(&[false, false]), [0.125, 0.125]);
        assert_eq!(mixture.weights(&[true]), [0.75]);
        assert_eq!(mixture.total(&[true], &[4.0]), 3.0);
        assert_eq!(mixture.total(&[], &[]), 0.0);
    }

    #[test]
    fn groups_share_by_rows() {
        let mixture = Mixture::new(0.25).unwrap();
        let weights = mixture.weights(&[false, true, true, true]);
        assert_eq!(weights, [0.25, 0.25, 0.25, 0.25]);
        assert_eq!(mixture.weights(&GENERIC), [0.125, 0.375, 0.125, 0.375]);
    }

    #[test]
    fn rows_without_weight_are_not_read() {
        let plain = Mixture::new(0.0).unwrap();
        assert!(plain.needed(true) && !plain.needed(false));
        assert_eq!(plain.total(&[false, true], &[f64::NAN, 2.0]), 2.0);
        let personal = Mixture::new(1.0).unwrap();
        assert!(personal.needed(false) && !personal.needed(true));
        assert_eq!(personal.total(&[false, true], &[2.0, f64::NAN]), 2.0);
    }

    #[test]
    fn alpha_is_a_share() {
        for alpha in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Mixture::new(alpha).is_err(), "{alpha}");
        }
        let err = Mixture::new(2.0).unwrap_err().to_string();
        assert!(err.starts_with("alpha is 2: give"), "{err}");
    }
}
