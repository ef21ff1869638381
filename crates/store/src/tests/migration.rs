//! The machinery of migrations, with a schema that does not exist.

use super::*;
use crate::migrate::{self, Migration};
use crate::record::{RawRecord, KINDS};

/// From a past in which adapters were called bundles, aliases were user "@" and users could be
/// anonymous.
const LIST: &[Migration] = &[
    Migration {
        to: SCHEMA,
        about: "the past",
        kinds: &[("bundle", 1), ("adapter", 0), ("user", 0), ("user", 1)],
        upgrade: |record| Err(format!("no {}", record.kind)),
    },
    Migration {
        to: SCHEMA + 1,
        about: "the present",
        kinds: &[("adapter", 1), ("alias", 1), ("user", 1)],
        upgrade,
    },
];

fn upgrade(mut record: RawRecord) -> Result<Option<RawRecord>, String> {
    match (record.kind.as_str(), record.v) {
        ("user", 0) if record.data["user"] == "anonymous" => return Ok(None),
        ("user", 0) => record.v = 1,
        _ => return Err(format!("what is a {}?", record.kind)),
    }
    record.data["created_unix_ms"] = record.data["born"].take();
    record.data.as_object_mut().unwrap().remove("born");
    Ok(Some(record))
}

fn old_user(id: &str) -> String {
    format!(r#"{{"kind":"user","v":0,"data":{{"tenant":"t","user":"{id}","born":3}}}}"#)
}

fn put_raw(store: &Store, tree: &'static str, key: &[u8], value: &str) {
    let edit = trees::Edit::put_raw(tree, key.to_vec(), value.as_bytes().to_vec());
    store.trees().writer().unwrap().commit(&[edit]).unwrap();
}

/// A store of the first schema of `LIST`.
fn old_store(dir: &Path) -> (Store, meta::Meta) {
    let store = open(dir);
    put_raw(
        &store,
        "users",
        &keys::encode(&["t", "moves"]),
        &old_user("moved"),
    );
    put_raw(
        &store,
        "users",
        &keys::encode(&["t", "stays"]),
        &old_user("stays"),
    );
    put_raw(
        &store,
        "users",
        &keys::encode(&["t", "x"]),
        &old_user("anonymous"),
    );
    store.put_user(&user("t", "new already", 1)).unwrap();
    let meta = store.trees().meta().unwrap().unwrap();
    assert!(!store.verify().unwrap().is_clean());
    (store, meta)
}

#[test]
fn records_change_move_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (store, meta) = old_store(dir.path());
    migrate::migrate(store.trees(), meta, LIST).unwrap();
    let users: Result<Vec<UserRecord>, StoreError> = store.users().collect();
    let expected = [
        user("t", "moved", 3),
        user("t", "new already", 1),
        user("t", "stays", 3),
    ];
    assert_eq!(users.unwrap(), expected);
    let mut meta = store.trees().meta().unwrap().unwrap();
    assert_eq!(meta.schema, SCHEMA + 1);
    meta.schema = SCHEMA;
    store.trees().writer().unwrap().set_meta(&meta).unwrap();
    assert_clean(&store);
}

#[test]
fn a_migration_that_was_interrupted_is_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, meta) = old_store(dir.path());
    migrate::migrate(store.trees(), meta.clone(), LIST).unwrap();
    let after = export(&store);
    // All records were written, the schema was not.
    store.trees().writer().unwrap().set_meta(&meta).unwrap();
    migrate::migrate(store.trees(), meta, LIST).unwrap();
    assert_eq!(export(&store), after);
}

#[test]
fn a_record_that_makes_no_sense_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (store, meta) = old_store(dir.path());
    put_raw(
        &store,
        "aliases",
        &keys::encode(&["cat"]),
        r#"{"kind":"cat","v":1,"data":{}}"#,
    );
    let error = migrate::migrate(store.trees(), meta, LIST)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(r#"record ["cat"] of aliases cannot be read: what is a cat?"#),
        "{error}"
    );
}

#[test]
fn the_list_is_in_order_and_ends_at_todays_kinds() {
    let numbers: Vec<u32> = migrations::MIGRATIONS.iter().map(|step| step.to).collect();
    assert_eq!(numbers, (1..=SCHEMA).collect::<Vec<u32>>());
    let last = migrations::MIGRATIONS.last().unwrap();
    let today: Vec<(&str, u32)> = KINDS.iter().map(|kind| (kind.kind, kind.version)).collect();
    let mut listed = last.kinds.to_vec();
    listed.sort_unstable();
    assert_eq!(listed, today, "a new kind or version needs a migration");
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    for killed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        fill(&store);
        let future = r#"{"kind":"meta","v":7,"data":{"schema":99,"more":[]},"x":0}"#;
        put_raw(&store, "meta", b"store", future);
        drop(store);
        let seal = dir.path().join("seal.json");
        // That store was written by hand: seal it as the future would.
        if !killed {
            let locked = files::Dir::lock(dir.path()).unwrap();
            seal::Seal::of(&locked, 99).unwrap().write(&locked).unwrap();
        }
        assert_eq!(seal.exists(), !killed);
        let before = super::damage::files(dir.path());
        let error = Store::open(dir.path(), 0).unwrap_err();
        let expected = format!(
            "{} has schema 99, this attune knows schemas up to {SCHEMA}; \
             use the attune that wrote it, or a newer one",
            dir.path().display()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(super::damage::files(dir.path()), before);
    }
}

#[test]
fn ids_with_white_space_are_refused_by_name_and_imported_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let at = |user: &str| keys::encode(&["t", user]);
    let value = |kind: &str, user: &str, more: &str| {
        format!(r#"{{"kind":"{kind}","v":1,"data":{{"tenant":"t","user":"{user}",{more}}}}}"#)
    };
    let profile = r#""text":"likes tea","learning":false,"updated_unix_ms":4"#;
    for user in [" ann", "bob\u{a0}"] {
        put_raw(
            &store,
            "users",
            &at(user),
            &value("user", user, r#""created_unix_ms":3"#),
        );
        put_raw(
            &store,
            "profiles",
            &at(user),
            &value("profile", user, profile),
        );
    }
    let exported = export(&store);
    drop(store);
    for killed in [false, true] {
        if killed {
            std::fs::remove_file(dir.path().join("seal.json")).unwrap();
        }
        let before = super::damage::files(dir.path());
        let error = Store::open(dir.path(), 0).unwrap_err();
        let StoreError::WhiteSpace { user, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(user, " ann");
        if killed {
            assert_eq!(super::damage::files(dir.path()), before);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.import(&mut exported.as_slice()).unwrap();
    let users: Result<Vec<UserRecord>, StoreError> = store.users().collect();
    assert_eq!(users.unwrap(), [user("t", "ann", 3), user("t", "bob", 3)]);
    let profile = store.profile(&user_key("t", "ann")).unwrap().unwrap();
    assert!(!profile.learning);
    assert_clean(&store);
    drop(store);
    assert_clean(&open(dir.path()));
}
