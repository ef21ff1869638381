//! Learning rate by step, as the Hugging Face Trainer's schedules of the same names.

use serde::{Deserialize, Serialize};

/// What happens after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine down to 0.
    Cosine,
    /// A straight line down to 0.
    Linear,
    /// No change.
    Constant,
}

impl Schedule {
    /// The factor of the learning rate for step `step` (the first is 0) of `total`, after a linear
    /// warm-up from 0 over `warmup` steps.
    pub fn factor(self, step: usize, warmup: usize, total: usize) -> f64 {
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let done = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * done).cos())).max(0.0),
            Self::Linear => (1.0 - done).max(0.0),
            Self::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_rise_and_fall() {
        let at = |schedule: Schedule, step| schedule.factor(step, 10, 110);
        for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant] {
            assert_eq!(
                (at(schedule, 0), at(schedule, 5), at(schedule, 10)),
                (0.0, 0.5, 1.0)
            );
        }
        assert!((at(Schedule::Cosine, 60) - 0.5).abs() < 1e-12);
        assert!((at(Schedule::Cosine, 110)).abs() < 1e-12);
        assert!((at(Schedule::Linear, 85) - 0.25).abs() < 1e-12);
        assert_eq!(at(Schedule::Constant, 1000), 1.0);
        assert_eq!(at(Schedule::Linear, 1000), 0.0);
        assert_eq!(Schedule::Constant.factor(0, 0, 0), 1.0);
        assert_eq!(Schedule::Cosine.factor(3, 3, 3), 1.0);
    }
}
