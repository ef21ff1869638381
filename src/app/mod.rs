//! The only place where engine, store, adapters, user models and text meet.

pub mod gguf_vocabulary;
pub mod model;
