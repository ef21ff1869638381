//! What is recorded of people: shown, set, exported, deleted.

use attune::app::housekeeping;
use serde_json::{json, Value};

use crate::support::runner::id;
use crate::support::{keys, Setup, TestServer, VERSION};

#[tokio::test]
async fn a_person_is_counted_and_a_stranger_looks_alike() {
    let server = TestServer::promoted();
    let id = server.kept(json!({"user": "alice"})).await;
    let rating = json!({"completion_id": id, "rating": 4});
    assert_eq!(server.post("/v1/feedback", &rating).await.status, 201);
    let alice = server.get("/v1/users/alice").await.json();
    assert!(alice["created"].as_u64().unwrap() > 1_700_000_000);
    let mut expected = json!({"id": "alice", "object": "user", "created": alice["created"], "preferences": 0,
        "feedback": 1, "completions": 1, "adapter_version": VERSION, "user_row": "user", "profile": null,
        "learning": true});
    assert_eq!(alice, expected);
    let stranger = server.get("/v1/users/zoe").await.json();
    for (field, value) in [
        ("id", json!("zoe")),
        ("created", Value::Null),
        ("feedback", json!(0)),
        ("completions", json!(0)),
        ("user_row", json!("generic")),
    ] {
        expected[field] = value;
    }
    assert_eq!(stranger, expected);
    assert_eq!(
        server
            .get(&format!("/v1/users/{}", "x".repeat(65)))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_profile_stands_in_the_prompt_of_personalised_answers() {
    let server = TestServer::promoted();
    let ask = |model: &str| {
        json!({"model": model, "user": "alice", "temperature": 0, "max_tokens": 2,
        "messages": [{"role": "user", "content": "hi"}]})
    };
    let before = server.chat(&ask("attune")).await["usage"]["prompt_tokens"]
        .as_u64()
        .unwrap();
    let text = "Drinks tea.";
    let set = server
        .post(
            "/v1/users/alice",
            &json!({"profile": text, "learning": false}),
        )
        .await;
    let shown = set.json();
    assert_eq!(
        (shown["profile"].as_str(), &shown["learning"]),
        (Some(text), &json!(false))
    );
    // One character is one token of the scripted model.
    let added = "User textual information: ".len() + text.len() + 1;
    let after = server.chat(&ask("attune")).await["usage"]["prompt_tokens"]
        .as_u64()
        .unwrap();
    assert_eq!(after, before + added as u64);
    let base = server.chat(&ask("tiny-llama")).await["usage"]["prompt_tokens"]
        .as_u64()
        .unwrap();
    assert_eq!(base, before);
    // One setting does not touch the other; an empty text removes the profile.
    let set = server
        .post("/v1/users/alice", &json!({"learning": true}))
        .await
        .json();
    assert_eq!(
        (set["profile"].as_str(), &set["learning"]),
        (Some(text), &json!(true))
    );
    let set = server
        .post("/v1/users/alice", &json!({"profile": ""}))
        .await
        .json();
    assert_eq!(set["profile"], Value::Null);
    for (body, param) in [
        (json!({"profile": 1}), "profile"),
        (json!({"profile": "x".repeat(4097)}), "profile"),
        (json!({"learning": "no"}), "learning"),
        (json!({"embedding": [1]}), "embedding"),
    ] {
        let error = server.post("/v1/users/alice", &body).await.error();
        assert_eq!((error.0, error.3.as_deref()), (400, Some(param)), "{body}");
    }
}

#[tokio::test]
async fn a_profile_stands_in_front_of_a_text_that_is_gone_on_from() {
    let server = TestServer::promoted();
    let ask = async |model: &str, prompt: Value| {
        let body = json!({"model": model, "user": "alice", "prompt": prompt, "echo": true, "max_tokens": 1});
        let reply = server.post("/v1/completions", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let answer = reply.json();
        let tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap();
        (tokens, answer["choices"][0]["text"].clone())
    };
    let profile = json!({"profile": "Drinks tea."});
    server.post("/v1/users/alice", &profile).await;
    let added = "User textual information: Drinks tea.\n".len() as u64;
    let ids = json!([id('0'), id('1')]);
    for (model, prompt, tokens) in [
        ("attune", json!("01"), added + 2),
        // Ids are as they are, and the bare base knows nobody.
        ("attune", ids, 2),
        ("tiny-llama", json!("01"), 2),
    ] {
        // An echo is what the caller sent.
        assert_eq!(ask(model, prompt).await, (tokens, json!("012")), "{model}");
    }
}

#[tokio::test]
async fn whoever_is_deleted_is_gone_and_answered_as_a_stranger() {
    let server = TestServer::promoted();
    let id = server.kept(json!({"user": "alice"})).await;
    let preference = json!({"user": "alice", "chosen": "secret tea", "rejected": "coffee",
        "messages": [{"role": "user", "content": "hi"}]});
    let made = server.post("/v1/preferences", &preference).await.json();
    server
        .post("/v1/users/alice", &json!({"profile": "secret profile"}))
        .await;
    let export = server.get("/v1/users/alice/export").await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = export
        .text()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let kinds: Vec<&str> = lines.iter().map(|l| l["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["user", "profile", "completion", "preference"]);

    let deleted = server.delete("/v1/users/alice").await.json();
    assert_eq!(
        deleted,
        json!({"id": "alice", "object": "user.deleted", "deleted": true})
    );
    assert_eq!(server.get("/v1/users/alice/export").await.text(), "");
    let preference = format!("/v1/preferences/{}", made["id"].as_str().unwrap());
    for path in [preference, format!("/v1/chat/completions/{id}")] {
        assert_eq!(server.get(&path).await.status, 404);
    }
    let alice = server.get("/v1/users/alice").await.json();
    assert_eq!(
        (&alice["created"], alice["user_row"].as_str()),
        (&Value::Null, Some("generic"))
    );
    // The version was made before that, so its rows for alice are not used any more.
    let ask = |user: Value| {
        json!({"model": "attune", "user": user, "temperature": 0,
        "messages": [{"role": "user", "content": "hi"}]})
    };
    let answer = server.chat(&ask(json!("alice"))).await;
    assert_eq!(answer["attune"]["user_row"], "generic");
    assert_eq!(
        answer["choices"],
        server.chat(&ask(Value::Null)).await["choices"]
    );
    assert_eq!(
        server.chat(&ask(json!("bob"))).await["attune"]["user_row"],
        "user"
    );
    // Deleting a stranger looks the same.
    assert_eq!(server.delete("/v1/users/zoe").await.json()["deleted"], true);
}

const ADMIN: &str = "sk-admin-0123456789abcdef";
const APP: &str = "sk-app-0123456789abcdef";
const USERS: &str = "sk-users-0123456789abcdef";
const BOBS: &str = "sk-bobs-0123456789abcdef";
const KIOSK: &str = "sk-kiosk-0123456789abcdef";

#[tokio::test]
async fn admins_and_the_role_users_may_ask_for_everybody_and_other_keys_for_the_people_they_name() {
    let file = json!({"keys": [
        {"name": "admin", "key": ADMIN, "roles": ["admin"]},
        {"name": "app", "key": APP, "roles": ["inference", "feedback"]},
        {"name": "users", "key": USERS, "roles": ["users"]},
        {"name": "bobs", "key": BOBS, "roles": ["users"], "users": ["bob"]},
        {"name": "kiosk", "key": KIOSK, "users": ["bob"]},
    ]});
    let server = TestServer::with(Setup {
        keys: keys(&file.to_string()),
        promoted: true,
        ..Setup::default()
    });
    for (key, user, status) in [
        (ADMIN, "alice", 200),
        (APP, "alice", 403),
        (USERS, "alice", 200),
        (BOBS, "alice", 403),
        (BOBS, "bob", 200),
        (KIOSK, "alice", 403),
        (KIOSK, "bob", 200),
    ] {
        let path = format!("/v1/users/{user}");
        assert_eq!(
            server.get_as(key, &path).await.status,
            status,
            "{key} {user}"
        );
        let export = format!("{path}/export");
        assert_eq!(
            server.get_as(key, &export).await.status,
            status,
            "{key} {user}"
        );
    }
}

#[tokio::test]
async fn the_server_cleans_up_after_a_deletion_by_itself() {
    let server = TestServer::promoted();
    server.kept(json!({"user": "alice"})).await;
    let bobs = server.kept(json!({"user": "bob"})).await;
    let store = server.state.versions.store().clone();
    assert!(!store.wants_compaction());
    server.delete("/v1/users/alice").await;
    assert!(store.wants_compaction());
    housekeeping::once(&server.state).await.unwrap();
    assert!(!store.wants_compaction());
    let path = format!("/v1/chat/completions/{bobs}");
    assert_eq!(server.get(&path).await.status, 200);
    assert!(store.verify().unwrap().is_clean());
}
