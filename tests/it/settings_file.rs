//! `attune serve --config`: which layer a setting is from, as the program itself sees it.

use std::fs;
use std::process::Command;

/// What the program says when it cannot use a setting.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_attune"));
    command.arg("serve").args(arguments);
    command.envs(environment.iter().copied());
    let output = command.output().unwrap();
    assert!(!output.status.success(), "it serves");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_file_gives_way_to_the_environment_and_both_to_flags() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("attune.toml");
    let file = file.to_str().unwrap();
    fs::write(file, "max-running = 2000001\n").unwrap();
    // Each number is too large, so that the refusal says which of them counts.
    let (named, flag) = (["--config", file], ["--max-running", "2000003"]);
    let number = ("ATTUNE_MAX_RUNNING", "2000002");
    let both = [&named[..], &flag].concat();
    for (arguments, environment, counts) in [
        (&named[..], vec![], "2000001"),
        (&[], vec![("ATTUNE_CONFIG", file)], "2000001"),
        (&named, vec![number], "2000002"),
        (&both, vec![number], "2000003"),
        (&both, vec![], "2000003"),
    ] {
        let said = refusal(arguments, &environment);
        let expected = format!("--max-running: {counts} is not in");
        assert!(said.contains(&expected), "{arguments:?}: {said}");
    }
}

#[test]
fn a_key_that_is_no_setting_is_refused_with_the_nearest_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("attune.toml");
    let path = file.to_str().unwrap();
    for (text, named) in [
        ("max-runing = 2\n", ["\"max-runing\"", "\"max-running\""]),
        ("max-running = \"two\"\n", ["max-running", "\"two\""]),
        ("max-running = \n", ["attune.toml", "line 1"]),
    ] {
        fs::write(&file, text).unwrap();
        let said = refusal(&["--config", path], &[]);
        for word in named {
            assert!(said.contains(word), "{text}: {said}");
        }
    }
    let missing = dir.path().join("missing.toml");
    let said = refusal(&["--config", missing.to_str().unwrap()], &[]);
    assert!(said.contains("missing.toml"), "{said}");
}

#[test]
fn help_shows_no_key() {
    let help = Command::new(env!("CARGO_BIN_EXE_attune"))
        .args(["loop", "--help"])
        .env("ATTUNE_API_KEY", "sk-secret")
        .output()
        .unwrap();
    let said = String::from_utf8(help.stdout).unwrap();
    assert!(said.contains("--api-key") && !said.contains("sk-secret"));
}
