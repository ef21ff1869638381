//! A version as a PEFT checkpoint: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The layout of the P-RLHF authors' trainer, which [`super::peft`] reads: LoRA and user model in one
//! file. PEFT takes the LoRA and warns of the tables, which it does not know.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::{json, Map, Value};

use super::bundle::BundleContents;
use super::error::AdapterError;
use super::manifest::{LoraManifest, Manifest};
use super::tensors::encode;

/// Writes `contents` into `dir`, which is made and has neither file yet.
///
/// # Errors
/// A version without LoRA, files that are there, or a directory that cannot be written.
pub fn export(contents: &BundleContents, dir: &Path) -> Result<(), AdapterError> {
    let Some(lora) = &contents.manifest.lora else {
        return Err(AdapterError::Import(
            "this version has no LoRA, and PEFT knows nothing else: copy the bundle instead".into(),
        ));
    };
    fs::create_dir_all(dir).map_err(AdapterError::io(dir))?;
    let config = config(&contents.manifest, lora);
    let files = [
        ("adapter_config.json", format!("{config:#}\n").into_bytes()),
        ("adapter_model.safetensors", encode(&contents.tensors)?),
    ];
    for (name, bytes) in files {
        let path = dir.join(name);
        let written = File::create_new(&path).and_then(|mut file| file.write_all(&bytes));
        written.map_err(AdapterError::io(&path))?;
    }
    Ok(())
}

fn config(manifest: &Manifest, lora: &LoraManifest) -> Value {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let targets: Vec<String> = lora.targets.iter().map(|t| last(t.path())).collect();
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for other in &lora.overrides {
        let name = format!("layers.{}.{}", other.layer, other.target.path());
        ranks.insert(name.clone(), other.rank.into());
        alphas.insert(name, other.alpha.into());
    }
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": manifest.base.name,
        "inference_mode": true,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "layers_to_transform": lora.layers,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
        "use_dora": false,
        "use_rslora": false,
    })
}
