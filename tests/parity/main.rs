//! Numbers of the authors' code, TRL and transformers against ours; `$ORACLES_DIR` names another
//! folder of the same format. Tolerances are those of the folder's README.
//!
//! `$ATTUNE_TEST_DEVICE=cuda:0` computes the same numbers on a GPU, `portable` on the CPU by the operations
//! that a GPU would run; `$ATTUNE_TEST_DTYPE=bf16` with wider tolerances ([`common::slack`]). The oracles of
//! training are for f32.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

#[path = "../common/mod.rs"]
mod common;
mod dialects;
mod entanglement;
mod gguf;
mod grpo;
mod losses;
mod prlhf;
mod smollm2;
mod text;
mod tiny;
mod training;
