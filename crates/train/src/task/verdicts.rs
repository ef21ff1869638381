//! The verifiers against `tests/fixtures/maths`: verdicts with their sources, and golds of real data.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;

use super::load::load;
use super::maths::Answer;
use super::Verifier;

/// A line of `verdicts.jsonl`.
#[derive(Debug, Deserialize)]
struct Row {
    /// What it is about.
    kind: String,
    verifier: Verifier,
    gold: String,
    /// All that a model said.
    said: String,
    /// Whether that is right.
    verdict: bool,
    /// Who says so.
    source: String,
}

fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../../tests/fixtures/maths").join(name)
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(fixture("verdicts.jsonl")).unwrap();
    let read = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(read).collect()
}

#[test]
fn each_verdict_is_the_one_of_the_table() {
    let rows = rows();
    let wrong: Vec<&Row> = rows
        .iter()
        .filter(|row| row.verifier.accepts(&row.said, &row.gold) != row.verdict)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        rows.len()
    );
    let kinds: BTreeSet<&str> = rows.iter().map(|row| row.kind.as_str()).collect();
    let sources: BTreeSet<&str> = rows.iter().map(|row| row.source.as_str()).collect();
    assert!(rows.len() >= 150 && kinds.len() > 12 && sources.len() > 6);
    assert!(
        rows.iter().filter(|row| !row.verdict).count() > 100,
        "a table of yes shows nothing"
    );
}

#[test]
fn golds_of_the_table_can_be_checked_and_are_right_themselves() {
    for row in rows() {
        assert_eq!(row.verifier.problem(&row.gold), None, "{row:?}");
        // A goal is no way to itself.
        if row.verifier == Verifier::Expression {
            continue;
        }
        let said = format!("So $\\boxed{{{}}}$.", row.gold.trim());
        // A box in a box is one.
        assert!(row.verifier.accepts(&said, &row.gold), "{row:?}");
    }
}

/// GSM8K's with thousands, signs and what models make of them.
#[test]
fn golds_of_real_data_are_read_and_solved_by_their_own_solutions() {
    let loaded = load(&fixture("gsm8k-sample.jsonl")).unwrap();
    let tasks = loaded.tasks;
    assert_eq!((tasks.len(), loaded.left_out), (60, 0));
    for task in &tasks {
        assert!(
            task.is_solved_by(task.solution.as_deref().unwrap()),
            "{task:?}"
        );
        for said in [
            format!("The answer is ${}.", task.answer),
            format!("\\boxed{{{}\\text{{ dollars}}}}", task.answer),
            format!("In the end it is {}", task.answer.replace(',', "")),
        ] {
            assert!(task.is_solved_by(&said), "{said:?} for {}", task.answer);
        }
        let off = format!("The answer is {}1.", task.answer);
        assert!(!task.is_solved_by(&off), "{off:?} for {}", task.answer);
    }
}

/// Pieces of which answers are made.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "\\frac",
        "\\sqrt",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\\{",
        "\\}",
        "1",
        "23",
        "0.5",
        "1,000",
        ",",
        " ",
        "x",
        "cm",
        "^",
        "_",
        "+",
        "-",
        "*",
        "/",
        "=",
        "<",
        "\\pm",
        "\\pi",
        "!",
        "%",
        "\\text{ m}",
        "e3",
        "and",
        "not",
        "\\log",
        "\\sin",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "&",
        "\\\\",
        "|",
        "\u{2013}",
        "\u{b2}",
        "$",
        "\\boxed{",
        "\\cup",
        "99999999",
        "\\overline{3}",
        "|",
        ".",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_answer_is_read_without_a_panic_and_is_the_same_as_itself(text in pieces(), other in pieces()) {
        for verifier in [Verifier::Number, Verifier::Math, Verifier::Exact, Verifier::Choice] {
            let _ = (verifier.accepts(&text, &other), verifier.reads(&text), verifier.problem(&text));
        }
        if let Some(answer) = Answer::read(&text) {
            let same = answer.accepts(&answer) || text.contains('<') || text.contains('=');
            prop_assert!(same, "{}", text);
        }
    }

    /// No two integers are the same, however long, and each is the same as itself with commas.
    #[test]
    fn integers_are_exact(a in 0..u64::MAX, step in 1..3u64) {
        let gold = a.to_string();
        let grouped: Vec<String> = gold.as_bytes().rchunks(3).rev()
            .map(|group| String::from_utf8_lossy(group).into_owned()).collect();
        let said = format!("\\boxed{{{}}}", grouped.join(","));
        let accepted = Verifier::Number.accepts(&said, &gold);
        prop_assert!(accepted, "{}", said);
        let off = a.saturating_add(step).max(a - a.min(step));
        let said = format!("\\boxed{{{off}}}");
        prop_assert_eq!(Verifier::Number.accepts(&said, &gold), off == a);
    }
}

#[test]
fn deep_and_long_answers_are_no_answers() {
    for text in [
        "(".repeat(4000),
        "\\frac{".repeat(600),
        "\\text{".repeat(600),
        "-".repeat(4000),
        "2^".repeat(1000),
        format!("{}1{}", "(".repeat(2000), ")".repeat(2000)),
        "9^{9^{9^{9}}}".into(),
        "99999999!".into(),
        "1e999999999".into(),
        format!(
            "\\boxed{{{}}}",
            (0..15)
                .map(|k| format!("\\frac{{1}}{{7^{{20000}}+{k}}}"))
                .collect::<Vec<_>>()
                .join("+")
        ),
        "\\boxed{".repeat(40_000),
        "\\boxed 5 ".repeat(40_000),
        format!("\\boxed{{{}}}", "9".repeat(5000)),
    ] {
        assert!(!Verifier::Number.accepts(&text, "1"), "{}", &text[..10]);
    }
}
