use super::*;

fn line(user: &str, prompt: &str, chosen: &str, rejected: &str) -> String {
    format!(
        "{{\"user\": {user}, \"prompt\": \"{prompt}\", \"chosen\": \"{chosen}\", \"rejected\": \"{rejected}\"}}\n"
    )
}

#[test]
fn what_teaches_nothing_is_left_out_and_counted() {
    let text = [
        line("1", "p", "a", "b"),
        line("1", "p", "a", "b"),
        line("2", "p", "a", "b"),
        line("null", "p", "a", "b"),
        line("1", "p", "b", "a"),
        line("1", "p", "a", "a"),
        line("1", "p", " ", "a"),
        line("1", "p", "a", "\\n"),
        line("1", " ", "a", "b"),
    ]
    .concat();
    let counts = read_as("a.jsonl", text).unwrap().counts;
    let expected = Counts {
        files: counts.files.clone(),
        read: 9,
        kept: 4,
        users: 2,
        dropped_duplicates: 1,
        dropped_identical: 1,
        dropped_empty_replies: 2,
        dropped_empty_prompts: 1,
        contradictory: 1,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    let said = counts.to_string();
    assert!(
        said.starts_with("4 pairs of 2 users from 9 read; 1 repeats left out"),
        "{said}"
    );
    let json = serde_json::to_value(&counts).unwrap();
    assert_eq!(
        (&json["read"], &json["files"][0]["layout"]),
        (&9.into(), &"texts".into())
    );
}

#[test]
fn other_information_or_another_tenant_is_no_repeat() {
    let text = [
        r#"{"user": "1", "prompt": "p", "chosen": "a", "rejected": "b"}"#,
        r#"{"user": "1", "tenant": "t", "prompt": "p", "chosen": "a", "rejected": "b"}"#,
        r#"{"user": "1", "user_info": "x", "prompt": "p", "chosen": "a", "rejected": "b"}"#,
        r#"{"user": "1", "prompt": [{"role": "user", "content": "p"}], "chosen": "a", "rejected": "b"}"#,
        // Labels say nothing about what is preferred.
        r#"{"user": "1", "group": "g", "prompt": "p", "chosen": "a", "rejected": "b"}"#,
    ]
    .join("\n");
    let counts = read_as("a.jsonl", text).unwrap().counts;
    assert_eq!((counts.kept, counts.dropped_duplicates), (4, 1));
}

#[test]
fn columns_that_nobody_reads_are_counted_unless_they_are_known() {
    let text = [
        r#"{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 1, "_x": 2, "topic": "t"}"#,
        r#"{"prompt": "q", "chosen": "a", "rejected": "b", "margin": 1.5, "topic": null, "z": []}"#,
    ]
    .join("\n");
    let counts = read_as("a.jsonl", text).unwrap().counts;
    let other: Vec<_> = counts.other_columns.into_iter().collect();
    assert_eq!(other, [("topic".to_owned(), 2), ("z".to_owned(), 1)]);
}

/// Of everything that changes what is learned a word is said, with how many records it was.
#[test]
fn a_system_column_is_named_with_where_it_belongs() {
    let row = |n: u32| {
        format!(
            r#"{{"system": "Be kind.", "prompt": "p{n}", "chosen": "a", "rejected": "b", "": 1}}"#
        )
    };
    let said = read_as("a.jsonl", format!("{}\n{}", row(1), row(2)))
        .unwrap()
        .counts
        .to_string();
    assert!(
        said.contains("unused columns: one without a name in 2 records, system in 2 records"),
        "{said}"
    );
    assert!(said.contains("a message of that role in prompt"), "{said}");
}

#[test]
fn nothing_left_is_an_error_that_says_why() {
    let error = read_as("a.jsonl", line("1", "p", "a", "a"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("1 with equal replies left out"), "{error}");
}
