//! Adapter versions from the outside: bundles, PEFT checkpoints, versions in memory, the demo.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod bundle;
mod demo;
mod loaded;
mod malformed;
mod peft;
mod support;
mod without;
