//! One decoder for every family: weights in, packed rows through, logits out.
//!
//! No global state and no cache: all per-batch data comes in [`input::ForwardInput`] and the
//! [`attention::Attention`] that the caller passes.

pub mod config;
pub mod error;
pub mod input;
pub mod lora;
