//! Each error names file, place and field, and says what to do.

use super::*;

/// Cases of one file: name, content, what the message begins with (after the folder), and a word
/// of its advice.
fn check(cases: &[(&str, &str, &str, &str)]) {
    for (name, content, begins, advice) in cases {
        let error = error_of(name, content);
        assert!(error.starts_with(begins), "{content}\n  {error}");
        assert!(error.contains(advice), "{content}\n  {error}");
    }
}

#[test]
fn records_that_are_not_records() {
    check(&[
        (
            "a.jsonl",
            "{\"prompt\": ",
            "a.jsonl, line 1: column ",
            "one object per line",
        ),
        (
            "a.jsonl",
            "\n[1]",
            "a.jsonl, line 2: column ",
            "expected a record",
        ),
        ("a.jsonl", "{} {}", "a.jsonl, line 1: column ", "trailing"),
        (
            "a.jsonl",
            r#"{"a": 1, "a": 2}"#,
            "a.jsonl, line 1: ",
            "the field a is there twice",
        ),
        (
            "a.json",
            r#"{"prompt": "p"}"#,
            "a.json, row 1: ",
            "an array of records",
        ),
        ("a.json", "[", "a.json, row 1: ", ".json"),
        (
            "a.json",
            r#"[{"prompt": "p", "chosen": "a", "rejected": "b"}] x"#,
            "a.json, row 2: ",
            "trailing",
        ),
        (
            "a.csv",
            "prompt,chosen,chosen\n",
            "a.csv, line 1: ",
            "twice",
        ),
        (
            "a.csv",
            "prompt,chosen,rejected\np,c\n",
            "a.csv, line 2: ",
            "2 cells",
        ),
        ("a.parquet", "PAR1", "a.parquet: ", "write it again"),
    ]);
}

#[test]
fn fields_of_the_first_record() {
    check(&[
        (
            "a.jsonl",
            r#"{"text": "t", "label": 1}"#,
            "a.jsonl, line 1: no known layout has the fields text, label",
            "give prompt",
        ),
        (
            "a.jsonl",
            r#"{"chosen": "c", "rejected": "r"}"#,
            "a.jsonl, line 1: there is no field prompt",
            "lists of messages",
        ),
        (
            "a.jsonl",
            r#"{"prompt": "p", "chosen": "c"}"#,
            "a.jsonl, line 1: the field rejected is missing",
            "add it",
        ),
        (
            "a.jsonl",
            r#"{"prompt": "p", "rejected": "c"}"#,
            "a.jsonl, line 1: the field chosen is missing",
            "add it",
        ),
        (
            "a.jsonl",
            r#"{"prompt": "p", "chosen": 1, "rejected": 2}"#,
            "a.jsonl, line 1: chosen must be text or a list",
            "an integer",
        ),
        (
            "a.csv",
            "prompt,chosen\np,c\n",
            "a.csv, line 2: the field rejected is missing",
            "add it",
        ),
    ]);
}

#[test]
fn fields_of_any_record() {
    let first = r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#;
    let cases = [
        (
            r#"{"prompt": "p", "chosen": ["c"], "rejected": "r"}"#,
            "chosen must be text, but it is a list",
        ),
        (
            r#"{"prompt": 3, "chosen": "c", "rejected": "r"}"#,
            "prompt must be text or a list",
        ),
        (
            r#"{"prompt": "p", "chosen": "c", "rejected": null}"#,
            "the field rejected is missing",
        ),
        (
            r#"{"user": 1.5, "prompt": "p", "chosen": "c", "rejected": "r"}"#,
            "user must be text or an integer",
        ),
        (
            r#"{"user": "", "prompt": "p", "chosen": "c", "rejected": "r"}"#,
            "user must not be empty",
        ),
        (
            r#"{"user": "u", "tenant": "a b", "prompt": "p", "chosen": "c", "rejected": "r"}"#,
            "tenant \"a b\" is malformed",
        ),
        (
            r#"{"user_id": "u", "prompt": "p", "chosen": "c", "rejected": "r"}"#,
            "there is no field user, but one named user_id",
        ),
        (
            r#"{"group": [1], "prompt": "p", "chosen": "c", "rejected": "r"}"#,
            "group must be text or an integer",
        ),
        (
            r#"{"prompt": [{"role": "king", "content": "p"}], "chosen": "c", "rejected": "r"}"#,
            "prompt[0]: role \"king\" is not one of",
        ),
        (
            r#"{"prompt": [{"role": "user"}], "chosen": "c", "rejected": "r"}"#,
            "the field prompt[0].content is missing",
        ),
        (
            r#"{"prompt": ["p"], "chosen": "c", "rejected": "r"}"#,
            "prompt[0] must be an object with role and content",
        ),
        (
            r#"{"prompt": [{"role": "user", "content": ["p"]}], "chosen": "c", "rejected": "r"}"#,
            "prompt[0].content must be text",
        ),
    ];
    for (second, says) in cases {
        let named = format!("a.jsonl, line 2: {says}");
        // A column that is named wrongly is wrong in all of them.
        if second.contains("user_id") {
            let error = error_of("a.jsonl", format!("{first}\n{second}\n"));
            assert!(error.starts_with(&named), "{error}");
            continue;
        }
        let counts = left_out("a.jsonl", format!("{first}\n{second}\n"));
        assert!(counts.unusable[0].contains(&named), "{second}\n  {counts}");
    }
}

/// The counts of a file of which one pair is good and one record is left out.
fn left_out(name: &str, content: impl AsRef<[u8]>) -> Counts {
    let counts = read_as(name, content).unwrap().counts;
    assert_eq!(
        (counts.kept, counts.read, counts.dropped_unusable),
        (1, 2, 1)
    );
    assert!(
        counts.to_string().contains("; 1 unusable left out: "),
        "{counts}"
    );
    counts
}

#[test]
fn one_bad_record_does_not_refuse_the_file() {
    let good = r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#;
    for (name, content, says) in [
        (
            "a.jsonl",
            format!("{good}\n{{\"prompt\": \"cut"),
            "line 2: column",
        ),
        ("a.jsonl", format!("nonsense\n{good}\n"), "line 1: column"),
        (
            "a.jsonl",
            format!("{{\"text\": \"t\"}}\n{good}\n"),
            "line 1: no known layout",
        ),
        (
            "a.jsonl",
            format!("{good}\n{}\n", "x".repeat(17 << 20)),
            "line 2: the record has more than",
        ),
        (
            "a.jsonl",
            format!("{good}\n{{\"prompt\": \"p\", \"chosen\": NaN, \"rejected\": \"r\"}}"),
            "line 2: the field chosen",
        ),
        ("a.json", format!("[{good}, {{\"prompt\": 1}}]"), "row 2: "),
        ("a.json", format!("[{good}, 3]"), "expected a record"),
        (
            "a.csv",
            "prompt,chosen,rejected\np,c\np,c,r\n".to_owned(),
            "line 2: not a CSV table: the row has 2",
        ),
    ] {
        let counts = left_out(name, content);
        assert!(counts.unusable[0].contains(says), "{counts}");
    }
    let bytes = b"prompt,chosen,rejected\np,c,r\np,\xff,r\n";
    let counts = left_out("a.csv", bytes);
    assert!(
        counts.unusable[0].contains("line 3: this is not UTF-8"),
        "{counts}"
    );
}

#[test]
fn the_first_of_many_bad_records_are_named_and_all_counted() {
    let good = r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#;
    let counts = read_as("a.jsonl", format!("{good}\n{}", "{}\n".repeat(9)))
        .unwrap()
        .counts;
    assert_eq!((counts.dropped_unusable, counts.unusable.len()), (9, 3));
    let said = counts.to_string();
    assert!(
        said.contains("line 4: ") && !said.contains("line 5: ") && said.contains("; and so on"),
        "{said}"
    );
}

#[test]
fn nan_where_nobody_reads_is_nothing() {
    let line = r#"{"prompt": "p", "chosen": "c", "rejected": "r", "score": NaN, "user": NaN, "x": [-Infinity]}"#;
    for (name, content) in [
        ("a.jsonl", line.to_owned()),
        ("a.json", format!("[{line}]")),
    ] {
        let dataset = read_as(name, content).unwrap();
        assert_eq!(shown(&dataset), [["-", "p", "c", "r"]]);
        assert_eq!(dataset.counts.dropped_unusable, 0);
    }
}

#[test]
fn replies_of_more_than_one_message() {
    let row = |chosen: &str, rejected: &str| {
        let message = |role: char| {
            let name = if role == 'u' { "user" } else { "assistant" };
            format!(r#"{{"role": "{name}", "content": "{role}"}}"#)
        };
        let list = |roles: &str| roles.chars().map(message).collect::<Vec<_>>().join(",");
        format!(
            r#"{{"chosen": [{}], "rejected": [{}]}}"#,
            list(chosen),
            list(rejected)
        )
    };
    for (chosen, rejected, says) in [
        ("ua", "uaua", "rejected must be one message with the role assistant after what the replies share; it has assistant, user, assistant"),
        ("uu", "ua", "chosen must be one message"),
        ("", "ua", "chosen must be one message with the role assistant after what the replies share; it has nothing"),
    ] {
        let error = error_of("a.jsonl", row(chosen, rejected));
        assert!(error.starts_with(&format!("a.jsonl, line 1: {says}")), "{error}");
    }
    // Two records of different layouts.
    let one = r#"{"prompt": "p", "chosen": [{"role": "assistant", "content": "c"}], "rejected": [{"role": "assistant", "content": "r"}]}"#;
    let other = row("ua", "ua").replacen('{', r#"{"prompt": "u", "#, 1);
    let counts = left_out("a.jsonl", format!("{one}\n{other}"));
    assert!(
        counts.unusable[0].contains("a.jsonl, line 2: chosen must be one message"),
        "{counts}"
    );
}

#[test]
fn bytes_that_are_not_utf8() {
    let record = |quote: &[u8]| {
        [
            br#"{"prompt": "p", "chosen": ""#.as_slice(),
            quote,
            br#"", "rejected": "r"}"#,
        ]
        .concat()
    };
    let bad = record(b"\xff\xfe");
    assert!(error_of("a.jsonl", &bad).starts_with("a.jsonl, line 1: this is not UTF-8"));
    let array = [b"[".as_slice(), &bad, b"]"].concat();
    let error = error_of("a.json", array);
    assert!(
        error.starts_with("a.json, row 1: this is not UTF-8"),
        "{error}"
    );
    let error = error_of("a.csv", b"prompt,chosen,rejected\np,\xff,r\n");
    assert!(
        error.starts_with("a.csv, line 2: this is not UTF-8"),
        "{error}"
    );
}

#[test]
fn files_that_are_not_there_or_empty_or_of_no_kind() {
    assert!(matches!(read(&[]), Err(DatasetError::NoFiles)));
    let missing = read(&[PathBuf::from("nowhere.jsonl")])
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("nowhere.jsonl: cannot be read"),
        "{missing}"
    );
    for (name, content) in [
        ("a.jsonl", "\n \n"),
        ("a.json", ""),
        ("a.json", "[]"),
        ("a.csv", "prompt,chosen,rejected\n"),
        ("a.csv", ""),
    ] {
        let error = error_of(name, content);
        assert!(
            error.contains("has no records"),
            "{name} {content:?}: {error}"
        );
    }
    for name in ["a.txt", "a", "a.jsonl.gz"] {
        assert!(error_of(name, "x").contains("kind of file is not known"));
    }
    let folder = Folder::new();
    let error = read(&[folder.write("b.jsonl", "").parent().unwrap().to_owned()]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("prism_data_user.json: cannot be read"),
        "{error}"
    );
}

/// Whatever bit of a file is damaged: an answer or an error, no panic and no endless allocation.
/// (What the reader's own panics print is part of this test's output.)
#[test]
fn damaged_parquet_files_end_in_errors() {
    let folder = Folder::new();
    for name in ["conversations.parquet", "texts.parquet"] {
        let whole = fs::read(fixture(name)).unwrap();
        let is_error = |bytes: &[u8]| read(&[folder.write("a.parquet", bytes)]).is_err();
        for end in (0..whole.len()).step_by(16) {
            assert!(is_error(&whole[..end]), "{name}: only {end} bytes");
        }
        let damaged = |at: &usize| {
            let mut bytes = whole.clone();
            bytes[*at] ^= 1 << (at % 8);
            is_error(&bytes)
        };
        let errors = (0..whole.len()).filter(damaged).count();
        assert!(errors > whole.len() / 4, "{name}: only {errors} errors");
    }
}
