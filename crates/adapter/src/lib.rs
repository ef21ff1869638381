//! Immutable adapter versions: LoRA + user model + manifest; aliases and leases.
//!
//! | file | subject |
//! |---|---|
//! | [`bundle`] | a version on disk: read, verify, list; and in memory |
//! | [`manifest`] | `manifest.json`: what a version is made of and for |
//! | [`data_until`] | until when what it has learned reaches: what deletions are compared with |
//! | [`plan`] | the tensors that a manifest promises, with their shapes |
//! | [`tensors`] | safetensors bytes to f32 values and back |
//! | [`files`] | the two files of a bundle, and what may not lie beside them |
//! | [`hash`] | the name of a version |
//! | [`publish`] | write a version so that it is there whole or not at all |
//! | [`without`] | a version without some of its people |
//! | [`misfit`] | whether a version has the shape of a base model |
//! | [`peft`], [`peft_config`], `peft_targets`, `peft_names`, `peft_lora`, `peft_folder`, [`peft_export`] | checkpoints as PEFT writes and reads them |
//! | [`demo`] | the version that a fresh server starts with |
//! | [`about`] | what a manifest says of a version that is not loaded |
//! | [`loaded`], `memory` | the versions in memory, within a budget |
//! | [`lease`] | a pin that keeps a version loaded |
//! | [`canary`] | which users of an alias try another version |
//! | [`error`] | what goes wrong with a version |
//!
//! A bundle is a directory, named by the hash of its two files: `manifest.json` and
//! `adapter.safetensors`. Nothing else may be in it: what the hash does not cover is not content.

pub mod about;
pub mod bundle;
pub mod canary;
pub mod data_until;
pub mod demo;
pub mod error;
pub mod files;
pub mod hash;
pub mod lease;
pub mod loaded;
pub mod manifest;
mod memory;
pub mod misfit;
pub mod peft;
pub mod peft_config;
pub mod peft_export;
mod peft_folder;
mod peft_lora;
mod peft_names;
mod peft_targets;
pub mod plan;
pub mod publish;
pub mod tensors;
pub mod without;

pub use error::AdapterError;
