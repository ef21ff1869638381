//! Rules of the repository that a scan of its text can check. ARCHITECTURE.md says why they are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may use whom: module, and the modules of this crate that it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("telemetry", &[]),
    ("regular", &[]),
    ("line_breaks", &[]),
    ("text", &["regular"]),
    ("model", &["regular"]),
    ("user_model", &["ids"]),
    ("adapter", &["ids", "model", "user_model", "regular"]),
    (
        "engine",
        &["ids", "model", "adapter", "user_model::soft_prompt"],
    ),
    ("store", &["ids", "line_breaks"]),
    ("config", &["ids", "engine", "model", "user_model", "train"]),
    (
        "app",
        &[
            "ids",
            "telemetry",
            "regular",
            "text",
            "model",
            "base_model",
            "user_model",
            "adapter",
            "engine",
            "store",
            "config",
        ],
    ),
    ("base_model", &["model", "text"]),
    (
        "train",
        &[
            "ids",
            "text",
            "model",
            "base_model",
            "user_model",
            "adapter",
            "engine",
            "store",
        ],
    ),
    ("api", &["ids", "telemetry", "line_breaks", "app"]),
    ("serve", &["telemetry", "config", "app", "api"]),
    (
        "wheel",
        &[
            "ids",
            "model",
            "base_model",
            "adapter",
            "store",
            "config",
            "train",
            "app",
        ],
    ),
];

/// Words that only one place may hold.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("sled::", &["src/store/"], "sled types do not leave `store`"),
    (
        "StatusCode",
        &["src/api/"],
        "only `api` names a status code",
    ),
    ("axum::", &["src/api/"], "only `api` speaks HTTP"),
    (
        "axum::Json",
        &[],
        "axum's JSON has line breaks in it that clients trip over: use `api::json::Json`",
    ),
    (
        "tokenizers::",
        &["src/text/"],
        "only `text` holds strings and token ids at once",
    ),
    (
        "minijinja::",
        &["src/text/"],
        "only `text` renders templates",
    ),
    (
        "std::thread::Builder",
        &[
            "src/engine/thread.rs",
            "src/engine/ranks.rs",
            "src/app/store_threads.rs",
        ],
        "one thread owns a device; some work on the store",
    ),
    (
        "unsafe {",
        &[
            "src/model/weights/hugging_face.rs",
            "src/adapter/files.rs",
            "src/model/kernels/avx512.rs",
            "src/model/cuda_device.rs",
            "src/engine/device_sampler.rs",
            "src/engine/host_copy.rs",
        ],
        "unsafe is for mapped files, kernels and the driver of a GPU",
    ),
];

const MAX_FILE_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, with its path from the root.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no Rust file below {folder}");
    found.sort();
    found
}

/// The part of a file that is compiled into the server: up to its test module.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/")
}

/// `engine/step.rs` is of module `engine`; `ids.rs` of `ids`.
fn module_of(name: &str) -> Option<&str> {
    let inside = name.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    let module = first.trim_end_matches(".rs");
    (!matches!(module, "lib" | "bin")).then_some(module)
}

/// The paths after `crate::` in a text.
fn uses(text: &str) -> BTreeSet<&str> {
    let end = |rest: &str| rest.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
    text.split("crate::")
        .skip(1)
        .map(|rest| &rest[..end(rest).unwrap_or(rest.len())])
        .collect()
}

#[test]
fn dependencies_run_one_way() {
    let mut wrong = Vec::new();
    for (name, text) in rust_files("src") {
        let Some(module) = module_of(&name) else {
            continue;
        };
        let Some((_, allowed)) = MAY_USE.iter().find(|(m, _)| *m == module) else {
            panic!("{name}: module {module} has no line in MAY_USE");
        };
        if is_test_file(&name) {
            continue;
        }
        for used in uses(without_tests(&text)) {
            let own = used == module || used.starts_with(&format!("{module}::"));
            let fits = |a: &&str| *used == **a || used.starts_with(&format!("{a}::"));
            if !own && !allowed.iter().any(fits) {
                wrong.push(format!("{name} uses crate::{used}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these edges are not in MAY_USE:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn words_stay_in_their_places() {
    let mut wrong = Vec::new();
    for (name, text) in rust_files("src") {
        for (word, places, why) in ONLY_IN {
            let allowed = is_test_file(&name) || places.iter().any(|p| name.starts_with(p));
            if !allowed && without_tests(&text).contains(word) {
                wrong.push(format!("{name} has {word:?}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_have_one_subject() {
    for folder in ["src", "loadtest/src", "migrations"] {
        for (name, text) in rust_files(folder) {
            let lines = text.lines().count();
            assert!(
                lines <= MAX_FILE_LINES,
                "{name} has {lines} lines: does it have one subject?"
            );
        }
    }
}

/// A loss that the page of papers does not name is one nobody can check against its paper.
#[test]
fn papers_md_names_every_loss() {
    let page = fs::read_to_string(root().join("docs/papers.md")).unwrap();
    let shared = ["mod.rs", "tests.rs"];
    for (name, _) in rust_files("src/train/loss") {
        let file = name.rsplit('/').next().unwrap();
        assert!(
            shared.contains(&file) || page.contains(&format!("`{name}`")),
            "docs/papers.md does not name `{name}`"
        );
    }
}

/// `matches!(..);` throws its answer away; rustc does not mind, we do.
#[test]
fn tests_assert_what_they_match() {
    for folder in ["src", "tests", "loadtest"] {
        for (name, text) in rust_files(folder) {
            for (n, line) in text.lines().enumerate() {
                let bare =
                    line.trim_start().starts_with("matches!(") && line.trim_end().ends_with(");");
                assert!(!bare, "{name}:{}: a bare matches! asserts nothing", n + 1);
            }
        }
    }
}

#[test]
fn every_ignored_test_says_how_to_run_it() {
    for folder in ["src", "tests", "loadtest"] {
        for (name, text) in rust_files(folder) {
            // Split, so that this line is not what it looks for.
            let bare = concat!("#[ig", "nore]");
            assert!(
                !text.contains(bare),
                "{name}: say why it is ignored, and the command that runs it"
            );
        }
    }
}

#[test]
fn the_scan_sees_what_it_should() {
    let text = "use crate::engine::thread::EngineHandle;\nlet x = crate::ids::UserId::new(y);";
    let found: Vec<&str> = uses(text).into_iter().collect();
    assert_eq!(found, ["engine::thread::EngineHandle", "ids::UserId::new"]);
    assert_eq!(module_of("src/engine/step.rs"), Some("engine"));
    assert_eq!(module_of("src/ids.rs"), Some("ids"));
    assert_eq!(module_of("src/lib.rs"), None);
}
