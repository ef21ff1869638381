//! Files and records that are not as they were written.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::trees::Edit;

/// All files under `dir` with their content.
pub(super) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// A closed store with some hundreds of records, for which sled has written a snapshot file.
fn closed_store(dir: &Path) {
    let store = open(dir);
    fill(&store);
    let users = (0..300).map(|n| user("t", &format!("user {n}"), n));
    let edits: Vec<Edit> = users.map(|user| Edit::put(&user).unwrap()).collect();
    store.trees().writer().unwrap().commit(&edits).unwrap();
    drop(store);
    drop(open(dir));
}

/// What a killed process leaves: no seal.
fn unseal(dir: &Path) {
    fs::remove_file(dir.join("seal.json")).unwrap();
}

fn assert_refused_untouched(dir: &Path, what: &str) -> String {
    let before = files(dir);
    let error = Store::open(dir, 0).map(drop).expect_err(what);
    assert!(
        matches!(error, StoreError::Damaged { .. }),
        "{what}: {error}"
    );
    assert_eq!(files(dir), before, "{what}");
    error.to_string()
}

#[test]
fn a_closed_store_notices_any_change_of_its_files() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    let sound = files(dir.path());
    for (path, content) in &sound {
        let name = path.strip_prefix(dir.path()).unwrap().display().to_string();
        if name == "lock" {
            continue;
        }
        let mut flipped = content.clone();
        flipped[content.len() / 2] ^= 1;
        for (what, change) in [
            ("missing", None),
            ("empty", Some(Vec::new())),
            ("cut short", Some(content[..content.len() - 1].to_vec())),
            ("halved", Some(content[..content.len() / 2].to_vec())),
            ("flipped", Some(flipped)),
            ("longer", Some([content.as_slice(), b"x"].concat())),
        ] {
            if what == "missing" && (name == "seal.json" || name == "STORE") {
                continue;
            }
            match &change {
                None => fs::remove_file(path).unwrap(),
                Some(content) => fs::write(path, content).unwrap(),
            }
            let error = assert_refused_untouched(dir.path(), &format!("{name} {what}"));
            // A seal that reads well but differs blames the file that it describes.
            assert!(error.contains(&name) || name == "seal.json", "{error}");
            fs::write(path, content).unwrap();
        }
    }
    let store = open(dir.path());
    assert_eq!(store.users().count(), 303);
    assert_clean(&store);
}

#[test]
fn a_killed_store_with_damaged_files_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    closed_store(dir.path());
    unseal(dir.path());
    let sound = files(dir.path());
    let (mut refused, mut opened) = (0, 0);
    for (path, content) in &sound {
        if path.parent() != Some(&dir.path().join("sled")) {
            continue;
        }
        let step = (content.len() / 24).max(1);
        for at in (0..content.len()).step_by(step) {
            let mut flipped = content.clone();
            flipped[at] ^= 0x55;
            for change in [flipped, content[..at].to_vec()] {
                fs::write(path, &change).unwrap();
                let before = files(dir.path());
                match Store::open(dir.path(), 0) {
                    // Bytes that hold nothing, or the very end of the log: nothing is missing.
                    Ok(store) => {
                        assert_eq!(store.users().count(), 303, "{path:?} at {at}");
                        assert_clean(&store);
                        opened += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                        assert_eq!(files(dir.path()), before, "{path:?} at {at}");
                        refused += 1;
                    }
                }
                restore(dir.path(), &sound);
            }
        }
    }
    assert!(refused > 20, "{refused} refused, {opened} opened");
    assert_clean(&open(dir.path()));
}

fn restore(dir: &Path, sound: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in files(dir).keys() {
        fs::remove_file(path).unwrap();
    }
    for (path, content) in sound {
        fs::write(path, content).unwrap();
    }
}

#[test]
fn a_killed_store_whose_database_is_gone_is_not_made_anew() {
    for name in ["sled/db", "sled/conf"] {
        let dir = tempfile::tempdir().unwrap();
        closed_store(dir.path());
        unseal(dir.path());
        fs::remove_file(dir.path().join(name)).unwrap();
        let error = assert_refused_untouched(dir.path(), name);
        assert!(error.contains(&format!("{name} cannot be read")), "{error}");
        assert!(
            error.contains("restore the directory from a backup"),
            "{error}"
        );
    }
}

#[test]
fn other_directories_and_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "precious").unwrap();
    let before = files(dir.path());
    let error = Store::open(dir.path(), 0).unwrap_err();
    assert!(matches!(&error, StoreError::NotAStore { found, .. } if found == "thesis.txt"));
    assert_eq!(files(dir.path()), before);

    let file = dir.path().join("thesis.txt");
    let error = Store::open(&file, 0).unwrap_err();
    assert!(matches!(error, StoreError::NotADirectory { .. }), "{error}");
    assert!(Store::open(&file.join("store"), 0).is_err());
    assert_eq!(files(dir.path()), before);
}

/// Writes `value` under `key` as no method would, and gives what `verify` says.
fn problems(tree: &'static str, key: &[u8], value: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    let edit = Edit::put_raw(tree, key.to_vec(), value.as_bytes().to_vec());
    store.trees().writer().unwrap().commit(&[edit]).unwrap();
    let report = store.verify().unwrap();
    assert!(!report.is_clean(), "{value}");
    drop(store);
    // A killed process with such a record: the next open says the same.
    unseal(dir.path());
    let error = assert_refused_untouched(dir.path(), value);
    assert!(error.contains(&report.problems[0]), "{error}");
    report.to_string()
}

#[test]
fn verify_names_each_problem() {
    let ann = keys::encode(&["b", "ann"]);
    let good = r#"{"kind":"user","v":1,"data":{"tenant":"b","user":"ann","created_unix_ms":0}}"#;
    let alias = |version: &AdapterVersion, promotions: u64| {
        format!(
            r#"{{"kind":"alias","v":1,"data":{{"alias":"a","version":"{version}","previous":null,"promoted_unix_ms":0,"promotions":{promotions}}}}}"#
        )
    };
    let (dangling, unmoved) = (alias(&version(9), 1), alias(&version(1), 0));
    let a = keys::encode(&["a"]);
    for (tree, key, value, problem) in [
        (
            "users",
            &ann,
            "nonsense",
            r#"users ["b", "ann"]: expected ident"#,
        ),
        (
            "users",
            &ann,
            &good.replace(":1,", ":2,"),
            "expected user v1, found user v2",
        ),
        (
            "users",
            &ann,
            &good.replace("\"b\"", "\"c\""),
            r#"its content belongs under ["c", "ann"]"#,
        ),
        (
            "users",
            &ann,
            &good.replace("\"v\"", " \"v\""),
            "not written as this version writes it",
        ),
        (
            "users",
            &b"\x01".to_vec(),
            good,
            "users 0x01: its content belongs under",
        ),
        ("aliases", &a, &dangling, "which is not installed"),
        ("aliases", &a, &unmoved, "promotions is 0"),
        ("meta", &b"x".to_vec(), "{}", "meta: unknown key x"),
    ] {
        let report = problems(tree, key, value);
        assert!(report.contains(problem), "{problem:?} not in {report:?}");
        assert!(report.contains("1 problems; restore"), "{report}");
    }
}

#[test]
fn verify_counts_records_and_knows_all_trees() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    // A record that vanishes, and a tree that appears, without our knowledge.
    let db = sled::open(dir.path().join("sled")).unwrap();
    db.open_tree("users").unwrap().insert("k", "v").unwrap();
    db.open_tree("cats").unwrap();
    db.insert("stray", "v").unwrap();
    drop(db);
    unseal(dir.path());
    let error = assert_refused_untouched(dir.path(), "edited");
    for problem in [
        "unknown tree cats",
        "unknown tree __sled__default",
        "users: 1 records, but 0 were written",
    ] {
        assert!(error.contains(problem), "{problem:?} not in {error:?}");
    }
}
