//! The program itself: exit codes, files, what it prints.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loadtest::report::Report;

use crate::fake_server::{FakeServer, KEY};

/// Runs the program on another thread, so that the fake server goes on.
async fn loadtest(arguments: Vec<String>) -> Output {
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        for variable in ["LOADTEST_URL", "LOADTEST_API_KEY", "LOADTEST_TRACE"] {
            command.env_remove(variable);
        }
        command.args(arguments).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios")
        .join(name)
}

fn run_arguments(scenario: &str, url: &str, more: &[&str]) -> Vec<String> {
    let scenario = shipped(scenario).display().to_string();
    let fixed = ["run", "--scenario", &scenario, "--url", url];
    fixed.iter().chain(more).map(ToString::to_string).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn smoke_writes_a_report_that_compare_reads() {
    let server = FakeServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("first.json").display().to_string();
    let more = [
        "--json",
        &file,
        "--api-key",
        KEY,
        "--note",
        "a note",
        "--fail-on-error",
    ];
    let output = loadtest(run_arguments("smoke.toml", &server.url, &more)).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("| c=4 uniform-3"), "{table}");

    let report = Report::read(Path::new(&file)).unwrap();
    let labels: Vec<&str> = report
        .levels
        .iter()
        .map(|level| level.label.as_str())
        .collect();
    assert_eq!(
        labels,
        [
            "c=1 uniform-3",
            "c=1 no-user",
            "c=4 uniform-3",
            "c=4 no-user"
        ]
    );
    assert!(report.levels.iter().all(|level| level.numbers.ok == 8));
    assert_eq!(report.note.as_deref(), Some("a note"));
    assert_eq!(report.scenario["request"]["max_tokens"], 8);
    let json = std::fs::read_to_string(&file).unwrap();
    assert!(!json.contains(KEY), "the key must stay out of the report");

    let output = loadtest(vec!["compare".into(), file.clone(), file]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("TTFT ms p50") && table.contains("1.000"),
        "{table}"
    );
}

#[tokio::test]
async fn every_shipped_scenario_runs() {
    let server = FakeServer::start().await;
    let cases = [
        (
            "closed-chat.toml",
            &["--requests=32", "--max-tokens=1"][..],
            3,
        ),
        (
            "users-64.toml",
            &[
                "--requests=64",
                "--repeats=1",
                "--warmup=0",
                "--max-tokens=1",
            ],
            2,
        ),
        (
            "rate.toml",
            &["--rate=200", "--requests=10", "--max-tokens=1"],
            1,
        ),
        ("trace-azure.toml", &["--time-scale=1000"], 1),
        (
            "preferences-beside-chat.toml",
            &[
                "--requests=16",
                "--warmup=0",
                "--max-tokens=1",
                "--writers=0,4",
            ],
            2,
        ),
    ];
    for (scenario, more, levels) in cases {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.json").display().to_string();
        let more = [more, &["--fail-on-error", "--json", &file]].concat();
        let output = loadtest(run_arguments(scenario, &server.url, &more)).await;
        assert!(
            output.status.success(),
            "{scenario}: {}",
            text(&output.stderr)
        );
        let report = Report::read(Path::new(&file)).unwrap();
        assert_eq!(report.levels.len(), levels, "{scenario}");
    }
}

#[tokio::test]
async fn learn_prints_a_table_and_writes_report_and_plot() {
    let server = FakeServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    *server.seen.learner.version_file.lock().unwrap() = folder.path().join("version");
    let turn = format!("echo training; printf v2 > {}", path("version"));
    let scenario = shipped("learn.toml").display().to_string();
    let arguments = |turn: &str| -> Vec<String> {
        let flags = ["learn", "--scenario", &scenario, "--url", &server.url];
        let more = ["--model=learner", "--chats-per-user=2", "--turn", turn];
        let files = ["--json", &path("l.json"), "--plot", &path("l.svg")];
        let all = flags.iter().chain(&more).chain(&files);
        all.chain(&["--api-key", KEY])
            .map(ToString::to_string)
            .collect()
    };
    let output = loadtest(arguments(&turn)).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.starts_with("training\n| taste "), "{printed}");
    assert!(printed.contains("| all "), "{printed}");
    let json = std::fs::read_to_string(path("l.json")).unwrap();
    assert!(
        !json.contains(KEY) && !json.contains("printf"),
        "neither key nor command"
    );
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["people"].as_array().unwrap().len(), 20);
    assert_eq!(report["scenario"]["chats_per_user"], 2);
    assert!(std::fs::read_to_string(path("l.svg"))
        .unwrap()
        .starts_with("<svg "));

    let output = loadtest(arguments("exit 7")).await;
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(
        error.contains("--turn command failed (exit status: 7)"),
        "{error}"
    );
}

#[tokio::test]
async fn failures_decide_the_exit_code_only_when_asked() {
    let server = FakeServer::start().await;
    let failing = ["--model=overloaded"];
    let output = loadtest(run_arguments("smoke.toml", &server.url, &failing)).await;
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("8 x http 503 engine_overloaded"));
    let strict = ["--model=overloaded", "--fail-on-error"];
    let output = loadtest(run_arguments("smoke.toml", &server.url, &strict)).await;
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn other_machines_are_refused_before_anything_is_sent() {
    let output = loadtest(run_arguments("smoke.toml", "http://192.0.2.1:8080", &[])).await;
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(error.contains("192.0.2.1 is not this machine"), "{error}");
}
