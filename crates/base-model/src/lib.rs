//! A base model with everything that belongs to it: weights, tokenizer, chat template, hash.
//!
//! | file | subject |
//! |---|---|
//! | [`mod@load`] | a name or path becomes a [`BaseModel`] |
//! | [`gguf_vocabulary`] | the tokenizer part of a GGUF file |
//!
//! Here, and not in `model`, because `model` knows no text and `text` no tensor library.

pub mod gguf_vocabulary;
pub mod load;

pub use load::{load, BaseModel, LoadError};
