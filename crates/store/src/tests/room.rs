//! A disk that is nearly full, and a database that has failed: what goes on, and how the rest comes back.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::people::{completion, preference};
use super::*;

/// So much room as a test says.
#[derive(Default)]
struct Stated(AtomicU64);

impl Space for Stated {
    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.0.load(Ordering::SeqCst))
    }
}

fn bounded(dir: &Path) -> (Store, Arc<Stated>) {
    let (store, space) = (open(dir), Arc::new(Stated::default()));
    space.0.store(u64::MAX, Ordering::SeqCst);
    store.keep_free(10_000_000, space.clone());
    (store, space)
}

#[test]
fn below_the_mark_what_grows_is_refused_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, space) = bounded(dir.path());
    fill(&store);
    store
        .insert_preference(&preference(1, Some("ann")), None)
        .unwrap();
    let kept = completion(1, Some("bob"), Some(5));
    store.insert_completion(&kept).unwrap();
    space.0.store(9_999_999, Ordering::SeqCst);
    let no_room = |error: StoreError| {
        assert!(
            matches!(
                error,
                StoreError::NoRoom {
                    free: 9_999_999,
                    needed: 10_000_000
                }
            ),
            "{error}"
        )
    };
    let InsertError::Store(error) = store
        .insert_preference(&preference(2, None), None)
        .unwrap_err()
    else {
        panic!()
    };
    no_room(error);
    no_room(
        store
            .insert_completion(&completion(2, None, None))
            .unwrap_err(),
    );
    no_room(store.put_user(&user("t", "u", 1)).unwrap_err());
    let set = |profile: &mut ProfileRecord| profile.text = Some("x".into());
    no_room(
        store
            .change_profile(&user_key("t", "ann"), 9, set)
            .unwrap_err(),
    );
    no_room(store.is_writable().unwrap_err());
    // Operators' small records, deletions, expiry, and what makes room.
    let current = store.alias(&alias("attune")).unwrap().unwrap().version;
    store
        .compare_and_swap_alias(&alias("attune"), Some(&current), &version(1), 30)
        .unwrap();
    assert_eq!(store.sweep_completions(9).unwrap(), 1);
    assert!(store.erase_user(&user_key("t", "ann"), 40).unwrap() > 0);
    store.compact().unwrap();
    store.snapshot().unwrap();
    assert_clean(&store);
    // A copy that the disk has no room for is not begun.
    space.0.store(5_000_100, Ordering::SeqCst);
    let before = export(&store);
    assert!(matches!(store.compact(), Err(StoreError::NoRoom { .. })));
    assert_eq!(export(&store), before);
    // It comes back by itself.
    space.0.store(10_000_000, Ordering::SeqCst);
    store.is_writable().unwrap();
    store.insert_preference(&preference(2, None), None).unwrap();
}

#[test]
fn a_compaction_that_runs_out_of_room_ends_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, space) = bounded(dir.path());
    for n in 0..1200 {
        store.put_user(&user("t", &n.to_string(), 1)).unwrap();
    }
    let before = export(&store);
    let mut step = 0;
    let patience = std::time::Duration::from_secs(5);
    let ended = store.compact_within(patience, &mut || {
        step += 1;
        if step == 500 {
            space.0.store(1, Ordering::SeqCst);
        }
    });
    assert!(matches!(ended, Err(StoreError::NoRoom { .. })), "{ended:?}");
    assert!(!dir.path().join("compacted").exists());
    assert_eq!(export(&store), before);
    assert_clean(&store);
}

#[test]
fn a_database_that_failed_is_opened_anew_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (store, space) = bounded(dir.path());
    fill(&store);
    let gone = user_key("t", "gone");
    store.erase_user(&gone, 7).unwrap();
    let deleted = store.tombstone(&gone).unwrap().unwrap().deleted_unix_ms;
    let before = export(&store);
    store.mend().unwrap();
    store.trees().fail();
    assert!(matches!(
        store.put_user(&user("t", "u", 1)),
        Err(StoreError::Failed)
    ));
    assert_eq!(store.known(&gone).deleted_unix_ms, Some(deleted));
    space.0.store(5_000_001, Ordering::SeqCst);
    assert!(matches!(store.mend(), Err(StoreError::NoRoom { .. })));
    // A reader holds it up, and reads on.
    space.0.store(u64::MAX, Ordering::SeqCst);
    let mut users = store.users();
    users.next().unwrap().unwrap();
    assert!(matches!(store.mend(), Err(StoreError::Busy)));
    assert_eq!(users.count(), 2);
    store.mend().unwrap();
    assert_eq!(export(&store), before);
    assert_eq!(store.known(&gone).deleted_unix_ms, Some(deleted));
    store.put_user(&user("t", "u", 1)).unwrap();
    assert_clean(&store);
    drop(store);
    assert!(
        dir.path().join("seal.json").exists(),
        "it is as sound as any"
    );
}

#[test]
fn a_database_that_cannot_be_recovered_stays_failed_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = bounded(dir.path());
    fill(&store);
    store.trees().fail();
    let conf = dir.path().join("sled/conf");
    let good = std::fs::read(&conf).unwrap();
    std::fs::write(&conf, "something else").unwrap();
    assert!(store.mend().is_err());
    assert!(matches!(
        store.put_user(&user("t", "u", 1)),
        Err(StoreError::Failed)
    ));
    std::fs::write(&conf, good).unwrap();
    store.mend().unwrap();
    store.put_user(&user("t", "u", 1)).unwrap();
    assert_clean(&store);
}

#[test]
fn a_commit_syncs_new_files_of_large_values_only() {
    let dir = tempfile::tempdir().unwrap();
    let large = |n: u8| AdapterRecord {
        name: Some("x".repeat(400_000)),
        ..adapter(n)
    };
    let store = open(dir.path());
    for n in 0..30 {
        store.insert_adapter(&large(n)).unwrap();
    }
    let first = store.trees().blobs_synced();
    assert!(first >= 30, "{first}");
    store.put_user(&user("t", "small", 1)).unwrap();
    assert_eq!(store.trees().blobs_synced(), first);
    drop(store);
    // What a closed store holds is on the disk.
    let store = open(dir.path());
    store.put_user(&user("t", "small", 2)).unwrap();
    assert_eq!(store.trees().blobs_synced(), 0);
    store.insert_adapter(&large(99)).unwrap();
    assert!(store.trees().blobs_synced() > 0);
    drop(store);
    // Nobody knows what a killed one had synced.
    std::fs::remove_file(dir.path().join("seal.json")).unwrap();
    let store = open(dir.path());
    store.put_user(&user("t", "small", 3)).unwrap();
    assert!(store.trees().blobs_synced() >= 2);
}

#[test]
fn ids_go_on_from_those_of_every_tenant_of_the_store() {
    use attune_ids::RecordId;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let made =
        |time: u64| RecordId::new(format!("pref_{time:012x}{:04x}{:016x}", 3, u64::MAX)).unwrap();
    // Years ahead of every clock; in the middle of the tenants.
    let ahead = 5_000_000_000_000;
    for (n, (tenant, time)) in [("a", 10), ("b", ahead), ("c", 20)].into_iter().enumerate() {
        let mut record = preference(n as u64, None);
        record.tenant = Tenant::new(tenant).unwrap();
        record.id = made(time);
        store.insert_preference(&record, None).unwrap();
    }
    drop(store);
    let _store = open(dir.path());
    let next = RecordId::generate("pref_", 30);
    assert!(next > made(ahead), "{next}");
}
