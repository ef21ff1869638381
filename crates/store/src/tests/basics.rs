//! What each call does.

use super::*;
use attune_ids::RecordId;

#[test]
fn users() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    let key = user_key("b", "ann");
    assert_eq!(store.user(&key).unwrap(), Some(user("b", "ann", 5)));
    store.put_user(&user("b", "ann", 6)).unwrap();
    assert_eq!(store.user(&key).unwrap(), Some(user("b", "ann", 6)));
    assert_eq!(store.user(&user_key("a", "ann")).unwrap(), None);

    let ids = |users: Vec<UserRecord>| -> Vec<String> {
        users
            .into_iter()
            .map(|user| user.user.to_string())
            .collect()
    };
    let all: Result<Vec<UserRecord>, StoreError> = store.users().collect();
    assert_eq!(ids(all.unwrap()), ["zoe\0", "\u{65e5}\u{672c}", "ann"]);
    let some: Result<Vec<UserRecord>, StoreError> =
        store.users_of(&Tenant::new("a").unwrap()).collect();
    assert_eq!(ids(some.unwrap()), ["zoe\0", "\u{65e5}\u{672c}"]);

    assert!(store.delete_user(&key).unwrap());
    assert!(!store.delete_user(&key).unwrap());
    assert_eq!(store.user(&key).unwrap(), None);
    assert_clean(&store);
}

#[test]
fn the_first_adapter_record_of_a_version_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.insert_adapter(&adapter(1)).unwrap(), adapter(1));
    let later = AdapterRecord {
        installed_unix_ms: 99,
        ..adapter(1)
    };
    assert_eq!(store.insert_adapter(&later).unwrap(), adapter(1));
    assert_eq!(store.adapters().unwrap(), [adapter(1)]);
    assert_eq!(store.adapter(&version(2)).unwrap(), None);
}

#[test]
fn an_alias_moves_only_from_where_the_caller_saw_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    let name = alias("attune");
    let record = store.alias(&name).unwrap().unwrap();
    let expected = AliasRecord {
        alias: name.clone(),
        version: version(2),
        previous: Some(version(1)),
        promoted_unix_ms: 20,
        promotions: 2,
    };
    assert_eq!(record, expected);

    for stale in [None, Some(version(1))] {
        let error = store.compare_and_swap_alias(&name, stale.as_ref(), &version(1), 30);
        match error.unwrap_err() {
            CasError::Conflict { actual, .. } => assert_eq!(actual, Some(version(2))),
            error => panic!("{error}"),
        }
    }
    let missing = store.compare_and_swap_alias(&name, Some(&version(2)), &version(3), 30);
    let error = missing.unwrap_err();
    assert!(
        matches!(&error, CasError::NotInstalled { version: v } if *v == version(3)),
        "{error}"
    );
    let absent = store.compare_and_swap_alias(&alias("x"), Some(&version(1)), &version(1), 30);
    assert!(matches!(
        absent.unwrap_err(),
        CasError::Conflict { actual: None, .. }
    ));
    let again = store.compare_and_swap_alias(&name, Some(&version(2)), &version(2), 30);
    assert_eq!(
        again.unwrap(),
        expected,
        "moving it to where it is changes nothing"
    );
    assert_eq!(store.aliases().unwrap(), [expected]);
}

#[test]
fn a_decision_and_its_promotion_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    let decision = |n: u8, current: u8, candidate: u8, promoted| DecisionRecord {
        id: RecordId::new(format!("dec_{n}")).unwrap(),
        created_unix_ms: 40,
        alias: alias("attune"),
        current: Some(version(current)),
        candidate: Some(version(candidate)),
        promoted,
        reason: "why".to_owned(),
        snapshot: None,
        evaluation: None,
    };
    let stale = store.decide(&decision(1, 1, 2, true)).unwrap_err();
    assert!(matches!(stale, CasError::Conflict { .. }), "{stale}");
    let missing = store.decide(&decision(2, 2, 3, true)).unwrap_err();
    assert!(
        matches!(missing, CasError::NotInstalled { .. }),
        "{missing}"
    );
    assert_eq!(store.decisions().unwrap(), []);
    let moved = store.decide(&decision(3, 2, 1, true)).unwrap();
    assert_eq!(moved, store.alias(&alias("attune")).unwrap());
    assert_eq!(moved.unwrap().version, version(1));
    // To where it is: recorded all the same.
    assert!(store.decide(&decision(4, 1, 1, true)).unwrap().is_some());
    assert_eq!(store.decide(&decision(5, 2, 9, false)).unwrap(), None);
    let recorded = store.decisions().unwrap();
    let ids: Vec<&str> = recorded.iter().map(|d| d.id.as_str()).collect();
    assert_eq!(ids, ["dec_3", "dec_4", "dec_5"]);
    assert!(store.verify().unwrap().is_clean());
}

#[test]
fn concurrent_promotions_have_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..8 {
        store.insert_adapter(&adapter(n)).unwrap();
    }
    let start = std::sync::Barrier::new(8);
    let winners: Vec<u8> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let (store, start) = (store.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    store
                        .compare_and_swap_alias(&alias("a"), None, &version(n), 1)
                        .is_ok()
                })
            })
            .collect();
        let won = threads.into_iter().map(|thread| thread.join().unwrap());
        (0..8)
            .zip(won)
            .filter(|(_, won)| *won)
            .map(|(n, _)| n)
            .collect()
    });
    assert_eq!(winners.len(), 1);
    let record = store.alias(&alias("a")).unwrap().unwrap();
    assert_eq!(
        (record.version, record.promotions),
        (version(winners[0]), 1)
    );
}

#[test]
fn an_adapter_in_use_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    let error = store.remove_adapter(&version(2)).unwrap_err();
    assert!(
        matches!(&error, StoreError::AdapterInUse { aliases, .. } if *aliases == [alias("attune")])
    );
    assert!(error
        .to_string()
        .ends_with("in use by alias attune; promote another version or end the canary first"));
    assert!(store.remove_adapter(&version(1)).unwrap());
    assert!(!store.remove_adapter(&version(1)).unwrap());
    assert_clean(&store);
}

#[test]
fn a_store_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/store");
    let store = open(&path);
    fill(&store);
    let (info, before) = (store.info().unwrap(), export(&store));
    assert_eq!(info.schema, SCHEMA);
    assert_eq!(info.created_unix_ms, 1_700_000_000_000);
    drop(store);
    assert!(path.join("seal.json").exists(), "a closed store is sealed");

    let store = Store::open(&path, 9).unwrap();
    assert!(!path.join("seal.json").exists(), "an open store is not");
    assert_eq!(store.info().unwrap(), info);
    assert_eq!(export(&store), before);
    store.flush().unwrap();
    store.is_writable().unwrap();
    assert_clean(&store);
}

#[test]
fn a_second_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Store::open(dir.path(), 0).unwrap_err();
    let expected = format!(
        "another attune process holds {}; stop it first",
        dir.path().display()
    );
    assert_eq!(error.to_string(), expected);
    store.put_user(&user("t", "still works", 1)).unwrap();
    let clone = store.clone();
    drop(store);
    assert!(matches!(
        Store::open(dir.path(), 0),
        Err(StoreError::Locked { .. })
    ));
    drop(clone);
    assert_clean(&open(dir.path()));
}

#[test]
fn a_creation_that_was_cut_off_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    std::fs::write(
        dir.path().join("STORE"),
        "attune store, layout 1, creating\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("sled/db"), "half").unwrap();
    let store = open(dir.path());
    assert_clean(&store);
    drop(store);
    assert_clean(&open(dir.path()));
}

#[test]
fn records_have_a_largest_size() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let named = |bytes: usize| AdapterRecord {
        name: Some("x".repeat(bytes)),
        ..adapter(1)
    };
    let error = store.insert_adapter(&named(1 << 20)).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    // sled keeps this one in a file of its own.
    store.insert_adapter(&named(900_000)).unwrap();
    drop(store);
    assert_eq!(
        open(dir.path()).adapter(&version(1)).unwrap(),
        Some(named(900_000))
    );
}

#[test]
fn a_store_can_be_shared_by_threads() {
    fn shareable<T: Send + Sync + Clone + 'static>() {}
    shareable::<Store>();
}
