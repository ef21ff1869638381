//! Numbers of the authors' code, TRL and transformers against ours; `$ORACLES_DIR` names another
//! folder of the same format. Tolerances are those of the folder's README.

#[path = "../common/mod.rs"]
mod common;
mod entanglement;
mod gguf;
mod grpo;
mod losses;
mod prlhf;
mod smollm2;
mod text;
mod tiny;
mod training;
