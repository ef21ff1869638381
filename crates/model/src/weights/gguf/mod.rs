//! GGUF files: configuration and tensors, in one file or in the parts that `llama-gguf-split` makes.
//!
//! | file | subject |
//! |---|---|
//! | `file` | an open model: its metadata and its tensors, whichever part they are in |
//! | `header` | a header is checked before the tensor library reads it |
//! | `types` | how ggml stores tensors, and which of that is read |
//! | `parts` | the names of a model's parts |
//! | `config` | metadata becomes a [`ModelConfig`](crate::config::ModelConfig) |
//! | `rope` | the rotary embedding |
//! | `keys` | metadata keys that are taken once; what is left over |
//! | `names` | tensors by the names of Hugging Face, in its order of rows |
//!
//! What llama.cpp computes is what a file means.

mod config;
mod file;
mod header;
mod keys;
mod names;
mod parts;
mod rope;
mod types;

#[cfg(test)]
mod tests;

pub use file::GgufFile;
pub use parts::without_part;
