//! What a route costs follows from what it shows, not from what there is: counted in records and index
//! entries that are read.

use attune::app::housekeeping;
use attune_ids::{RecordId, Tenant, UserId};
use attune_store::{
    ComparedAnswer, CompletionRecord, DecisionRecord, FeedbackRecord, KeptChoice, PreferenceRecord,
    PreferenceSource, Rating, Store, TenantQuota,
};
use serde_json::json;

use crate::support::{keys, Setup, TestServer};

/// Records of each kind.
const MANY: u64 = 400;

fn user(n: u64) -> Option<UserId> {
    // One in ten is alice's, one in a hundred nobody's.
    match n % 10 {
        0 if n % 100 == 50 => None,
        0 => Some(UserId::new("alice").unwrap()),
        _ => Some(UserId::new(format!("user {}", n % 50)).unwrap()),
    }
}

fn id(prefix: &str, n: u64) -> RecordId {
    RecordId::new(format!("{prefix}{n:032x}")).unwrap()
}

fn preference(n: u64) -> PreferenceRecord {
    let answer = |text: &str| ComparedAnswer {
        text: text.to_owned(),
        completion: None,
        index: None,
        adapter_version: None,
    };
    PreferenceRecord {
        tenant: Tenant::default(),
        id: id("pref_", n),
        user: user(n),
        created_unix_ms: n,
        source: PreferenceSource::Texts,
        adapter_version: None,
        messages: Vec::new(),
        chosen: answer("a"),
        rejected: answer("b"),
    }
}

fn rating(n: u64) -> FeedbackRecord {
    FeedbackRecord {
        tenant: Tenant::default(),
        id: id("fb_", n),
        user: user(n),
        created_unix_ms: n,
        completion: id("chatcmpl-", n),
        index: 0,
        rating: Rating::Up,
        comment: None,
        adapter_version: None,
        messages: Vec::new(),
        answer: "a".to_owned(),
    }
}

fn completion(n: u64) -> CompletionRecord {
    CompletionRecord {
        tenant: Tenant::default(),
        id: id("chatcmpl-", n),
        user: user(n),
        created_unix_ms: n,
        expires_unix_ms: n.is_multiple_of(40).then_some(1),
        model: "attune".to_owned(),
        adapter_version: None,
        fingerprint: "fp".to_owned(),
        user_row: "none".to_owned(),
        soft_prompt_tokens: 0,
        messages: Vec::new(),
        choices: vec![KeptChoice {
            index: 0,
            content: "a".to_owned(),
            finish_reason: "stop".to_owned(),
        }],
        prompt_tokens: 1,
        completion_tokens: 1,
        metadata: [("shop".to_owned(), (n % 2).to_string())].into(),
    }
}

fn decision(server: &TestServer, n: u64) -> DecisionRecord {
    DecisionRecord {
        id: id("dec_", n),
        created_unix_ms: n,
        alias: server.state.alias.clone(),
        current: None,
        candidate: None,
        promoted: false,
        reason: "too few pairs".to_owned(),
        snapshot: None,
        evaluation: None,
    }
}

fn fill(store: &Store) {
    for n in 0..MANY {
        store.insert_preference(&preference(n), None).unwrap();
        store.insert_feedback(&rating(n), None).unwrap();
        store.insert_completion(&completion(n)).unwrap();
    }
}

fn store(server: &TestServer) -> &Store {
    server.state.versions.store()
}

/// A server with much in its store, a key for everything, and one for alice alone.
fn filled() -> TestServer {
    let file = json!({"keys": [
        {"name": "app", "key": "sk-app-0123456789abcdef", "roles": ["inference", "feedback", "admin"]},
        {"name": "kiosk", "key": "sk-kiosk-0123456789abcdef", "roles": ["inference", "feedback"], "users": ["alice"]},
    ]});
    let server = TestServer::with(Setup {
        keys: keys(&file.to_string()),
        promoted: true,
        ..Setup::default()
    });
    fill(store(&server));
    for n in 0..MANY {
        store(&server).decide(&decision(&server, n)).unwrap();
    }
    server
}

#[tokio::test]
async fn every_list_and_every_person_costs_what_is_shown() {
    let server = filled();
    let (app, kiosk) = ("sk-app-0123456789abcdef", "sk-kiosk-0123456789abcdef");
    // The most that may be read: two for each of what is shown, one more, and some that are fixed.
    for (key, path, shown, most) in [
        (app, "/v1/preferences", 20, 45),
        (app, "/v1/preferences?order=desc&limit=5", 5, 15),
        (app, "/v1/preferences?user=alice", 20, 45),
        (app, "/v1/preferences?user=nobody", 0, 3),
        (kiosk, "/v1/preferences", 20, 45),
        (app, "/v1/chat/completions?limit=10", 10, 30),
        (app, "/v1/chat/completions?model=nope", 0, 3),
        (app, "/v1/chat/completions?metadata[shop]=7", 0, 3),
        (
            app,
            "/v1/chat/completions?metadata[shop]=1&limit=10",
            10,
            25,
        ),
        (
            app,
            "/v1/chat/completions?model=attune&metadata[shop]=1&limit=5",
            5,
            40,
        ),
        (kiosk, "/v1/chat/completions?limit=10", 10, 35),
        (app, "/v1/admin/decisions", 20, 25),
        (app, "/v1/admin/decisions?order=desc&limit=3", 3, 6),
    ] {
        let before = store(&server).records_read();
        let reply = server.get_as(key, path).await;
        let cost = store(&server).records_read() - before;
        assert_eq!(reply.status, 200, "{path} {}", reply.text());
        let list = reply.json();
        assert_eq!(list["data"].as_array().unwrap().len(), shown, "{path}");
        assert_eq!(list["has_more"], shown > 0, "{path}");
        assert!(cost <= most, "{path} reads {cost}");
    }
    for (path, most) in [
        ("/v1/users/alice", 8),
        ("/v1/users/nobody", 8),
        ("/v1/admin/aliases", 20),
        ("/v1/admin/adapters", 30),
        ("/v1/models", 5),
        ("/readyz", 0),
        ("/metrics", 0),
    ] {
        let before = store(&server).records_read();
        let reply = server.get_as(app, path).await;
        let cost = store(&server).records_read() - before;
        assert_eq!(reply.status, 200, "{path} {}", reply.text());
        assert!(cost <= most, "{path} reads {cost}");
    }
}

#[tokio::test]
async fn a_sweep_costs_what_is_over() {
    let server = filled();
    let before = store(&server).records_read();
    housekeeping::once(&server.state).await.unwrap();
    let cost = store(&server).records_read() - before;
    assert!(cost <= 2 * MANY / 40 + 10, "{cost}");
}

#[tokio::test]
async fn a_persons_export_is_streamed_part_by_part_and_whole() {
    let server = TestServer::new();
    let expected = 300;
    for n in 0..expected {
        let mut record = preference(n * 100 + 10);
        record.chosen.text = "x".repeat(10_000);
        store(&server).insert_preference(&record, None).unwrap();
    }
    let reply = server.get("/v1/users/alice/export").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    // Its length is not known before: it is not in memory.
    assert!(!reply.headers.contains_key("content-length"));
    let lines: Vec<&str> = reply.text().lines().collect();
    assert_eq!(lines.len() as u64, expected + 1);
    assert!(lines[0].contains(r#""kind":"user""#));
    assert!(lines.iter().all(|line| line.ends_with('}')));
}

#[tokio::test]
async fn a_tenant_that_is_full_is_told_what_makes_room_and_others_go_on() {
    let file = json!({"keys": [
        {"name": "a", "key": "sk-app-0123456789abcdef", "tenant": "a", "roles": ["inference", "feedback", "admin"]},
        {"name": "b", "key": "sk-other-0123456789abcdef", "tenant": "b", "roles": ["inference", "feedback"]},
    ]});
    let server = TestServer::with(Setup {
        keys: keys(&file.to_string()),
        promoted: true,
        ..Setup::default()
    });
    store(&server).set_quota(TenantQuota {
        records: 1,
        bytes: u64::MAX,
    });
    let body = json!({"user": "alice", "messages": [{"role": "user", "content": "hi"}],
        "chosen": "a", "rejected": "b"});
    let send = |key: &'static str| {
        let key = format!("Bearer {key}");
        let (server, body) = (&server, &body);
        async move {
            let headers = [("authorization", key.as_str())];
            server.post_with("/v1/preferences", &headers, body).await
        }
    };
    let (a, b) = ("sk-app-0123456789abcdef", "sk-other-0123456789abcdef");
    assert_eq!(send(a).await.status, 201);
    let full = send(a).await;
    let (status, kind, code, _) = full.error();
    assert_eq!((status, kind.as_str()), (429, "insufficient_quota"));
    assert_eq!(code.as_deref(), Some("insufficient_quota"));
    assert_eq!(full.header("x-should-retry"), "false");
    assert!(full.text().contains("delete"), "{}", full.text());
    assert_eq!(send(b).await.status, 201);
}
