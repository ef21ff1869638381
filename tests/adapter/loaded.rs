//! Versions in memory: a budget, leases, and who leaves when room is needed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use attune_adapter::bundle::{bundle_dir, Adapter};
use attune_adapter::data_until::Reach;
use attune_adapter::files::WEIGHTS_FILE;
use attune_adapter::lease::{Lease, Loaded};
use attune_adapter::loaded::{LoadError, LoadedVersions};
use attune_adapter::publish;
use attune_adapter::AdapterError;
use attune_ids::AdapterVersion;
use attune_model::lora::LoraSet;

use crate::support::{small_contents, tiny_llama, BASE};

fn version(n: usize) -> AdapterVersion {
    AdapterVersion::new(format!("{n:064x}")).unwrap()
}

fn adapter(n: usize) -> Adapter {
    Adapter {
        version: version(n),
        name: None,
        created_unix: n as u64,
        reach: Reach::default(),
        lora: Arc::new(LoraSet::default()),
        people: None,
    }
}

/// Room for ten bytes, and `n` versions of so many.
fn ten(n: usize, bytes: usize) -> LoadedVersions {
    let loaded = LoadedVersions::new(10);
    for n in 0..n {
        loaded.insert(adapter(n), bytes).unwrap();
    }
    loaded
}

fn there(loaded: &LoadedVersions, of: usize) -> Vec<usize> {
    let is_there = |n: &usize| loaded.leases(&version(*n)).is_some();
    (0..of).filter(is_there).collect()
}

#[test]
fn a_version_is_freed_with_its_last_lease() {
    let loaded = ten(1, 4);
    let lease = loaded.lease(&version(0)).unwrap();
    let watch = Arc::downgrade(lease.loaded());
    loaded.forget(&version(0));
    assert!(loaded.lease(&version(0)).is_none());
    assert_eq!(lease.adapter().version, version(0), "finishes on it");
    let copy = lease.clone();
    drop(lease);
    assert!(watch.upgrade().is_some());
    assert_eq!(loaded.used_bytes(), 4, "it takes memory while it is leased");
    drop(copy);
    assert!(watch.upgrade().is_none());
    assert_eq!(loaded.used_bytes(), 0);
}

#[test]
fn inserting_again_keeps_what_is_there() {
    let loaded = ten(1, 4);
    let first = loaded.hold(&version(0)).unwrap();
    let second = loaded.insert(adapter(0), 4).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!((loaded.len(), loaded.used_bytes()), (1, 4));
}

#[test]
fn leases_are_counted_and_other_holds_are_not() {
    let loaded = ten(1, 4);
    let _hold: Arc<Loaded> = loaded.hold(&version(0)).unwrap();
    assert_eq!(loaded.leases(&version(1)), None);
    assert_eq!(loaded.leases(&version(0)), Some(0));
    let lease = loaded.lease(&version(0)).unwrap();
    let second = lease.clone();
    assert_eq!(loaded.leases(&version(0)), Some(2));
    drop((lease, second));
    assert_eq!(loaded.leases(&version(0)), Some(0));
}

#[test]
fn the_least_recently_used_leave_first_and_those_in_use_never() {
    let loaded = ten(5, 2);
    let _used = [0, 3].map(|n| loaded.lease(&version(n)).unwrap());
    drop(loaded.lease(&version(1)));
    // 2 and 4 were used longer ago than 1; 0 and 3 are leased.
    loaded.insert(adapter(5), 2).unwrap();
    assert_eq!(there(&loaded, 6), [0, 1, 3, 4, 5]);
    loaded.insert(adapter(6), 4).unwrap();
    assert_eq!(there(&loaded, 7), [0, 3, 5, 6]);
    let _more = [5, 6].map(|n| loaded.lease(&version(n)).unwrap());
    for (needed, used) in [(1, 10), (11, 10), (usize::MAX, 10)] {
        let error = loaded.insert(adapter(7), needed).unwrap_err();
        let LoadError::NoRoom {
            needed: n,
            used: u,
            max: 10,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((n, u), (needed, used));
    }
    assert_eq!(
        there(&loaded, 8),
        [0, 3, 5, 6],
        "who does not fit pushes nobody out"
    );
}

#[test]
fn what_can_never_fit_pushes_nobody_out() {
    let loaded = ten(5, 2);
    assert!(loaded.insert(adapter(5), 11).is_err());
    assert_eq!(there(&loaded, 6), [0, 1, 2, 3, 4]);
}

#[test]
fn a_bundle_is_verified_before_it_is_used_and_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let name = publish::write(dir.path(), &small_contents()).unwrap();
    let bundle = bundle_dir(dir.path(), &name);
    let config = tiny_llama();
    let loaded = LoadedVersions::new(64 << 20);
    let load = |loaded: &LoadedVersions| loaded.load(&bundle, &config, BASE);
    let first = load(&loaded).unwrap();
    assert!(Arc::ptr_eq(&first, &load(&loaded).unwrap()));
    // Tables (6 x 32), LoRA of two layers (4 x 32 and 32 or 16 x 4) in two forms, and the prompts.
    let values = 6 * 32 + 2 * 2 * (2 * 4 * 32 + 4 * 32 + 4 * 16);
    assert!(loaded.used_bytes() >= 4 * values, "{}", loaded.used_bytes());

    let error = load(&LoadedVersions::new(1000)).unwrap_err();
    assert!(error.to_string().contains("--adapter-memory"), "{error}");
    let weights = bundle.join(WEIGHTS_FILE);
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let error = load(&LoadedVersions::new(64 << 20)).unwrap_err();
    let is_hash = matches!(&error, LoadError::Adapter(AdapterError::Hash { .. }));
    assert!(is_hash, "{error}");
}

/// Threads lease and load more versions than fit: what is used never exceeds the budget, a lease is
/// always of the version that was asked for, and nothing is left when all have ended.
#[test]
fn threads_never_take_more_than_there_is() {
    const THREADS: usize = 4;
    let loaded = LoadedVersions::new(10);
    let (start, taken) = (Barrier::new(THREADS), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (loaded, start, taken) = (&loaded, &start, &taken);
            scope.spawn(move || {
                start.wait();
                for step in 0..2000 {
                    let n = (thread * 7 + step * 3) % 8;
                    match loaded.insert(adapter(n), 2 + n % 3) {
                        Ok(held) => {
                            taken.fetch_add(1, Ordering::Relaxed);
                            let lease = Lease::of(&held);
                            assert_eq!(lease.adapter().version, version(n));
                            if step % 5 == 0 {
                                loaded.forget(&version(n));
                            }
                        }
                        Err(LoadError::NoRoom { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    assert!(loaded.used_bytes() <= 10);
                }
            });
        }
    });
    // Not by each thread: others may sleep with all of it in their hands while one runs through.
    assert!(taken.into_inner() > 0, "nothing was ever loaded");
    for n in 0..8 {
        loaded.forget(&version(n));
    }
    assert_eq!(loaded.used_bytes(), 0);
}
