//! The version that a fresh server of the default model starts with: alice likes one plain sentence,
//! bob a numbered list. `runs/demo.toml` trained it, from the pairs in `runs/demo-pairs.jsonl`.

use super::bundle::BundleContents;
use super::error::AdapterError;
use super::files::WEIGHTS_FILE;
use super::manifest::Manifest;
use super::tensors::TensorFile;

const MANIFEST: &[u8] = include_bytes!("demo/manifest.json");
const WEIGHTS: &[u8] = include_bytes!("demo/adapter.safetensors");

/// The demo version, whatever model is loaded; its manifest says which one it is made for.
///
/// # Errors
/// None in a build whose tests pass.
pub fn contents() -> Result<BundleContents, AdapterError> {
    Ok(BundleContents {
        manifest: Manifest::parse(MANIFEST)?,
        tensors: TensorFile::parse(WEIGHTS_FILE, WEIGHTS)?.values()?,
    })
}
