//! The commands beside `pdpo`: each does its work and returns what to print.
//!
//! | file | subject |
//! |---|---|
//! | [`mod@eval`] | pairs under a bundle, the base, and others beside it |
//! | [`mod@entangle`] | the gradients of a file's pairs, and what each of several losses would do |
//! | [`mod@sample`] | one prompt, answered for several users side by side |

pub mod entangle;
pub mod eval;
pub mod sample;

pub use eval::{eval, table, EvalRequest};
