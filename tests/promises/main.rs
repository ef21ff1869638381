//! The promises of DESIGN.md section 5 that concern serving, held against the real decoder, the real
//! engine and the real binary. The numbers in the modules' first lines are the promises'.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod adapters;
mod batch;
mod binary;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod hostile;
mod learning_loop;
mod reload;
mod same;
mod sequences;
mod server;
mod soft;
