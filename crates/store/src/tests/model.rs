//! The store against a map in memory, over random calls with random reopens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Call {
    PutUser(usize, u64),
    DeleteUser(usize),
    InsertAdapter(u8),
    RemoveAdapter(u8),
    Promote {
        alias: usize,
        expected: Option<u8>,
        seen: bool,
        new: u8,
    },
    Reopen,
    CopyByExport,
}

const USERS: [(&str, &str); 7] = [
    ("t", "a"),
    ("t", "a\0"),
    ("t", "ab"),
    ("t.2", "a"),
    ("t", "\u{10ffff}"),
    ("t", "\0"),
    ("T", "A"),
];
const ALIASES: [&str; 2] = ["attune", "attune-2"];

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (0..USERS.len(), any::<u64>()).prop_map(|(user, at)| Call::PutUser(user, at)),
        2 => (0..USERS.len()).prop_map(Call::DeleteUser),
        3 => (0..4u8).prop_map(Call::InsertAdapter),
        2 => (0..4u8).prop_map(Call::RemoveAdapter),
        5 => (0..ALIASES.len(), proptest::option::of(0..4u8), any::<bool>(), 0..4u8).prop_map(
            |(alias, expected, seen, new)| Call::Promote { alias, expected, seen, new }
        ),
        1 => Just(Call::Reopen),
        1 => Just(Call::CopyByExport),
    ]
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    users: BTreeMap<(String, String), UserRecord>,
    adapters: BTreeMap<AdapterVersion, AdapterRecord>,
    aliases: BTreeMap<String, AliasRecord>,
}

impl Model {
    fn in_use(&self, version: &AdapterVersion) -> bool {
        self.aliases.values().any(|alias| alias.version == *version)
    }

    /// The record after a promotion; `None` if it must fail.
    fn promote(
        &mut self,
        name: &str,
        expected: Option<&AdapterVersion>,
        new: u8,
    ) -> Option<AliasRecord> {
        let current = self.aliases.get(name).cloned();
        let new = version(new);
        if current.as_ref().map(|record| &record.version) != expected
            || !self.adapters.contains_key(&new)
        {
            return None;
        }
        let record = match current {
            Some(record) if record.version == new => record,
            current => AliasRecord {
                alias: alias(name),
                version: new,
                promotions: current.as_ref().map_or(0, |record| record.promotions) + 1,
                previous: current.map(|record| record.version),
                promoted_unix_ms: 77,
            },
        };
        self.aliases.insert(name.to_owned(), record.clone());
        Some(record)
    }
}

fn run(store: &Store, model: &mut Model, call: Call) {
    match call {
        Call::PutUser(n, at) => {
            let (tenant, id) = USERS[n];
            store.put_user(&user(tenant, id, at)).unwrap();
            model
                .users
                .insert((tenant.to_owned(), id.to_owned()), user(tenant, id, at));
        }
        Call::DeleteUser(n) => {
            let (tenant, id) = USERS[n];
            let was_there = model
                .users
                .remove(&(tenant.to_owned(), id.to_owned()))
                .is_some();
            assert_eq!(store.delete_user(&user_key(tenant, id)).unwrap(), was_there);
        }
        Call::InsertAdapter(n) => {
            let expected = model
                .adapters
                .entry(version(n))
                .or_insert_with(|| adapter(n));
            assert_eq!(store.insert_adapter(&adapter(n)).unwrap(), *expected);
        }
        Call::RemoveAdapter(n) if model.in_use(&version(n)) => {
            let error = store.remove_adapter(&version(n)).unwrap_err();
            assert!(matches!(error, StoreError::AdapterInUse { .. }));
        }
        Call::RemoveAdapter(n) => {
            let was_there = model.adapters.remove(&version(n)).is_some();
            assert_eq!(store.remove_adapter(&version(n)).unwrap(), was_there);
        }
        Call::Promote {
            alias: n,
            expected,
            seen,
            new,
        } => {
            // Half of the calls come from somebody who looked first.
            let current = model
                .aliases
                .get(ALIASES[n])
                .map(|record| record.version.clone());
            let expected = if seen { current } else { expected.map(version) };
            let result = model.promote(ALIASES[n], expected.as_ref(), new);
            let name = alias(ALIASES[n]);
            let got = store.compare_and_swap_alias(&name, expected.as_ref(), &version(new), 77);
            assert_eq!(got.ok(), result);
        }
        Call::Reopen | Call::CopyByExport => unreachable!("these need the directory"),
    }
}

fn assert_same(store: &Store, model: &Model) {
    let users: Result<Vec<UserRecord>, StoreError> = store.users().collect();
    assert_eq!(
        users.unwrap(),
        model.users.values().cloned().collect::<Vec<_>>()
    );
    let adapters: Vec<AdapterRecord> = model.adapters.values().cloned().collect();
    assert_eq!(store.adapters().unwrap(), adapters);
    let aliases: Vec<AliasRecord> = model.aliases.values().cloned().collect();
    assert_eq!(store.aliases().unwrap(), aliases);
    assert_clean(store);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map(calls in proptest::collection::vec(call(), 1..40)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut model = Model::default();
        for call in calls {
            match call {
                Call::Reopen => {
                    drop(store);
                    store = open(dir.path());
                }
                Call::CopyByExport => {
                    let text = export(&store);
                    drop(store);
                    dir = tempfile::tempdir().unwrap();
                    store = open(dir.path());
                    store.import(&mut text.as_slice()).unwrap();
                    prop_assert_eq!(export(&store), text);
                }
                call => run(&store, &mut model, call),
            }
            assert_same(&store, &model);
        }
    }
}
