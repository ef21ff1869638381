//! Export and import.

use sha2::{Digest, Sha256};

use super::*;

/// `text` with its trailer made right again.
fn sealed(body: &str) -> String {
    let records = body.lines().count() - 1;
    let sha256 = hex::encode(Sha256::digest(body));
    format!("{body}{{\"end\":{{\"records\":{records},\"sha256\":\"{sha256}\"}}}}\n")
}

fn sample() -> String {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    String::from_utf8(export(&store)).unwrap()
}

/// Everything but the trailer.
fn body(export: &str) -> &str {
    let end = export[..export.len() - 1].rfind('\n').unwrap();
    &export[..=end]
}

/// Imports `text` into an empty store, expects that it is refused, and gives the reason.
fn refused(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let before = export(&store);
    let error = store.import(&mut text.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        export(&store),
        before,
        "a refused import changes nothing: {error}"
    );
    assert_clean(&store);
    store.put_user(&user("t", "u", 1)).unwrap();
    error
}

#[test]
fn an_export_is_sorted_and_the_same_each_time() {
    let text = sample();
    let lines: Vec<&str> = text.lines().collect();
    let header = format!(r#"{{"format":"attune-store-export","schema":{SCHEMA},"store_id":""#);
    assert!(lines[0].starts_with(&header));
    let kinds: Vec<&str> = lines[1..7].iter().map(|line| &line[9..14]).collect();
    assert_eq!(
        kinds,
        ["adapt", "adapt", "alias", "user\"", "user\"", "user\""]
    );
    assert!(lines[4].contains("zoe\\u0000") && lines[6].contains("ann"));
    assert_eq!(
        sealed(body(&text)),
        text,
        "the trailer is the digest of what precedes it"
    );

    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let summary = store.import(&mut text.as_bytes()).unwrap();
    assert_eq!((summary.records, summary.schema), (6, SCHEMA));
    let mut copy = Vec::new();
    let exported = store.export(&mut copy).unwrap();
    assert_eq!(String::from_utf8(copy).unwrap(), text);
    assert_eq!((exported.records, exported.sha256), (6, summary.sha256));
    drop(store);
    let store = open(dir.path());
    assert_clean(&store);
    assert_eq!(String::from_utf8(export(&store)).unwrap(), text);
}

#[test]
fn only_an_empty_store_takes_an_import() {
    let text = sample();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put_user(&user("t", "u", 1)).unwrap();
    let before = export(&store);
    let error = store.import(&mut text.as_bytes()).unwrap_err();
    assert!(matches!(error, StoreError::NotEmpty { .. }), "{error}");
    assert_eq!(export(&store), before);
}

#[test]
fn an_export_that_was_cut_short_is_refused() {
    let text = sample();
    for cut in (0..text.len()).step_by(7).chain([text.len() - 1]) {
        let mut cut = cut;
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        let error = refused(&text[..cut]);
        assert!(
            error.contains("cut short") || error.contains("ends without"),
            "{cut}: {error}"
        );
    }
}

#[test]
fn an_export_that_was_changed_is_refused() {
    let text = sample();
    assert!(refused(&text.replace("zoe", "Zoe")).contains("the digest does not match"));
    assert!(refused(&format!("{text}\n")).contains("something follows the trailer"));
    let shorter: String = body(&text)
        .lines()
        .take(6)
        .map(|line| format!("{line}\n"))
        .collect();
    let trailer = text.lines().last().unwrap();
    assert!(refused(&format!("{shorter}{trailer}\n")).contains("6 records expected, 5 found"));
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let text = sample();
    let edit = |from: &str, to: &str| sealed(&body(&text).replacen(from, to, 1));
    let lines: Vec<&str> = body(&text).lines().collect();
    let twice = sealed(&format!("{}{}\n", body(&text), lines[6]));
    let unordered = version(2);
    for (text, reason) in [
        (
            edit("attune-store-export", "other"),
            "line 1: this is not the header",
        ),
        (
            edit(r#""store_id":""#, r#""store_id":"x"#),
            "line 1: store_id must be",
        ),
        (
            edit(r#""kind":"alias""#, r#""kind":"cat""#),
            r#"line 4: there is no kind of record named "cat""#,
        ),
        (
            edit(r#""kind":"user","v":1"#, r#""kind":"user","v":9"#),
            "line 5: expected user v1, found user v9",
        ),
        (edit(r#""tenant":"a""#, r#""tenant":"a b""#), "line 5: "),
        (
            edit(r#""promotions":2"#, r#""promotions":0"#),
            "promotions is 0",
        ),
        (
            edit(
                &format!(r#"{{"version":"{unordered}""#),
                &format!(r#"{{"version":"{}""#, version(9)),
            ),
            "which is not installed",
        ),
        (twice, "two records have the same key"),
        ("\n".to_owned(), "line 1: this is not the header"),
        (
            sealed(&format!("{}nonsense\n", body(&text))),
            "line 8: expected ident",
        ),
    ] {
        let error = refused(&text);
        assert!(error.contains(reason), "{reason:?} not in {error:?}");
    }
}

#[test]
fn a_newer_export_is_refused() {
    let (ours, next) = (format!(r#""schema":{SCHEMA}"#), SCHEMA + 1);
    let newer = sample().replacen(&ours, &format!(r#""schema":{next},"new_field":0"#), 1);
    let error = refused(&newer);
    let expected =
        format!("the export has schema {next}, this attune knows schemas up to {SCHEMA}");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn bytes_that_are_no_text_and_endless_lines_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for input in [&b"\xff\xfe\n"[..], b"\0"] {
        store.import(&mut &input[..]).unwrap_err();
    }
    let mut endless = std::io::BufReader::new(std::io::repeat(b'x'));
    let error = store.import(&mut endless).unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
}

#[test]
fn an_interrupted_import_is_discarded() {
    let text = sample();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    let mut meta = store.trees().meta().unwrap().unwrap();
    meta.state = meta::State::Importing;
    store.trees().writer().unwrap().set_meta(&meta).unwrap();
    assert!(!store.verify().unwrap().is_clean());
    drop(store);
    let store = open(dir.path());
    assert_clean(&store);
    store.import(&mut text.as_bytes()).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_device_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let error = store
        .export(&mut std::io::BufWriter::new(full))
        .unwrap_err();
    assert!(matches!(error, StoreError::Output(_)), "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
    store.put_user(&user("t", "the store goes on", 1)).unwrap();
    assert_clean(&store);
}
