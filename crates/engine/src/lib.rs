//! Continuous batching: schedule, run, postprocess.
//!
//! The engine knows no users, no text, no HTTP and no store: it sees token ids, a lease and a ready
//! soft prompt.

// Tests may stop at the first surprise; the server may not.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::exit
    )
)]

pub mod admission;
pub mod attention_metadata;
pub mod batch;
pub mod block_hash;
pub mod block_manager;
pub mod byte_lru;
pub mod chosen;
pub mod clock;
#[cfg(feature = "cuda")]
mod cuda_kv;
pub mod device_kv;
pub mod device_memory;
pub mod device_sampler;
pub mod device_side;
pub mod fairness;
pub mod host_copy;
pub mod intake;
pub mod kv_cache;
pub mod logits;
pub mod logprobs;
pub mod metrics;
pub mod model_runner;
pub mod outbox;
mod pass;
pub mod penalties;
pub mod prompt;
pub mod queue;
pub mod ranks;
pub mod request;
pub mod runner;
pub mod sampler;
pub mod sampling_params;
pub mod scheduler;
pub mod sequence;
pub mod step;
pub mod subject;
pub mod thread;
pub mod topk;
mod wait;
