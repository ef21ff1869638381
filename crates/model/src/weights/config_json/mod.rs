//! `config.json` of Hugging Face directories, as transformers 4 and 5 write it and as people keep it.
//!
//! | file | subject |
//! |---|---|
//! | `read` | the file becomes a [`ModelConfig`](crate::config::ModelConfig) |
//! | `families` | what transformers takes where a family's file says nothing |
//! | `kinds` | quantized and multimodal models, which are not read: what they are and what to do |
//! | `rope` | the rotary embedding, in both dialects |
//! | `windows` | which layers see how far |
//! | `keys` | keys that are taken once; what is left over |
//! | `harmless` | keys that cannot change logits |
//!
//! What transformers computes is what a file means. A key that nobody here understands is an error if its name
//! speaks of computing and its value asks for something, and a line in the log otherwise.

mod families;
mod harmless;
mod keys;
mod kinds;
mod read;
mod rope;
mod windows;

#[cfg(test)]
mod tests;

pub use read::read_config;
