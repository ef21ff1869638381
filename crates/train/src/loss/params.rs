//! Parameters of losses: numbers that can only hold what an equation can use.

use serde::{Deserialize, Serialize};

/// A number that a loss cannot use.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{value} cannot be used here: give a number {range}")]
pub struct ParameterError {
    /// What was given.
    pub value: f64,
    /// What is allowed.
    pub range: &'static str,
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $range:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// Checks `value`.
            ///
            /// # Errors
            #[doc = concat!("Anything but a number ", $range, ".")]
            pub fn new(value: f64) -> Result<Self, ParameterError> {
                let ok: fn(f64) -> bool = $ok;
                if value.is_finite() && ok(value) {
                    Ok(Self(value))
                } else {
                    Err(ParameterError { value, range: $range })
                }
            }

            /// The number.
            pub fn get(self) -> f64 {
                self.0
            }

            /// A default that is written into the code: in range by its tests.
            pub(super) const fn constant(value: f64) -> Self {
                Self(value)
            }
        }

        impl TryFrom<f64> for $name {
            type Error = ParameterError;
            fn try_from(value: f64) -> Result<Self, ParameterError> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }
    };
}

number!(
    /// A temperature: above 0.
    Positive, "above 0", |v| v > 0.0
);
number!(
    /// A coefficient or a margin: 0 or above.
    NonNegative, "that is 0 or above", |v| v >= 0.0
);
number!(
    /// A share of flipped labels: at 0.5 labels say nothing.
    Smoothing, "from 0 to below 0.5", |v| (0.0..0.5).contains(&v)
);
number!(
    /// A share of flipped labels whose logarithm is taken.
    PositiveSmoothing, "above 0 and below 0.5", |v| v > 0.0 && v < 0.5
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_in_range_get_in() {
        assert_eq!(Positive::new(0.1).map(Positive::get), Ok(0.1));
        assert_eq!(NonNegative::new(0.0).map(NonNegative::get), Ok(0.0));
        assert_eq!(Smoothing::new(0.0).map(Smoothing::get), Ok(0.0));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Positive::new(bad).is_err(), "{bad}");
            assert!(PositiveSmoothing::new(bad).is_err(), "{bad}");
        }
        for bad in [-1e-9, f64::NAN, f64::INFINITY] {
            assert!(NonNegative::new(bad).is_err(), "{bad}");
            assert!(Smoothing::new(bad).is_err(), "{bad}");
        }
        assert!(Smoothing::new(0.5).is_err() && PositiveSmoothing::new(0.5).is_err());
        let err = Positive::new(-1.0).unwrap_err().to_string();
        assert_eq!(err, "-1 cannot be used here: give a number above 0");
    }
}
