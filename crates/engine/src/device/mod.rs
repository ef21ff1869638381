//! What is different where our CPU kernels do not compute: on a GPU, on several, or on the CPU by portable operations.
//!
//! | file | subject |
//! |---|---|
//! | [`kv`], [`attention_metadata`], `cuda_kv` | keys and values, and what a pass tells the attention about its sequences |
//! | [`memory`] | how much there is for keys and values |
//! | [`resident`], [`byte_lru`] | soft prompts and LoRA that stay on the device |
//! | [`sampler`], `choose.cu` | tokens chosen there, by one kernel |
//! | [`chosen`], [`host_copy`] | those tokens, and their way to the host |
//! | [`ranks`] | one model over several devices |

pub mod attention_metadata;
pub mod byte_lru;
pub mod chosen;
#[cfg(feature = "cuda")]
mod cuda_kv;
pub mod host_copy;
pub mod kv;
pub mod memory;
pub mod ranks;
pub mod resident;
pub mod sampler;
