//! Preference pairs become an adapter version: LoRA and user model, learned together.
//!
//! | module | subject |
//! |---|---|
//! | [`dataset`], [`encode`] | files of pairs, read, checked and split; text to token ids |
//! | [`pairs`], [`pack`] | pairs as ids; completions side by side, each shared beginning once |
//! | [`parameters`], [`adapter`] | what is trained, as numbers and as the decoder sees it |
//! | [`policy`] | log-probabilities, and the way back to the parameters |
//! | [`optimizer`], [`schedule`] | AdamW; the learning rate by step |

pub mod adapter;
pub mod dataset;
pub mod encode;
pub mod optimizer;
pub mod pack;
pub mod pairs;
pub mod parameters;
pub mod policy;
pub mod schedule;
