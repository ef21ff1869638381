//! Continuous batching: schedule, run, postprocess.
//!
//! The engine knows no users, no text, no HTTP and no store: it sees token ids, a lease and a ready
//! soft prompt.

pub mod kv_cache;
pub mod model_runner;
pub mod request;
pub mod runner;
pub mod thread;
