//! Tasks, their solutions and explanations, end to end on the tiny model.

use std::fs;

use serde_json::Value;

use crate::common::oracles;
use crate::{never, published, stderr, Bench};

impl Bench {
    /// Runs `attune-train` with the words of `line` and `more`; what it printed, or its error.
    fn say(&self, line: &str, more: &[(&str, &str)]) -> Result<String, String> {
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for (flag, file) in more {
            arguments.push((*flag).to_owned());
            arguments.push(self.path(file).to_str().unwrap().to_owned());
        }
        let output = self.command(&arguments).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(stderr(&output)),
        }
    }
}

fn base() -> String {
    let path = oracles().join("tiny/llama");
    format!("--base {}", path.to_str().unwrap())
}

fn tasks(bench: &Bench) {
    bench
        .say(
            "tasks --family arithmetic --difficulty 1 --n 12",
            &[("--out", "tasks.jsonl")],
        )
        .unwrap();
}

#[test]
fn answers_follow_from_the_seed_and_are_counted() {
    let bench = Bench::new();
    tasks(&bench);
    let solve = |more: &str| {
        let line = format!(
            "solve {} --samples 2 --k 1,2 --max-tokens 8 --json {more}",
            base()
        );
        let said = bench.say(&line, &[("--tasks", "tasks.jsonl")]).unwrap();
        let mut solved: Value = serde_json::from_str(&said).unwrap();
        solved.as_object_mut().unwrap().remove("tokens_per_second");
        solved
    };
    let first = solve("");
    assert_eq!(first, solve(""));
    assert_eq!(first["tasks"], 12);
    let pass = first["pass"].as_array().unwrap();
    assert_eq!((&pass[0]["k"], &pass[1]["k"]), (&1.into(), &2.into()));
    let solved = 12 - first["unsolved"].as_u64().unwrap();
    assert_eq!(pass[1]["rate"].as_f64().unwrap(), solved as f64 / 12.0);
}

#[test]
fn what_a_model_cannot_explain_is_said_and_what_it_can_becomes_training_data() {
    let bench = Bench::new();
    tasks(&bench);
    let line = format!("explain {} --samples 1 --max-tokens 6", base());
    let files = [("--tasks", "tasks.jsonl"), ("--out", "made.jsonl")];
    // A random model reaches nothing.
    let error = bench.say(&line, &files).unwrap_err();
    assert!(
        error.contains("none of 12 tasks") && error.contains("--keep-unverified"),
        "{error}"
    );
    assert!(!bench.path("made.jsonl").exists());

    let said = bench.say(&format!("{line} --expert"), &files).unwrap();
    assert!(said.starts_with("12 pairs of 12 tasks"), "{said}");
    let expert = fs::read_to_string(bench.path("made.jsonl")).unwrap();
    assert!(expert.contains("We start with"), "{expert}");

    let said = bench
        .say(&format!("{line} --keep-unverified"), &files)
        .unwrap();
    assert!(said.contains("pairs of 12 tasks"), "{said}");
    let own = fs::read_to_string(bench.path("made.jsonl")).unwrap();
    assert!(
        !own.contains("We start with") && own.contains("The answer is"),
        "{own}"
    );
    let again = [("--tasks", "tasks.jsonl"), ("--out", "again.jsonl")];
    for (seed, same) in [("123", true), ("5", false)] {
        let line = format!("{line} --keep-unverified --seed {seed}");
        bench.say(&line, &again).unwrap();
        let again = fs::read_to_string(bench.path("again.jsonl")).unwrap();
        assert_eq!(again == own, same, "seed {seed}");
    }
    fs::rename(bench.path("made.jsonl"), bench.path("pairs.jsonl")).unwrap();
    let plain = ["--alpha", "0", "--max-steps", "2", "--max-length", "1000"];
    published(bench.run("run", &plain, &never()));
    let solved = bench.say(
        &format!("solve {} --samples 1 --k 1 --max-tokens 6", base()),
        &[("--tasks", "tasks.jsonl"), ("--bundle", "run/bundle")],
    );
    assert!(solved.unwrap().contains("pass@1"));
}

#[test]
fn bad_input_is_named() {
    let bench = Bench::new();
    tasks(&bench);
    fs::write(
        bench.path("bad.jsonl"),
        "{\"question\": \"q\", \"answer\": \"four\"}\n",
    )
    .unwrap();
    fs::write(
        bench.path("long.jsonl"),
        format!(
            "{{\"question\": \"{}\", \"answer\": 4}}\n",
            "a b ".repeat(9000)
        ),
    )
    .unwrap();
    let base = base();
    for (line, tasks, named) in [
        (format!("solve {base}"), "missing.jsonl", "missing.jsonl"),
        (format!("solve {base}"), "bad.jsonl", "line 1"),
        (format!("solve {base}"), "long.jsonl", "--max-tokens"),
        (format!("solve {base} --k 5"), "tasks.jsonl", "--k"),
        (format!("solve {base} --k 0"), "tasks.jsonl", "--k"),
        (
            format!("solve {base} --samples 0 --k 1"),
            "tasks.jsonl",
            "--samples",
        ),
        (
            format!("solve {base} --temperature NaN"),
            "tasks.jsonl",
            "--temperature",
        ),
        (
            format!("solve {base} --temperature 3"),
            "tasks.jsonl",
            "--temperature",
        ),
    ] {
        let error = bench.say(&line, &[("--tasks", tasks)]).unwrap_err();
        assert!(error.contains(named), "{line} {tasks}: {error}");
    }
}
