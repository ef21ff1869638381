//! A version on disk.

use std::sync::Arc;

use crate::ids::AdapterVersion;
use crate::model::lora::LoraSet;

/// What went wrong with an adapter version.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A bundle that cannot be used; nothing was changed.
    #[error("the adapter bundle cannot be used: {0}")]
    Bundle(String),
}

/// A version in memory.
#[derive(Debug)]
pub struct Adapter {
    /// Its name: the hash of its content.
    pub version: AdapterVersion,
    /// A name for people.
    pub name: Option<String>,
    /// When it was made, seconds since 1970.
    pub created_unix: u64,
    /// Its LoRA; empty where it has only a user model.
    pub lora: Arc<LoraSet>,
}
