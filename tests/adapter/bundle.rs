//! Bundles: what is written is read, and what is damaged, foreign or hostile is refused by name.

use std::fs;
use std::path::{Path, PathBuf};

use attune_adapter::bundle::{bundle_dir, list, read, verify, Adapter, BundleContents};
use attune_adapter::files::{MANIFEST_FILE, WEIGHTS_FILE};
use attune_adapter::hash::content_version;
use attune_adapter::plan::{lora_name, user_model_name};
use attune_adapter::publish::{copy, sweep, write};
use attune_adapter::tensors::encode;
use attune_adapter::AdapterError;
use attune_ids::AdapterVersion;
use attune_model::lora::Projection;
use attune_model::user_model::soft_prompt::RowKind;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{leased, small_contents, tensor, tiny_llama, user, BASE};

fn load(dir: &Path) -> Result<Adapter, AdapterError> {
    read(dir, &tiny_llama(), BASE)
}

/// A bundle of exactly these bytes, under their right name: nothing but the content is wrong.
fn sealed(parent: &Path, manifest: &[u8], weights: &[u8]) -> PathBuf {
    let dir = bundle_dir(parent, &content_version(manifest, weights));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(MANIFEST_FILE), manifest).unwrap();
    fs::write(dir.join(WEIGHTS_FILE), weights).unwrap();
    dir
}

/// The error of a bundle made of `small_contents` after `change`, if nothing checks it on the way.
fn refused(change: impl FnOnce(&mut BundleContents)) -> String {
    let mut contents = small_contents();
    change(&mut contents);
    let parent = TempDir::new().unwrap();
    let manifest = contents.manifest.to_bytes().unwrap();
    let dir = sealed(
        parent.path(),
        &manifest,
        &encode(&contents.tensors).unwrap(),
    );
    load(&dir).unwrap_err().to_string()
}

fn q(layer: usize, matrix: char) -> String {
    lora_name(layer, Projection::Q, matrix)
}

#[test]
fn what_is_written_is_read() {
    let parent = TempDir::new().unwrap();
    let contents = small_contents();
    let version = write(parent.path(), &contents).unwrap();
    let dir = bundle_dir(parent.path(), &version);
    let adapter = load(&dir).unwrap();

    assert_eq!(adapter.version, version);
    assert_eq!(
        (adapter.name.as_deref(), adapter.created_unix),
        (Some("small"), 7)
    );
    assert_eq!(adapter.lora.pairs.len(), 4);
    for ((layer, projection), pair) in &adapter.lora.pairs {
        assert_eq!(pair.scale(), 2.0);
        for (matrix, got) in [('A', pair.a()), ('B', pair.b())] {
            let expected = &contents.tensors[&lora_name(*layer, *projection, matrix)];
            assert_eq!(got.dims(), expected.shape);
            let values: Vec<f32> = got.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(values, expected.values);
        }
    }

    let lease = leased(adapter);
    let table = &contents.tensors[&user_model_name("user_embedding")].values;
    let (generic, second) = (&table[..64], &table[128..]);
    let sum: Vec<f32> = generic.iter().zip(second).map(|(a, b)| a + b).collect();
    let alice = lease.soft_prompt(Some(&user("default", "alice")));
    assert_eq!((alice.kind(), alice.len()), (RowKind::User, 2));
    assert_eq!(alice.rows()[..], sum);
    let stranger = lease.soft_prompt(Some(&user("default", "bob")));
    assert_eq!(stranger.kind(), RowKind::Generic);
    assert_eq!(stranger.rows()[..], *generic);
}

#[test]
fn a_version_needs_no_user_model() {
    let mut contents = small_contents();
    contents.manifest.user_model = None;
    contents.manifest.users.clear();
    contents.tensors.remove(&user_model_name("user_embedding"));
    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &contents).unwrap();
    let adapter = load(&bundle_dir(parent.path(), &version)).unwrap();
    let prompt = leased(adapter).soft_prompt(None);
    assert_eq!((prompt.kind(), prompt.len()), (RowKind::None, 0));
}

#[test]
fn writing_again_changes_nothing() {
    let parent = TempDir::new().unwrap();
    let inner = parent.path().join("made/on/demand");
    let version = write(&inner, &small_contents()).unwrap();
    let file = bundle_dir(&inner, &version).join(WEIGHTS_FILE);
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    assert_eq!(write(&inner, &small_contents()).unwrap(), version);
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);

    // A damaged version is not taken for the one that was to be written.
    fs::write(&file, b"damaged").unwrap();
    let err = write(&inner, &small_contents()).unwrap_err();
    assert!(matches!(err, AdapterError::Hash { .. }), "{err}");
}

#[test]
fn versions_are_listed_and_copied() {
    let (parent, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let version = write(parent.path(), &small_contents()).unwrap();
    fs::create_dir(parent.path().join("notes")).unwrap();
    fs::write(parent.path().join("f".repeat(64)), "a file").unwrap();
    fs::create_dir(parent.path().join("0".repeat(64))).unwrap();
    let listed = list(parent.path()).unwrap();
    let found = listed
        .iter()
        .map(|l| (l.version.as_str(), l.manifest.is_ok()));
    let empty = "0".repeat(64);
    assert_eq!(
        found.collect::<Vec<_>>(),
        [(empty.as_str(), false), (version.as_str(), true)]
    );

    let dir = bundle_dir(parent.path(), &version);
    assert_eq!(copy(&dir, other.path()).unwrap(), version);
    let verified = verify(&bundle_dir(other.path(), &version)).unwrap();
    assert_eq!(verified.manifest, small_contents().manifest);
    assert_eq!(verified.version, version);
    assert!(copy(&parent.path().join(empty), other.path()).is_err());
    assert_eq!(list(other.path()).unwrap().len(), 1);
}

#[test]
fn what_a_killed_process_left_is_swept_and_nothing_else() {
    let parent = TempDir::new().unwrap();
    sweep(&parent.path().join("not there")).unwrap();
    let version = write(parent.path(), &small_contents()).unwrap();
    for left in [".incoming-a1", ".retired-b2", ".other", "notes"] {
        fs::create_dir(parent.path().join(left)).unwrap();
        fs::write(parent.path().join(left).join("x"), "y").unwrap();
    }
    sweep(parent.path()).unwrap();
    let left = fs::read_dir(parent.path()).unwrap();
    let mut left: Vec<String> = left
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".other", version.as_str(), "notes"]);
}

#[test]
fn any_flipped_byte_is_seen() {
    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &small_contents()).unwrap();
    let dir = bundle_dir(parent.path(), &version);
    for file in [MANIFEST_FILE, WEIGHTS_FILE] {
        let path = dir.join(file);
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 40) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            let err = load(&dir).unwrap_err();
            assert!(
                matches!(err, AdapterError::Hash { .. }),
                "{file}[{at}]: {err}"
            );
        }
        fs::write(&path, whole).unwrap();
    }
    load(&dir).unwrap();
}

#[test]
fn truncated_weights_are_refused_under_their_own_hash_too() {
    let contents = small_contents();
    let manifest = contents.manifest.to_bytes().unwrap();
    let weights = encode(&contents.tensors).unwrap();
    let parent = TempDir::new().unwrap();
    for end in (0..weights.len()).step_by(weights.len() / 50) {
        let dir = sealed(parent.path(), &manifest, &weights[..end]);
        let err = load(&dir).unwrap_err();
        assert!(
            matches!(err, AdapterError::Safetensors { .. }),
            "{end}: {err}"
        );
    }
}

#[test]
fn another_base_model_is_named() {
    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &small_contents()).unwrap();
    let dir = bundle_dir(parent.path(), &version);
    let err = read(&dir, &tiny_llama(), "ffff").unwrap_err();
    assert!(matches!(err, AdapterError::Base { .. }), "{err}");
    for part in ["tiny", BASE, "ffff"] {
        assert!(err.to_string().contains(part), "{err}");
    }
    // The same names and hash, but another shape.
    let mut wider = tiny_llama();
    wider.hidden_size = 48;
    let mut deeper = tiny_llama();
    deeper.n_layers = 3;
    let mut shallower = tiny_llama();
    shallower.n_layers = 1;
    for (config, misfit) in [
        (wider, "has shape [4, 32], expected [4, 48]"),
        (deeper, "missing tensors: "),
        (shallower, "unexpected tensors: "),
    ] {
        let err = read(&dir, &config, BASE).unwrap_err();
        assert!(matches!(err, AdapterError::Misfit { .. }), "{err}");
        let told = err.to_string();
        let base = format!("the base model tiny (llama, {} blocks of", config.n_layers);
        for part in [misfit, &base, "serve that one"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let table = user_model_name("user_embedding");
    let err = refused(|c| drop(c.tensors.remove(&q(1, 'B'))));
    assert_eq!(err, format!("missing tensors: {}", q(1, 'B')));
    let err = refused(|c| drop(c.tensors.insert(q(2, 'A'), tensor(0, [4, 32]))));
    assert_eq!(err, format!("unexpected tensors: {}", q(2, 'A')));
    let err = refused(|c| drop(c.tensors.insert("lm_head.weight".into(), tensor(0, [1, 1]))));
    assert_eq!(err, "unexpected tensors: lm_head.weight");
    let err = refused(|c| drop(c.tensors.insert(q(0, 'A'), tensor(0, [32, 4]))));
    let shapes = "has shape [32, 4], expected [4, 32]";
    assert!(err.contains(shapes) && err.contains(&q(0, 'A')), "{err}");
    let err = refused(|c| c.tensors.get_mut(&q(0, 'A')).unwrap().shape = vec![128]);
    assert!(err.contains("has shape [128]"), "{err}");
    let err = refused(|c| drop(c.tensors.insert(table.clone(), tensor(0, [5, 32]))));
    assert!(err.contains("expected [6, 32]"), "{err}");
    let err = refused(|c| c.tensors.get_mut(&q(0, 'B')).unwrap().values[3] = f32::NAN);
    assert!(
        err.contains(&q(0, 'B')) && err.contains("NaN at index 3"),
        "{err}"
    );
    let err = refused(|c| c.tensors.get_mut(&table).unwrap().values[33] = f32::MAX);
    assert!(err.contains("row 1, column 1"), "{err}");
}

#[test]
fn contents_that_no_server_could_load_are_not_published() {
    let parent = TempDir::new().unwrap();
    let changes: [fn(&mut BundleContents); 4] = [
        |c| c.manifest.users[0].row = 3,
        |c| drop(c.tensors.remove(&q(0, 'A'))),
        |c| c.tensors.get_mut(&q(0, 'A')).unwrap().values[0] = f32::INFINITY,
        |c| c.manifest.user_model.as_mut().unwrap().n_user_tokens = 3,
    ];
    for change in changes {
        let mut contents = small_contents();
        change(&mut contents);
        assert!(write(parent.path(), &contents).is_err());
    }
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn only_the_two_files_may_be_there() {
    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &small_contents()).unwrap();
    let dir = bundle_dir(parent.path(), &version);
    for (name, reason) in [
        ("adapter_model.bin", "pickle"),
        ("x.PT", "pickle"),
        ("optimizer.pkl", "pickle"),
        ("README", "only manifest.json"),
    ] {
        let path = dir.join(name);
        fs::write(&path, b"\x80\x04.").unwrap();
        let err = load(&dir).unwrap_err().to_string();
        assert!(err.contains(reason) && err.contains(name), "{err}");
        fs::remove_file(&path).unwrap();
    }
    load(&dir).unwrap();
    fs::remove_file(dir.join(WEIGHTS_FILE)).unwrap();
    let err = load(&dir).unwrap_err().to_string();
    assert!(err.contains("it has no adapter.safetensors"), "{err}");
}

#[test]
#[cfg(unix)]
fn links_are_not_followed() {
    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &small_contents()).unwrap();
    let dir = bundle_dir(parent.path(), &version);
    let outside = parent.path().join("outside");
    fs::rename(dir.join(WEIGHTS_FILE), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join(WEIGHTS_FILE)).unwrap();
    let err = load(&dir).unwrap_err();
    assert!(matches!(err, AdapterError::ForeignFile { .. }), "{err}");
    assert!(err.to_string().contains("plain file"), "{err}");
}

#[test]
fn a_directory_of_another_name_is_no_bundle() {
    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &small_contents()).unwrap();
    let dir = bundle_dir(parent.path(), &version);
    for name in ["latest", "..", &"0".repeat(63)] {
        let err = load(&parent.path().join(name)).unwrap_err();
        assert!(matches!(err, AdapterError::NotABundle { .. }), "{err}");
    }
    let other = AdapterVersion::new("a".repeat(64)).unwrap();
    let moved = bundle_dir(parent.path(), &other);
    fs::rename(&dir, &moved).unwrap();
    let err = load(&moved).unwrap_err();
    assert!(matches!(err, AdapterError::Hash { .. }), "{err}");
    let err = load(&dir).unwrap_err();
    assert!(matches!(err, AdapterError::Io { .. }), "{err}");
}

#[test]
fn huge_sizes_are_refused_before_anything_is_allocated() {
    let contents = small_contents();
    let weights = encode(&contents.tensors).unwrap();
    let manifest = String::from_utf8(contents.manifest.to_bytes().unwrap()).unwrap();
    let parent = TempDir::new().unwrap();
    for (field, size) in [
        ("\"n_user_tokens\": 2", "\"n_user_tokens\": 268435456"),
        ("\"n_users\": 2", "\"n_users\": 268435456"),
        ("\"rank\": 4", "\"rank\": 16384"),
    ] {
        let huge = manifest.replace(field, size);
        assert_ne!(huge, manifest);
        let dir = sealed(parent.path(), huge.as_bytes(), &weights);
        assert!(matches!(load(&dir), Err(AdapterError::Shape { .. })));
    }

    let version = write(parent.path(), &contents).unwrap();
    let dir = bundle_dir(parent.path(), &version);
    // Sparse: it takes no room on disk, and must not take any in memory.
    let file = fs::File::create(dir.join(WEIGHTS_FILE)).unwrap();
    file.set_len(1 << 40).unwrap();
    let err = load(&dir).unwrap_err();
    assert!(matches!(err, AdapterError::TooLarge { .. }), "{err}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whatever is in the files: an answer, never a panic.
    #[test]
    fn no_bytes_panic(
        header in prop_oneof!["\\PC{0,60}", Just(String::new())],
        tail in prop::collection::vec(any::<u8>(), 0..200),
        claimed in prop::option::of(any::<u64>()),
        manifest in "\\PC{0,60}",
    ) {
        let parent = TempDir::new().unwrap();
        let mut weights = claimed.unwrap_or(header.len() as u64).to_le_bytes().to_vec();
        weights.extend(header.as_bytes());
        weights.extend(tail);
        let whole = small_contents().manifest.to_bytes().unwrap();
        prop_assert!(load(&sealed(parent.path(), &whole, &weights)).is_err());
        prop_assert!(load(&sealed(parent.path(), manifest.as_bytes(), &weights)).is_err());
    }

    /// A whole file with a few bytes changed, under the hash of the changed file: refused, or still
    /// a version whose every number is finite.
    #[test]
    fn no_mutation_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let contents = small_contents();
        let manifest = contents.manifest.to_bytes().unwrap();
        let mut weights = encode(&contents.tensors).unwrap();
        // Two of three changes hit the header.
        let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        for (i, (at, byte)) in changes.iter().enumerate() {
            let len = if i % 3 == 2 { weights.len() } else { header };
            weights[at.index(len)] = *byte;
        }
        let parent = TempDir::new().unwrap();
        if let Ok(adapter) = load(&sealed(parent.path(), &manifest, &weights)) {
            for pair in adapter.lora.pairs.values() {
                let a: Vec<f32> = pair.a().flatten_all().unwrap().to_vec1().unwrap();
                prop_assert!(a.iter().all(|v| v.is_finite()));
            }
        }
    }
}
