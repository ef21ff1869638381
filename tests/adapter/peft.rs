//! PEFT checkpoints, as the authors' code writes them: the oracles' `prlhf/`.

use std::fs;
use std::path::Path;

use attune_adapter::bundle::{bundle_dir, read, BundleContents};
use attune_adapter::data_until::DataUntil;
use attune_adapter::manifest::BaseModel;
use attune_adapter::peft::{import, PeftImport};
use attune_adapter::peft_export::export;
use attune_adapter::plan::{lora_name, user_model_name};
use attune_adapter::publish::write;
use attune_adapter::tensors::encode;
use attune_adapter::AdapterError;
use attune_ids::UserKey;
use attune_model::config::ModelConfig;
use attune_model::lora::Projection;
use attune_model::user_model::model::UserModelKind;
use attune_model::user_model::soft_prompt::RowKind;
use serde_json::{json, Value};
use tempfile::TempDir;

use crate::support::{
    golden, golden_config, leased, oracles, small_contents, tensor, tiny_llama, user, BASE,
};

/// The checkpoints in the folder of golden data.
fn variants() -> Vec<String> {
    let entries = fs::read_dir(oracles().join("prlhf")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.collect();
    assert!(!names.is_empty());
    names
}

fn settings(n_user_tokens: Option<usize>) -> PeftImport {
    settings_for(tiny_llama(), n_user_tokens)
}

fn settings_for(model: ModelConfig, n_user_tokens: Option<usize>) -> PeftImport {
    PeftImport {
        model,
        name: Some("authors".into()),
        created_unix: 1,
        data_until: DataUntil::Unknown,
        base: BaseModel {
            name: "tiny".into(),
            sha256: BASE.into(),
        },
        kind: None,
        n_user_tokens,
        users: None,
    }
}

fn numbered(row: usize) -> Option<UserKey> {
    (row > 0).then(|| user("default", &row.to_string()))
}

fn import_golden(variant: &str) -> (Value, BundleContents) {
    let dir = oracles().join("prlhf").join(variant);
    let facts = fs::read(dir.join("prlhf.json")).unwrap();
    let facts: Value = serde_json::from_slice(&facts).unwrap();
    let n_user_tokens = facts["n_user_tokens"].as_u64().unwrap() as usize;
    // A cluster checkpoint tells T_u by its shapes.
    let said = (facts["kind"] == "individual").then_some(n_user_tokens);
    let settings = settings_for(golden_config(), said);
    let contents = import(&dir.join("adapter"), settings).unwrap();
    (facts, contents)
}

#[test]
fn checkpoints_are_imported_whole() {
    for variant in variants() {
        let (facts, contents) = import_golden(&variant);
        let params = golden(&format!("prlhf/{variant}/params.safetensors"));
        assert_eq!(contents.tensors, params, "{variant}");
        let manifest = serde_json::to_value(&contents.manifest).unwrap();
        for field in ["kind", "n_users", "n_user_tokens"] {
            assert_eq!(manifest["user_model"][field], facts[field], "{variant}");
        }
        assert_eq!(manifest["user_model"]["clusters"], facts["n_clusters"]);
        assert_eq!(manifest["lora"]["rank"], facts["lora"]["r"]);
        assert_eq!(
            manifest["lora"]["alpha"],
            facts["lora"]["alpha"].as_f64().unwrap()
        );
    }
}

#[test]
fn soft_prompts_are_those_of_the_authors_code() {
    for variant in variants() {
        let (facts, contents) = import_golden(&variant);
        let parent = TempDir::new().unwrap();
        let version = write(parent.path(), &contents).unwrap();
        let dir = bundle_dir(parent.path(), &version);
        let config = golden_config();
        let adapter = read(&dir, &config, BASE).unwrap();
        let lora = &facts["lora"];
        let targets = lora["targets"].as_array().unwrap().len();
        assert_eq!(adapter.lora.pairs.len(), targets * config.n_layers);
        let scale = lora["alpha"].as_f64().unwrap() / lora["r"].as_f64().unwrap();
        assert!(adapter
            .lora
            .pairs
            .values()
            .all(|p| p.scale() == scale as f32));

        let lease = leased(adapter);
        let expected = golden(&format!("prlhf/{variant}/soft_prompts.safetensors"));
        let n_users = facts["n_users"].as_u64().unwrap() as usize;
        assert_eq!(expected.len(), n_users + 1);
        for row in 0..=n_users {
            let prompt = lease.soft_prompt(numbered(row).as_ref());
            let golden = &expected[&format!("user{row}")];
            let kind = if row == 0 {
                RowKind::Generic
            } else {
                RowKind::User
            };
            assert_eq!((prompt.kind(), prompt.len()), (kind, golden.shape[0]));
            assert_eq!(prompt.rows().len(), golden.values.len());
            for (got, golden) in prompt.rows().iter().zip(&golden.values) {
                assert!((got - golden).abs() <= 1e-6, "{variant} user {row}");
            }
        }
    }
}

/// A checkpoint with `small_contents`' tensors after `change`, and `config` over the usual one.
fn checkpoint(config: Value, change: impl FnOnce(&mut BundleContents)) -> TempDir {
    let mut contents = small_contents();
    change(&mut contents);
    let dir = TempDir::new().unwrap();
    let mut merged = json!({
        "peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
        "modules_to_save": ["user_embedding", "cluster_embedding", "user_weight"]
    });
    for (field, value) in config.as_object().unwrap() {
        merged[field] = value.clone();
    }
    fs::write(dir.path().join("adapter_config.json"), merged.to_string()).unwrap();
    let weights = encode(&contents.tensors).unwrap();
    fs::write(dir.path().join("adapter_model.safetensors"), weights).unwrap();
    // What the Trainer leaves beside it does not matter.
    fs::write(dir.path().join("training_args.bin"), b"\x80\x04.").unwrap();
    dir
}

fn import_from(dir: &Path, n_user_tokens: Option<usize>) -> Result<BundleContents, AdapterError> {
    import(dir, settings(n_user_tokens))
}

#[test]
fn what_was_said_must_fit_the_shapes() {
    let dir = checkpoint(json!({}), |_| {});
    let dir = dir.path();
    let err = |import_: PeftImport| import(dir, import_).unwrap_err().to_string();
    assert!(err(settings(None)).contains("say T_u"));
    assert!(err(settings(Some(4))).contains("not (N + 1) * T_u"));
    let mut wrong = settings(Some(2));
    wrong.kind = Some(UserModelKind::Cluster);
    assert!(err(wrong).contains("individual, not cluster"));
    let mut crowd = settings(Some(2));
    crowd.users = Some(["a", "b", "c"].map(|u| user("acme", u)).to_vec());
    assert!(err(crowd).contains("3 users are named"));
    let mut twice = settings(Some(2));
    twice.users = Some(["a", "a"].map(|u| user("acme", u)).to_vec());
    assert!(err(twice).contains("two rows"));

    let mut named = settings(Some(2));
    named.users = Some(vec![user("acme", "ann")]);
    named.kind = Some(UserModelKind::IndividualNoGeneric);
    let manifest = import(dir, named).unwrap().manifest;
    assert_eq!(manifest.user_rows()[&user("acme", "ann")], 1);
    assert_eq!(manifest.user_model.unwrap().n_users, 2);
    let numbers = import_from(dir, Some(3)).unwrap().manifest;
    assert_eq!(numbers.user_rows(), [(user("default", "1"), 1)].into());
}

#[test]
fn a_plain_lora_needs_no_user_model() {
    let config = json!({"modules_to_save": null});
    let drop_table = |c: &mut BundleContents| {
        c.tensors.remove(&user_model_name("user_embedding"));
    };
    let dir = checkpoint(config, drop_table);
    let contents = import_from(dir.path(), None).unwrap();
    assert!(contents.manifest.user_model.is_none() && contents.manifest.users.is_empty());
    let err = import_from(dir.path(), Some(2)).unwrap_err().to_string();
    assert!(err.contains("no user model"), "{err}");
}

#[test]
fn patterns_and_stabilized_ranks_reach_the_scale() {
    let config = json!({
        "use_rslora": true,
        "rank_pattern": {"layers.1.self_attn.v_proj": 1},
        "alpha_pattern": {"v_proj": 6}
    });
    let dir = checkpoint(config, |c| {
        let (output, input) = tiny_llama().projection_shape(Projection::V);
        let mut set = |matrix, shape| {
            let name = lora_name(1, Projection::V, matrix);
            c.tensors.insert(name, tensor(1, shape))
        };
        set('A', [1, input]);
        set('B', [output, 1]);
    });
    let contents = import_from(dir.path(), Some(2)).unwrap();
    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &contents).unwrap();
    let adapter = read(&bundle_dir(parent.path(), &version), &tiny_llama(), BASE).unwrap();
    let scale = |layer, projection| adapter.lora.pairs[&(layer, projection)].scale();
    assert_eq!(scale(0, Projection::Q), 8.0 / 2.0);
    assert_eq!(scale(0, Projection::V), 6.0 / 2.0);
    assert_eq!(scale(1, Projection::V), 6.0 / 1.0);
}

#[test]
fn some_blocks_may_be_left_out_if_the_configuration_says_so() {
    let second_only = |c: &mut BundleContents| {
        c.tensors.retain(|name, _| !name.contains(".layers.0."));
    };
    let dir = checkpoint(json!({"layers_to_transform": [1]}), second_only);
    let contents = import_from(dir.path(), Some(2)).unwrap();
    assert_eq!(contents.manifest.lora.unwrap().layers, Some(vec![1]));
    let dir = checkpoint(json!({}), second_only);
    let err = import_from(dir.path(), Some(2)).unwrap_err();
    assert!(matches!(err, AdapterError::MissingTensors(_)), "{err}");
    let by_name = json!({"target_modules": ["1.self_attn.q_proj", "layers.1.self_attn.v_proj"]});
    let dir = checkpoint(by_name.clone(), second_only);
    let contents = import_from(dir.path(), Some(2)).unwrap();
    assert_eq!(contents.manifest.lora.unwrap().layers, Some(vec![1]));
    let err = import_from(checkpoint(by_name, |_| {}).path(), Some(2)).unwrap_err();
    assert!(err.to_string().contains("target_modules"), "{err}");
    let dir = checkpoint(json!({"layers_to_transform": [0, 1]}), second_only);
    let err = import_from(dir.path(), Some(2)).unwrap_err().to_string();
    assert!(err.contains("layers_to_transform"), "{err}");
    let dir = checkpoint(json!({"layers_to_transform": [1, 7]}), second_only);
    let contents = import_from(dir.path(), Some(2)).unwrap();
    assert_eq!(
        contents.manifest.lora.unwrap().layers,
        Some(vec![1]),
        "there is no block 7"
    );
}

/// As the hub's cache has it: each file is a link to a blob elsewhere.
#[test]
#[cfg(unix)]
fn a_checkpoint_of_links_is_followed() {
    use std::os::unix::fs::symlink;
    let dir = checkpoint(json!({}), |_| {});
    let cache = TempDir::new().unwrap();
    let blobs = cache.path().join("blobs");
    let snapshot = cache.path().join("snapshots/0123abcd");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir(&blobs).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let blob = format!("sha-of-{file}");
        fs::copy(dir.path().join(file), blobs.join(&blob)).unwrap();
        symlink(Path::new("../../blobs").join(blob), snapshot.join(file)).unwrap();
    }
    let plain = import_from(dir.path(), Some(2)).unwrap();
    assert_eq!(import_from(&snapshot, Some(2)).unwrap(), plain);
    // The folder above is what people name by mistake.
    let err = import_from(cache.path(), Some(2)).unwrap_err().to_string();
    assert!(err.contains("snapshots/0123abcd"), "{err}");
    // A pipe at the end of a link keeps nobody waiting.
    fs::remove_file(blobs.join("sha-of-adapter_model.safetensors")).unwrap();
    let err = import_from(&snapshot, Some(2)).unwrap_err().to_string();
    assert!(
        err.contains("adapter_model.safetensors: No such file"),
        "{err}"
    );
    let pipe = blobs.join("sha-of-adapter_model.safetensors");
    let made = std::process::Command::new("mkfifo").arg(pipe).status();
    assert!(made.unwrap().success());
    let err = import_from(&snapshot, Some(2)).unwrap_err().to_string();
    assert!(err.contains("must be a plain file"), "{err}");
}

#[test]
fn what_is_no_checkpoint_is_said_to_be_what_it_is() {
    let dir = TempDir::new().unwrap();
    let said = |path: &Path| import_from(path, None).unwrap_err().to_string();
    assert!(said(dir.path()).contains("it has no adapter_config.json"));
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    assert!(said(dir.path()).contains("attune serve --model"));
    let file = dir.path().join("config.json");
    assert!(said(&file).contains("give the directory"));
    for step in [100, 200] {
        let inner = dir.path().join(format!("checkpoint-{step}"));
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("adapter_config.json"), "{}").unwrap();
    }
    let inner = said(dir.path());
    assert!(
        inner.contains("checkpoint-100") && inner.contains("checkpoint-200"),
        "{inner}"
    );
    let parent = TempDir::new().unwrap();
    let version = write(parent.path(), &small_contents()).unwrap();
    let bundle = said(&bundle_dir(parent.path(), &version));
    assert!(bundle.contains("attune adapter install"), "{bundle}");
    assert!(said(&dir.path().join("nowhere")).contains("No such file"));
}

/// What unsloth writes for text models, and ms-swift.
const UNSLOTH: &str = r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:q_proj|v_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:q_proj|v_proj)))";
const MS_SWIFT: &str = r"^(model(?=\.)(?!.*(lm_head|embed_tokens)).*\.(q_proj|v_proj))$";

#[test]
fn modules_of_an_expression_are_those_of_the_tensors() {
    let plain = import_from(checkpoint(json!({}), |_| {}).path(), Some(2)).unwrap();
    let layers_of = |pattern: &str, change: fn(&mut BundleContents)| {
        let dir = checkpoint(json!({"target_modules": pattern}), change);
        import_from(dir.path(), Some(2))
    };
    for pattern in [UNSLOTH, MS_SWIFT, r".*\.[qv]_proj", "(?P<broken"] {
        let contents = layers_of(pattern, |_| {}).unwrap();
        assert_eq!(contents.manifest.lora, plain.manifest.lora, "{pattern}");
    }
    let second_only: fn(&mut BundleContents) = |c| {
        c.tensors.retain(|name, _| !name.contains(".layers.0."));
    };
    // One that leaves a block out, and one that does not, or cannot be read.
    let some = layers_of(r".*layers\.1\..*\.[qv]_proj", second_only).unwrap();
    assert_eq!(some.manifest.lora.unwrap().layers, Some(vec![1]));
    let err = layers_of(UNSLOTH, second_only).unwrap_err();
    assert!(matches!(err, AdapterError::MissingTensors(_)), "{err}");
    let err = layers_of("(?P<broken", second_only)
        .unwrap_err()
        .to_string();
    assert!(
        err.contains("target_modules: the pattern \"(?P<broken\""),
        "{err}"
    );
    // Null: PEFT chose them by the architecture.
    let dir = checkpoint(json!({"target_modules": null}), |_| {});
    let contents = import_from(dir.path(), Some(2)).unwrap();
    assert_eq!(contents.manifest.lora, plain.manifest.lora);
    let excluded = json!({"target_modules": ["q_proj", "k_proj", "v_proj"], "exclude_modules": "k_proj|.*k_proj"});
    let dir = checkpoint(excluded, |_| {});
    let contents = import_from(dir.path(), Some(2)).unwrap();
    assert_eq!(contents.manifest.lora, plain.manifest.lora);
}

/// Renames all tensors of the checkpoint.
fn renamed(rename: impl Fn(&str) -> String) -> TempDir {
    checkpoint(json!({}), |c| {
        let old = std::mem::take(&mut c.tensors);
        c.tensors = old.into_iter().map(|(n, t)| (rename(&n), t)).collect();
    })
}

#[test]
fn names_of_peft_versions_and_trainers_are_read() {
    let plain = import_from(checkpoint(json!({}), |_| {}).path(), Some(2)).unwrap();
    let changes: [fn(&str) -> String; 5] = [
        |n| {
            n.replace("_A.weight", "_A.default.weight")
                .replace("_B.weight", "_B.default.weight")
        },
        |n| n.replace("model.model.layers", "model.language_model.model.layers"),
        |n| n.replace("model.model.layers", "model.model.language_model.layers"),
        |n| n.replace("base_model.model.", ""),
        |n| {
            format!(
                "module.{}",
                n.replace("base_model.model.", "base_model.model._orig_mod.")
            )
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let contents = import_from(renamed(change).path(), Some(2)).unwrap();
        assert_eq!(contents, plain, "{i}");
    }
}

#[test]
fn a_checkpoint_of_another_model_is_refused_with_both_named() {
    let named = json!({"base_model_name_or_path": "somebody/other-1b"});
    let refused = |dir: &TempDir, model: ModelConfig| {
        let err = import(dir.path(), settings_for(model, Some(2))).unwrap_err();
        assert!(matches!(err, AdapterError::Misfit { .. }), "{err}");
        let told = err.to_string();
        assert!(told.contains("tiny (llama, "), "{told}");
        assert!(told.contains("somebody/other-1b"), "{told}");
        assert!(told.contains("serve that one"), "{told}");
        told
    };
    let with_blocks = |n_layers: usize| ModelConfig {
        n_layers,
        sliding_window: vec![None; n_layers],
        ..tiny_llama()
    };
    let plain = checkpoint(named.clone(), |_| {});
    let fewer = refused(&plain, with_blocks(3));
    assert!(fewer.contains("blocks 0 to 1 and no more"), "{fewer}");
    let more = refused(&plain, with_blocks(1));
    assert!(more.contains("it adapts block 1"), "{more}");
    let wider = refused(
        &plain,
        ModelConfig {
            hidden_size: 31,
            ..tiny_llama()
        },
    );
    assert!(
        wider.contains("has shape [4, 32], expected [4, 31]"),
        "{wider}"
    );
    let heads = refused(
        &plain,
        ModelConfig {
            n_kv_heads: 1,
            ..tiny_llama()
        },
    );
    assert!(heads.contains("v_proj.lora_B"), "{heads}");
    let mut regex = named;
    regex["target_modules"] = json!(UNSLOTH);
    let fewer = refused(&checkpoint(regex.clone(), |_| {}), with_blocks(3));
    assert!(fewer.contains("no more"), "{fewer}");
    regex["target_modules"] = json!("all-linear");
    let dir = checkpoint(regex, |_| {});
    let err = import(dir.path(), settings_for(tiny_llama(), Some(2))).unwrap_err();
    assert!(matches!(err, AdapterError::MissingTensors(_)), "{err}");
}

#[test]
fn tensors_and_configuration_must_agree() {
    let err = |config: Value, change: fn(&mut BundleContents)| {
        let dir = checkpoint(config, change);
        import_from(dir.path(), Some(2)).unwrap_err().to_string()
    };
    let more = json!({"target_modules": ["q_proj", "v_proj", "k_proj"]});
    assert!(err(more, |_| {}).contains("missing tensors"));
    let fewer = json!({"target_modules": ["q_proj"]});
    assert!(err(fewer, |_| {}).contains("unexpected tensors"));
    assert!(err(json!({"r": 8}), |_| {}).contains("expected [8, ?]"));
    let stray = |c: &mut BundleContents| {
        let name = "base_model.model.lm_head.weight";
        c.tensors.insert(name.into(), tensor(0, [2, 2]));
    };
    assert!(err(json!({}), stray).contains("lm_head"));
    for foreign in [
        // What PEFT 0.15 writes for DoRA, lora_bias, LoRA of embeddings, and added tokens.
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.embed_tokens.weight",
    ] {
        let dir = checkpoint(json!({}), |c| {
            c.tensors.insert(foreign.into(), tensor(0, [2, 2]));
        });
        let err = import_from(dir.path(), Some(2)).unwrap_err();
        let named = matches!(&err, AdapterError::PeftTensors(names) if names == &[foreign]);
        assert!(named && err.to_string().contains("train without"), "{err}");
    }
    let both = |c: &mut BundleContents| {
        let name = user_model_name("cluster_embedding");
        c.tensors.insert(name, tensor(0, [2, 32]));
    };
    assert!(err(json!({}), both).contains("more than one user model"));
    let flat = |c: &mut BundleContents| {
        let table = user_model_name("user_embedding");
        c.tensors.get_mut(&table).unwrap().shape = vec![192];
    };
    assert!(err(json!({}), flat).contains("has shape [192]"));
}

#[test]
fn a_pickle_is_refused_and_never_opened() {
    let dir = checkpoint(json!({}), |_| {});
    fs::remove_file(dir.path().join("adapter_model.safetensors")).unwrap();
    let err = import_from(dir.path(), Some(2)).unwrap_err();
    assert!(matches!(err, AdapterError::NotACheckpoint { .. }), "{err}");
    fs::write(dir.path().join("adapter_model.bin"), b"\x80\x04.").unwrap();
    let err = import_from(dir.path(), Some(2)).unwrap_err().to_string();
    assert!(
        err.contains("pickle") && err.contains("safe_serialization"),
        "{err}"
    );
}

/// PEFT computes with alpha / r of each layer; an exported version must say it so that it comes out the
/// same, whatever mixture of ranks, scales and blocks it has.
#[test]
fn what_is_exported_comes_back() {
    let config = json!({
        "use_rslora": true,
        "target_modules": ["1.self_attn.q_proj", "1.self_attn.v_proj"],
        "rank_pattern": {"v_proj": 1},
        "alpha_pattern": {"layers.1.self_attn.q_proj": 3}
    });
    let dir = checkpoint(config, |c| {
        c.tensors.retain(|name, _| !name.contains(".layers.0."));
        let (output, input) = tiny_llama().projection_shape(Projection::V);
        for (matrix, shape) in [('A', [1, input]), ('B', [output, 1])] {
            let name = lora_name(1, Projection::V, matrix);
            c.tensors.insert(name, tensor(1, shape));
        }
    });
    let contents = import_from(dir.path(), Some(2)).unwrap();
    let lora = contents.manifest.lora.as_ref().unwrap();
    // alpha / sqrt(r) = 8 / 2 by default, 3 / 2 for q, 8 / 1 for v; written as alpha / r.
    assert_eq!((lora.rank, lora.alpha), (4, 16.0));
    let own: Vec<_> = lora.overrides.iter().map(|o| (o.rank, o.alpha)).collect();
    assert_eq!(own, [(4, 6.0), (1, 8.0)]);
    let out = TempDir::new().unwrap();
    export(&contents, out.path()).unwrap();
    let back = import_from(out.path(), Some(2)).unwrap();
    assert_eq!(back.tensors, contents.tensors);
    assert_eq!(back.manifest.lora, contents.manifest.lora);
}
