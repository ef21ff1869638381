//! The subcommands of the real binary: import, promote, verify, export; and what they say when the
//! store is locked, the disk is full or the model is half there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use attune::app::versions::Versions;
use attune_model::hub;

use crate::common::oracles;

/// The binary with an environment of its own.
pub fn attune(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_attune"));
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("ATTUNE_")) {
        if name != hub::CACHE_VARIABLE {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

pub fn tiny_llama() -> String {
    oracles().join("tiny/llama").to_str().unwrap().to_owned()
}

pub fn succeeds(arguments: &[&str]) -> String {
    let output = attune(arguments).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    stdout
}

/// What the binary says where it fails.
pub fn fails(arguments: &[&str]) -> String {
    failed(&attune(arguments).output().unwrap())
}

pub fn failed(output: &Output) -> String {
    let (stdout, stderr) = texts(output);
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("attune: "), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Imports the authors' checkpoint; the version's full name.
pub fn import(data_dir: &str, folder: &str, rows: &str) -> String {
    let checkpoint = oracles().join("prlhf").join(folder).join("adapter");
    let said = succeeds(&[
        "adapter",
        "import",
        checkpoint.to_str().unwrap(),
        "--model",
        &tiny_llama(),
        "--name",
        folder,
        "--n-user-tokens",
        rows,
        "--users",
        "ann,ben,cem",
        "--data-dir",
        data_dir,
    ]);
    let version = said.strip_prefix("installed ").unwrap();
    version.split(';').next().unwrap().to_owned()
}

/// (the directory, its text)
fn data_dir() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("data").to_str().unwrap().to_owned();
    (directory, text)
}

#[test]
fn a_checkpoint_becomes_the_version_that_answers() {
    let (_guard, data) = data_dir();
    let first = import(&data, "individual_T2", "2");
    assert_eq!(first.len(), 64);
    let bundle = Path::new(&data).join("adapters").join(&first);
    let sound = succeeds(&["adapter", "verify", bundle.to_str().unwrap()]);
    assert!(sound.contains("LoRA rank 4, 3 users x 2 rows"), "{sound}");
    let list = || succeeds(&["adapter", "list", "--data-dir", &data]);
    assert!(
        list().contains(&first) && !list().contains("attune "),
        "{}",
        list()
    );
    succeeds(&["adapter", "promote", &first[..8], "--data-dir", &data]);
    assert!(list().contains(&format!("{first}  attune ")), "{}", list());

    let second = import(&data, "cluster_T4", "0");
    let promote = ["adapter", "promote", &second, "--data-dir", &data];
    let refused = fails(&[&promote[..], &["--expected", "none"]].concat());
    assert!(refused.contains(&first[..12]), "{refused}");
    succeeds(&[&promote[..], &["--expected", &first]].concat());
    assert!(list().contains(&format!("{second}  attune ")), "{}", list());
    let unknown = fails(&["adapter", "promote", "0123456789", "--data-dir", &data]);
    assert!(unknown.contains("attune adapter list"), "{unknown}");

    // A byte that flips is noticed, and the version is not installed elsewhere.
    let weights = bundle.join("adapter.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let (_guard, other) = data_dir();
    for arguments in [
        &["adapter", "verify", bundle.to_str().unwrap()][..],
        &[
            "adapter",
            "install",
            bundle.to_str().unwrap(),
            "--data-dir",
            &other,
        ],
    ] {
        let said = fails(arguments);
        assert!(said.contains(&first[..12]), "{said}");
    }
    assert_eq!(succeeds(&["adapter", "list", "--data-dir", &other]), "");
}

#[test]
fn an_export_is_the_store_again() {
    let (guard, data) = data_dir();
    let version = import(&data, "individual_T2", "2");
    succeeds(&["adapter", "promote", &version, "--data-dir", &data]);
    succeeds(&["store", "verify", "--data-dir", &data]);
    let export = |data: &str, name: &str| -> PathBuf {
        let out = guard.path().join(name);
        succeeds(&[
            "store",
            "export",
            "--out",
            out.to_str().unwrap(),
            "--data-dir",
            data,
        ]);
        out
    };
    let exported = export(&data, "first.jsonl");
    let (_other_guard, other) = data_dir();
    let import = [
        "store",
        "import",
        exported.to_str().unwrap(),
        "--data-dir",
        &other,
    ];
    succeeds(&import);
    let again = export(&other, "second.jsonl");
    assert_eq!(fs::read(&exported).unwrap(), fs::read(again).unwrap());
    succeeds(&["store", "verify", "--data-dir", &other]);
    assert!(fails(&import).contains("has records"));

    let mut cut = fs::read(&exported).unwrap();
    cut.truncate(cut.len() - 10);
    fs::write(&exported, cut).unwrap();
    let (_third_guard, third) = data_dir();
    let path = exported.to_str().unwrap();
    let said = fails(&["store", "import", path, "--data-dir", &third]);
    assert!(said.contains("nothing was imported"), "{said}");
}

#[test]
fn a_store_that_another_process_holds() {
    let (_guard, data) = data_dir();
    let held = Versions::open(Path::new(&data), 1).unwrap();
    for arguments in [
        &["store", "verify", "--data-dir", &data][..],
        &["adapter", "list", "--data-dir", &data],
        &[
            "serve",
            "--port",
            "0",
            "--model",
            &tiny_llama(),
            "--data-dir",
            &data,
        ],
    ] {
        let said = fails(arguments);
        assert!(said.contains("another attune process holds"), "{said}");
    }
    drop(held);
    succeeds(&["store", "verify", "--data-dir", &data]);
}

/// A limit on the size of files stands in for the disk; Linux reports it as an error to a process
/// that ignores the signal.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_no_half_of_an_export() {
    let (guard, data) = data_dir();
    let version = import(&data, "individual_T2", "2");
    let out_dir = guard.path().join("out");
    fs::create_dir(&out_dir).unwrap();
    let out = out_dir.join("export.jsonl");
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_attune"))
        .args([
            "store",
            "export",
            "--out",
            out.to_str().unwrap(),
            "--data-dir",
            &data,
        ])
        .output()
        .unwrap();
    let said = failed(&output);
    assert!(said.contains("large") || said.contains("space"), "{said}");
    assert_eq!(
        fs::read_dir(&out_dir).unwrap().count(),
        0,
        "something is left"
    );
    succeeds(&["store", "verify", "--data-dir", &data]);
    let list = succeeds(&["adapter", "list", "--data-dir", &data]);
    assert!(list.contains(&version), "{list}");
}

/// The half of a download in the cache's place is neither used nor kept on trust.
#[test]
fn a_half_written_download_is_not_used() {
    let cache = tempfile::tempdir().unwrap();
    // A model that only packages carry, and a machine without Python.
    let model = hub::CATALOG.iter().find(|m| m.hub.is_none()).unwrap();
    let path = hub::path_of(model, cache.path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"GGUF and then the connection broke").unwrap();
    let (_guard, data) = data_dir();
    for arguments in [
        &["model", "pull", model.name][..],
        &[
            "serve",
            "--port",
            "0",
            "--model",
            model.name,
            "--data-dir",
            &data,
        ],
    ] {
        let mut command = attune(arguments);
        command
            .env(hub::CACHE_VARIABLE, cache.path())
            .env("PATH", cache.path());
        let said = failed(&command.output().unwrap());
        assert!(
            said.contains(model.name) && said.contains("--model"),
            "{said}"
        );
    }
    let left = fs::read_dir(path.parent().unwrap()).unwrap();
    let left: Vec<_> = left
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(left.iter().all(|n| !n.starts_with(".fetch")), "{left:?}");
}

/// A device that is not there is named, and what to do about it; with the feature, on a machine without a
/// GPU, the driver.
#[test]
fn a_missing_gpu_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let data_dir = data_dir.to_str().unwrap();
    let model = tiny_llama();
    // No machine has so many.
    let serve = [
        "serve", "--port", "0", "--device", "cuda:99", "--model", &model,
    ];
    let said = fails(&[&serve[..], &["--data-dir", data_dir]].concat());
    let wanted = match cfg!(feature = "cuda") {
        false => ["--device cuda:99", "--features cuda", "--device cpu"],
        true => ["--device cuda:99", "nvidia-smi", "--device cpu"],
    };
    for part in wanted {
        assert!(said.contains(part), "{said}");
    }
    let wrong = fails(&["serve", "--device", "gpu", "--data-dir", data_dir]);
    assert!(
        wrong.contains("--device") && wrong.contains("cuda:1"),
        "{wrong}"
    );
}
