//! The demo version: whole, for the default model, and of the right people.

use attune_adapter::bundle::{bundle_dir, verify};
use attune_adapter::demo::contents;
use attune_adapter::publish::write;
use attune_model::hub;
use tempfile::TempDir;

#[test]
fn it_is_a_trained_version_of_the_default_model_with_alice_and_bob() {
    let contents = contents().unwrap();
    let manifest = contents.manifest.clone();
    let model = hub::find(&manifest.base.name).unwrap();
    assert_eq!(manifest.base.sha256, model.sha256);
    let users: Vec<(&str, usize)> = manifest
        .users
        .iter()
        .map(|row| (row.user.as_str(), row.row))
        .collect();
    assert_eq!(users, [("alice", 1), ("bob", 2)]);
    // What was trained is what the repository says how to train.
    let training = manifest.training.as_ref().unwrap();
    let data = &training["settings"]["data"];
    assert_eq!(*data, serde_json::json!(["runs/demo-pairs.jsonl"]));
    assert!(training["best_step"].as_u64().unwrap() > 0);
    assert!(manifest.lora.is_some());

    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &contents).unwrap();
    assert_eq!(version, write(parent.path(), &contents).unwrap());
    verify(&bundle_dir(parent.path(), &version)).unwrap();
}
