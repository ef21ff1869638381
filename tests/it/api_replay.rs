//! What is written once is shown to those who may see it, also when it is sent again.

use serde_json::{json, Value};

use crate::support::http::Reply;
use crate::support::{keys, Setup, TestServer};

const APP: &str = "sk-app-0123456789abcdef";
const ALICES: &str = "sk-alices-0123456789abcdef";
const BOUND: &str = "sk-bound-0123456789abcdef";
const BOBS: &str = "sk-bobs-0123456789abcdef";
const PREFERENCES: &str = "/v1/preferences";

fn server() -> TestServer {
    let roles = ["inference", "feedback"];
    let file = json!({"keys": [
        {"name": "app", "key": APP, "roles": roles},
        {"name": "alices", "key": ALICES, "roles": roles, "users": ["alice"]},
        {"name": "bound", "key": BOUND, "roles": roles, "user": "bob"},
        {"name": "bobs", "key": BOBS, "roles": roles, "users": ["bob"]},
    ]});
    TestServer::with(Setup {
        keys: keys(&file.to_string()),
        promoted: true,
        ..Setup::default()
    })
}

async fn send(
    server: &TestServer,
    key: &str,
    path: &str,
    more: &[(&str, &str)],
    body: &Value,
) -> Reply {
    let key = format!("Bearer {key}");
    let headers = [&[("authorization", key.as_str())], more].concat();
    server.post_with(path, &headers, body).await
}

/// An answer to `user`, kept.
async fn kept(server: &TestServer, user: Value) -> String {
    let body = json!({"model": "attune", "store": true, "user": user, "n": 8, "temperature": 2, "seed": 5,
        "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]});
    let reply = send(server, APP, "/v1/chat/completions", &[], &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

fn texts(user: Value) -> Value {
    json!({"user": user, "chosen": "tea", "rejected": "coffee",
        "messages": [{"role": "user", "content": "What shall I drink?"}]})
}

#[tokio::test]
async fn a_repetition_is_told_no_more_than_the_first_request_would_be() {
    let server = server();
    let completion = kept(&server, json!("alice")).await;
    let answers = json!({"chosen": {"completion_id": completion, "index": 0},
        "rejected": {"completion_id": completion, "index": 1}});
    let rating = json!({"completion_id": completion, "rating": "up"});
    for (n, (path, body, denied)) in [
        (
            PREFERENCES,
            texts(json!("alice")),
            (403, "insufficient_permissions"),
        ),
        (PREFERENCES, answers, (404, "completion_not_found")),
        ("/v1/feedback", rating, (404, "completion_not_found")),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("once-{n}");
        let once: &[(&str, &str)] = &[("idempotency-key", &key)];
        let first = send(&server, APP, path, once, &body).await;
        assert_eq!(first.status, 201, "{}", first.text());
        for (may, key) in [(true, APP), (true, ALICES), (false, BOBS)] {
            let again = send(&server, key, path, once, &body).await;
            if may {
                assert_eq!((again.status, again.json()), (200, first.json()), "{path}");
                continue;
            }
            let (status, _, code, _) = again.error();
            assert_eq!(
                (status, code.as_deref()),
                (denied.0, Some(denied.1)),
                "{path}"
            );
            let strange = send(&server, key, path, &[], &body).await;
            assert_eq!(
                again.error(),
                strange.error(),
                "as without a record: {path}"
            );
        }
    }
}

/// A field says who is meant, unless a header does: two keys may send one body for two people.
#[tokio::test]
async fn a_repetition_for_somebody_else_is_another_request() {
    let server = server();
    let body = texts(json!("alice"));
    let once = ("idempotency-key", "once");
    let first = send(&server, BOUND, PREFERENCES, &[once], &body).await;
    assert_eq!(
        (first.status, &first.json()["user"]),
        (201, &json!("alice"))
    );
    let other = send(
        &server,
        BOBS,
        PREFERENCES,
        &[once, ("x-user-id", "bob")],
        &body,
    )
    .await;
    assert_eq!(other.status, 422, "{}", other.text());
}

#[tokio::test]
async fn what_the_list_hides_is_not_shown_by_its_id() {
    let server = server();
    let ids = |list: &Value| -> Vec<String> {
        let data = list["data"].as_array().unwrap().iter();
        data.map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    for user in [json!("alice"), json!("bob"), Value::Null] {
        let made = send(&server, APP, PREFERENCES, &[], &texts(user.clone())).await;
        assert_eq!(made.status, 201, "{}", made.text());
        kept(&server, user).await;
    }
    for path in [PREFERENCES, "/v1/chat/completions"] {
        let all = ids(&server.get_as(APP, path).await.json());
        assert_eq!(all.len(), 3, "{path}");
        for (key, count) in [(APP, 3), (ALICES, 1), (BOBS, 1)] {
            let listed = ids(&server.get_as(key, path).await.json());
            assert_eq!(listed.len(), count, "{path}");
            for id in &all {
                let reply = server.get_as(key, &format!("{path}/{id}")).await;
                let status = if listed.contains(id) { 200 } else { 404 };
                assert_eq!(reply.status, status, "{path} {key} {id}");
            }
        }
    }
}
