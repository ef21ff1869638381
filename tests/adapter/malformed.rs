//! Checkpoints that are wrong in one thing each: every one is refused by a message that names that thing, and
//! says it of the file that has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use attune_adapter::data_until::DataUntil;
use attune_adapter::manifest::BaseModel;
use attune_adapter::peft::{import, PeftImport};
use attune_adapter::tensors::{encode, TensorData};
use serde_json::{json, Value};
use tempfile::TempDir;

use crate::support::{small_contents, tensor, tiny_llama, BASE};

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const TABLE: &str = "base_model.model.user_model.user_embedding.weight";
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

type Tensors = BTreeMap<String, TensorData>;

/// The LoRA of `small_contents`, without its user model.
fn sound() -> Tensors {
    let mut tensors = small_contents().tensors;
    tensors.remove(TABLE);
    tensors
}

fn sound_config() -> Value {
    json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none",
        "target_modules": ["q_proj", "v_proj"]})
}

fn write(config: &[u8], weights: &[u8]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(CONFIG), config).unwrap();
    fs::write(dir.path().join(WEIGHTS), weights).unwrap();
    dir
}

fn said(dir: &Path) -> Result<(), String> {
    let settings = PeftImport {
        name: None,
        created_unix: 1,
        data_until: DataUntil::Unknown,
        base: BaseModel {
            name: "tiny".into(),
            sha256: BASE.into(),
        },
        model: tiny_llama(),
        kind: None,
        n_user_tokens: None,
        users: None,
    };
    import(dir, settings)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn refused(case: &str, dir: &Path, parts: &[&str]) {
    let told = said(dir).expect_err(case);
    for part in parts {
        assert!(told.contains(part), "{case}: {part:?} in {told}");
    }
    assert!(
        told.len() < 2000 && !told.contains("untagged"),
        "{case}: {told}"
    );
}

/// A safetensors file with this header, whatever it says.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn the_sound_one_is_taken() {
    let config = sound_config().to_string();
    let dir = write(config.as_bytes(), &encode(&sound()).unwrap());
    assert_eq!(said(dir.path()), Ok(()));
}

#[test]
fn weights_that_are_no_safetensors_file() {
    let whole = encode(&sound()).unwrap();
    let cut = |bytes: usize| whole[..whole.len() - bytes].to_vec();
    let mut long = whole.clone();
    long[..8].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    let mut more = whole.clone();
    more.extend([0; 16]);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n";
    for (case, bytes, what) in [
        ("truncated", cut(5), "of the data, which has"),
        (
            "cut in its header",
            cut(whole.len() - 40),
            "its header claims",
        ),
        ("empty", Vec::new(), "it ends within its first 8 bytes"),
        (
            "a header of an exabyte",
            long,
            "its header claims 1152921504606846976 bytes",
        ),
        ("something behind it", more, "safetensors"),
        ("a pointer of Git LFS", pointer.to_vec(), "git lfs pull"),
        (
            "a pickle by another name",
            b"PK\x03\x04 a zip file, as torch writes it".to_vec(),
            "claims",
        ),
        ("no JSON", file("{\"a\": ", &[]), "its header: "),
        (
            "overlapping",
            file(
                &format!(
                    r#"{{"{Q}": {{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},
            "b": {{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#
                ),
                &[0; 4],
            ),
            "safetensors",
        ),
        // The last one of that name counts, and leaves a hole.
        (
            "one name twice",
            file(
                &format!(
                    r#"{{"{Q}": {{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},
            "{Q}": {{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}}}"#
                ),
                &[0; 8],
            ),
            "safetensors",
        ),
        (
            "a shape that overflows",
            file(
                &format!(
                    r#"{{"{Q}": {{"dtype":"F32","shape":[4294967296,4294967296],
            "data_offsets":[0,4]}}}}"#
                ),
                &[0; 4],
            ),
            "safetensors",
        ),
    ] {
        let dir = write(sound_config().to_string().as_bytes(), &bytes);
        refused(case, dir.path(), &[WEIGHTS, what]);
    }
}

#[test]
fn types_and_values_that_no_version_holds() {
    for (dtype, bytes) in [
        ("F64", 8),
        ("I8", 1),
        ("I32", 4),
        ("U8", 1),
        ("BOOL", 1),
        ("F8_E4M3", 1),
        ("F8_E5M2", 1),
    ] {
        let header = format!(
            r#"{{"{Q}": {{"dtype":"{dtype}","shape":[4,32],"data_offsets":[0,{}]}}}}"#,
            128 * bytes
        );
        let dir = write(
            sound_config().to_string().as_bytes(),
            &file(&header, &vec![0; 128 * bytes]),
        );
        refused(dtype, dir.path(), &[Q, dtype, "store F32, F16 or BF16"]);
    }
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut tensors = sound();
        tensors.get_mut(Q).unwrap().values[7] = value;
        let dir = write(
            sound_config().to_string().as_bytes(),
            &encode(&tensors).unwrap(),
        );
        refused("value", dir.path(), &[Q, "at index 7", &value.to_string()]);
    }
}

/// A checkpoint with the tensor `name` in this shape, or without it.
fn changed(name: &str, shape: Option<[usize; 2]>) -> TempDir {
    let mut tensors = sound();
    match shape {
        Some(shape) => drop(tensors.insert(name.to_owned(), tensor(0, shape))),
        None => drop(tensors.remove(name)),
    }
    with_tensors(&tensors)
}

fn with_tensors(tensors: &Tensors) -> TempDir {
    write(
        sound_config().to_string().as_bytes(),
        &encode(tensors).unwrap(),
    )
}

#[test]
fn tensors_that_are_missing_or_misshapen() {
    let b = Q.replace("lora_A", "lora_B");
    for (case, name, shape, what) in [
        ("A without B", &*b, None, "missing tensors"),
        ("B without A", Q, None, "missing tensors"),
        (
            "a rank of 0",
            Q,
            Some([0, 32]),
            "has shape [0, 32], expected [4, ",
        ),
        (
            "a rank of its own",
            Q,
            Some([2, 32]),
            "has shape [2, 32], expected [4, ",
        ),
        ("A is turned", Q, Some([32, 4]), "has shape [32, 4]"),
    ] {
        refused(case, changed(name, shape).path(), &[name, what]);
    }
    let none = with_tensors(&Tensors::new());
    refused("no tensors", none.path(), &["missing tensors"]);
    let mut tensors = sound();
    tensors.get_mut(Q).unwrap().shape = vec![4, 32, 1];
    refused(
        "three sides",
        with_tensors(&tensors).path(),
        &[Q, "[4, 32, 1]"],
    );
}

#[test]
fn tensors_that_have_no_place() {
    let at_q = |from: &str, to: &str| Q.replace(from, to);
    for (case, name, what) in [
        (
            "the head",
            "base_model.model.lm_head.weight".into(),
            "merge the adapter",
        ),
        (
            "embeddings",
            "base_model.model.model.embed_tokens.lora_embedding_A".into(),
            "embed_tokens",
        ),
        (
            "DoRA",
            at_q("lora_A.weight", "lora_magnitude_vector"),
            "lora_magnitude_vector",
        ),
        (
            "a bias",
            at_q("lora_A.weight", "lora_B.bias"),
            "lora_B.bias",
        ),
        (
            "a block far away",
            at_q("layers.0", "layers.18446744073709551615"),
            "adapts block 18446744073709551615",
        ),
        (
            "a stray module",
            at_q("q_proj", "k_proj"),
            "unexpected tensors",
        ),
        ("merged modules", at_q("q_proj", "qkv_proj"), "qkv_proj"),
        (
            "a vision tower",
            at_q("model.model", "model.vision_tower"),
            "vision_tower",
        ),
        (
            "experts",
            at_q("self_attn.q_proj", "mlp.experts.0.up_proj"),
            "experts.0",
        ),
        (
            "a second adapter",
            at_q("lora_A", "lora_A.second"),
            "several adapters",
        ),
    ] {
        refused(case, changed(&name, Some([4, 32])).path(), &[what]);
    }
}

/// A sound configuration with `setting` as `value`.
fn with(setting: &str, value: Value) -> String {
    let mut config = sound_config();
    config[setting] = value;
    config.to_string()
}

#[test]
fn configurations_that_are_no_json() {
    let raw = |setting: &str, text: &str| with(setting, json!("@")).replace("\"@\"", text);
    for (case, config) in [
        ("empty", String::new()),
        ("a list", "[]".into()),
        ("cut", sound_config().to_string()[..40].to_owned()),
        ("alpha is NaN", raw("lora_alpha", "NaN")),
        ("alpha is infinite", raw("lora_alpha", "1e999")),
    ] {
        let dir = write(config.as_bytes(), &encode(&sound()).unwrap());
        refused(case, dir.path(), &[CONFIG, "the file: "]);
    }
}

#[test]
fn settings_that_are_none() {
    let nested = "(".repeat(100_000);
    for (case, setting, value, what) in [
        ("alpha is huge", "lora_alpha", json!(1e300), "alpha of"),
        ("alpha is a text", "lora_alpha", json!("8"), "lora_alpha: "),
        (
            "alpha is missing",
            "lora_alpha",
            Value::Null,
            "lora_alpha: it is missing",
        ),
        ("rank 0", "r", json!(0), "rank of 0"),
        ("a negative rank", "r", json!(-4), "r: "),
        ("half a rank", "r", json!(4.5), "r: "),
        ("a huge rank", "r", json!(u64::MAX), "rank of"),
        ("IA3", "peft_type", json!("IA3"), "peft_type: IA3"),
        (
            "numbers",
            "target_modules",
            json!([1, 2]),
            "target_modules: ",
        ),
        (
            "no modules",
            "target_modules",
            json!([]),
            "unexpected tensors",
        ),
        (
            "a map",
            "target_modules",
            json!({"a": nested}),
            "target_modules: ",
        ),
        (
            "a pattern of ranks",
            "rank_pattern",
            json!({"q_proj": 2}),
            "expected [2, ",
        ),
        (
            "a broken pattern",
            "alpha_pattern",
            json!({"[q_proj": 2}),
            "alpha_pattern: \"[q_proj\"",
        ),
        (
            "blocks of a text",
            "layers_to_transform",
            json!("0,1"),
            "layers_to_transform: ",
        ),
        (
            "a setting of tomorrow",
            "use_tomorrow",
            json!(true),
            "use_tomorrow: ",
        ),
    ] {
        let config = with(setting, value);
        let dir = write(config.as_bytes(), &encode(&sound()).unwrap());
        refused(case, dir.path(), &[what]);
    }
    // What is not understood, but cannot matter, is no reason: the tensors tell.
    let config = with("target_modules", json!(nested));
    let dir = write(config.as_bytes(), &encode(&sound()).unwrap());
    assert_eq!(said(dir.path()), Ok(()));
}

#[cfg(unix)]
#[test]
fn files_that_are_none() {
    use std::os::unix::fs::symlink;
    let weights = encode(&sound()).unwrap();
    let sound = || write(sound_config().to_string().as_bytes(), &weights);
    for file in [CONFIG, WEIGHTS] {
        let dir = sound();
        let path = dir.path().join(file);
        fs::remove_file(&path).unwrap();
        refused("missing", dir.path(), &[file]);
        fs::create_dir(&path).unwrap();
        refused("a directory", dir.path(), &[file, "plain file"]);
        fs::remove_dir(&path).unwrap();
        symlink("nowhere", &path).unwrap();
        refused("a dangling link", dir.path(), &[file, "No such file"]);
        fs::remove_file(&path).unwrap();
        symlink(file, &path).unwrap();
        refused("a link to itself", dir.path(), &[file]);
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        refused("a device", dir.path(), &[file, "plain file"]);
    }
    // A name that is no UTF-8 is a name.
    use std::os::unix::ffi::OsStrExt;
    let parent = TempDir::new().unwrap();
    let odd = parent.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    let dir = sound();
    fs::rename(dir.path(), &odd).unwrap();
    assert_eq!(said(&odd), Ok(()));
    fs::remove_file(odd.join(WEIGHTS)).unwrap();
    refused("odd", &odd, &[WEIGHTS]);
}
