//! Everything is bounded.

use std::fs::File;

use super::*;

/// Longer than the bound by more than parsers read ahead.
const TOO_LONG: usize = MAX_RECORD_BYTES as usize + (64 << 10);

#[test]
fn a_record_without_an_end_is_refused() {
    let pair = r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#;
    let endless = "x".repeat(TOO_LONG);
    for (name, text, begins) in [
        (
            "a.jsonl",
            format!("{{\"prompt\": \"{endless}"),
            "a.jsonl, line 1: the record has more than",
        ),
        (
            "a.json",
            format!("[{pair}, {{\"prompt\": \"{endless}"),
            "a.json, row 2: the record has more than",
        ),
        (
            "a.csv",
            format!("prompt,chosen,rejected\np,c,r\n\"{endless}"),
            "a.csv, line 3: the record has more than",
        ),
        (
            "a.csv",
            endless.clone(),
            "a.csv, line 1: the record has more than",
        ),
    ] {
        let error = error_of(name, text);
        assert!(
            error.starts_with(begins),
            "{}",
            &error[..error.len().min(200)]
        );
    }
}

/// The bound is on a record, not on a file.
#[test]
fn many_records_may_be_longer_than_one() {
    let reply = "y".repeat(900_000);
    let rows: Vec<String> = (0..20)
        .map(|i| format!("{{\"prompt\": \"{i}\", \"chosen\": \"{reply}\", \"rejected\": \"r\"}}"))
        .collect();
    for (name, text) in [
        ("a.jsonl", rows.join("\n")),
        ("a.json", format!("[{}]", rows.join(","))),
    ] {
        assert!(text.len() > TOO_LONG);
        assert_eq!(read_as(name, text).unwrap().pairs.len(), 20, "{name}");
    }
    let rows: Vec<String> = (0..20).map(|i| format!("{i},{reply},r\n")).collect();
    let table = format!("prompt,chosen,rejected\n{}", rows.concat());
    assert_eq!(read_as("a.csv", table).unwrap().pairs.len(), 20);
}

#[test]
fn a_text_that_cannot_be_encoded_is_refused() {
    let long = "x".repeat((1 << 20) + 1);
    let half = &long[..1 << 19];
    let message = |content: &str| format!(r#"{{"role": "user", "content": "{content}"}}"#);
    for (line, begins) in [
        (
            format!(r#"{{"prompt": "p", "chosen": "{long}", "rejected": "r"}}"#),
            "a.jsonl, line 1: chosen has 1048577 bytes",
        ),
        (
            format!(
                r#"{{"prompt": [{}, {}], "chosen": "c", "rejected": "r"}}"#,
                message(half),
                message(&long[..(1 << 19) + 1])
            ),
            "a.jsonl, line 1: prompt has 1048577 bytes",
        ),
        (
            format!(
                r#"{{"prompt": "p", "chosen": "c", "rejected": "r", "group": "{}"}}"#,
                &long[..257]
            ),
            "a.jsonl, line 1: group has 257 characters",
        ),
        (
            format!(
                r#"{{"prompt": "p", "chosen": "c", "rejected": "r", "user": "{}"}}"#,
                &long[..65]
            ),
            "a.jsonl, line 1: user must be at most 64 characters",
        ),
    ] {
        let error = error_of("a.jsonl", line);
        assert!(
            error.starts_with(begins),
            "{}",
            &error[..error.len().min(200)]
        );
    }
}

/// A file without blocks on the disk, but with the size of a whole data set.
#[test]
fn files_that_are_too_large_are_not_read() {
    let folder = Folder::new();
    let path = folder.write("a.jsonl", "");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(MAX_TOTAL_BYTES + 1).unwrap();
    let error = read(std::slice::from_ref(&path)).unwrap_err();
    assert!(matches!(error, DatasetError::TooLarge { .. }), "{error}");
    // Together, too; the first of them says what is wrong with it.
    file.set_len(MAX_TOTAL_BYTES).unwrap();
    let small = folder.write(
        "b.jsonl",
        r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#,
    );
    let error = read(&[small, path]).unwrap_err();
    assert!(matches!(error, DatasetError::TooLarge { .. }), "{error}");
}

#[test]
fn a_deep_record_is_refused() {
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(error_of("a.jsonl", deep).contains("recursion limit"));
}
