//! Versions that were replaced: everything that named them follows, in one transaction.

use super::*;

fn canary(name: &str, n: u8) -> CanaryRecord {
    CanaryRecord {
        alias: alias(name),
        version: version(n),
        permille: 100,
        started_unix_ms: 30,
    }
}

/// [`fill`], with a second alias that names 1 and tries 2.
fn filled(dir: &Path) -> Store {
    let store = open(dir);
    fill(&store);
    let beta = alias("beta");
    store
        .compare_and_swap_alias(&beta, None, &version(1), 10)
        .unwrap();
    store.put_canary(&canary("beta", 2)).unwrap();
    store
}

fn named(store: &Store, name: &str) -> (AdapterVersion, Option<AdapterVersion>, u64) {
    let record = store.alias(&alias(name)).unwrap().unwrap();
    (record.version, record.previous, record.promotions)
}

#[test]
fn whatever_named_a_version_names_the_one_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store
        .replace_adapter(&version(1), &adapter(11), 50)
        .unwrap();
    assert_eq!(named(&store, "attune"), (version(2), Some(version(11)), 2));
    assert_eq!(named(&store, "beta"), (version(11), None, 1));
    store
        .replace_adapter(&version(2), &adapter(12), 60)
        .unwrap();
    assert_eq!(named(&store, "attune"), (version(12), Some(version(11)), 2));
    assert_eq!(store.canaries().unwrap(), [canary("beta", 12)]);
    assert_eq!(store.adapters().unwrap(), [adapter(11), adapter(12)]);
    let successors = [(1, 11), (2, 12)].map(|(old, new)| (version(old), version(new)));
    assert_eq!(store.successors().unwrap(), successors.into());
    assert_clean(&store);

    // Whoever still has the old names means the new ones.
    let (name, one, two) = (alias("attune"), version(1), version(2));
    let moved = store.compare_and_swap_alias(&name, Some(&two), &one, 70);
    let moved = moved.unwrap();
    assert_eq!(
        (moved.version, moved.previous),
        (version(11), Some(version(12)))
    );
    let error = store.compare_and_swap_alias(&name, Some(&two), &one, 80);
    assert!(matches!(error, Err(CasError::Conflict { .. })), "{error:?}");

    // And after a restart, an export and an import.
    let exported = export(&store);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.successors().unwrap().len(), 2);
    let other = tempfile::tempdir().unwrap();
    let imported = open(other.path());
    imported.import(&mut &exported[..]).unwrap();
    assert_eq!(imported.successors().unwrap(), store.successors().unwrap());
    assert_clean(&imported);
}

#[test]
fn a_chain_of_replacements_is_one_step_long() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    for (old, new) in [(1, 11), (11, 12), (12, 13)] {
        let new = adapter(new);
        store.replace_adapter(&version(old), &new, 50).unwrap();
        assert_clean(&store);
    }
    for old in [1, 11, 12, 13] {
        assert_eq!(store.successor_of(&version(old)).unwrap(), version(13));
    }
    assert_eq!(named(&store, "beta").0, version(13));
    // What comes back is a version again, and leads nowhere else.
    store.insert_adapter(&adapter(11)).unwrap();
    assert_eq!(store.successor_of(&version(11)).unwrap(), version(11));
    assert_eq!(store.successor_of(&version(1)).unwrap(), version(13));
    assert_clean(&store);
}

#[test]
fn what_becomes_the_same_is_neither_its_own_past_nor_its_own_canary() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    // Two versions that differ in the people who left, and in nothing else.
    store
        .replace_adapter(&version(1), &adapter(11), 50)
        .unwrap();
    store
        .replace_adapter(&version(2), &adapter(11), 50)
        .unwrap();
    assert_eq!(named(&store, "attune"), (version(11), None, 2));
    assert_eq!(store.canaries().unwrap(), []);
    assert_eq!(store.adapters().unwrap(), [adapter(11)]);
    assert_clean(&store);
}

#[test]
fn a_name_may_lead_to_a_version_though_it_was_never_installed() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.replace_adapter(&version(9), &adapter(2), 50).unwrap();
    assert_eq!(store.successor_of(&version(9)).unwrap(), version(2));
    assert_eq!(store.adapters().unwrap(), [adapter(1), adapter(2)]);
    assert_eq!(named(&store, "attune"), (version(2), Some(version(1)), 2));
    assert_clean(&store);
}
