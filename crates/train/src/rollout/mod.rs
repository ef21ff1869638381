//! Answers of a model, sampled through the engine that serves, in this process.
//!
//! | file | subject |
//! |---|---|
//! | [`engine`] | many answers to many prompts |
//! | [`policy_adapter`] | who answers: a base model, alone or with a version |

pub mod engine;
pub mod policy_adapter;
