//! Snapshots and compactions do not stop writers, and show one moment all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use proptest::prelude::*;

use super::people::{completion, preference};
use super::*;
use crate::record::{Kind, RawRecord};
use attune_ids::RecordId;

/// What somebody does while all records are read.
#[derive(Debug, Clone)]
enum Call {
    Prefer(u8, u8),
    Keep(u8, u8),
    Relabel(u8),
    DeleteKept(u8),
    Profile(u8),
    Erase(u8),
    Promote(u8),
    RemoveAdapter(u8),
}

const PEOPLE: [&str; 4] = ["ann", "bob", "cleo", "zoe"];

fn person(n: u8) -> UserKey {
    user_key("t", PEOPLE[n as usize % PEOPLE.len()])
}

fn call() -> impl Strategy<Value = Call> {
    let small = || 0..24u8;
    prop_oneof![
        3 => (small(), small()).prop_map(|(n, who)| Call::Prefer(n, who)),
        3 => (small(), small()).prop_map(|(n, who)| Call::Keep(n, who)),
        2 => small().prop_map(Call::Relabel),
        2 => small().prop_map(Call::DeleteKept),
        2 => small().prop_map(Call::Profile),
        2 => small().prop_map(Call::Erase),
        2 => small().prop_map(Call::Promote),
        1 => small().prop_map(Call::RemoveAdapter),
    ]
}

fn kept_id(n: u8) -> RecordId {
    RecordId::new(format!("chatcmpl-{n:04}")).unwrap()
}

fn run(store: &Store, call: &Call, now: u64) {
    let began = store.begin(now);
    match call {
        Call::Prefer(n, who) => {
            let mut record = preference(now, Some(person(*who).user.as_str()));
            record.id = RecordId::new(format!("pref_{n:02}_{now}")).unwrap();
            record.created_unix_ms = began;
            store.insert_preference(&record, None).unwrap();
        }
        Call::Keep(n, who) => {
            if store
                .completion(&person(0).tenant, &kept_id(*n), 0)
                .unwrap()
                .is_none()
            {
                let mut record = completion((*n).into(), Some(person(*who).user.as_str()), None);
                record.created_unix_ms = began;
                store.insert_completion(&record).unwrap();
            }
        }
        Call::Relabel(n) => {
            let metadata = BTreeMap::from([("at".to_owned(), now.to_string())]);
            let tenant = person(0).tenant;
            store
                .set_completion_metadata(&tenant, &kept_id(*n), metadata, 0)
                .unwrap();
        }
        Call::DeleteKept(n) => {
            store
                .delete_completion(&person(0).tenant, &kept_id(*n))
                .unwrap();
        }
        Call::Profile(who) => {
            let set = |profile: &mut ProfileRecord| profile.text = Some(format!("since {now}"));
            store.change_profile(&person(*who), began, set).unwrap();
        }
        Call::Erase(who) => drop(store.erase_user(&person(*who), now).unwrap()),
        Call::Promote(n) => {
            let current = store
                .alias(&alias("a"))
                .unwrap()
                .map(|record| record.version);
            store.insert_adapter(&adapter(n % 5)).unwrap();
            let moved =
                store.compare_and_swap_alias(&alias("a"), current.as_ref(), &version(n % 5), now);
            moved.unwrap();
        }
        // One that is in use stays.
        Call::RemoveAdapter(n) => drop(store.remove_adapter(&version(n % 5))),
    }
}

/// Tree and key of each record's line.
fn lines(export: &[u8]) -> BTreeMap<(&'static str, Vec<u8>), String> {
    let text = String::from_utf8(export.to_vec()).unwrap();
    let records = text.lines().filter_map(|line| {
        let record: RawRecord = serde_json::from_str(line).ok()?;
        let kind = Kind::named(&record.kind).unwrap();
        let key = (kind.canonical)(line.as_bytes()).unwrap().key;
        Some(((kind.tree, key), line.to_owned()))
    });
    records.collect()
}

/// Whether a removal is seen by a snapshot that is under way.
fn of_people(tree: &str) -> bool {
    !["adapters", "aliases", "canaries"].contains(&tree)
}

fn filled(dir: &Path) -> Store {
    let store = open(dir);
    fill(&store);
    let some = [(0, 0), (3, 1), (5, 2), (9, 3), (12, 0), (17, 1), (20, 3)];
    for (n, who) in some {
        run(&store, &Call::Keep(n, who), 1);
        run(&store, &Call::Prefer(n, who), 1);
        run(&store, &Call::Profile(who), 1);
    }
    run(&store, &Call::Promote(1), 2);
    run(&store, &Call::Promote(3), 3);
    store
}

/// Makes `calls` come after so many steps each.
fn steps(calls: &[(u8, Call)]) -> Vec<(usize, Call)> {
    let mut at = 0;
    let mut place = |gap: u8| {
        at += usize::from(gap);
        at
    };
    calls
        .iter()
        .map(|(gap, call)| (place(*gap), call.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_is_one_moment_without_what_was_removed_of_people(
        calls in proptest::collection::vec((0..9u8, call()), 1..14)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path());
        let mut expected = lines(&export(&store));
        let (mut calls, mut step) = (steps(&calls).into_iter().peekable(), 0);
        let mut removed = BTreeSet::new();
        let before: BTreeSet<_> = expected.keys().cloned().collect();
        let snapshot = store.snapshot_stepping(&mut || {
            while let Some((_, call)) = calls.next_if(|(at, _)| *at <= step) {
                run(&store, &call, 100 + step as u64);
                let now = lines(&export(&store));
                removed.extend(before.iter().filter(|key| !now.contains_key(*key)).cloned());
            }
            step += 1;
        });
        let mut snapshot = snapshot.unwrap();
        expected.retain(|key, _| !(of_people(key.0) && removed.contains(key)));
        let mut text = Vec::new();
        snapshot.file.read_to_end(&mut text).unwrap();
        prop_assert_eq!(text.len() as u64, snapshot.bytes);
        prop_assert_eq!(lines(&text), expected);
        // It is an export like any other: in order, whole, and its records fit together.
        let other = tempfile::tempdir().unwrap();
        let copy = open(other.path());
        let imported = copy.import(&mut text.as_slice()).unwrap();
        prop_assert_eq!(imported.sha256, snapshot.summary.sha256);
        prop_assert_eq!(export(&copy), text);
        assert_clean(&store);
    }

    #[test]
    fn a_compaction_loses_and_revives_nothing_that_is_written_meanwhile(
        calls in proptest::collection::vec((0..9u8, call()), 1..14)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path());
        let (mut calls, mut step) = (steps(&calls).into_iter().peekable(), 0);
        let mut erased = false;
        let patience = std::time::Duration::from_secs(5);
        let done = store.compact_within(patience, &mut || {
            while let Some((_, call)) = calls.next_if(|(at, _)| *at <= step) {
                erased |= matches!(call, Call::Erase(_));
                run(&store, &call, 100 + step as u64);
            }
            step += 1;
        });
        done.unwrap();
        // The same calls on a store that was not compacted.
        let other = tempfile::tempdir().unwrap();
        let twin = open(other.path());
        twin.import(&mut export(&store).as_slice()).unwrap();
        assert_clean(&store);
        prop_assert_eq!(export(&twin), export(&store));
        // Who was erased while it ran may be in the new files: they are wanted anew.
        prop_assert_eq!(store.wants_compaction(), erased);
        store.compact().unwrap();
        prop_assert!(!store.wants_compaction());
    }
}

#[test]
fn what_changes_too_much_to_be_kept_in_memory_ends_a_snapshot_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let before = export(&store);
    let watching = store.trees().watch(of_people);
    watching.overflow();
    run(&store, &Call::Profile(1), 50);
    assert!(matches!(watching.take(), Err(StoreError::Busy)));
    drop(watching);
    assert_ne!(export(&store), before);
    store.snapshot().unwrap();
    assert_clean(&store);
}
