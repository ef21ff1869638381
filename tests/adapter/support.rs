//! A small model's shape, a small version for it, and the folder of golden data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use attune_adapter::bundle::{Adapter, BundleContents};
use attune_adapter::lease::Lease;
use attune_adapter::loaded::LoadedVersions;
use attune_adapter::manifest::Manifest;
use attune_adapter::plan::{lora_name, user_model_name};
use attune_adapter::tensors::{TensorData, TensorFile};
use attune_ids::{Tenant, UserId, UserKey};
use attune_model::config::{Activation, ModelConfig, RopeScaling};
use attune_model::lora::Projection;

/// The shape of the oracles' `tiny/llama`, which their checkpoints are for.
pub fn golden_config() -> ModelConfig {
    let json = std::fs::read(oracles().join("tiny/llama/config.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let size = |field: &str| json[field].as_u64().unwrap() as usize;
    let n_layers = size("num_hidden_layers");
    ModelConfig {
        hidden_size: size("hidden_size"),
        intermediate_size: size("intermediate_size"),
        n_layers,
        n_heads: size("num_attention_heads"),
        n_kv_heads: size("num_key_value_heads"),
        head_dim: size("head_dim"),
        sliding_window: vec![None; n_layers],
        ..tiny_llama()
    }
}

/// A lease of a version.
pub fn leased(adapter: Adapter) -> Lease {
    let loaded = LoadedVersions::new(1);
    Lease::of(&loaded.insert(adapter, 1).unwrap())
}

/// The hash that the small version was made for.
pub const BASE: &str = "0123abcd";

/// `ORACLES_DIR`, or the copy in the repository.
pub fn oracles() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/oracles");
    std::env::var_os("ORACLES_DIR").map_or_else(|| own.into(), PathBuf::from)
}

/// A small decoder's shape.
pub fn tiny_llama() -> ModelConfig {
    ModelConfig {
        family: "llama".into(),
        hidden_size: 32,
        intermediate_size: 64,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        vocab_size: 128,
        max_positions: 256,
        norm_eps: 1e-5,
        rope_base: 10000.0,
        rope_scaling: RopeScaling::None,
        local_rope_base: None,
        sliding_window: vec![None; 2],
        attention_scale: 8f64.powf(-0.5),
        qkv_bias: false,
        qk_norm: false,
        norm_plus_one: false,
        sandwich_norm: false,
        embedding_scale: None,
        activation: Activation::Silu,
        tied_embeddings: false,
    }
}

pub fn user(tenant: &str, user: &str) -> UserKey {
    UserKey {
        tenant: Tenant::new(tenant).unwrap(),
        user: UserId::new(user).unwrap(),
    }
}

/// Values that differ from tensor to tensor and from place to place.
pub fn tensor(seed: usize, shape: [usize; 2]) -> TensorData {
    let value = |i: usize| ((i * 31 + seed * 17) % 97) as f32 / 50.0 - 1.0;
    TensorData {
        shape: shape.to_vec(),
        values: (0..shape[0] * shape[1]).map(value).collect(),
    }
}

/// LoRA of rank 4 on q and v of both blocks, and an individual user model, N = 2, T_u = 2.
pub fn small_contents() -> BundleContents {
    let manifest = r#"{
        "format": 1, "name": "small", "created_unix": 7,
        "base": {"name": "tiny", "sha256": "0123abcd"},
        "lora": {"rank": 4, "alpha": 8.0, "targets": ["q", "v"]},
        "user_model": {"kind": "individual", "n_users": 2, "n_user_tokens": 2},
        "users": [{"user": "alice", "row": 2}, {"tenant": "acme", "user": "alice", "row": 1}]
    }"#;
    let config = tiny_llama();
    let mut tensors = BTreeMap::new();
    for layer in 0..config.n_layers {
        for projection in [Projection::Q, Projection::V] {
            let (output, input) = config.projection_shape(projection);
            let n = tensors.len();
            tensors.insert(lora_name(layer, projection, 'A'), tensor(n, [4, input]));
            tensors.insert(
                lora_name(layer, projection, 'B'),
                tensor(n + 1, [output, 4]),
            );
        }
    }
    tensors.insert(user_model_name("user_embedding"), tensor(99, [6, 32]));
    BundleContents {
        manifest: Manifest::parse(manifest.as_bytes()).unwrap(),
        tensors,
    }
}

/// The tensors of a file of golden data.
pub fn golden(path: &str) -> BTreeMap<String, TensorData> {
    let bytes = std::fs::read(oracles().join(path)).unwrap();
    TensorFile::parse("golden", &bytes)
        .unwrap()
        .values()
        .unwrap()
}
