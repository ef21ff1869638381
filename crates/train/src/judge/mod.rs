//! A judge compares answers: a command that the operator names, which reads questions and gives votes.
//!
//! | file | subject |
//! |---|---|
//! | [`command`] | a process that answers lines with lines, bounded, and gone at the end |
//! | [`duel`] | both versions answer prompts that were set aside, and the judge says which answer is better |
//!
//! A question is a line of JSON, `{"id": 7, "messages": [{"role": ..., "content": ...}], "a": "...", "b": "..."}`,
//! with the two answers in random order; its vote is a line `{"id": 7, "vote": "a"}`, or `"b"`, or null where
//! neither is better. A judge that says anything else, nothing, or too late, has not voted.

pub mod command;
pub mod duel;

pub use command::{Judge, Preference};
