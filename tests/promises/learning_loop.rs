//! `attune loop` on the real model: from preferences over HTTP to the version that answers.

use std::fs;
use std::path::Path;

use serde_json::{json, Value};

use crate::binary::{chat, get, post, Serving};
use crate::cli::{attune, fails, import, succeeds, tiny_llama};
use crate::common::smollm2_gguf;

/// Two people who like what the model finds unlikely: a long answer.
fn prefer(serving: &Serving, from: usize, to: usize) {
    for n in from..to {
        let body = json!({
            "user": format!("person-{}", n % 2),
            "messages": [{"role": "user", "content": format!("What is {n}?")}],
            "chosen": format!("{n} is a number, and a fine one to think about for a while."),
            "rejected": "A number.",
        });
        let answer = serving.ask(&post("/v1/preferences", &body));
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
}

fn json_of(answer: &str) -> Value {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

fn decisions(serving: &Serving) -> Vec<Value> {
    let list = json_of(&serving.ask(&get("/v1/admin/decisions")));
    list["data"].as_array().unwrap().clone()
}

/// What is set aside follows from this file; a fixed one, so that a test is the same each time.
fn set_aside_by(data: &Path, digit: &str) {
    fs::create_dir_all(data.join("loop")).unwrap();
    fs::write(data.join("loop/split-secret"), digit.repeat(64)).unwrap();
}

/// The arguments of a turn that is over soon, and takes two people's word.
fn turn<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let quick = "--min-people 1 --chance 1 --min-test-pairs 1 --batch-size 4 --n-user-tokens 2 --lora-rank 2 --warmup 0 \
                 --lr 1e-3 --user-lr 1e-2 --test 0.3 --log-every 1";
    let mut arguments = vec!["loop", "--once", "--data-dir", data];
    arguments.extend(quick.split_whitespace());
    arguments.extend(more);
    arguments
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn the_wheel_turns_on_the_real_model() {
    smollm2_gguf();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = data.to_str().unwrap();
    let said = fails(&turn(text, &["--max-steps", "1"]));
    assert!(said.contains("--data-dir") && !data.exists(), "{said}");
    let arguments = ["--data-dir", text, "--kv-memory", "64MiB", "--no-demo"];
    let mut serving = Serving::start(&arguments);
    set_aside_by(&data, "9");

    // What is better than the bare model answers, and the reason is recorded.
    prefer(&serving, 0, 20);
    let said = succeeds(&turn(text, &["--max-steps", "6"]));
    assert!(said.starts_with("promoted "), "{said}");
    let answer = serving.ask(&chat("person-1", 2, false));
    let decided = decisions(&serving);
    let version = decided[0]["candidate"].as_str().unwrap().to_owned();
    assert!(said.contains(&version), "{said}");
    assert!(
        answer.contains(&version) && answer.contains("\"user_row\":\"user\""),
        "{answer}"
    );
    let expected = json!({"all": 20, "new": 20});
    let pairs = &decided[0]["evaluation"]["pairs"];
    assert_eq!(
        (&pairs["all"], &pairs["new"]),
        (&expected["all"], &expected["new"])
    );
    assert_eq!(
        (&decided[0]["promoted"], &decided[0]["current"]),
        (&json!(true), &Value::Null)
    );

    // Nothing new is no reason to train; a step too small for the margin changes nothing.
    let said = succeeds(&turn(text, &["--max-steps", "1"]));
    assert!(said.contains("0 of 20 pairs are new"), "{said}");
    assert_eq!(decisions(&serving).len(), 1);
    prefer(&serving, 20, 21);
    let said = succeeds(&turn(text, &["--max-steps", "1", "--margin", "0.99"]));
    assert!(
        said.contains("was not promoted; kept because it is not better by 0.990"),
        "{said}"
    );
    let decided = decisions(&serving);
    assert_eq!(decided.len(), 2);
    assert_eq!(
        (
            &decided[1]["promoted"],
            &decided[1]["evaluation"]["pairs"]["new"]
        ),
        (&json!(false), &json!(1))
    );
    assert_eq!(decided[1]["current"], version);
    let installed = json_of(&serving.ask(&get("/v1/admin/adapters")));
    assert_eq!(
        installed["data"].as_array().unwrap().len(),
        1,
        "{installed}"
    );

    // Nothing of anybody is left where the turns worked.
    assert!(is_empty(&data.join("bundles")) && is_empty(&data.join("loop/turn")));

    // Without a server the store itself is turned.
    serving.terminate();
    serving.child.wait().unwrap();
    let said = succeeds(&turn(
        text,
        &["--max-steps", "1", "--min-pairs", "0", "--margin", "0.99"],
    ));
    assert!(said.contains("was not promoted"), "{said}");
    let verified = succeeds(&["store", "verify", "--data-dir", text]);
    assert!(verified.contains("decisions: 3 records"), "{verified}");
}

#[test]
fn what_a_loop_cannot_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for (arguments, named) in [
        (vec!["--margin", "NaN"], "--margin"),
        (vec!["--margin", "1"], "--margin"),
        (vec!["--chance", "0"], "--chance"),
        (vec!["--coalition", "0.5"], "--coalition"),
        (vec!["--max-losers", "NaN"], "--max-losers"),
        (vec!["--alias", "a b"], "--alias"),
        (vec!["--judge", " "], "--judge"),
        (vec!["--judge-timeout", "0"], "--judge-timeout"),
        (vec!["--judge-prompts", "0"], "--judge-prompts"),
        (vec!["--test", "0"], "--test"),
        (vec!["--lr", "inf"], "--lr"),
        (vec!["--config", "not-there.toml"], "--config"),
    ] {
        let said = fails(&[&["loop", "--once", "--data-dir", data], &arguments[..]].concat());
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
    // What only a training command has is no flag of the loop.
    for arguments in [&["--out", "x"][..], &["--snapshot", "x"], &["--resume"]] {
        let output =
            attune(&[&["loop", "--once", "--data-dir", data], arguments].concat()).output();
        let said = String::from_utf8(output.unwrap().stderr).unwrap();
        let expected = format!("unexpected argument '{}'", arguments[0]);
        assert!(said.contains(&expected), "{said}");
    }
    assert!(is_empty(dir.path()), "a mistake leaves nothing behind");
}

/// Only data that leaves nothing to learn from is a decision. Whatever else stops a turn fails it.
#[test]
fn what_stops_a_turn_fails_it_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = data.to_str().unwrap();
    let model = tiny_llama();
    let serving = Serving::start(&["--data-dir", text, "--model", &model, "--kv-memory", "4MiB"]);
    for n in 0..6 {
        let body = json!({
            "user": format!("person-{}", n % 2),
            "messages": [{"role": "user", "content": format!("What is {n}?")}],
            "chosen": format!("a word and a word and {n}"),
            "rejected": format!("a word and a word or {n}"),
        });
        let answer = serving.ask(&post("/v1/preferences", &body));
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    set_aside_by(&data, "9");
    let small = turn(text, &["--base", &model, "--max-memory", "1KiB"]);
    let said = fails(&small);
    assert!(said.contains("--max-memory"), "{said}");
    assert!(decisions(&serving).is_empty());
    // Both answers are cut to the same words.
    let short = ["--base", &model, "--max-prompt", "2", "--max-length", "6"];
    let said = succeeds(&turn(text, &short));
    assert!(
        said.contains("no version was made; no pair is left"),
        "{said}"
    );
    assert_eq!(decisions(&serving)[0]["promoted"], false);
    assert!(is_empty(&data.join("loop/turn")));
}

/// A judge decides by answers, where there is one; and one call undoes what a fit of new people did.
#[test]
fn new_people_are_fitted_and_answers_are_judged_on_a_tiny_model() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = data.to_str().unwrap();
    let model = tiny_llama();
    let current = import(text, "individual_T2", "2");
    succeeds(&["adapter", "promote", &current, "--data-dir", text]);
    let serving = Serving::start(&["--data-dir", text, "--model", &model, "--kv-memory", "4MiB"]);
    set_aside_by(&data, "9");
    let fit = ["--base", &model, "--fit-users"];
    let said = succeeds(&turn(text, &fit));
    assert!(said.starts_with("no new person was fitted; "), "{said}");
    prefer(&serving, 0, 20);
    let said = succeeds(&turn(text, &fit));
    assert!(said.starts_with("promoted "), "{said}");
    let decided = decisions(&serving);
    let fitted = &decided[0]["evaluation"]["fit"];
    assert_eq!(fitted["unchanged"], 3, "{fitted}");
    let [people, refused] = ["people", "refused"].map(|name| fitted[name].as_u64().unwrap());
    assert!(people >= 1 && people + refused == 2, "{fitted}");
    let version = || {
        let aliases = json_of(&serving.ask(&get("/v1/admin/aliases")));
        let named = aliases["data"].as_array().unwrap().iter();
        let of = named.clone().find(|alias| alias["alias"] == "attune");
        of.unwrap()["version"].as_str().unwrap().to_owned()
    };
    assert_eq!(version(), decided[0]["candidate"].as_str().unwrap());
    let back = serving.ask(&post("/v1/admin/aliases/attune/rollback", &json!({})));
    assert!(back.starts_with("HTTP/1.1 200"), "{back}");
    assert_eq!(version(), current);

    // What was fitted is new to a whole turn all the same.
    let judge = "while read line; do echo '{}'; done";
    let judged = [
        "--base",
        &model,
        "--max-steps",
        "2",
        "--judge",
        judge,
        "--judge-tokens",
        "4",
    ];
    let said = succeeds(&turn(text, &judged));
    assert!(
        said.contains("was not promoted; kept because 0 comparisons are too few"),
        "{said}"
    );
    assert!(said.contains("the judge compared answers to"), "{said}");
    let decided = decisions(&serving);
    let numbers = &decided[1]["evaluation"];
    assert_eq!(
        (&numbers["compared"], &numbers["pairs"]["new"]),
        (&json!("answers"), &json!(20))
    );
    assert!(numbers["gate"]["test"].is_null(), "{numbers}");
    assert!(numbers["answers"]["failed"].as_u64() > Some(0), "{numbers}");
}

/// A store that is held by a process that left no address; a server that is not there.
#[test]
fn a_server_that_cannot_be_found() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = data.to_str().unwrap();
    let model = tiny_llama();
    let serving = Serving::start(&["--data-dir", text, "--model", &model, "--kv-memory", "4MiB"]);
    fs::remove_file(data.join("address")).unwrap();
    let said = fails(&turn(text, &["--base", &model]));
    assert!(said.contains("--url"), "{said}");
    let url = format!("http://{}/v1", serving.address);
    let said = succeeds(&turn(text, &["--base", &model, "--url", &url]));
    assert!(said.contains("0 of 0 pairs are new"), "{said}");
    let page = format!("http://{}/nothing", serving.address);
    let said = fails(&turn(text, &["--base", &model, "--url", &page]));
    assert!(said.contains("/nothing/v1/admin/snapshot: 404"), "{said}");
}
