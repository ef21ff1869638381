//! A version without some of its people: their ids and rows are gone, everything else is as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use attune_adapter::bundle::{bundle_dir, BundleContents};
use attune_adapter::files::{MANIFEST_FILE, WEIGHTS_FILE};
use attune_adapter::hash::content_version;
use attune_adapter::manifest::Manifest;
use attune_adapter::plan::user_model_name;
use attune_adapter::publish::{self, Offered};
use attune_adapter::tensors::TensorData;
use attune_ids::{AdapterVersion, UserKey};
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;

use crate::support::{small_contents, tensor, user};

/// Bytes of each tensor of a published version, with its shape.
fn tensors(parent: &Path, version: &AdapterVersion) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(bundle_dir(parent, version).join(WEIGHTS_FILE)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, TensorView<'_>)| {
        (name, (view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(tensor).collect()
}

fn manifest(parent: &Path, version: &AdapterVersion) -> Manifest {
    let bytes = fs::read(bundle_dir(parent, version).join(MANIFEST_FILE)).unwrap();
    Manifest::parse(&bytes).unwrap()
}

fn without(parent: &Path, version: &AdapterVersion, gone: &[UserKey]) -> AdapterVersion {
    let offered = Offered::read(&bundle_dir(parent, version)).unwrap();
    let gone: BTreeSet<UserKey> = gone.iter().cloned().collect();
    let new = offered.without(&gone).unwrap();
    new.publish(parent).unwrap()
}

/// Five people in the rows 1 to 5, the third of them twice, in two tenants; row 4 is nobody's.
fn people() -> BundleContents {
    let mut contents = small_contents();
    let model = contents.manifest.user_model.as_mut().unwrap();
    model.n_users = 5;
    contents.manifest.users = serde_json::from_value(json!([
        {"user": "dora", "row": 5, "data_until_unix_ms": 5},
        {"user": "ann", "row": 1},
        {"user": "bob", "row": 2, "data_until_unix_ms": "unknown"},
        {"tenant": "acme", "user": "ann", "row": 3}
    ]))
    .unwrap();
    contents.manifest.training = Some(json!({"people": ["ann", "bob"], "seed": 7}));
    let table = tensor(99, [12, 32]);
    contents
        .tensors
        .insert(user_model_name("user_embedding"), table);
    contents
}

#[test]
fn rows_of_others_and_all_of_lora_stay_bit_for_bit() {
    let parent = tempfile::tempdir().unwrap();
    let parent = parent.path();
    let contents = people();
    let old = publish::write(parent, &contents).unwrap();
    let gone = [user("default", "bob"), user("default", "ann")];
    let new = without(parent, &old, &gone);
    assert_ne!(new, old);
    let (before, after) = (tensors(parent, &old), tensors(parent, &new));
    let table = user_model_name("user_embedding");
    for (name, tensor) in &before {
        if *name != table {
            assert_eq!(&after[name], tensor, "{name}");
        }
    }
    assert_eq!(before.len(), after.len());
    // Rows 0, 3, 4 and 5 of two rows each are left, in their order.
    let row = |n: usize| &before[&table].1[n * 2 * 32 * 4..][..2 * 32 * 4];
    let kept = [row(0), row(3), row(4), row(5)].concat();
    assert_eq!(after[&table], (vec![8, 32], kept));
    let manifest = manifest(parent, &new);
    let expected: Vec<attune_adapter::manifest::UserRow> = serde_json::from_value(json!([
        {"user": "dora", "row": 3, "data_until_unix_ms": 5},
        {"tenant": "acme", "user": "ann", "row": 1}
    ]))
    .unwrap();
    assert_eq!(manifest.users, expected);
    assert_eq!(manifest.user_model.as_ref().unwrap().n_users, 3);
    assert_eq!(manifest.training, Some(json!({"people": [], "seed": 7})));
    let same = |m: &Manifest| {
        (
            m.created_unix,
            m.data_until_unix_ms,
            m.lora.clone(),
            m.name.clone(),
        )
    };
    assert_eq!(same(&manifest), same(&contents.manifest));
    // The same people leave the same version behind.
    assert_eq!(without(parent, &old, &gone), new);
    // And those who left first make no difference.
    let first = without(parent, &old, &gone[..1]);
    assert_eq!(without(parent, &first, &gone[1..]), new);
}

#[test]
fn whoever_leaves_last_leaves_the_generic_user_behind() {
    let parent = tempfile::tempdir().unwrap();
    let parent = parent.path();
    let old = publish::write(parent, &small_contents()).unwrap();
    let new = without(
        parent,
        &old,
        &[user("default", "alice"), user("acme", "alice")],
    );
    let table = user_model_name("user_embedding");
    let (before, after) = (tensors(parent, &old), tensors(parent, &new));
    assert_eq!(after[&table].0, [2, 32]);
    assert_eq!(after[&table].1, before[&table].1[..2 * 32 * 4]);
    let files = [MANIFEST_FILE, WEIGHTS_FILE].map(|f| bundle_dir(parent, &new).join(f));
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let found = bytes.windows(5).any(|part| part == b"alice");
        assert!(!found, "{}", file.display());
    }
}

#[test]
fn a_person_of_a_cluster_model_is_a_row_of_weights() {
    let parent = tempfile::tempdir().unwrap();
    let parent = parent.path();
    let mut contents = small_contents();
    contents.manifest.user_model = serde_json::from_value(json!(
        {"kind": "cluster", "n_users": 2, "n_user_tokens": 2, "clusters": 3}
    ))
    .unwrap();
    contents.tensors.remove(&user_model_name("user_embedding"));
    let (centres, weights) = (
        user_model_name("cluster_embedding"),
        user_model_name("user_weight"),
    );
    contents.tensors.insert(centres.clone(), tensor(7, [6, 32]));
    contents.tensors.insert(weights.clone(), tensor(8, [3, 3]));
    let old = publish::write(parent, &contents).unwrap();
    // In row 1; the other alice is in row 2.
    let new = without(parent, &old, &[user("acme", "alice")]);
    let (before, after) = (tensors(parent, &old), tensors(parent, &new));
    assert_eq!(after[&centres], before[&centres]);
    let row = |n: usize| &before[&weights].1[n * 12..][..12];
    assert_eq!(after[&weights], (vec![2, 3], [row(0), row(2)].concat()));
    assert_eq!(manifest(parent, &new).users[0].row, 1);
}

/// Halves stay halves: a value that is written as f32 would be another byte.
#[test]
fn tensors_keep_their_types() {
    let parent = tempfile::tempdir().unwrap();
    let parent = parent.path();
    let contents = small_contents();
    let halves: BTreeMap<String, (Vec<usize>, Vec<u8>)> = contents
        .tensors
        .iter()
        .map(|(name, TensorData { shape, values })| {
            let bytes = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
            (name.clone(), (shape.clone(), bytes.collect()))
        })
        .collect();
    let views = halves.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    // With a note of whoever wrote it, which is no content that anybody needs.
    let note = [("made for".to_owned(), "alice".to_owned())].into();
    let weights = safetensors::serialize(views, Some(note)).unwrap();
    let written = contents.manifest.to_bytes().unwrap();
    let old = content_version(&written, &weights);
    let dir = bundle_dir(parent, &old);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(MANIFEST_FILE), &written).unwrap();
    fs::write(dir.join(WEIGHTS_FILE), &weights).unwrap();
    let new = without(
        parent,
        &old,
        &[user("acme", "alice"), user("default", "alice")],
    );
    for (name, (shape, bytes)) in tensors(parent, &new) {
        let (old_shape, old_bytes) = &halves[&name];
        let kept = match name == user_model_name("user_embedding") {
            true => (vec![2, 32], &old_bytes[..2 * 32 * 2]),
            false => (old_shape.clone(), &old_bytes[..]),
        };
        assert_eq!((shape, &bytes[..]), kept, "{name}");
    }
    let bytes = fs::read(bundle_dir(parent, &new).join(WEIGHTS_FILE)).unwrap();
    assert!(!bytes.windows(5).any(|part| part == b"alice"));
}
