//! attune: OpenAI-compatible chat inference that answers each user the way that user prefers.
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | what was typed (raw) and what it means (resolved) |
//! | [`text`] | strings and token ids: tokenizer, chat template, detokenizer, stop strings |
//! | [`model`] | one decoder for every family: weights in, packed rows through, logits out |
//! | [`base_model`] | a model with its tokenizer, chat template and hash |
//! | [`user_model`] | a user id becomes soft-prompt rows |
//! | [`adapter`] | immutable versions (LoRA + user model), aliases, leases |
//! | [`engine`] | continuous batching: schedule, run, postprocess |
//! | [`train`] | preference pairs become a version |
//! | [`store`] | versioned records in sled |
//! | [`app`] | the only place where the parts above meet |
//! | [`api`] | HTTP: the OpenAI surface |
//! | [`serve`] | a server from its configuration to its last byte |
//! | [`line_breaks`] | JSON in which nobody sees a line break that is none |
//! | [`regular`] | regular files, opened without surprises |
//! | [`wheel`] | one turn after the other: export, train, compare, promote |
//!
//! Dependencies run one way, from the bottom of this table to the top; ARCHITECTURE.md says how,
//! and `tests/tidy.rs` checks it.

// Tests may stop at the first surprise; the server may not.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::exit
    )
)]

pub mod adapter;
pub mod api;
pub mod app;
pub mod base_model;
pub mod config;
pub mod engine;
pub mod ids;
pub mod line_breaks;
pub mod model;
pub mod regular;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod train;
pub mod user_model;
pub mod wheel;
