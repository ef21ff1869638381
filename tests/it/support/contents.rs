//! What is in a bundle for the scripted model.

use std::collections::BTreeMap;

use attune_adapter::bundle::BundleContents;
use attune_adapter::manifest::Manifest;
use attune_adapter::plan::user_model_name;
use attune_adapter::tensors::TensorData;
use serde_json::{json, Value};

/// A version that says `TEXTS[says]`, for a base of this hash and width, and knows these people.
pub fn knowing(people: &[String], says: usize, base: &str, width: usize) -> BundleContents {
    let users = people.iter().enumerate();
    let users: Vec<Value> = users
        .map(|(n, user)| json!({"user": user, "row": n + 1}))
        .collect();
    let manifest = json!({
        "format": 1, "name": format!("says {says}"), "created_unix": 1_710_000_000,
        "base": {"name": "tiny", "sha256": base},
        "user_model": {"kind": "individual", "n_users": people.len(), "n_user_tokens": 2},
        "users": users
    });
    let generic = vec![says as f32; 2 * width];
    let table = TensorData {
        shape: vec![2 + 2 * people.len(), width],
        // A person's rows are added to the generic user's.
        values: [generic, vec![0.0; people.len() * 2 * width]].concat(),
    };
    BundleContents {
        manifest: Manifest::parse(manifest.to_string().as_bytes()).unwrap(),
        tensors: BTreeMap::from([(user_model_name("user_embedding"), table)]),
    }
}
