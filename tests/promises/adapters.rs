//! Adapters that people bring: those of another model are refused where they come in, with both named, and what
//! an earlier program let in does not keep the server down.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use attune::app::versions::{Expected, Versions};
use attune_adapter::bundle::{self, bundle_dir, BundleContents};
use attune_adapter::plan::lora_name;
use attune_adapter::publish;
use attune_adapter::tensors::{encode, TensorData};
use attune_ids::{AdapterVersion, Alias};
use attune_model::config::ModelConfig;
use attune_model::load::ModelFiles;
use attune_model::lora::Projection;
use attune_store::AdapterSource;
use serde_json::json;
use tempfile::TempDir;

use crate::cli::{fails, succeeds, tiny_llama};
use crate::server::boot_with;

fn tiny_config() -> ModelConfig {
    ModelFiles::at(Path::new(&tiny_llama()))
        .unwrap()
        .config()
        .unwrap()
}

/// A LoRA of rank 2 on q and v of a model with this many blocks.
fn tensors(config: &ModelConfig, blocks: usize) -> BTreeMap<String, TensorData> {
    let mut tensors = BTreeMap::new();
    for block in 0..blocks {
        for projection in [Projection::Q, Projection::V] {
            let (output, input) = config.projection_shape(projection);
            for (matrix, shape) in [('A', [2, input]), ('B', [output, 2])] {
                let values = vec![0.01; shape[0] * shape[1]];
                let shape = shape.to_vec();
                tensors.insert(
                    lora_name(block, projection, matrix),
                    TensorData { shape, values },
                );
            }
        }
    }
    tensors
}

fn checkpoint(parent: &Path, name: &str, tensors: &BTreeMap<String, TensorData>) -> PathBuf {
    let dir = parent.join(name);
    fs::create_dir(&dir).unwrap();
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none",
        "base_model_name_or_path": "somebody/other-1b", "target_modules": ["q_proj", "v_proj"]});
    fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    fs::write(
        dir.join("adapter_model.safetensors"),
        encode(tensors).unwrap(),
    )
    .unwrap();
    dir
}

/// Adapters of other models, by what they are.
fn of_other_models() -> Vec<(&'static str, BTreeMap<String, TensorData>, String)> {
    let (tiny, blocks) = (tiny_config(), tiny_config().n_layers);
    let narrow = ModelConfig {
        hidden_size: tiny.hidden_size - 1,
        ..tiny.clone()
    };
    let width = format!(
        "has shape [2, {}], expected [2, {}]",
        narrow.hidden_size, tiny.hidden_size
    );
    vec![
        ("width", tensors(&narrow, blocks), width),
        (
            "more blocks",
            tensors(&tiny, blocks + 1),
            "it adapts block".into(),
        ),
        (
            "fewer blocks",
            tensors(&tiny, blocks - 1),
            "and no more".into(),
        ),
    ]
}

/// The version of `tensors` as a program would make it that does not look at the model.
fn bundle_of(
    parent: &Path,
    fine: &BundleContents,
    tensors: BTreeMap<String, TensorData>,
) -> AdapterVersion {
    let contents = BundleContents {
        manifest: fine.manifest.clone(),
        tensors,
    };
    publish::write(parent, &contents).unwrap()
}

#[test]
fn an_adapter_of_another_model_is_refused_at_import_and_at_install() {
    let scratch = TempDir::new().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (model, data) = (tiny_llama(), text(&at("data")));
    let fine = tensors(&tiny_config(), tiny_config().n_layers);
    let dir = text(&checkpoint(scratch.path(), "fine", &fine));
    let out = text(&at("out"));
    succeeds(&["adapter", "import", &dir, "--model", &model, "--out", &out]);
    let fine = bundle::contents(&bundle::locate(&at("out")).unwrap()).unwrap();
    succeeds(&[
        "adapter",
        "install",
        &out,
        "--model",
        &model,
        "--data-dir",
        &data,
    ]);
    let installed = || succeeds(&["adapter", "list", "--data-dir", &data]);
    let before = installed();
    assert_eq!(before.lines().count(), 1, "{before}");
    for (name, tensors, reason) in of_other_models() {
        let dir = text(&checkpoint(scratch.path(), name, &tensors));
        for target in [["--data-dir", &data], ["--out", &out]] {
            let said = fails(
                &[
                    &["adapter", "import", &dir, "--model", &model][..],
                    &target[..],
                ]
                .concat(),
            );
            let named = [
                "adapter ",
                name,
                "llama (llama, ",
                "somebody/other-1b",
                "serve that one",
                &reason,
            ];
            for part in named {
                assert!(said.contains(part), "{name}: {part:?} in {said}");
            }
        }
        let bundles = at(&format!("bundles of {name}"));
        let version = bundle_of(&bundles, &fine, tensors);
        let dir = text(&bundle_dir(&bundles, &version));
        let said = fails(&[
            "adapter",
            "install",
            &dir,
            "--model",
            &model,
            "--data-dir",
            &data,
        ]);
        for part in [
            version.as_str(),
            "it does not fit the base model",
            "serve that one",
        ] {
            assert!(said.contains(part), "{name}: {part:?} in {said}");
        }
        assert_eq!(installed(), before, "{name}");
    }
    // Without a word about the model it is the default one, as for `serve`, and nothing is fetched to see it.
    let said = fails(&["adapter", "install", &out, "--data-dir", &data]);
    assert!(
        said.contains("made for base model llama") && said.contains("--model"),
        "{said}"
    );
}

#[test]
fn a_bundle_of_links_is_installed() {
    let scratch = TempDir::new().unwrap();
    let fine = tensors(&tiny_config(), tiny_config().n_layers);
    let dir = checkpoint(scratch.path(), "fine", &fine);
    let (out, links) = (scratch.path().join("out"), scratch.path().join("links"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let model = tiny_llama();
    succeeds(&[
        "adapter",
        "import",
        &text(&dir),
        "--model",
        &model,
        "--out",
        &text(&out),
    ]);
    let sound = bundle::locate(&out).unwrap();
    let linked = links.join(sound.file_name().unwrap());
    fs::create_dir_all(&linked).unwrap();
    for file in fs::read_dir(&sound).unwrap() {
        let file = file.unwrap();
        std::os::unix::fs::symlink(file.path(), linked.join(file.file_name())).unwrap();
    }
    let data = text(&scratch.path().join("data"));
    succeeds(&[
        "adapter",
        "install",
        &text(&links),
        "--model",
        &model,
        "--data-dir",
        &data,
    ]);
    let version = linked.file_name().unwrap().to_str().unwrap();
    let installed = scratch.path().join("data/adapters").join(version);
    let kind = fs::symlink_metadata(installed.join("adapter.safetensors")).unwrap();
    assert!(kind.is_file(), "a copy, and no link");
}

/// Installed and promoted by a program that did not look.
#[tokio::test]
async fn a_server_whose_version_is_of_another_model_starts() {
    for (name, tensors, reason) in of_other_models() {
        let scratch = TempDir::new().unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (model, data) = (tiny_llama(), scratch.path().join("data"));
        let fine = self::tensors(&tiny_config(), tiny_config().n_layers);
        let dir = text(&checkpoint(scratch.path(), "fine", &fine));
        succeeds(&[
            "adapter",
            "import",
            &dir,
            "--model",
            &model,
            "--data-dir",
            &text(&data),
        ]);
        let versions = Versions::open(&data, 1).unwrap();
        let [fine] = &versions.store().adapters().unwrap()[..] else {
            panic!("one version is installed")
        };
        let there = bundle_dir(versions.adapters_dir(), &fine.version);
        let wrong = bundle_of(
            versions.adapters_dir(),
            &bundle::contents(&there).unwrap(),
            tensors,
        );
        versions
            .record(&wrong, None, AdapterSource::Imported, 2)
            .unwrap();
        let attune = Alias::new("attune").unwrap();
        for version in [&fine.version, &wrong] {
            versions
                .promote(&attune, version, &Expected::Anything, 3)
                .unwrap();
        }
        drop(versions);

        let server = boot_with(&data, &["--no-demo", "--model", &model]);
        let ask = |model: &str| {
            let body = json!({"model": model, "prompt": "a", "max_tokens": 2});
            let server = server.clone();
            async move { server.post("/v1/completions", &body).await }
        };
        let reply = ask("attune").await;
        assert_eq!(reply.status, 503, "{name}: {}", reply.text());
        assert!(reply.text().contains(wrong.as_str()), "{}", reply.text());
        let base = ask(&server.state.base_model_id.clone()).await;
        assert_eq!(base.status, 200, "{name}: {}", base.text());
        let now = server.state.versions.now();
        let why = now
            .alias(&attune)
            .unwrap()
            .unavailable()
            .unwrap()
            .to_string();
        assert!(why.contains(reason_at_load(name, &reason)), "{name}: {why}");
        let back = server
            .post("/v1/admin/aliases/attune/rollback", &json!({}))
            .await;
        assert_eq!(back.status, 200, "{name}: {}", back.text());
        assert_eq!(ask("attune").await.status, 200, "{name}");
    }
}

/// A bundle says which blocks it has, so that a missing one is a missing tensor.
fn reason_at_load<'a>(name: &str, reason: &'a str) -> &'a str {
    match name {
        "more blocks" => "unexpected tensors",
        "fewer blocks" => "missing tensors",
        _ => reason,
    }
}

/// A version that cannot be loaded is not promoted on the command line either.
#[test]
fn a_damaged_version_is_not_promoted() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data").to_str().unwrap().to_owned();
    let first = crate::cli::import(&data, "individual_T2", "2");
    let second = crate::cli::import(&data, "cluster_T4", "0");
    succeeds(&["adapter", "promote", &first, "--data-dir", &data]);
    succeeds(&["adapter", "promote", &second, "--data-dir", &data]);
    let adapters = Path::new(&data).join("adapters");
    let sound = scratch.path().join("sound");
    publish::copy(&adapters.join(&first), &sound).unwrap();
    fs::write(adapters.join(&first).join("adapter.safetensors"), "damaged").unwrap();
    for arguments in [&["promote", &first][..], &["rollback"]] {
        let said = fails(&[&["adapter"], arguments, &["--data-dir", &data]].concat());
        assert!(
            said.contains(&first) && said.contains("install it again"),
            "{said}"
        );
    }
    let list = succeeds(&["adapter", "list", "--data-dir", &data]);
    assert!(list.contains(&format!("{second}  attune ")), "{list}");
    let sound = sound.to_str().unwrap();
    succeeds(&[
        "adapter",
        "install",
        sound,
        "--model",
        &tiny_llama(),
        "--data-dir",
        &data,
    ]);
    succeeds(&["adapter", "rollback", "--data-dir", &data]);
}
