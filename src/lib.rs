//! attune: OpenAI-compatible chat inference that answers each user the way that user prefers.
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | what was typed (raw) and what it means (resolved) |
//! | [`app`] | the only place where the parts above meet |
//! | [`api`] | HTTP: the OpenAI surface |
//! | [`serve`] | a server from its configuration to its last byte |
//! | [`learning_loop`] | one turn after the other: export, train, compare, promote |
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

pub mod api;
pub mod app;
pub mod config;
pub mod learning_loop;
pub mod serve;
pub mod telemetry;
