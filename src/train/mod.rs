//! Preference pairs become an adapter version: LoRA and user model, learned together.

pub mod adapter;
pub mod optimizer;
pub mod pack;
pub mod parameters;
pub mod policy;
pub mod schedule;
