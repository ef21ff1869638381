//! Stores and exports of every released schema open with this build.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use attune_ids::{AdapterVersion, Alias, IdempotencyKey, RecordId, Tenant, UserId, UserKey};
use attune_store::{
    AdapterRecord, AdapterSource, AliasRecord, CanaryRecord, ComparedAnswer, CompletionFilter,
    CompletionRecord, DecisionRecord, FeedbackRecord, Idempotent, KeptChoice, Owners, Page,
    PreferenceRecord, PreferenceSource, ProfileRecord, Rating, Store, Turn, UserRecord, SCHEMA,
};

fn fixture(schema: u32, extension: &str) -> PathBuf {
    let name = format!("v{schema}.{extension}");
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("migrations/fixtures")
        .join(name)
}

fn version(digit: &str) -> AdapterVersion {
    AdapterVersion::new(digit.repeat(64)).unwrap()
}

fn users() -> Vec<UserRecord> {
    let ids = [
        ("acme", "a"),
        ("acme", "a\0b"),
        ("acme", "ab"),
        ("default", "\u{1f642} \u{e9}"),
    ];
    ids.iter()
        .zip(1_700_000_000_000..)
        .map(|(&(tenant, user), created_unix_ms)| UserRecord {
            tenant: Tenant::new(tenant).unwrap(),
            user: UserId::new(user).unwrap(),
            created_unix_ms,
        })
        .collect()
}

fn adapters() -> Vec<AdapterRecord> {
    let adapter = |digit, name: Option<&str>, source| AdapterRecord {
        version: version(digit),
        name: name.map(str::to_owned),
        installed_unix_ms: 1_700_000_100_000,
        source,
    };
    vec![
        adapter("0", Some("demo"), AdapterSource::Demo),
        adapter("1", None, AdapterSource::Imported),
        adapter("2", Some("\u{fc}ber \"best\""), AdapterSource::Trained),
        adapter("f", None, AdapterSource::Installed),
    ]
}

fn aliases() -> Vec<AliasRecord> {
    let alias = |name: &str, digit, previous: Option<&str>, promotions| AliasRecord {
        alias: Alias::new(name).unwrap(),
        version: version(digit),
        previous: previous.map(version),
        promoted_unix_ms: 1_700_000_200_000 + promotions,
        promotions,
    };
    vec![
        alias("attune", "2", Some("0"), 2),
        alias("canary", "1", None, 1),
    ]
}

fn id(text: &str) -> RecordId {
    RecordId::new(text).unwrap()
}

fn messages() -> Vec<Turn> {
    let turn = |role: &str, content: &str| Turn {
        role: role.to_owned(),
        content: content.to_owned(),
    };
    vec![turn("system", "Be kind."), turn("user", "Tea?\n\u{1f375}")]
}

fn preferences() -> Vec<PreferenceRecord> {
    let answer = |text: &str, completion: Option<&str>| ComparedAnswer {
        text: text.to_owned(),
        completion: completion.map(id),
        index: completion.map(|_| 1),
        adapter_version: completion.map(|_| version("2")),
    };
    let preference = |n: u64, source, of: Option<&str>| PreferenceRecord {
        tenant: Tenant::new("acme").unwrap(),
        id: id(&format!("pref_{n}")),
        user: (n < 3).then(|| UserId::new("a\0b").unwrap()),
        created_unix_ms: 1_700_000_300_000 + n,
        source,
        adapter_version: of.map(|_| version("2")),
        messages: messages(),
        chosen: answer("Yes.", of),
        rejected: answer("\"No\"", of),
    };
    vec![
        preference(1, PreferenceSource::Texts, None),
        preference(2, PreferenceSource::Choices, Some("chatcmpl-1")),
        preference(3, PreferenceSource::Completions, Some("chatcmpl-2")),
    ]
}

fn feedback() -> Vec<FeedbackRecord> {
    let ratings = [Rating::Down, Rating::Stars(4), Rating::Up];
    let rating = |(n, rating): (usize, Rating)| FeedbackRecord {
        tenant: Tenant::new("acme").unwrap(),
        id: id(&format!("fb_{n}")),
        user: Some(UserId::new("ab").unwrap()),
        created_unix_ms: 1_700_000_400_000 + n as u64,
        completion: id("chatcmpl-1"),
        index: 0,
        rating,
        comment: (n == 1).then(|| "quite good".to_owned()),
        adapter_version: (n > 0).then(|| version("2")),
        messages: messages(),
        answer: "Yes, please.".to_owned(),
    };
    ratings.into_iter().enumerate().map(rating).collect()
}

fn completion() -> CompletionRecord {
    CompletionRecord {
        tenant: Tenant::new("acme").unwrap(),
        id: id("chatcmpl-1"),
        user: Some(UserId::new("ab").unwrap()),
        created_unix_ms: 1_700_000_350_000,
        expires_unix_ms: Some(1_800_000_000_000),
        model: "attune".to_owned(),
        adapter_version: Some(version("2")),
        fingerprint: "fp_m_222222222222_user".to_owned(),
        user_row: "user".to_owned(),
        soft_prompt_tokens: 10,
        messages: messages(),
        choices: vec![KeptChoice {
            index: 0,
            content: "Yes, please.".to_owned(),
            finish_reason: "stop".to_owned(),
        }],
        prompt_tokens: 20,
        completion_tokens: 4,
        metadata: [("shop".to_owned(), "tea".to_owned())].into(),
    }
}

fn profile() -> ProfileRecord {
    ProfileRecord {
        tenant: Tenant::new("acme").unwrap(),
        user: UserId::new("a").unwrap(),
        text: Some("Drinks tea.".to_owned()),
        learning: false,
        updated_unix_ms: 1_700_000_500_000,
    }
}

fn canary() -> CanaryRecord {
    CanaryRecord {
        alias: Alias::new("attune").unwrap(),
        version: version("f"),
        permille: 50,
        started_unix_ms: 1_700_000_600_000,
    }
}

fn decision() -> DecisionRecord {
    DecisionRecord {
        id: id("dec_1"),
        created_unix_ms: 1_700_000_700_000,
        alias: Alias::new("attune").unwrap(),
        current: Some(version("2")),
        candidate: None,
        promoted: false,
        reason: "too few pairs".to_owned(),
        snapshot: Some("0".repeat(64)),
        evaluation: None,
    }
}

/// Somebody who is no more.
fn erased() -> UserKey {
    UserKey {
        tenant: Tenant::new("acme").unwrap(),
        user: UserId::new("gone").unwrap(),
    }
}

/// Puts what schema 2 added into the store of [`fill`].
fn fill_2(store: &Store) {
    for (n, preference) in preferences().iter().enumerate() {
        let request = Idempotent {
            key: IdempotencyKey::new(format!("key-{n}")).unwrap(),
            sha256: "1".repeat(64),
        };
        let request = (n != 1).then_some(&request);
        store.insert_preference(preference, request).unwrap();
    }
    for rating in feedback() {
        store.insert_feedback(&rating, None).unwrap();
    }
    store.insert_completion(&completion()).unwrap();
    let profile = profile();
    let user = UserKey {
        tenant: profile.tenant.clone(),
        user: profile.user.clone(),
    };
    store
        .change_profile(&user, profile.updated_unix_ms, |record| *record = profile)
        .unwrap();
    store.put_canary(&canary()).unwrap();
    store.decide(&decision()).unwrap();
    // When all is gone, the tombstone says one moment later.
    store.erase_user(&erased(), 1_700_000_799_999).unwrap();
}

/// Puts what schema 3 added into the store of [`fill_2`].
fn fill_3(store: &Store) {
    let record = &adapters()[1];
    store
        .replace_adapter(&version("3"), record, 1_700_000_850_000)
        .unwrap();
}

fn assert_content_3(store: &Store) {
    let successors = [(version("3"), version("1"))];
    assert_eq!(store.successors().unwrap(), successors.into());
}

fn assert_content_2(store: &Store) {
    let (tenant, now) = (Tenant::new("acme").unwrap(), 1_700_000_900_000);
    let page = Page {
        limit: 9,
        ..Page::default()
    };
    let whose = Owners::Everybody;
    let found = store.preferences(&tenant, &whose, &page).unwrap();
    assert_eq!((found.records, found.more), (preferences(), None));
    let found = store.feedback(&tenant, &whose, &page).unwrap();
    assert_eq!((found.records, found.more), (feedback(), None));
    // By indexes that schema 2 has not.
    let filter = CompletionFilter {
        whose: Owners::Only(completion().user.into_iter().collect()),
        model: Some("attune".to_owned()),
        metadata: completion().metadata,
    };
    let found = store.completions(&tenant, &filter, &page, now).unwrap();
    assert_eq!((found.records, found.more), (vec![completion()], None));
    assert_eq!(store.tenant_use(&tenant).unwrap().records, 8);
    let tally = store.tallies().unwrap()[&Some(version("2"))];
    assert_eq!((tally.liked, tally.other_preferences), (2, 2));
    let user = UserKey {
        tenant: tenant.clone(),
        user: profile().user,
    };
    assert_eq!(store.profile(&user).unwrap(), Some(profile()));
    assert_eq!(store.canaries().unwrap(), [canary()]);
    assert_eq!(store.decisions().unwrap(), [decision()]);
    let tombstone = store.tombstone(&erased()).unwrap();
    assert_eq!(tombstone.unwrap().deleted_unix_ms, 1_700_000_800_000);
}

/// Puts the records above into an empty store.
fn fill(store: &Store) {
    for user in users() {
        store.put_user(&user).unwrap();
    }
    for adapter in adapters() {
        store.insert_adapter(&adapter).unwrap();
    }
    for (name, from, to, at) in [
        ("attune", None, "0", 1_700_000_200_001),
        ("attune", Some("0"), "2", 1_700_000_200_002),
        ("canary", None, "1", 1_700_000_200_001),
    ] {
        let (name, from) = (Alias::new(name).unwrap(), from.map(version));
        store
            .compare_and_swap_alias(&name, from.as_ref(), &version(to), at)
            .unwrap();
    }
}

/// What schema 1 could say is still there. A later schema adds checks, and keeps these.
fn assert_content(store: &Store, schema: u32) {
    let report = store.verify().unwrap();
    assert!(report.is_clean(), "schema {schema}: {report}");
    assert_eq!(store.info().unwrap().schema, SCHEMA);
    let found: Result<Vec<UserRecord>, _> = store.users().collect();
    assert_eq!(found.unwrap(), users(), "schema {schema}");
    assert_eq!(store.adapters().unwrap(), adapters(), "schema {schema}");
    assert_eq!(store.aliases().unwrap(), aliases(), "schema {schema}");
    if schema >= 2 {
        assert_content_2(store);
    }
    if schema >= 3 {
        assert_content_3(store);
    }
}

fn export(store: &Store) -> Vec<u8> {
    let mut out = Vec::new();
    store.export(&mut out).unwrap();
    out
}

#[test]
fn exports_of_every_schema_are_imported() {
    for schema in 1..=SCHEMA {
        let path = fixture(schema, "jsonl");
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 0).unwrap();
        let summary = store
            .import(&mut BufReader::new(File::open(&path).unwrap()))
            .unwrap();
        assert_eq!(summary.schema, schema);
        assert_content(&store, schema);
        drop(store);
        let store = Store::open(dir.path(), 0).unwrap();
        assert_content(&store, schema);
        if schema == SCHEMA {
            assert_eq!(
                export(&store),
                fs::read(&path).unwrap(),
                "the export of an import"
            );
        }
    }
}

#[test]
fn directories_of_every_schema_are_opened() {
    for schema in 1..=SCHEMA {
        for killed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            unzip(&fixture(schema, "zip"), dir.path());
            if killed {
                fs::remove_file(dir.path().join("seal.json")).unwrap();
            }
            let store = Store::open(dir.path(), 0).unwrap();
            assert_content(&store, schema);
        }
    }
}

#[test]
#[ignore = "writes the fixtures of a new schema, once; migrations/README.md says when"]
fn write_fixtures_of_this_schema() {
    let (jsonl, zip) = (fixture(SCHEMA, "jsonl"), fixture(SCHEMA, "zip"));
    assert!(
        !jsonl.exists() && !zip.exists(),
        "released fixtures never change"
    );
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 1_700_000_000_000).unwrap();
    fill(&store);
    fill_2(&store);
    fill_3(&store);
    assert_content(&store, SCHEMA);
    fs::write(jsonl, export(&store)).unwrap();
    drop(store);
    let mut archive = zip::ZipWriter::new(File::create(zip).unwrap());
    add(&mut archive, dir.path(), "");
    archive.finish().unwrap();
}

fn add<W: Write + Seek>(archive: &mut zip::ZipWriter<W>, dir: &Path, prefix: &str) {
    let options = zip::write::SimpleFileOptions::default();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            archive.add_directory(&name, options).unwrap();
            add(archive, &path, &format!("{name}/"));
        } else {
            archive.start_file(&name, options).unwrap();
            archive.write_all(&fs::read(&path).unwrap()).unwrap();
        }
    }
}

fn unzip(archive: &Path, dir: &Path) {
    let mut archive = zip::ZipArchive::new(File::open(archive).unwrap()).unwrap();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let path = dir.join(entry.enclosed_name().unwrap());
        if entry.is_dir() {
            fs::create_dir_all(&path).unwrap();
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        fs::write(path, content).unwrap();
    }
}
