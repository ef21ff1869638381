//! Indexes and sums follow from records, whatever is done; lists go by them, and cost what they show.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::people::{completion, preference, rating};
use super::*;
use crate::derived;
use attune_ids::RecordId;

const MODELS: [&str; 3] = ["attune", "tiny", "attune@12345678"];
const PEOPLE: [Option<&str>; 4] = [Some("ann"), Some("bob"), Some("ann\0"), None];

/// A kept completion that differs in all that is indexed.
fn kept(n: u64, of: u8, pairs: u8, expires: Option<u64>) -> CompletionRecord {
    let mut record = completion(n, PEOPLE[of as usize % 4], expires);
    record.model = MODELS[of as usize % 3].to_owned();
    let pair = |bit: u8| (pairs >> bit) & 1 == 1;
    let names = [("a", "x"), ("b", "x"), ("c", "y\0z")];
    let kept = (0..3u8)
        .filter(|bit| pair(*bit))
        .map(|bit| names[bit as usize]);
    record.metadata = kept.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    record
}

fn everything() -> CompletionFilter {
    CompletionFilter {
        whose: Owners::Everybody,
        model: None,
        metadata: BTreeMap::new(),
    }
}

/// All pages of a list, and what they cost.
fn all(
    store: &Store,
    filter: &CompletionFilter,
    limit: usize,
    newest_first: bool,
) -> (Vec<u64>, u64) {
    let tenant = Tenant::new("t").unwrap();
    let (mut found, mut after, before) = (Vec::new(), None, store.records_read());
    loop {
        let page = Page {
            after,
            limit,
            newest_first,
        };
        let part = store.completions(&tenant, filter, &page, 50).unwrap();
        assert!(part.records.len() <= limit);
        found.extend(part.records.iter().map(|record| record.created_unix_ms));
        after = part.more;
        if after.is_none() {
            return (found, store.records_read() - before);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_list_by_indexes_is_a_list_by_looking_at_everything(
        records in proptest::collection::vec((0..12u8, 0..8u8, 0..4u8), 0..24),
        (who, model, pairs) in (0..5usize, 0..4usize, 0..8u8),
        (limit, newest_first) in (1..6usize, any::<bool>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut kept_records = Vec::new();
        for (n, (of, pairs, expires)) in records.into_iter().enumerate() {
            let expires = [None, Some(40), Some(60), None][expires as usize];
            let record = kept(n as u64, of, pairs, expires);
            store.insert_completion(&record).unwrap();
            kept_records.push(record);
        }
        let whose = match who {
            0 => Owners::Everybody,
            1 => Owners::Only(vec![]),
            2 => Owners::Only(vec![UserId::new("ann").unwrap()]),
            _ => Owners::Only(["ann", "bob", "ann\0"].map(|u| UserId::new(u).unwrap()).to_vec()),
        };
        let filter = CompletionFilter {
            model: MODELS.get(model).map(|m| (*m).to_owned()),
            metadata: kept(0, 0, pairs, None).metadata,
            whose,
        };
        let fits = |record: &&CompletionRecord| {
            let theirs = match &filter.whose {
                Owners::Everybody => true,
                Owners::Only(users) => record.user.as_ref().is_some_and(|u| users.contains(u)),
            };
            let mut pairs = filter.metadata.iter();
            theirs
                && !record.expired(50)
                && filter.model.as_ref().is_none_or(|m| *m == record.model)
                && pairs.all(|(k, v)| record.metadata.get(k) == Some(v))
        };
        let found = kept_records.iter().filter(fits);
        let mut expected: Vec<u64> = found.map(|record| record.created_unix_ms).collect();
        if newest_first {
            expected.reverse();
        }
        prop_assert_eq!(all(&store, &filter, limit, newest_first).0, expected);
        assert_clean(&store);
    }
}

#[test]
fn a_list_costs_what_it_shows_and_not_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..400 {
        let mut record = kept(n, 0, 0, None);
        // One in a hundred is another model's, and has a pair; half have another.
        if n % 100 == 50 {
            record.model = "rare".to_owned();
            record.metadata.insert("k".into(), "rare".into());
        }
        record.metadata.insert("half".into(), (n % 2).to_string());
        store.insert_completion(&record).unwrap();
    }
    let page = |filter: &CompletionFilter, limit: usize| {
        let before = store.records_read();
        let page = Page {
            limit,
            ..Page::default()
        };
        let tenant = Tenant::new("t").unwrap();
        let found = store.completions(&tenant, filter, &page, 50).unwrap();
        (found.records.len(), store.records_read() - before)
    };
    let model = |name: &str| CompletionFilter {
        model: Some(name.to_owned()),
        ..everything()
    };
    assert_eq!(page(&model("nope"), 20), (0, 1));
    // A look and a record for each that is found, and a look that finds no more.
    assert_eq!(page(&model("rare"), 20), (4, 9));
    let (found, cost) = page(&everything(), 5);
    assert!(found == 5 && cost <= 12, "{found} for {cost}");
    let both = CompletionFilter {
        metadata: [
            ("k".to_owned(), "rare".to_owned()),
            ("half".to_owned(), "0".to_owned()),
        ]
        .into(),
        ..model("rare")
    };
    let (found, cost) = page(&both, 20);
    assert!(found == 4 && cost <= 40, "{found} for {cost}");
    // Pairs that are never together: the places where one of them is are not looked at record by record.
    let never = CompletionFilter {
        metadata: [
            ("k".to_owned(), "rare".to_owned()),
            ("half".to_owned(), "1".to_owned()),
        ]
        .into(),
        ..everything()
    };
    let (found, cost) = page(&never, 20);
    assert!(found == 0 && cost <= 20, "{found} for {cost}");
}

#[test]
fn a_search_that_looks_at_too_much_goes_on_on_the_next_page() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Two pairs that take turns, and are together at the end only.
    let mut edits = Vec::new();
    let pair = |key: &str| [(key.to_owned(), "x".to_owned())];
    let last = 5_000;
    for n in 0..=last {
        let mut record = kept(n, 0, 0, None);
        record.id = RecordId::new(format!("chatcmpl-{n:06}")).unwrap();
        record.metadata = match n {
            n if n == last => pair("even").into_iter().chain(pair("odd")).collect(),
            n if n % 2 == 0 => pair("even").into(),
            _ => pair("odd").into(),
        };
        edits.push(trees::Edit::put(&record).unwrap());
        if edits.len() == 1000 || n == last {
            store.trees().writer().unwrap().commit(&edits).unwrap();
            edits.clear();
        }
    }
    let filter = CompletionFilter {
        metadata: pair("even").into_iter().chain(pair("odd")).collect(),
        ..everything()
    };
    for newest_first in [false, true] {
        let tenant = Tenant::new("t").unwrap();
        let (mut pages, mut after, mut found) = (0, None, Vec::new());
        loop {
            let page = Page {
                after,
                limit: 20,
                newest_first,
            };
            let before = store.records_read();
            let part = store.completions(&tenant, &filter, &page, 50).unwrap();
            let cost = store.records_read() - before;
            assert!(cost < 4100, "{cost}");
            found.extend(part.records.iter().map(|r| r.created_unix_ms));
            pages += 1;
            after = part.more;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, [last]);
        assert!((2..=3).contains(&pages), "{pages}");
    }
}

#[test]
fn a_page_ends_after_so_many_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..25 {
        let mut record = preference(n, None);
        record.chosen.text = "x".repeat(900_000);
        store.insert_preference(&record, None).unwrap();
    }
    let page = Page {
        limit: 100,
        ..Page::default()
    };
    let tenant = Tenant::new("t").unwrap();
    let first = store
        .preferences(&tenant, &Owners::Everybody, &page)
        .unwrap();
    // 8 MiB are 9.3 of them; the one that reaches it is the last.
    assert_eq!(first.records.len(), 10);
    let rest = Page {
        after: first.more,
        ..page
    };
    let second = store
        .preferences(&tenant, &Owners::Everybody, &rest)
        .unwrap();
    assert_eq!(second.records[0].created_unix_ms, 10);
}

#[test]
fn a_sweep_reads_what_is_over_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..600 {
        // A third is over at 50, in no order; a third stays for ever.
        let expires = [None, Some(10 + n % 40), Some(51 + n)][n as usize % 3];
        store.insert_completion(&kept(n, 0, 1, expires)).unwrap();
    }
    let before = store.records_read();
    assert_eq!(store.sweep_completions(50).unwrap(), 200);
    let cost = store.records_read() - before;
    assert!(cost <= 2 * 200 + 10, "{cost}");
    assert_clean(&store);
    let before = store.records_read();
    assert_eq!(store.sweep_completions(50).unwrap(), 0);
    assert!(store.records_read() - before <= 2);
    assert_eq!(store.sweep_completions(u64::MAX).unwrap(), 200);
    assert_clean(&store);
}

#[test]
fn sums_and_indexes_follow_every_change_and_vanish_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (tenant, ann) = (Tenant::new("t").unwrap(), user_key("t", "ann"));
    let mut record = kept(1, 0, 7, Some(99));
    store.insert_completion(&record).unwrap();
    store
        .insert_preference(&preference(1, Some("ann")), None)
        .unwrap();
    store
        .insert_feedback(&rating(1, Some("ann"), Rating::Up), None)
        .unwrap();
    let bytes = |store: &Store| store.tenant_use(&tenant).unwrap().bytes;
    assert_eq!(store.tenant_use(&tenant).unwrap().records, 3);
    let before = bytes(&store);
    record.metadata = BTreeMap::from([("a".into(), "longer".into())]);
    store
        .set_completion_metadata(&tenant, &record.id, record.metadata.clone(), 1)
        .unwrap();
    assert_ne!(bytes(&store), before);
    assert_clean(&store);
    let count = |tree: &'static str| store.trees().scan(tree, &[]).count();
    assert_eq!(
        (count(derived::BY_METADATA), count(derived::BY_MODEL)),
        (1, 1)
    );
    // An import and a compaction make them anew.
    let exported = export(&store);
    let other = tempfile::tempdir().unwrap();
    let copy = open(other.path());
    copy.import(&mut exported.as_slice()).unwrap();
    assert_clean(&copy);
    assert_eq!(bytes(&copy), bytes(&store));
    store.compact().unwrap();
    assert_clean(&store);
    assert_eq!(bytes(&copy), bytes(&store));
    let text = String::from_utf8(exported).unwrap();
    assert!(!text.contains("by_model") && !text.contains("\"sums\""));
    store.erase_user(&ann, 100).unwrap();
    assert_clean(&store);
    for tree in derived::TREES {
        assert_eq!(count(tree), 0, "{tree}");
    }
}

#[test]
fn verify_names_indexes_and_sums_that_are_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.insert_completion(&kept(1, 0, 1, Some(9))).unwrap();
    store
        .insert_preference(&preference(1, Some("ann")), None)
        .unwrap();
    assert_clean(&store);
    let found: BTreeSet<(&'static str, Vec<u8>, Vec<u8>)> = derived::TREES
        .iter()
        .flat_map(|tree| {
            let entries = store.trees().scan(tree, &[]);
            entries.map(|entry| {
                let (key, value) = entry.unwrap();
                (*tree, key, value)
            })
        })
        .collect();
    assert!(found.len() >= 6, "{}", found.len());
    let write = |edit: trees::Edit| store.trees().writer().unwrap().commit(&[edit]).unwrap();
    for (tree, key, value) in found {
        write(trees::Edit::delete_raw(tree, key.clone()));
        let missing = store.verify().unwrap();
        assert!(missing.to_string().contains(tree), "{missing}");
        write(trees::Edit::put_raw(tree, key, value));
    }
    let stray = keys::encode(&["t", "attune", "chatcmpl-9"]);
    write(trees::Edit::put_raw(
        derived::BY_MODEL,
        stray.clone(),
        Vec::new(),
    ));
    assert!(!store.verify().unwrap().is_clean());
    write(trees::Edit::delete_raw(derived::BY_MODEL, stray));
    // Counts of records know nothing of them.
    assert_clean(&store);
}

#[test]
fn a_tenant_has_a_quota_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.set_quota(TenantQuota {
        records: 3,
        bytes: 1_000_000,
    });
    for n in 0..2 {
        store
            .insert_preference(&preference(n, Some("ann")), None)
            .unwrap();
    }
    let key = Idempotent {
        key: attune_ids::IdempotencyKey::new("k").unwrap(),
        sha256: "1".into(),
    };
    store
        .insert_feedback(&rating(1, None, Rating::Up), Some(&key))
        .unwrap();
    let full = |error: StoreError| match error {
        StoreError::Quota { used, quota } => {
            assert!(used.records <= quota.records);
            assert!(error.to_string().contains("delete"), "{error}");
        }
        error => panic!("{error}"),
    };
    full(store.insert_completion(&kept(1, 0, 0, None)).unwrap_err());
    // A repetition of what was done is no more of it; another tenant has its own.
    let again = store
        .insert_feedback(&rating(2, None, Rating::Up), Some(&key))
        .unwrap();
    assert!(matches!(again, Inserted::Known(_)));
    let mut foreign = preference(9, None);
    foreign.tenant = Tenant::new("other").unwrap();
    store.insert_preference(&foreign, None).unwrap();
    let set = |text: Option<&'static str>| {
        let change = move |profile: &mut ProfileRecord| {
            profile.text = text.map(str::to_owned);
            profile.learning = false;
        };
        store.change_profile(&user_key("t", "zoe"), 9, change)
    };
    full(set(Some("x")).unwrap_err());
    // Who wants nothing to be learned is heard all the same.
    set(None).unwrap();
    store.erase_user(&user_key("t", "zoe"), 5).unwrap();
    // What goes makes room; bytes count, too.
    store.erase_user(&user_key("t", "ann"), 5).unwrap();
    let mut large = kept(2, 1, 0, None);
    large.choices[0].content = "x".repeat(999_900);
    full(store.insert_completion(&large).unwrap_err());
    large.choices[0].content = "x".repeat(900_000);
    store.insert_completion(&large).unwrap();
    assert_clean(&store);
}
