//! What cannot be trained on ends with a message that says what to do, and leaves nothing half-done.

use std::fs;
use std::process::Command;

use attune_train::error::ErrorKind;
use candle_core::Device;
use serde_json::json;

use crate::common::oracles;
use crate::{never, published, stderr, Bench};

/// The message of a run on `lines`.
fn problem(lines: &[serde_json::Value], more: &[&str]) -> String {
    let bench = Bench::new();
    let lines: String = lines.iter().map(|l| format!("{l}\n")).collect();
    fs::write(bench.path("pairs.jsonl"), lines).unwrap();
    let outcome = bench.run("run", more, &never());
    outcome.unwrap_err().to_string()
}

fn pair(user: &str, chosen: &str, rejected: &str) -> serde_json::Value {
    json!({"user": user, "prompt": "Q?", "chosen": chosen, "rejected": rejected})
}

#[test]
fn data_that_leaves_nothing_is_named() {
    for (lines, more, named) in [
        (vec![], vec![], "empty"),
        (vec![pair("a", "x", "x")], vec![], "nothing"),
        (
            vec![json!({"user": "a", "prompt": "Q?", "chosen": "x"})],
            vec![],
            "rejected",
        ),
        (
            vec![pair("a", &"long ".repeat(40), "x")],
            vec!["--max-length", "512", "--max-memory", "1KiB"],
            "--max-memory",
        ),
        (
            vec![pair("a", &"long ".repeat(900), "x")],
            vec!["--max-length", "9000"],
            "--max-length",
        ),
    ] {
        let said = problem(&lines, &more);
        assert!(said.to_lowercase().contains(named), "{named}: {said}");
    }
}

#[test]
fn one_user_and_users_with_one_pair_are_trained() {
    let bench = Bench::new();
    let lines = [
        pair("a", "yes", "no"),
        pair("a", "sure", "never"),
        pair("b", "no", "yes"),
    ];
    let lines: String = lines.iter().map(|l| format!("{l}\n")).collect();
    fs::write(bench.path("pairs.jsonl"), lines).unwrap();
    published(bench.run("run", &[], &never()));
    assert_eq!(bench.contents("run").manifest.users.len(), 2);
}

/// A report that cannot be written is a failure, whatever there was to learn; so is too little memory. Data
/// that leaves nothing is none.
#[test]
fn failures_are_told_from_data_that_leaves_nothing() {
    let bench = Bench::new();
    let kind = |out: &str, more: &[&str]| bench.run(out, more, &never()).unwrap_err().kind();
    fs::create_dir_all(bench.path("run").join("report.html/in/the/way")).unwrap();
    assert_eq!(kind("run", &["--max-steps", "1"]), ErrorKind::Engine);
    assert_eq!(kind("small", &["--max-memory", "1KiB"]), ErrorKind::Setting);
    fs::write(
        bench.path("pairs.jsonl"),
        format!("{}\n", pair("a", "x", "x")),
    )
    .unwrap();
    assert_eq!(kind("none", &[]), ErrorKind::Data);
}

/// Log-probabilities that are no numbers come from damaged weights, and are named before anything is
/// trained on them.
#[test]
fn a_base_whose_numbers_overflow_is_named() {
    let bench = Bench::new();
    let (from, copy) = (oracles().join("tiny/llama"), bench.path("base"));
    fs::create_dir(&copy).unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(from.join(file), copy.join(file)).unwrap();
    }
    let file = "model.safetensors";
    let mut tensors = candle_core::safetensors::load(from.join(file), &Device::Cpu).unwrap();
    let norm = tensors.get_mut("model.norm.weight").unwrap();
    *norm = norm.affine(0.0, 3e38).unwrap();
    candle_core::safetensors::save(&tensors, copy.join(file)).unwrap();
    let mut arguments = bench.arguments("run", &[]);
    let base = arguments.iter().position(|a| a == "--base").unwrap();
    arguments[base + 1] = copy.to_str().unwrap().into();
    let output = bench.command(&arguments).output().unwrap();
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(
        said.contains("base model") && said.contains("finite"),
        "{said}"
    );
    assert!(!bench.path("run").join("bundle").exists());
}

#[test]
fn a_version_of_another_base_is_refused() {
    let bench = Bench::new();
    published(bench.run("run", &[], &never()));
    let output = bench.command(&[
        "eval".into(),
        "--base".into(),
        oracles().join("tiny/qwen2").to_str().unwrap().into(),
        "--bundle".into(),
        bench.path("run").join("bundle").to_str().unwrap().into(),
        "--data".into(),
        bench.path("pairs.jsonl").to_str().unwrap().into(),
    ]);
    let mut command = output;
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains("base"), "{}", stderr(&output));
}

/// No file may grow: as on a full disk.
#[test]
fn a_full_disk_is_named_and_the_last_checkpoint_stays() {
    let bench = Bench::new();
    published(bench.run("whole", &[], &never()));
    let program = env!("CARGO_BIN_EXE_attune-train");
    let arguments = bench.arguments("run", &[]);
    let quoted: Vec<String> = arguments.iter().map(|a| format!("'{a}'")).collect();
    // SIGXFSZ ignored: the write fails instead of ending the program.
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec {program} {}",
        quoted.join(" ")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(!output.status.success());
    assert!(
        stderr(&output).contains("checkpoint.safetensors"),
        "{}",
        stderr(&output)
    );
    let left = fs::read_dir(bench.path("run")).unwrap();
    let names: Vec<String> = left
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.iter().any(|n| n.starts_with(".tmp")), "{names:?}");
    // With room again, the same run goes on and ends like the other one.
    let mut again = arguments.clone();
    again.push("--resume".into());
    let output = bench.command(&again).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        bench.contents("whole").tensors,
        bench.contents("run").tensors
    );
}

/// What is dropped is said on the terminal, once, by whichever command drops it.
#[test]
fn commands_say_what_they_leave_out() {
    let bench = Bench::new();
    let pairs = fs::read_to_string(bench.path("pairs.jsonl")).unwrap();
    let with_system = pairs.replace("{", r#"{"system": "Be brief.", "score": NaN, "#);
    let repeated = pairs.lines().next().unwrap();
    fs::write(
        bench.path("pairs.jsonl"),
        format!("\u{feff}{with_system}{repeated}\n{{\"prompt\": \"cut"),
    )
    .unwrap();
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let base = ["--base".to_owned(), text(oracles().join("tiny/llama"))];
    let data = ["--data".to_owned(), text(bench.path("pairs.jsonl"))];
    let eval = |more: &[&str]| {
        let mut arguments = vec!["eval".to_owned()];
        arguments.extend(base.iter().chain(&data).cloned());
        arguments.extend(more.iter().map(|a| (*a).to_owned()));
        arguments
    };
    for arguments in [
        bench.arguments("run", &["--max-steps", "1"]),
        eval(&[]),
        eval(&["--json"]),
    ] {
        let output = bench.command(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let mut said = stderr(&output);
        if !arguments.contains(&"--json".to_owned()) {
            said += &String::from_utf8_lossy(&output.stdout);
        }
        for words in [
            "48 pairs of 6 users from 50 read; 1 repeats left out; 1 unusable left out: ",
            "pairs.jsonl, line 50: ",
            "unused columns: score in 48 records, system in 48 records",
        ] {
            assert_eq!(said.matches(words).count(), 1, "{words}: {said}");
        }
    }
    // The numbers of a program are not mixed with words.
    let output = bench
        .command(&eval(&["--json", "--max-length", "8", "--max-prompt", "4"]))
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["data"]["read"]["dropped_unusable"], 1);
    assert!(
        json["data"]["encoded"]["prompts_cut"].as_u64().unwrap() > 0,
        "{json}"
    );
    assert!(
        stderr(&output).contains("prompts cut at their beginning"),
        "{}",
        stderr(&output)
    );
}
