//! Tests of the store as a whole.

mod basics;
mod compact;
mod crash;
mod damage;
mod derived;
mod forgetting;
mod full_disk;
mod going_on;
mod migration;
mod model;
mod people;
mod room;
mod snapshot;
mod successors;

use std::path::Path;

use super::*;
use attune_ids::{AdapterVersion, Alias, Tenant, UserId, UserKey};

/// A store in `dir`.
fn open(dir: &Path) -> Store {
    Store::open(dir, 1_700_000_000_000).unwrap()
}

/// A version that differs with `n`.
fn version(n: u8) -> AdapterVersion {
    AdapterVersion::new(format!("{n:064x}")).unwrap()
}

fn adapter(n: u8) -> AdapterRecord {
    AdapterRecord {
        version: version(n),
        name: n.is_multiple_of(2).then(|| format!("adapter \u{e9} {n}")),
        installed_unix_ms: u64::from(n),
        source: AdapterSource::Imported,
    }
}

fn alias(name: &str) -> Alias {
    Alias::new(name).unwrap()
}

fn user_key(tenant: &str, user: &str) -> UserKey {
    UserKey {
        tenant: Tenant::new(tenant).unwrap(),
        user: UserId::new(user).unwrap(),
    }
}

fn user(tenant: &str, user: &str, created_unix_ms: u64) -> UserRecord {
    UserRecord {
        tenant: Tenant::new(tenant).unwrap(),
        user: UserId::new(user).unwrap(),
        created_unix_ms,
    }
}

/// Three users, two adapters and an alias that was moved once.
fn fill(store: &Store) {
    for (tenant, id) in [("b", "ann"), ("a", "zoe\0"), ("a", "\u{65e5}\u{672c}")] {
        store.put_user(&user(tenant, id, 5)).unwrap();
    }
    for n in [2, 1] {
        store.insert_adapter(&adapter(n)).unwrap();
    }
    let name = alias("attune");
    store
        .compare_and_swap_alias(&name, None, &version(1), 10)
        .unwrap();
    store
        .compare_and_swap_alias(&name, Some(&version(1)), &version(2), 20)
        .unwrap();
}

fn export(store: &Store) -> Vec<u8> {
    let mut out = Vec::new();
    store.export(&mut out).unwrap();
    out
}

fn assert_clean(store: &Store) {
    let report = store.verify().unwrap();
    assert!(report.is_clean(), "{report}");
}
