//! Exports of a store as data.

use std::path::PathBuf;
use std::slice::from_ref;

use super::*;
use attune_adapter::data_until::{DataUntil, Reach};
use attune_ids::{RecordId, Tenant, UserId, UserKey};
use attune_store::{
    ComparedAnswer, FeedbackRecord, PreferenceRecord, PreferenceSource, ProfileRecord, Rating,
    Store, Turn,
};

fn tenant() -> Tenant {
    Tenant::new("t").unwrap()
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn turn(content: &str) -> Vec<Turn> {
    vec![Turn {
        role: "user".into(),
        content: content.into(),
    }]
}

fn prefer(store: &Store, n: u64, who: Option<&str>) {
    let answer = |text: String| ComparedAnswer {
        text,
        completion: None,
        index: None,
        adapter_version: None,
    };
    let record = PreferenceRecord {
        tenant: tenant(),
        id: RecordId::new(format!("pref_{n}")).unwrap(),
        user: who.map(user),
        created_unix_ms: n,
        source: PreferenceSource::Texts,
        adapter_version: None,
        messages: turn("tea?"),
        chosen: answer(format!("yes {n}")),
        rejected: answer(format!("no {n}")),
    };
    store.insert_preference(&record, None).unwrap();
}

fn rate(store: &Store, n: u64, answer: &str, rating: Rating) {
    let record = FeedbackRecord {
        tenant: tenant(),
        id: RecordId::new(format!("fb_{n}")).unwrap(),
        user: Some(user("ann")),
        created_unix_ms: n,
        completion: RecordId::new("chatcmpl-1").unwrap(),
        index: 0,
        rating,
        comment: None,
        adapter_version: None,
        messages: turn("cake?"),
        answer: answer.into(),
    };
    store.insert_feedback(&record, None).unwrap();
}

fn profile(store: &Store, who: &str, text: Option<&str>, learning: bool) {
    let record = ProfileRecord {
        tenant: tenant(),
        user: user(who),
        text: text.map(str::to_owned),
        learning,
        updated_unix_ms: 9,
    };
    let key = UserKey {
        tenant: tenant(),
        user: user(who),
    };
    store.change_profile(&key, 9, |old| *old = record).unwrap();
}

fn export(store: &Store) -> Vec<u8> {
    let mut out = Vec::new();
    store.export(&mut out).unwrap();
    out
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), 0).unwrap();
    (dir, store)
}

#[test]
fn preferences_and_what_ratings_say_become_pairs() {
    let (_dir, store) = store();
    for (n, who) in [(1, Some("ann")), (2, None), (3, Some("shy"))] {
        prefer(&store, n, who);
    }
    // Of three answers, the best one against each that is worse; a second thought counts.
    rate(&store, 1, "stale", Rating::Up);
    rate(&store, 2, "fresh", Rating::Stars(5));
    rate(&store, 3, "dry", Rating::Stars(2));
    rate(&store, 4, "stale", Rating::Down);
    profile(&store, "ann", Some("Drinks tea."), true);
    profile(&store, "shy", None, false);
    let data = read_as("s.jsonl", export(&store)).unwrap();
    let rows = shown(&data);
    let row = |who: &str, prompt: &str, chosen: &str, rejected: &str| {
        [who, prompt, chosen, rejected].map(str::to_owned)
    };
    assert_eq!(
        rows,
        [
            row("t/ann", "user: tea?", "yes 1", "no 1"),
            row("-", "user: tea?", "yes 2", "no 2"),
            row("t/ann", "user: cake?", "fresh", "dry"),
            row("t/ann", "user: cake?", "fresh", "stale"),
        ]
    );
    assert_eq!(data.pairs[0].user_info.as_deref(), Some("Drinks tea."));
    assert_eq!(data.pairs[1].user_info, None);
    assert_eq!((data.counts.read, data.counts.kept), (5, 4));
    assert_eq!(data.counts.dropped_opted_out, 1);
    let file = &data.counts.files[0];
    assert_eq!(file.layout, Layout::Snapshot);
    assert_eq!(file.sha256.as_ref().map(String::len), Some(64));
}

#[test]
fn whoever_was_deleted_is_not_learned_from_older_files() {
    let (_dir, store) = store();
    let older = r#"{"tenant": "t", "user": "gone", "prompt": "q", "chosen": "a", "rejected": "b"}
{"tenant": "t", "user": "here", "prompt": "q", "chosen": "a", "rejected": "b"}
"#;
    prefer(&store, 1, Some("gone"));
    let key = UserKey {
        tenant: tenant(),
        user: user("gone"),
    };
    store.erase_user(&key, 5).unwrap();
    prefer(&store, 2, Some("here"));
    let folder = Folder::new();
    let files = [
        folder.write("older.jsonl", older),
        folder.write("new.jsonl", export(&store)),
    ];
    let data = read(&files).unwrap();
    let users: Vec<&str> = data
        .pairs
        .iter()
        .map(|p| p.user.as_ref().unwrap().user.as_str())
        .collect();
    assert_eq!(users, ["here", "here"]);
    assert_eq!(data.counts.dropped_deleted, 1);
    // Who comes back has a new beginning.
    prefer(&store, 8, Some("gone"));
    let files = [files[0].clone(), folder.write("next.jsonl", export(&store))];
    let data = read(&files).unwrap();
    assert_eq!((data.counts.kept, data.counts.dropped_deleted), (3, 1));
}

#[test]
fn exports_that_are_cut_edited_or_empty_are_refused() {
    let (_dir, store) = store();
    let empty = error_of("s.jsonl", export(&store));
    assert!(empty.contains("has no records"), "{empty}");
    prefer(&store, 1, Some("ann"));
    let text = String::from_utf8(export(&store)).unwrap();
    let cut: String = text.lines().take(2).map(|l| format!("{l}\n")).collect();
    let cut = error_of("s.jsonl", cut);
    assert!(cut.contains("cut short"), "{cut}");
    let edited = error_of("s.jsonl", text.replace("yes 1", "yes 2"));
    assert!(edited.contains("digest does not match"), "{edited}");
}

fn key(who: &str) -> UserKey {
    UserKey {
        tenant: tenant(),
        user: user(who),
    }
}

const FILE: &str = r#"{"tenant": "t", "user": "gone", "prompt": "q", "chosen": "a", "rejected": "b"}
{"tenant": "t", "user": "here", "prompt": "q", "chosen": "a", "rejected": "b"}
"#;

#[test]
fn a_snapshot_says_until_when_its_people_are_known() {
    let (_dir, store) = store();
    prefer(&store, 3, Some("ann"));
    prefer(&store, 7, Some("here"));
    let folder = Folder::new();
    let early = folder.write("early.jsonl", export(&store));
    profile(&store, "ann", Some("Drinks tea."), true);
    let late = folder.write("late.jsonl", export(&store));
    let file = folder.write("file.jsonl", FILE);
    let reach = |files: &[PathBuf], stated| read(files).unwrap().ages.reach(stated);
    // The newest thing that may be learned; a profile is one.
    let (unknown, seven) = (DataUntil::Unknown, DataUntil::UnixMs(7));
    assert_eq!(reach(from_ref(&early), unknown), Reach::of_all(seven));
    let nine = DataUntil::UnixMs(9);
    assert_eq!(reach(from_ref(&late), unknown), Reach::of_all(nine));
    // Of two snapshots the older one counts.
    assert_eq!(reach(&[late, early.clone()], unknown), Reach::of_all(seven));
    // A file says nothing by itself, and what is said of it never outdoes a snapshot beside it.
    let both = [early, file.clone()];
    for (stated, here) in [
        (unknown, unknown),
        (DataUntil::UnixMs(2), DataUntil::UnixMs(2)),
        (nine, seven),
    ] {
        let mixed = reach(&both, stated);
        assert_eq!(
            [mixed.of(&key("ann")), mixed.of(&key("here"))],
            [seven, here]
        );
        assert_eq!(reach(from_ref(&file), stated), Reach::of_all(stated));
    }
}

/// A newer snapshot of the same store knows of deletions that an older one does not.
#[test]
fn an_older_snapshot_does_not_bring_back_whom_a_newer_one_forgot() {
    let (_dir, store) = store();
    prefer(&store, 1, Some("gone"));
    prefer(&store, 2, Some("here"));
    prefer(&store, 3, Some("back"));
    let folder = Folder::new();
    let old = folder.write("old.jsonl", export(&store));
    store.erase_user(&key("gone"), 5).unwrap();
    store.erase_user(&key("back"), 5).unwrap();
    prefer(&store, 20, Some("back"));
    let new = folder.write("new.jsonl", export(&store));
    let data = read(&[old, new]).unwrap();
    let chosen: Vec<&str> = data.pairs.iter().map(|p| p.chosen.as_str()).collect();
    assert_eq!(chosen, ["yes 2", "yes 20"]);
    assert_eq!(data.counts.dropped_deleted, 2);
    assert!(data.ages.deleted_since(&key("gone"), DataUntil::UnixMs(5)));
    assert!(!data.ages.deleted_since(&key("gone"), DataUntil::UnixMs(7)));
    assert!(!data.ages.deleted_since(&key("here"), DataUntil::Unknown));
}
