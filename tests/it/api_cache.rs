//! Who finds what in the prefix cache.

use serde_json::{json, Value};

use crate::support::{keys, Setup, TestServer};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// Two keys of one tenant and one of another.
fn server() -> TestServer {
    TestServer::with(Setup {
        keys: keys(
            r#"{"keys": [
                {"key": "key-of-acme-0123456789", "name": "a", "tenant": "acme"},
                {"key": "second-of-acme-01234567", "name": "b", "tenant": "acme"},
                {"key": "key-of-rival-0123456789", "name": "c", "tenant": "rival"}
            ]}"#,
        ),
        promoted: true,
        prefix_cache: true,
        ..Setup::default()
    })
}

/// How many prompt tokens of a request were found.
async fn cached(server: &TestServer, key: &str, path: &str, body: &Value) -> u64 {
    let key = format!("Bearer {key}");
    let reply = server
        .post_with(path, &[("authorization", &key)], body)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    server.until_idle().await;
    let usage = &reply.json()["usage"];
    usage["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn what_a_tenant_has_asked_shows_to_itself_only() {
    let text = "the plans of acme, ".repeat(5);
    let messages = json!([{"role": "user", "content": text}]);
    for (path, body) in [
        // The bare base, and rows that everybody shares.
        (CHAT, json!({"model": "tiny-llama", "messages": messages})),
        (CHAT, json!({"model": "attune", "messages": messages})),
        (COMPLETIONS, json!({"model": "tiny-llama", "prompt": text})),
        (COMPLETIONS, json!({"model": "attune", "prompt": text})),
    ] {
        let server = server();
        let mut found = Vec::new();
        for key in [
            "key-of-acme-0123456789",
            "key-of-acme-0123456789",
            "second-of-acme-01234567",
            "key-of-rival-0123456789",
            "key-of-rival-0123456789",
        ] {
            found.push(cached(&server, key, path, &body).await);
        }
        let own = found[1];
        assert!(own >= 64, "{found:?}");
        assert_eq!(found, [0, own, own, 0, own], "{path} {body}");
    }
}

#[tokio::test]
async fn a_salt_keeps_requests_of_one_tenant_apart() {
    let server = server();
    let ask = |path: &str, salt: Value| match path {
        CHAT => {
            json!({"model": "attune", "cache_salt": salt, "messages": [{"role": "user", "content": "x".repeat(90)}]})
        }
        _ => json!({"model": "attune", "cache_salt": salt, "prompt": "who am I? ".repeat(9)}),
    };
    for path in [CHAT, COMPLETIONS] {
        let mut found = Vec::new();
        for (key, salt) in [
            ("key-of-acme-0123456789", Value::Null),
            ("key-of-acme-0123456789", json!("one")),
            ("second-of-acme-01234567", json!("one")),
            ("key-of-acme-0123456789", json!("two")),
            ("key-of-rival-0123456789", json!("one")),
            ("key-of-acme-0123456789", Value::Null),
        ] {
            found.push(cached(&server, key, path, &ask(path, salt)).await);
        }
        let own = found[5];
        assert!(own >= 64, "{found:?}");
        assert_eq!(found, [0, 0, own, 0, 0, own], "{path}");
    }
}

#[tokio::test]
async fn a_turn_of_a_conversation_finds_those_before_it() {
    let server = server();
    let authorization = [("authorization", "Bearer key-of-acme-0123456789")];
    let mut messages = vec![json!({"role": "user", "content": "Tell me of the sea. ".repeat(5)})];
    let mut before = 0;
    for turn in 0..4 {
        let body = json!({"model": "attune", "messages": messages, "max_tokens": 24});
        let reply = server.post_with(CHAT, &authorization, &body).await;
        let reply = reply.json();
        server.until_idle().await;
        let usage = &reply["usage"];
        let found = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
        // The prompt of the turn before, but for its last block of 16 rows.
        assert!(found.unwrap() + 16 > before, "turn {turn}: {usage}");
        before = usage["prompt_tokens"].as_u64().unwrap();
        messages.push(reply["choices"][0]["message"].clone());
        messages.push(json!({"role": "user", "content": format!("And then? {turn}")}));
    }
}
