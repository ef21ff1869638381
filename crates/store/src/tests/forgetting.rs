//! What began before a deletion and is written after it brings nobody back.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::people::{completion, preference, rating, request};
use super::*;

/// What a request may write of a person.
#[derive(Debug, Clone, Copy)]
enum Write {
    Preference,
    PreferenceOnce,
    Feedback,
    FeedbackOnce,
    Completion,
    Profile,
}

const WRITES: [Write; 6] = [
    Write::Preference,
    Write::PreferenceOnce,
    Write::Feedback,
    Write::FeedbackOnce,
    Write::Completion,
    Write::Profile,
];

/// Writes record `n` of `user`, of a request that began then.
fn write(store: &Store, what: Write, n: u64, user: &str, began: u64) -> Result<(), StoreError> {
    let key = request(&format!("key-{n}"), "body");
    let once = matches!(what, Write::PreferenceOnce | Write::FeedbackOnce).then_some(&key);
    let inserted = |result: Result<(), InsertError>| match result {
        Ok(()) => Ok(()),
        Err(InsertError::Store(error)) => Err(error),
        Err(error @ InsertError::KeyReused) => panic!("{error}"),
    };
    match what {
        Write::Preference | Write::PreferenceOnce => {
            let mut record = preference(n, Some(user));
            record.created_unix_ms = began;
            inserted(store.insert_preference(&record, once).map(drop))
        }
        Write::Feedback | Write::FeedbackOnce => {
            let mut record = rating(n, Some(user), Rating::Up);
            record.created_unix_ms = began;
            inserted(store.insert_feedback(&record, once).map(drop))
        }
        Write::Completion => {
            let mut record = completion(n, Some(user), None);
            record.created_unix_ms = began;
            store.insert_completion(&record)
        }
        Write::Profile => store.change_profile(&user_key("t", user), began, |profile| {
            profile.text = Some("Drinks tea.".into());
        }),
    }
}

fn deleted(result: &Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::UserDeleted))
}

/// Everything of `user`.
fn lines(store: &Store, user: &str) -> Vec<serde_json::Value> {
    let whole = store.export_user(&user_key("t", user), None, usize::MAX);
    let (out, _) = whole.unwrap();
    let lines = out.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|l| serde_json::from_slice(l).unwrap()).collect()
}

/// When they were made.
fn times(store: &Store, user: &str) -> Vec<u64> {
    let time = |line: serde_json::Value| {
        let (created, updated) = (
            &line["data"]["created_unix_ms"],
            &line["data"]["updated_unix_ms"],
        );
        created.as_u64().or(updated.as_u64()).unwrap()
    };
    lines(store, user).into_iter().map(time).collect()
}

#[test]
fn each_writer_refuses_what_began_before_the_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for (n, what) in (0..).zip(WRITES) {
        // The clock stands still all the time.
        let began = store.begin(1000);
        write(&store, what, 2 * n, "ann", began).unwrap();
        store.erase_user(&user_key("t", "ann"), 1000).unwrap();
        let before = export(&store);
        let late = write(&store, what, 2 * n + 1, "ann", began);
        assert!(deleted(&late), "{what:?}: {late:?}");
        assert_eq!(export(&store), before, "{what:?} left something");
        // Others are not concerned, and neither is nobody in particular.
        write(&store, what, 100 + n, "bob", began).unwrap();
        let mut nobody = preference(200 + n, None);
        nobody.created_unix_ms = began;
        store.insert_preference(&nobody, None).unwrap();
        // It holds over a restart, also of a clock that was set back.
        drop(store);
        store = open(dir.path());
        assert!(deleted(&write(&store, what, 2 * n + 1, "ann", began)));
        let anew = store.begin(5);
        write(&store, what, 2 * n + 1, "ann", anew).unwrap();
        assert!(!lines(&store, "ann").is_empty());
        assert_clean(&store);
    }
}

#[test]
fn an_import_brings_the_deletions_of_its_store() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(one.path());
    store.erase_user(&user_key("t", "ann"), 5000).unwrap();
    let text = export(&store);
    let copy = open(two.path());
    let began = copy.begin(10);
    copy.import(&mut &text[..]).unwrap();
    assert!(deleted(&write(&copy, Write::Profile, 1, "ann", began)));
    write(&copy, Write::Profile, 1, "ann", copy.begin(10)).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Begin(usize),
    Write(usize, usize, usize),
    Erase(usize),
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let step = prop_oneof![
        3 => (0..4usize).prop_map(Step::Begin),
        5 => (0..4usize, 0..WRITES.len(), 0..2usize).prop_map(|(r, w, u)| Step::Write(r, w, u)),
        2 => (0..2usize).prop_map(Step::Erase),
    ];
    // Clocks stand still and step back.
    proptest::collection::vec((step, 1000..1003u64), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Four requests in any order against deletions of two people: a write is refused exactly if its request
    /// began before the person's last deletion.
    #[test]
    fn order_decides_and_no_clock(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let users = ["ann", "bob"];
        let mut began = [(0, 0); 4];
        let mut erased = [0; 2];
        for (number, (step, now)) in (1..).zip(steps) {
            match step {
                Step::Begin(request) => began[request] = (number, store.begin(now)),
                Step::Erase(user) => {
                    store.erase_user(&user_key("t", users[user]), now).unwrap();
                    erased[user] = number;
                    prop_assert!(lines(&store, users[user]).is_empty());
                }
                Step::Write(request, what, user) => {
                    let (at, moment) = began[request];
                    let result = write(&store, WRITES[what], number, users[user], moment);
                    prop_assert_eq!(deleted(&result), at < erased[user], "{:?}", result);
                }
            }
        }
        assert_clean(&store);
    }
}

/// Writers and a deletion at the same time: once it has returned, whatever is there of the person began
/// after it, and what reads it as it begins has seen nothing of the time before.
#[test]
fn racing_writers_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ann = user_key("t", "ann");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (store, done, ann) = (&store, &done, &ann);
            scope.spawn(move || {
                let mut n = thread;
                while !done.load(Ordering::SeqCst) {
                    let began = store.begin(1000);
                    let seen = times(store, "ann");
                    let what = WRITES[n as usize % WRITES.len()];
                    let result = write(store, what, n, "ann", began);
                    assert!(result.is_ok() || deleted(&result), "{result:?}");
                    let last = store.tombstone(ann).unwrap();
                    let last = last.map_or(0, |tombstone| tombstone.deleted_unix_ms);
                    // A later deletion takes the record with it.
                    if result.is_ok() && last < began {
                        assert!(seen.iter().all(|time| *time > last), "{seen:?} {last}");
                    }
                    n += 3;
                }
            });
        }
        for _ in 0..20 {
            store.erase_user(&ann, 1000).unwrap();
            let tombstone = store.tombstone(&ann).unwrap().unwrap();
            let left = times(&store, "ann");
            let after = |time: &u64| *time > tombstone.deleted_unix_ms;
            assert!(left.iter().all(after), "{left:?} {tombstone:?}");
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_clean(&store);
}

/// A deletion of many records takes a while; who begins meanwhile and can still read something of the person
/// must not write it down again.
#[test]
fn a_deletion_is_after_whatever_could_still_read_something() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ann = user_key("t", "ann");
    write(&store, Write::Profile, 0, "ann", store.begin(1000)).unwrap();
    let entries = |n| {
        let record = preference(n, Some("ann"));
        let index = by_user::ByUserRecord {
            tenant: record.tenant.clone(),
            user: ann.user.clone(),
            kind: by_user::OwnedKind::Preference,
            id: record.id.as_str().to_owned(),
        };
        [
            trees::Edit::put(&record).unwrap(),
            trees::Edit::put(&index).unwrap(),
        ]
    };
    let many: Vec<_> = (1..3000).flat_map(entries).collect();
    store.trees().writer().unwrap().commit(&many).unwrap();
    std::thread::scope(|scope| {
        let racing = scope.spawn(|| {
            while store.tombstone(&ann).unwrap().is_none() {
                std::hint::spin_loop();
            }
            let began = store.begin(1000);
            let seen = store.profile(&ann).unwrap();
            (seen, write(&store, Write::Completion, 1, "ann", began))
        });
        store.erase_user(&ann, 1000).unwrap();
        let (seen, result) = racing.join().unwrap();
        // Nearly always: there are a dozen flushes between the first look and the end.
        if seen.is_some() {
            assert!(deleted(&result), "{result:?}");
        }
    });
    assert!(lines(&store, "ann").is_empty());
}

/// A deletion of more than one transaction may be cut off between any two of them.
#[test]
fn a_store_is_whole_between_the_transactions_of_a_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 0).unwrap();
    let began = store.begin(1);
    for n in 0..260 {
        for (at, what) in [
            Write::PreferenceOnce,
            Write::FeedbackOnce,
            Write::Completion,
        ]
        .into_iter()
        .enumerate()
        {
            write(&store, what, 3 * n + at as u64, "ann", began).unwrap();
        }
    }
    let mut steps = 0;
    let look = &mut || {
        let report = crate::verify::verify_records(store.trees()).unwrap();
        assert!(report.is_clean(), "after {steps}: {report}");
        steps += 1;
    };
    store
        .erase_in_steps(&user_key("t", "ann"), 2, look)
        .unwrap();
    assert!(steps >= 4, "{steps}");
    assert!(lines(&store, "ann").is_empty());
}
