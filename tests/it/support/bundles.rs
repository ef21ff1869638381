//! Bundles for the scripted model, and an admin who installs and promotes them.

use std::fs;
use std::path::{Path, PathBuf};

use attune::app::versions::LoadedBase;
use attune_adapter::bundle::{bundle_dir, BundleContents};
use attune_adapter::files::{MANIFEST_FILE, WEIGHTS_FILE};
use attune_adapter::hash::content_version;
use attune_adapter::publish;
use attune_ids::AdapterVersion;
use attune_model::config::{Activation, ModelConfig, RopeScaling};
use serde_json::{json, Value};

use super::contents::knowing;
use super::http::Reply;
use super::runner::{HIDDEN, VOCAB};
use super::TestServer;

/// What a version says to everybody, by the value in its rows.
pub const TEXTS: [&str; 3] = ["ABCDEFGHIJ", "KLMNOPQRST", "UVWXYZ"];

/// What versions are made for.
pub fn base() -> LoadedBase {
    LoadedBase {
        config: config(HIDDEN),
        sha256: "0123abcd".into(),
    }
}

fn config(hidden_size: usize) -> ModelConfig {
    ModelConfig {
        family: "llama".into(),
        hidden_size,
        intermediate_size: 8,
        n_layers: 1,
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: hidden_size,
        vocab_size: VOCAB,
        max_positions: super::CONTEXT,
        norm_eps: 1e-5,
        rope_base: 10000.0,
        rope_scaling: RopeScaling::None,
        local_rope_base: None,
        sliding_window: vec![None],
        attention_scale: 0.5,
        qkv_bias: false,
        qk_norm: false,
        norm_plus_one: false,
        sandwich_norm: false,
        embedding_scale: None,
        activation: Activation::Silu,
        tied_embeddings: false,
    }
}

/// A version that says `TEXTS[says]`, for a base of this hash and width. It knows alice.
pub fn contents(says: usize, base: &str, width: usize) -> BundleContents {
    knowing(&["alice".to_owned()], says, base, width)
}

/// A directory with these two files under their hash, whatever is in them.
pub fn craft(parent: &Path, manifest: &[u8], weights: &[u8]) -> PathBuf {
    let dir = bundle_dir(parent, &content_version(manifest, weights));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(MANIFEST_FILE), manifest).unwrap();
    fs::write(dir.join(WEIGHTS_FILE), weights).unwrap();
    dir
}

impl TestServer {
    /// The folder from which it installs.
    pub fn bundles(&self) -> PathBuf {
        self.data_dir.path().join("bundles")
    }

    /// Puts a version that says `TEXTS[says]` into the bundle folder, below `name`.
    pub fn offer(&self, name: &str, says: usize) -> AdapterVersion {
        let contents = contents(says, &base().sha256, HIDDEN);
        publish::write(&self.bundles().join(name), &contents).unwrap()
    }

    /// Offers and installs a version.
    pub async fn installed(&self, says: usize) -> AdapterVersion {
        let name = format!("run-{says}");
        let version = self.offer(&name, says);
        let reply = self.install(&name).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        version
    }

    pub async fn install(&self, name: &str) -> Reply {
        self.post("/v1/admin/adapters", &json!({"path": name}))
            .await
    }

    /// Promotes under `attune`; `body` says what.
    pub async fn move_alias(&self, body: &Value) -> Reply {
        self.post("/v1/admin/aliases/attune", body).await
    }

    /// Promotes a version under `attune`, from wherever it is.
    pub async fn promote(&self, version: &AdapterVersion) -> Value {
        let reply = self.move_alias(&json!({"version": version.as_str()})).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// What `attune` answers to a person, and the version that it names.
    pub async fn says(&self, user: Option<&str>) -> (String, String) {
        self.says_as("attune", user).await
    }

    pub async fn says_as(&self, model: &str, user: Option<&str>) -> (String, String) {
        let mut body = json!({"model": model, "temperature": 0,
            "messages": [{"role": "user", "content": "hi"}]});
        if let Some(user) = user {
            body["user"] = json!(user);
        }
        let reply = self.post("/v1/chat/completions", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let content = &reply.json()["choices"][0]["message"]["content"];
        (
            content.as_str().unwrap().to_owned(),
            reply.header("x-attune-adapter-version").to_owned(),
        )
    }
}
