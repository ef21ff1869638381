//! Compaction: nothing is lost, what was deleted is gone, and a crash at any point is survived.

use std::fs;

use super::people::preference;
use super::*;

/// Whether some file below `dir` has `text` in it.
fn in_files(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => in_files(&path, text),
            false => {
                let bytes = fs::read(&path).unwrap();
                bytes.windows(text.len()).any(|w| w == text.as_bytes())
            }
        }
    })
}

fn tell(store: &Store, secret: &str, user: &str, n: u64) {
    let mut record = preference(n, Some(user));
    record.id = attune_ids::RecordId::new(format!("pref_{user}_{n}")).unwrap();
    // Some are so long that sled keeps them in files of their own.
    let filler = "x".repeat(if n.is_multiple_of(5) { 400_000 } else { 300 });
    record.chosen.text = format!("{secret} {filler}");
    store.insert_preference(&record, None).unwrap();
}

#[test]
fn what_was_erased_leaves_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    for n in 0..30 {
        tell(&store, "hidden-secret", "quiet-person", n);
        tell(&store, "open-secret", "other-person", n);
    }
    assert!(!store.wants_compaction());
    store.erase_user(&user_key("t", "quiet-person"), 9).unwrap();
    let before = export(&store);
    assert!(store.wants_compaction() && in_files(dir.path(), "hidden-secret"));
    // The wish survives a restart.
    drop(store);
    let store = open(dir.path());
    assert!(store.wants_compaction());
    let summary = store.compact().unwrap();
    assert!(summary.after < summary.before, "{summary:?}");
    assert!(!store.wants_compaction());
    for gone in ["hidden-secret", "quiet-person"] {
        assert!(!in_files(dir.path(), gone), "{gone}");
    }
    assert!(in_files(dir.path(), "open-secret"));
    assert_eq!(export(&store), before);
    assert_clean(&store);
    // It goes on, compacts again, and is sealed when it is closed.
    tell(&store, "later", "other-person", 99);
    let later = export(&store);
    store.compact().unwrap();
    drop(store);
    assert!(dir.path().join("seal.json").exists());
    let store = open(dir.path());
    assert_eq!(export(&store), later);
}

#[test]
fn who_reads_holds_it_up_and_who_reads_later_sees_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    let mut users = store.users();
    users.next().unwrap().unwrap();
    let busy = store.compact_within(std::time::Duration::from_millis(20), &mut || {});
    assert!(matches!(busy, Err(StoreError::Busy)));
    assert_eq!(users.count(), 2);
    assert_clean(&store);
    store.compact().unwrap();
    assert_eq!(store.users().count(), 3);
    assert_clean(&store);
}

#[test]
fn writers_and_readers_go_on_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for user in ["ann", "bob"] {
            let store = &store;
            scope.spawn(move || {
                for n in 0..40 {
                    tell(store, "text", user, n);
                    let counts = store.user_counts(&user_key("t", user)).unwrap();
                    assert_eq!(counts.preferences, n + 1);
                }
            });
        }
        for _ in 0..10 {
            store.compact().unwrap();
        }
    });
    assert_clean(&store);
    assert_eq!(store.all_preferences().count(), 80);
}

#[test]
fn one_that_was_cut_off_is_completed_or_undone() {
    for (names, content) in [
        // While it wrote; between the two renames; before it removed the old files.
        (vec![("compacted", "sled")], "sled"),
        (vec![("replaced", "sled"), ("compacted", "sled")], ""),
        (vec![("replaced", "sled")], "sled"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        fill(&store);
        let before = export(&store);
        drop(store);
        fs::remove_file(dir.path().join("seal.json")).unwrap();
        for (to, from) in &names {
            super::super::files::copy_tree(&dir.path().join(from), &dir.path().join(to)).unwrap();
        }
        if content.is_empty() {
            fs::remove_dir_all(dir.path().join("sled")).unwrap();
        }
        let store = open(dir.path());
        assert_eq!(export(&store), before, "{names:?}");
        for (left, _) in names {
            assert!(!dir.path().join(left).exists(), "{left}");
        }
    }
}
