//! The engine's only clock.

use std::time::Instant;

/// The present, for times that are reported; no decision about tokens depends on it.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub fn now() -> Instant {
    Instant::now()
}
