//! Records of people: written once, found, listed, exported and erased.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use attune_ids::{IdempotencyKey, RecordId};

fn tenant() -> Tenant {
    Tenant::new("t").unwrap()
}

fn id(prefix: &str, n: u64) -> RecordId {
    RecordId::new(format!("{prefix}{n:04}")).unwrap()
}

fn answer(text: &str, version_of: Option<u8>) -> ComparedAnswer {
    ComparedAnswer {
        text: text.to_owned(),
        completion: version_of.map(|n| id("chatcmpl-", n.into())),
        index: version_of.map(|_| 0),
        adapter_version: version_of.map(version),
    }
}

pub(super) fn preference(n: u64, user: Option<&str>) -> PreferenceRecord {
    PreferenceRecord {
        tenant: tenant(),
        id: id("pref_", n),
        user: user.map(|user| UserId::new(user).unwrap()),
        created_unix_ms: n,
        source: PreferenceSource::Texts,
        adapter_version: None,
        messages: vec![Turn {
            role: "user".into(),
            content: format!("question {n} \u{1f642}"),
        }],
        chosen: answer(&format!("good {n}"), None),
        rejected: answer(&format!("bad {n}"), None),
    }
}

pub(super) fn rating(n: u64, user: Option<&str>, rating: Rating) -> FeedbackRecord {
    FeedbackRecord {
        tenant: tenant(),
        id: id("fb_", n),
        user: user.map(|user| UserId::new(user).unwrap()),
        created_unix_ms: n,
        completion: id("chatcmpl-", 1),
        index: 0,
        rating,
        comment: Some("secret comment".into()),
        adapter_version: Some(version(1)),
        messages: Vec::new(),
        answer: "an answer".into(),
    }
}

pub(super) fn completion(n: u64, user: Option<&str>, expires: Option<u64>) -> CompletionRecord {
    CompletionRecord {
        tenant: tenant(),
        id: id("chatcmpl-", n),
        user: user.map(|user| UserId::new(user).unwrap()),
        created_unix_ms: n,
        expires_unix_ms: expires,
        model: "attune".into(),
        adapter_version: Some(version(1)),
        fingerprint: "fp".into(),
        user_row: "user".into(),
        soft_prompt_tokens: 4,
        messages: Vec::new(),
        choices: vec![KeptChoice {
            index: 0,
            content: "secret answer".into(),
            finish_reason: "stop".into(),
        }],
        prompt_tokens: 3,
        completion_tokens: 2,
        metadata: BTreeMap::new(),
    }
}

pub(super) fn request(key: &str, body: &str) -> Idempotent {
    Idempotent {
        key: IdempotencyKey::new(key).unwrap(),
        sha256: body.to_owned(),
    }
}

fn ids(records: &[PreferenceRecord]) -> Vec<u64> {
    records.iter().map(|r| r.created_unix_ms).collect()
}

#[test]
fn a_request_that_is_repeated_is_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = preference(1, Some("ann"));
    let inserted = store.insert_preference(&first, Some(&request("k", "body")));
    assert_eq!(inserted.unwrap(), Inserted::New(first.clone()));
    let again = preference(2, Some("ann"));
    let known = store.insert_preference(&again, Some(&request("k", "body")));
    assert_eq!(known.unwrap(), Inserted::Known(first.clone()));
    let other = store.insert_preference(&again, Some(&request("k", "other")));
    assert!(matches!(other, Err(InsertError::KeyReused)));
    // Keys are a tenant's own; and a key of another kind of record is another request.
    let mut foreign = preference(3, None);
    foreign.tenant = Tenant::new("u").unwrap();
    let foreign_inserted = store.insert_preference(&foreign, Some(&request("k", "other")));
    assert_eq!(foreign_inserted.unwrap(), Inserted::New(foreign));
    let rated = store.insert_feedback(&rating(4, None, Rating::Up), Some(&request("k", "body")));
    assert!(matches!(rated, Err(InsertError::KeyReused)));
    let all = store.preferences(&tenant(), &Owners::Everybody, &page(9));
    assert_eq!(all.unwrap().records, [first]);
    assert_clean(&store);
}

fn page(limit: usize) -> Page {
    Page {
        limit,
        ..Page::default()
    }
}

#[test]
fn lists_come_in_pages_both_ways_and_stay_inside_their_tenant_and_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..9 {
        let user = [Some("ann"), Some("anna"), None][n as usize % 3];
        store.insert_preference(&preference(n, user), None).unwrap();
    }
    for other in ["s", "t0", "u"] {
        let mut foreign = preference(100, Some("ann"));
        foreign.tenant = Tenant::new(other).unwrap();
        store.insert_preference(&foreign, None).unwrap();
    }
    let whose = |user: Option<&str>| match user {
        None => Owners::Everybody,
        Some(user) => Owners::Only(vec![UserId::new(user).unwrap()]),
    };
    let list =
        |user: Option<&str>, page: Page| store.preferences(&tenant(), &whose(user), &page).unwrap();
    for (user, want) in [(None, (0..9).collect()), (Some("ann"), vec![0, 3, 6])] {
        let mut backwards: Vec<u64> = want.clone();
        backwards.reverse();
        for (newest_first, want) in [(false, &want), (true, &backwards)] {
            for limit in [1, 2, 3, 4, 9, 20] {
                let (mut got, mut after, mut pages): (Vec<u64>, _, _) = (Vec::new(), None, 0);
                loop {
                    let page = Page {
                        after,
                        limit,
                        newest_first,
                    };
                    let part = list(user, page);
                    got.extend(ids(&part.records));
                    pages += 1;
                    after = part.more;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(&got, want, "{user:?} {limit} {newest_first}");
                // The last page says that it is the last: nobody has to ask for an empty one.
                assert_eq!(pages, want.len().div_ceil(limit));
            }
        }
    }
    let nobody = list(Some("nobody"), page(5));
    assert_eq!((nobody.records, nobody.more), (Vec::new(), None));
}

#[test]
fn completions_expire_change_their_metadata_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (n, expires) in [(1, None), (2, Some(50)), (3, Some(60))] {
        let record = completion(n, Some("ann"), expires);
        store.insert_completion(&record).unwrap();
    }
    let there = |n, now| {
        store
            .completion(&tenant(), &id("chatcmpl-", n), now)
            .unwrap()
    };
    assert!(there(2, 49).is_some() && there(2, 50).is_none() && there(3, 50).is_some());
    let all = CompletionFilter {
        whose: Owners::Everybody,
        model: None,
        metadata: BTreeMap::new(),
    };
    let listed = store.completions(&tenant(), &all, &page(9), 55).unwrap();
    assert_eq!(listed.records.len(), 2);
    let metadata = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let changed = store
        .set_completion_metadata(&tenant(), &id("chatcmpl-", 1), metadata.clone(), 55)
        .unwrap();
    assert_eq!(changed.unwrap().metadata, metadata);
    assert_eq!(there(1, 55).unwrap().metadata, metadata);
    let gone = store.set_completion_metadata(&tenant(), &id("chatcmpl-", 2), metadata, 55);
    assert_eq!(gone.unwrap(), None);
    assert_eq!(store.sweep_completions(55).unwrap(), 1);
    assert_clean(&store);
    assert!(store
        .delete_completion(&tenant(), &id("chatcmpl-", 1))
        .unwrap());
    assert!(!store
        .delete_completion(&tenant(), &id("chatcmpl-", 1))
        .unwrap());
    assert_clean(&store);
    let counts = store.user_counts(&user_key("t", "ann")).unwrap();
    assert_eq!(counts.completions, 1);
}

#[test]
fn a_person_is_exported_and_erased_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for user in ["ann", "ann2"] {
        for n in 0..700 {
            let mut record = preference(n, Some(user));
            record.id = RecordId::new(format!("pref_{user}{n:05}")).unwrap();
            let key = request(&format!("{user}-{n}"), "body");
            store.insert_preference(&record, Some(&key)).unwrap();
        }
        let mut rated = rating(1, Some(user), Rating::Stars(4));
        rated.id = RecordId::new(format!("fb_{user}")).unwrap();
        store.insert_feedback(&rated, None).unwrap();
        let mut kept = completion(1, Some(user), None);
        kept.id = RecordId::new(format!("chatcmpl-{user}")).unwrap();
        store.insert_completion(&kept).unwrap();
        let profile = ProfileRecord {
            tenant: tenant(),
            user: UserId::new(user).unwrap(),
            text: Some(format!("{user} likes tea")),
            learning: false,
            updated_unix_ms: 9,
        };
        store
            .change_profile(&user_key("t", user), 9, |record| *record = profile)
            .unwrap();
    }
    let ann = user_key("t", "ann");
    let (mut text, mut place, mut parts) = (String::new(), None, 0);
    loop {
        let (lines, next) = store.export_user(&ann, place, 20_000).unwrap();
        assert!(
            lines.len() < 22_000,
            "a part is no larger than was asked for, and a line"
        );
        text.push_str(&String::from_utf8(lines).unwrap());
        place = next;
        parts += 1;
        if place.is_none() {
            break;
        }
    }
    assert!(parts > 10, "{parts}");
    assert_eq!(text.lines().count(), 2 + 700 * 2 + 2);
    assert!(!text.contains("ann2") && text.contains("ann likes tea"));
    let before = store.user_counts(&user_key("t", "ann2")).unwrap();
    assert_eq!(store.erase_user(&ann, 77).unwrap(), 2 + 700 * 2 + 2);
    assert_clean(&store);
    let rest = String::from_utf8(export(&store)).unwrap();
    assert!(!rest.contains("\"ann\"") && !rest.contains("ann likes tea"));
    assert_eq!(store.user_counts(&user_key("t", "ann2")).unwrap(), before);
    assert_eq!(store.user_counts(&ann).unwrap(), UserCounts::default());
    let deleted = store.tombstone(&ann).unwrap().unwrap().deleted_unix_ms;
    assert!(
        deleted > 699,
        "after all that was there, whatever the clock says"
    );
    assert_eq!(store.tombstone(&user_key("t", "ann2")).unwrap(), None);
    // Erasing nobody leaves a tombstone only: the answer does not tell who was known.
    assert_eq!(store.erase_user(&user_key("t", "bob"), 78).unwrap(), 0);
    assert_eq!(store.tombstones().unwrap().len(), 2);
    // The key of an erased request is free again.
    let mut again = preference(1, Some("ann"));
    again.created_unix_ms = store.begin(1);
    let inserted = store.insert_preference(&again, Some(&request("ann-1", "other")));
    assert!(matches!(inserted, Ok(Inserted::New(_))));
}

#[test]
fn versions_are_tallied() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (n, chosen, rejected) in [
        (1, Some(1), Some(2)),
        (2, Some(1), Some(1)),
        (3, None, None),
    ] {
        let mut record = preference(n, None);
        record.chosen = answer("a", chosen);
        record.rejected = answer("b", rejected);
        record.adapter_version = chosen.map(version);
        store.insert_preference(&record, None).unwrap();
    }
    for (n, stars) in [Rating::Up, Rating::Down, Rating::Stars(3), Rating::Stars(5)]
        .into_iter()
        .enumerate()
    {
        store
            .insert_feedback(&rating(n as u64, None, stars), None)
            .unwrap();
    }
    let tallies = store.tallies().unwrap();
    let one = VersionTally {
        won: 1,
        lost: 0,
        other_preferences: 1,
        liked: 2,
        disliked: 1,
    };
    assert_eq!(tallies[&Some(version(1))], one);
    assert_eq!(tallies[&Some(version(2))].lost, 1);
    assert_eq!(tallies[&None].other_preferences, 1);
}

#[test]
fn a_canary_ends_when_it_is_promoted_and_keeps_its_version_installed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store);
    let canary = |n| CanaryRecord {
        alias: alias("attune"),
        version: version(n),
        permille: 50,
        started_unix_ms: 3,
    };
    assert!(matches!(
        store.put_canary(&canary(9)),
        Err(CasError::NotInstalled { .. })
    ));
    store.put_canary(&canary(1)).unwrap();
    let in_use = store.remove_adapter(&version(1)).unwrap_err();
    assert!(matches!(in_use, StoreError::AdapterInUse { .. }));
    assert_eq!(store.canaries().unwrap(), [canary(1)]);
    store
        .compare_and_swap_alias(&alias("attune"), Some(&version(2)), &version(1), 30)
        .unwrap();
    assert_eq!(store.canaries().unwrap(), []);
    store.put_canary(&canary(2)).unwrap();
    assert!(store.delete_canary(&alias("attune")).unwrap());
    assert!(!store.delete_canary(&alias("attune")).unwrap());
    assert_clean(&store);
}

#[test]
fn verify_sees_records_without_index_and_entries_without_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let record = preference(1, Some("ann"));
    let key = request("k", "body");
    store.insert_preference(&record, Some(&key)).unwrap();
    assert_clean(&store);
    let trees: BTreeSet<&'static str> = ["by_user", "preferences", "users"].into();
    for tree in trees {
        let (key, value) = store.trees().scan(tree, &[]).next().unwrap().unwrap();
        let gone = trees::Edit::delete_raw(tree, key.clone());
        store.trees().writer().unwrap().commit(&[gone]).unwrap();
        let report = store.verify().unwrap();
        assert!(!report.is_clean(), "{tree}");
        let back = trees::Edit::put_raw(tree, key, value);
        store.trees().writer().unwrap().commit(&[back]).unwrap();
        assert_clean(&store);
    }
}
