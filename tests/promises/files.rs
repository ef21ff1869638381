//! Files that cannot be what they should be: each gives an error that names what is wrong, and no
//! panic; what is spread over several files is the same model.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use attune::config::attune::{Cli, Command};
use attune::config::serve::ServeConfig;
use attune_base_model::{self as base_model, BaseModel, LoadError};
use attune_model::hub;
use attune_model::linear::LinearFormat;
use attune_model::load::ModelFiles;
use attune_text::tokenizer::SpecialTokens;
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use clap::Parser;
use proptest::prelude::*;
use serde_json::{json, Value};

use crate::common::gguf::{gguf_in, random_llama, write_gguf_parts};
use crate::common::{load, oracles, tokens, Solo, EXACT};

/// As `attune serve --model PATH` would load it.
fn load_for_serving(path: &Path) -> Result<BaseModel, LoadError> {
    let path = path.to_str().unwrap();
    let typed = ["attune", "serve", "--data-dir", "unused", "--model", path];
    let Command::Serve(raw) = Cli::parse_from(typed).command else {
        panic!("not serve")
    };
    let config = ServeConfig::new(&raw.settings().unwrap()).unwrap();
    base_model::load(&config.model.name, config.model.format())
}

fn problem(path: &Path) -> String {
    match load_for_serving(path) {
        Ok(_) => panic!("{} was loaded", path.display()),
        Err(error) => error.to_string(),
    }
}

/// A copy of the tiny Llama that can be damaged.
fn llama() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        fs::copy(
            oracles().join("tiny/llama").join(file),
            copy.path().join(file),
        )
        .unwrap();
    }
    assert!(load_for_serving(copy.path()).is_ok());
    copy
}

type Tensors = HashMap<String, Tensor>;

fn change_tensors(directory: &Path, change: impl FnOnce(&mut Tensors)) {
    let file = directory.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    change(&mut tensors);
    fs::remove_file(&file).unwrap();
    candle_core::safetensors::save(&tensors, &file).unwrap();
}

fn change_config(directory: &Path, change: impl FnOnce(&mut Value)) {
    let file = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    fs::write(&file, config.to_string()).unwrap();
}

#[test]
fn truncated_safetensors() {
    let copy = llama();
    let file = copy.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        let problem = problem(copy.path());
        assert!(problem.contains("model.safetensors"), "{length}: {problem}");
    }
}

#[test]
fn tensors_that_are_missing_left_over_or_misshapen_are_named() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let zeros = |shape: (usize, usize)| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    type Change<'a> = Box<dyn FnOnce(&mut Tensors) + 'a>;
    let changes: [(&str, Change); 4] = [
        (name, Box::new(|t| drop(t.remove(name)))),
        (
            "lm_head.weight",
            Box::new(|t| drop(t.remove("lm_head.weight"))),
        ),
        (
            "model.layers.2.mlp.up_proj.weight",
            Box::new(|t| {
                drop(t.insert("model.layers.2.mlp.up_proj.weight".into(), zeros((64, 32))))
            }),
        ),
        (
            name,
            Box::new(|t| drop(t.insert(name.into(), zeros((32, 64))))),
        ),
    ];
    for (named, change) in changes {
        let copy = llama();
        change_tensors(copy.path(), change);
        let problem = problem(copy.path());
        assert!(problem.contains(named), "{named} is not in {problem}");
    }
}

#[test]
fn configurations_that_cannot_be_run_are_named() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 8] = [
        ("rwkv", |c| c["model_type"] = json!("rwkv")),
        ("hidden_size", |c| c["hidden_size"] = json!(0)),
        ("hidden_size", |c| {
            drop(c.as_object_mut().unwrap().remove("hidden_size"))
        }),
        ("num_hidden_layers", |c| {
            c["num_hidden_layers"] = json!(u32::MAX)
        }),
        ("num_key_value_heads", |c| {
            c["num_key_value_heads"] = json!(3)
        }),
        ("rope_scaling", |c| {
            c["rope_scaling"] = json!({"rope_type": "longrope", "factor": 2.0})
        }),
        ("relu", |c| c["hidden_act"] = json!("relu")),
        // The weights are of another size than the configuration says.
        ("embed_tokens", |c| c["vocab_size"] = json!(129)),
    ];
    for (named, change) in changes {
        let copy = llama();
        change_config(copy.path(), change);
        let problem = problem(copy.path());
        assert!(problem.contains(named), "{named} is not in {problem}");
    }
    let copy = llama();
    fs::write(copy.path().join("config.json"), b"{\"model_type\": ").unwrap();
    assert!(problem(copy.path()).contains("config.json"));
    for (file, named) in [
        ("tokenizer.json", "tokenizer.json"),
        ("model.safetensors", "model.safetensors"),
        ("config.json", "config.json"),
    ] {
        let copy = llama();
        fs::remove_file(copy.path().join(file)).unwrap();
        assert!(problem(copy.path()).contains(named), "{file}");
    }
    assert!(problem(Path::new("/nowhere/at all")).contains("attune model list"));
    let copy = llama();
    assert!(problem(&copy.path().join("model.safetensors")).contains("directory"));
    fs::rename(
        copy.path().join("config.json"),
        copy.path().join("adapter_config.json"),
    )
    .unwrap();
    assert!(problem(copy.path()).contains("attune adapter import"));
    let (directory, _, _) = gguf();
    assert!(problem(directory.path()).contains("random.gguf"));
}

#[test]
fn shards_are_the_same_model() {
    let copy = llama();
    let whole = load(copy.path());
    let file = copy.path().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    fs::remove_file(&file).unwrap();
    let mut map = serde_json::Map::new();
    let mut shards = [Tensors::new(), Tensors::new(), Tensors::new()];
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        let shard = format!("model-{:05}-of-00003.safetensors", i % 3 + 1);
        map.insert(name.clone(), json!(shard));
        shards[i % 3].insert(name, tensor);
    }
    for (i, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-00003.safetensors", i + 1);
        candle_core::safetensors::save(shard, copy.path().join(name)).unwrap();
    }
    let index = copy.path().join("model.safetensors.index.json");
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    let logits = |decoder| {
        let logits = Solo::new(decoder, 16, None).feed(&tokens(&[1, 30, 40, 50]));
        logits.to_vec2::<f32>().unwrap()
    };
    assert_eq!(logits(&load(copy.path())), logits(&whole));
    assert!(load_for_serving(copy.path()).is_ok());

    fs::remove_file(copy.path().join("model-00002-of-00003.safetensors")).unwrap();
    assert!(problem(copy.path()).contains("model-00002-of-00003"));
    map.insert("x".into(), json!("../../etc/passwd"));
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    assert!(problem(copy.path()).contains("bad file name"));
}

/// A head beside tied embeddings: the same numbers are a copy; others make it unclear what was trained.
#[test]
fn a_tied_head_may_be_there_if_it_is_the_embeddings() {
    let copy = llama();
    change_config(copy.path(), |c| c["tie_word_embeddings"] = json!(true));
    let problem = problem(copy.path());
    for word in ["lm_head.weight", "tie_word_embeddings"] {
        assert!(problem.contains(word), "{word} is not in {problem}");
    }
    change_tensors(copy.path(), |tensors| {
        let table = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".into(), table);
    });
    let logits = || {
        let decoder = load(copy.path());
        let logits = Solo::new(&decoder, 16, None).feed(&tokens(&[1, 30, 40, 50]));
        logits.to_vec2::<f32>().unwrap()
    };
    let both = logits();
    for one in ["lm_head.weight", "model.embed_tokens.weight"] {
        let file = copy.path().join("model.safetensors");
        let whole = fs::read(&file).unwrap();
        change_tensors(copy.path(), |tensors| drop(tensors.remove(one)));
        assert_eq!(logits(), both, "without {one}");
        fs::write(&file, whole).unwrap();
    }
}

#[test]
fn integers_are_no_weights() {
    let copy = llama();
    let name = "model.layers.1.mlp.up_proj.weight";
    change_tensors(copy.path(), |tensors| {
        let packed = tensors[name].to_dtype(DType::U8).unwrap();
        tensors.insert(name.into(), packed);
    });
    let problem = problem(copy.path());
    for word in [name, "U8", "quantized"] {
        assert!(problem.contains(word), "{word} is not in {problem}");
    }
}

/// The tiny Llama, which has as many embeddings as its tokenizer has ids (128), and a token that was added behind them.
fn with_token_beyond(name: &str, special: bool) -> tempfile::TempDir {
    let copy = llama();
    change_json(&copy.path().join("tokenizer.json"), |tokenizer| {
        let token = json!({
            "id": 128, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special,
        });
        tokenizer["added_tokens"]
            .as_array_mut()
            .unwrap()
            .push(token);
    });
    copy
}

fn change_json(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut json);
    fs::write(file, json.to_string()).unwrap();
}

#[test]
fn a_token_beyond_the_embeddings_is_never_fed() {
    for (name, special) in [("[PAD]", true), ("[PAD]", false), ("[EXTRA]", false)] {
        let copy = with_token_beyond(name, special);
        change_json(&copy.path().join("tokenizer_config.json"), |config| {
            config["pad_token"] = json!("[PAD]");
        });
        let model = load_for_serving(copy.path()).unwrap();
        assert_eq!(model.tokenizer.len(), 129);
        let begun = &name[..4];
        let plain = model
            .tokenizer
            .encode(&format!("a {begun}"), SpecialTokens::AsText)
            .unwrap();
        assert!(plain.iter().all(|id| *id < 128));
        let text = format!("a {name} b");
        let spelled = model.tokenizer.encode(&text, SpecialTokens::AsText);
        match name {
            // A control token, by its mark or by its name, is not what a text can spell.
            "[PAD]" => assert!(spelled.unwrap().iter().all(|id| *id < 128)),
            name => assert!(spelled.unwrap_err().to_string().contains(name)),
        }
        let own = model.tokenizer.encode(&text, SpecialTokens::Recognise);
        assert!(own.unwrap_err().to_string().contains(name));
    }
}

#[test]
fn a_tokenizer_of_another_model_is_refused_by_a_token() {
    // A beginning that the model cannot read.
    let copy = with_token_beyond("[PAD]", true);
    change_json(&copy.path().join("tokenizer_config.json"), |config| {
        config["bos_token"] = json!("[PAD]");
    });
    assert!(problem(copy.path()).contains("\"[PAD]\""));
    // Text that has no embedding.
    let copy = llama();
    change_config(copy.path(), |c| c["vocab_size"] = json!(90));
    change_tensors(copy.path(), |tensors| {
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let first = tensors[name].narrow(0, 0, 90).unwrap().contiguous();
            tensors.insert(name.into(), first.unwrap());
        }
    });
    let problem = problem(copy.path());
    assert!(
        problem.contains("128 ids") && problem.contains("90 embeddings"),
        "{problem}"
    );
}

#[test]
fn gguf_parts_are_the_same_model() {
    let directory = tempfile::tempdir().unwrap();
    let whole = gguf_in(directory.path(), GgmlDType::Q8_0);
    let first = write_gguf_parts(directory.path(), &random_llama(1), GgmlDType::Q8_0, 3);
    let logits = |path: &Path| {
        let decoder = load(path);
        let logits = Solo::new(&decoder, 16, None).feed(&tokens(&[1, 30, 40, 50]));
        logits.to_vec2::<f32>().unwrap()
    };
    assert_eq!(logits(&first), logits(&whole));
    let model = load_for_serving(&first).unwrap();
    assert_eq!(model.id, "random");
    // The hash is of all parts: adapters are made for it.
    let last = directory.path().join("random-00003-of-00003.gguf");
    let mut bytes = fs::read(&last).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&last, bytes).unwrap();
    let changed = ModelFiles::at(&first).unwrap().sha256().unwrap();
    assert_ne!(changed, model.sha256);
    fs::remove_file(&last).unwrap();
    assert!(problem(&first).contains("random-00003-of-00003.gguf"));
}

/// Nearly: where they meet quantized numbers, activations have 8 bits. Halves are multiplied to the bit.
#[test]
fn numbers_as_the_file_has_them_are_the_model() {
    use GgmlDType::{Q2K, Q3K, Q4K, Q4_0, Q4_1, Q5K, Q5_0, Q5_1, Q6K, Q8_0};
    let halves = [GgmlDType::F16, GgmlDType::BF16];
    let quantized = [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K];
    for stored in halves.into_iter().chain(quantized) {
        let directory = tempfile::tempdir().unwrap();
        let path = gguf_in(directory.path(), stored);
        let load = |format| ModelFiles::at(&path).unwrap().load(format).unwrap();
        let (own, exact) = (load(LinearFormat::AsStored), load(EXACT));
        let ids = [1, 30, 40, 50];
        let [got, want] = [&own, &exact].map(|decoder| {
            let logits = Solo::new(decoder, 16, None).feed(&tokens(&ids));
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        });
        if halves.contains(&stored) {
            assert_eq!(got, want, "{stored:?}");
        }
        // These two become 8 bits.
        if ![Q2K, Q3K].contains(&stored) {
            let [own, exact] = [&own, &exact].map(|d| d.embedding_rows(&ids).unwrap());
            assert_eq!(own, exact, "{stored:?}");
        }
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
        let error = norm(&mut got.iter().zip(&want).map(|(got, want)| got - want));
        let error = error / norm(&mut want.iter().copied());
        assert!(error < 0.05, "{stored:?}: {error}");
    }
}

fn gguf() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = gguf_in(directory.path(), GgmlDType::Q4K);
    let bytes = fs::read(&path).unwrap();
    load_for_serving(&path).unwrap();
    (directory, path, bytes)
}

#[test]
fn truncated_gguf() {
    let (_directory, path, whole) = gguf();
    let lengths = [
        0,
        3,
        4,
        23,
        24,
        100,
        1000,
        whole.len() / 2,
        whole.len() - 100,
    ];
    for length in lengths {
        fs::write(&path, &whole[..length]).unwrap();
        let problem = problem(&path);
        assert!(problem.contains("random.gguf"), "{length}: {problem}");
    }
    fs::write(&path, b"PK\x03\x04 and so on").unwrap();
    assert!(problem(&path).contains("GGUF"));
}

#[test]
fn flipped_bytes_in_a_gguf_header() {
    let (_directory, path, whole) = gguf();
    // Metadata and tensor table; what follows are weights, which can be anything.
    let header = whole.len().min(6000);
    let flips = prop::collection::vec((0..header, 1u8..=255), 1..4);
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let checked = runner.run(&flips, |flips| {
        let mut bytes = whole.clone();
        flips.iter().for_each(|(at, with)| bytes[*at] ^= with);
        fs::write(&path, &bytes).unwrap();
        // A value may be flipped to another that is as good; nothing may panic or take all memory.
        if let Err(error) = load_for_serving(&path) {
            prop_assert!(!error.to_string().is_empty());
        }
        Ok(())
    });
    checked.unwrap_or_else(|e| panic!("{e}"));
}

/// The model itself, cut off: what an interrupted copy leaves.
#[test]
fn half_of_smollm2_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("half.gguf");
    let model = hub::find("smollm2-135m-instruct").unwrap();
    fs::copy(crate::common::smollm2_gguf(), &path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(model.bytes / 2).unwrap();
    let error = ModelFiles::at(&path).unwrap().load(EXACT).unwrap_err();
    assert!(error.to_string().contains("truncated"), "{error}");
}
