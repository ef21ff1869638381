//! The registry against a naive model, and under threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier, Mutex, Weak};

use attune::adapter::bundle::Adapter;
use attune::adapter::canary::Canary;
use attune::adapter::data_until::Reach;
use attune::adapter::registry::{AdapterRegistry, PromoteError, RetireError};
use attune::ids::{AdapterVersion, Alias};
use attune::model::lora::LoraSet;
use proptest::prelude::*;

use crate::support::user;

fn version(n: usize) -> AdapterVersion {
    AdapterVersion::new(format!("{n:064x}")).unwrap()
}

fn alias(n: usize) -> Alias {
    Alias::new(format!("alias-{n}")).unwrap()
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

#[test]
fn a_version_is_freed_with_its_last_lease() {
    let registry = AdapterRegistry::new();
    let pinned = registry.install(adapter(1));
    let watch: Weak<Adapter> = Arc::downgrade(pinned.adapter());
    registry.promote(&alias(0), &version(1), None).unwrap();
    let in_flight = registry.by_alias(&alias(0)).unwrap();
    drop(pinned);

    let in_use = RetireError::InUse { alias: alias(0) };
    assert_eq!(registry.retire(&version(1)), Err(in_use));
    drop(registry.install(adapter(2)));
    registry
        .promote(&alias(0), &version(2), Some(&version(1)))
        .unwrap();
    registry.retire(&version(1)).unwrap();
    assert!(registry.by_version(&version(1)).is_none());
    assert_eq!(
        in_flight.adapter().version,
        version(1),
        "finishes on the old one"
    );
    let copy = in_flight.clone();
    drop(in_flight);
    assert!(watch.upgrade().is_some());
    drop(copy);
    assert!(watch.upgrade().is_none());
}

#[test]
fn installing_again_keeps_what_is_there() {
    let registry = AdapterRegistry::new();
    let first = registry.install(adapter(1));
    let second = registry.install(adapter(1));
    assert!(Arc::ptr_eq(first.adapter(), second.adapter()));
    assert_eq!(registry.versions().len(), 1);
}

#[test]
fn a_restart_restores_aliases_and_what_came_before() {
    let registry = AdapterRegistry::new();
    let restore = |v, previous: Option<usize>| {
        registry.restore(&alias(0), &version(v), previous.map(version).as_ref())
    };
    assert_eq!(
        restore(1, None),
        Err(PromoteError::NotInstalled(version(1)))
    );
    let _leases = [1, 2].map(|n| registry.install(adapter(n)));
    restore(2, Some(1)).unwrap();
    assert_eq!(registry.previous(&alias(0)), Some(version(1)));
    restore(1, Some(9)).unwrap();
    assert_eq!(registry.previous(&alias(0)), None, "9 is not installed");
    assert_eq!(registry.aliases(), [(alias(0), version(1))]);
}

#[derive(Debug, Clone)]
enum Op {
    Install(usize),
    Retire(usize),
    Promote(usize, usize, Option<usize>),
    /// Promote with the right expectation.
    Move(usize, usize),
}

/// What the registry does, said in the plainest way.
#[derive(Debug, Default)]
struct Naive {
    installed: Vec<usize>,
    aliases: BTreeMap<usize, (usize, Option<usize>)>,
}

impl Naive {
    fn current(&self, alias: usize) -> Option<usize> {
        self.aliases.get(&alias).map(|(current, _)| *current)
    }

    fn promote(
        &mut self,
        alias: usize,
        v: usize,
        expected: Option<usize>,
    ) -> Result<(), PromoteError> {
        let actual = self.current(alias);
        if !self.installed.contains(&v) {
            return Err(PromoteError::NotInstalled(version(v)));
        }
        if actual != expected {
            return Err(PromoteError::Conflict {
                actual: actual.map(version),
            });
        }
        if actual != Some(v) {
            self.aliases.insert(alias, (v, actual));
        }
        Ok(())
    }

    fn retire(&mut self, v: usize) -> Result<(), RetireError> {
        if !self.installed.contains(&v) {
            return Err(RetireError::NotInstalled(version(v)));
        }
        if let Some((a, _)) = self.aliases.iter().find(|(_, named)| named.0 == v) {
            return Err(RetireError::InUse { alias: alias(*a) });
        }
        self.installed.retain(|i| *i != v);
        for named in self.aliases.values_mut() {
            named.1 = named.1.filter(|p| *p != v);
        }
        Ok(())
    }
}

fn op() -> impl Strategy<Value = Op> {
    let (v, a) = (0..4usize, 0..2usize);
    prop_oneof![
        v.clone().prop_map(Op::Install),
        v.clone().prop_map(Op::Retire),
        (a.clone(), v.clone(), prop::option::of(v.clone()))
            .prop_map(|(a, v, e)| Op::Promote(a, v, e)),
        (a, v).prop_map(|(a, v)| Op::Move(a, v)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_naive_model_does(ops in prop::collection::vec(op(), 1..60)) {
        let (registry, mut naive) = (AdapterRegistry::new(), Naive::default());
        let promote = |naive: &mut Naive, a, v, e: Option<usize>| {
            let got = registry.promote(&alias(a), &version(v), e.map(version).as_ref());
            (got, naive.promote(a, v, e))
        };
        for op in ops {
            match op {
                Op::Install(v) => {
                    let lease = registry.install(adapter(v));
                    prop_assert_eq!(&lease.adapter().version, &version(v));
                    if !naive.installed.contains(&v) {
                        naive.installed.push(v);
                    }
                }
                Op::Retire(v) => prop_assert_eq!(registry.retire(&version(v)), naive.retire(v)),
                Op::Promote(a, v, e) => {
                    let (got, expected) = promote(&mut naive, a, v, e);
                    prop_assert_eq!(got, expected);
                }
                Op::Move(a, v) => {
                    let current = naive.current(a);
                    let (got, expected) = promote(&mut naive, a, v, current);
                    prop_assert_eq!(got, expected);
                }
            }
            let installed: Vec<_> = registry.versions().iter().map(|a| a.version.clone()).collect();
            let expected: Vec<_> = naive.installed.iter().map(|v| version(*v)).collect();
            prop_assert_eq!(installed, expected);
            let aliases = naive.aliases.iter().map(|(a, n)| (alias(*a), version(n.0)));
            prop_assert_eq!(registry.aliases(), aliases.collect::<Vec<_>>());
            for a in 0..2 {
                let previous = naive.aliases.get(&a).and_then(|named| named.1);
                prop_assert_eq!(registry.previous(&alias(a)), previous.map(version));
                let leased = registry.by_alias(&alias(a)).map(|l| l.adapter().version.clone());
                prop_assert_eq!(leased, naive.current(a).map(version));
            }
        }
    }
}

/// Threads move one alias, each from what it sees. If compare-and-swap is atomic, the moves that
/// succeeded form one chain from nothing to what the alias names in the end: every version is entered
/// as often as it is left, but for the last.
#[test]
fn moves_under_threads_form_one_chain() {
    const THREADS: usize = 4;
    const MOVES: usize = 500;
    let registry = AdapterRegistry::new();
    for n in 0..THREADS {
        registry.install(adapter(n));
    }
    let moves = Mutex::new(Vec::new());
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let (registry, moves, start) = (&registry, &moves, &start);
            scope.spawn(move || {
                start.wait();
                let mut mine = Vec::new();
                for step in 0..MOVES {
                    let to = version((n + step) % THREADS);
                    let seen = registry
                        .by_alias(&alias(0))
                        .map(|l| l.adapter().version.clone());
                    if registry.promote(&alias(0), &to, seen.as_ref()).is_ok() {
                        mine.push((seen, to));
                    }
                    // A version that an alias names, or that somebody is about to promote.
                    let _ = registry.retire(&version(THREADS));
                    drop(registry.install(adapter(THREADS)));
                }
                moves.lock().unwrap().extend(mine);
            });
        }
    });
    let moves = moves.into_inner().unwrap();
    assert!(
        moves.len() >= MOVES,
        "some thread's moves succeed at every step"
    );
    let from_nothing = moves.iter().filter(|(from, _)| from.is_none()).count();
    assert_eq!(from_nothing, 1);
    let last = registry.aliases()[0].1.clone();
    for n in 0..THREADS {
        let entered = moves.iter().filter(|(_, to)| *to == version(n)).count();
        let left = moves
            .iter()
            .filter(|(from, _)| from.as_ref() == Some(&version(n)))
            .count();
        assert_eq!(
            entered - left,
            usize::from(version(n) == last),
            "version {n}"
        );
    }
}

/// A promoted version is always there: readers never see an alias without its version, nor half of a
/// move, while versions come and go.
#[test]
fn readers_never_see_half_a_move() {
    const MOVES: usize = 2000;
    let registry = AdapterRegistry::new();
    let first = registry.install(adapter(0));
    registry.promote(&alias(0), &version(0), None).unwrap();
    drop(first);
    let start = Barrier::new(3);
    std::thread::scope(|scope| {
        let (registry, start) = (&registry, &start);
        let writer = scope.spawn(move || {
            start.wait();
            for n in 0..MOVES {
                drop(registry.install(adapter(n + 1)));
                registry
                    .promote(&alias(0), &version(n + 1), Some(&version(n)))
                    .unwrap();
                registry.retire(&version(n)).unwrap();
            }
        });
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    start.wait();
                    let mut newest = 0;
                    while newest < MOVES as u64 {
                        let lease = registry
                            .by_alias(&alias(0))
                            .expect("an alias names a version");
                        assert!(
                            lease.adapter().created_unix >= newest,
                            "time runs backwards"
                        );
                        newest = lease.adapter().created_unix;
                    }
                })
            })
            .collect();
        // A writer that failed would leave the readers waiting: end them first.
        if writer.join().is_err() {
            registry.install(adapter(MOVES));
            registry.restore(&alias(0), &version(MOVES), None).unwrap();
            panic!("the writer failed");
        }
        drop(readers);
    });
    assert_eq!(registry.versions().len(), 1);
}

#[test]
fn a_canary_answers_its_share_and_is_in_use() {
    let registry = AdapterRegistry::new();
    let answers = |user| {
        let lease = registry.by_alias_for(&alias(0), user)?;
        Some(lease.adapter().version.clone())
    };
    let (somebody, tried) = (user("default", "ann"), version(1));
    let canary = |permille| Canary {
        version: tried.clone(),
        permille,
        started_unix_ms: 7,
    };
    let missing = registry.set_canary(&alias(0), canary(1000));
    assert_eq!(missing, Err(PromoteError::NotInstalled(version(1))));
    for n in 0..3 {
        drop(registry.install(adapter(n)));
    }
    registry.promote(&alias(0), &version(0), None).unwrap();
    registry.set_canary(&alias(0), canary(1000)).unwrap();
    assert_eq!(answers(Some(&somebody)), Some(version(1)));
    assert_eq!(answers(None), Some(version(0)));
    let in_use = RetireError::InUse { alias: alias(0) };
    assert_eq!(registry.retire(&tried), Err(in_use));
    // No place is below 0.
    registry.set_canary(&alias(0), canary(0)).unwrap();
    assert_eq!(answers(Some(&somebody)), Some(version(0)));

    let moved = |to: usize, from: usize| {
        let (to, from) = (version(to), version(from));
        registry.promote(&alias(0), &to, Some(&from)).unwrap();
    };
    moved(2, 0);
    assert_eq!(registry.canary(&alias(0)), Some(canary(0)));
    moved(1, 2);
    assert_eq!(registry.canary(&alias(0)), None);
    assert!(!registry.end_canary(&alias(0)));
}

#[test]
fn leases_are_counted() {
    let registry = AdapterRegistry::new();
    assert_eq!(registry.leases(&version(0)), None);
    let lease = registry.install(adapter(0));
    assert_eq!(registry.leases(&version(0)), Some(1));
    let second = lease.clone();
    assert_eq!(registry.leases(&version(0)), Some(2));
    drop((lease, second));
    assert_eq!(registry.leases(&version(0)), Some(0));
}
