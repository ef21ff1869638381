//! Text on its way to clients and from them: line breaks that only Unicode knows, white space around ids.

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use serde_json::{json, Value};

use crate::support::http::post;
use crate::support::{keys, Setup, TestServer};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
/// What a model or a person may write.
const TEXT: &str = "a\u{2028}b\u{2029}c\u{85}d";

/// Whether a client that splits text into lines as Python's `splitlines` does sees the same lines as everybody.
fn splits_alike(body: &[u8]) -> bool {
    let text = std::str::from_utf8(body).unwrap();
    !text.contains(['\u{85}', '\u{2028}', '\u{2029}'])
}

#[tokio::test]
async fn events_and_bodies_have_no_line_breaks_that_some_see() {
    let server = TestServer::promoted();
    for stream in [false, true] {
        let body = json!({"model": "attune", "prompt": TEXT, "echo": true, "max_tokens": 1, "stream": stream});
        let reply = server.post(COMPLETIONS, &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(splits_alike(&reply.body), "{}", reply.text());
        let first = match stream {
            false => reply.json(),
            true => serde_json::from_str(&reply.events()[0]).unwrap(),
        };
        let text = first["choices"][0]["text"].as_str().unwrap();
        assert!(text.starts_with(TEXT), "{text:?}");
    }
}

#[tokio::test]
async fn errors_and_records_have_none_either() {
    let server = TestServer::promoted();
    // The name of a field, as an error tells it.
    let mut odd = json!({"model": "attune", "messages": [{"role": "user", "content": "hi"}]});
    odd[TEXT] = json!(1);
    let error = server.post(CHAT, &odd).await;
    assert_eq!(error.error().3.as_deref(), Some(TEXT));
    assert!(splits_alike(&error.body), "{}", error.text());
    // What is recorded: shown, listed, and exported.
    let kept = server
        .kept(json!({"user": "alice", "metadata": {"k": TEXT}, "messages": [{"role": "user", "content": TEXT}]}))
        .await;
    let preference = json!({"user": "alice", "messages": [{"role": "user", "content": TEXT}], "chosen": TEXT,
        "rejected": "b"});
    let made = server.post("/v1/preferences", &preference).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(splits_alike(&made.body));
    let profile = server
        .post("/v1/users/alice", &json!({"profile": TEXT}))
        .await;
    assert_eq!(profile.json()["profile"], TEXT);
    for path in [
        format!("{CHAT}/{kept}"),
        format!("{CHAT}/{kept}/messages"),
        CHAT.to_owned(),
        "/v1/preferences".to_owned(),
        "/v1/users/alice".to_owned(),
        "/v1/users/alice/export".to_owned(),
        "/v1/admin/snapshot".to_owned(),
    ] {
        let reply = server.get(&path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(splits_alike(&reply.body), "{path}: {}", reply.text());
        assert!(
            reply.text().contains("a\\u2028b\\u2029c\\u0085d"),
            "{path}: {}",
            reply.text()
        );
        for line in reply.text().lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
    }
    // The snapshot is still one that can be read back.
    let snapshot = server.get("/v1/admin/snapshot").await.body;
    attune_store::TrainingSet::read(&mut &snapshot[..]).unwrap();
}

fn hello(user: &str) -> Value {
    json!({"model": "attune", "temperature": 0, "user": user, "messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test]
async fn white_space_around_a_users_id_means_nothing_wherever_it_stands() {
    let server = TestServer::promoted();
    let content = |answer: Value| answer["choices"][0]["message"]["content"].to_string();
    for alice in [
        "alice",
        " alice",
        "alice ",
        "\talice\n",
        "\u{a0}alice\u{3000}",
        "alice\u{2028}",
    ] {
        assert_eq!(
            content(server.chat(&hello(alice)).await),
            "\"KLMNOPQRST\"",
            "{alice:?}"
        );
        let mut other = hello("");
        other["safety_identifier"] = json!(alice);
        assert_eq!(
            content(server.chat(&other).await),
            "\"KLMNOPQRST\"",
            "{alice:?}"
        );
        if alice.contains('\n') {
            // No header can hold that.
            continue;
        }
        let mut request = post(CHAT, &hello("bob"));
        let value = HeaderValue::from_bytes(alice.as_bytes()).unwrap();
        request.headers_mut().insert("x-user-id", value);
        assert_eq!(
            content(server.send(request).await.json()),
            "\"KLMNOPQRST\"",
            "{alice:?}"
        );
    }
    // Nobody: what is bound to the key, or the generic user, and the next of the fields.
    for nobody in ["", " ", "\t", "\u{a0}"] {
        assert_eq!(
            content(server.chat(&hello(nobody)).await),
            "\"ABCDEFGHIJ\"",
            "{nobody:?}"
        );
        let mut request = post(CHAT, &hello("bob"));
        let value = HeaderValue::from_bytes(nobody.as_bytes()).unwrap();
        request.headers_mut().insert("x-user-id", value);
        assert_eq!(
            content(server.send(request).await.json()),
            "\"UVWXYZ\"",
            "{nobody:?}"
        );
    }
    // 64 characters are counted without it.
    let long = format!("  {}  ", "x".repeat(64));
    assert_eq!(server.post(CHAT, &hello(&long)).await.status, 200);
}

#[tokio::test]
async fn records_are_one_persons_however_their_id_is_written() {
    let server = TestServer::promoted();
    let preference = json!({"user": " alice ", "messages": [{"role": "user", "content": "hi"}], "chosen": "a",
        "rejected": "b"});
    let made = server.post("/v1/preferences", &preference).await.json();
    assert_eq!(made["user"], "alice");
    for nobody in ["", " ", "\t"] {
        let header = [("x-user-id", nobody)];
        let reply = server
            .post_with("/v1/preferences", &header, &preference)
            .await;
        let (status, _, _, param) = reply.error();
        assert_eq!((status, param.as_deref()), (400, Some("X-User-Id")));
        let mut named = preference.clone();
        named["user"] = json!(nobody);
        let (status, _, _, param) = server.post("/v1/preferences", &named).await.error();
        assert_eq!((status, param.as_deref()), (400, Some("user")));
    }
    let listed = server.get("/v1/preferences?user=%20alice%09").await.json();
    assert_eq!(listed["data"][0]["id"], made["id"]);
    for path in ["/v1/users/%20alice", "/v1/users/alice%20%C2%A0"] {
        let shown = server.get(path).await.json();
        assert_eq!(
            (&shown["id"], &shown["preferences"]),
            (&json!("alice"), &json!(1)),
            "{path}"
        );
    }
    // Where somebody must be named, nobody is refused.
    for path in [
        "/v1/users/%20",
        "/v1/preferences?user=%20",
        "/v1/preferences?user=",
    ] {
        assert_eq!(server.get(path).await.status, 400, "{path}");
    }
    let delete = Request::delete("/v1/users/%20alice%20")
        .body(Body::empty())
        .unwrap();
    assert_eq!(server.send(delete).await.json()["id"], "alice");
    assert_eq!(server.get("/v1/users/alice").await.json()["preferences"], 0);
}

#[tokio::test]
async fn a_key_file_names_people_as_requests_do() {
    let server = TestServer::with(Setup {
        promoted: true,
        keys: keys(
            r#"{"keys": [{"name": "kiosk", "key": "sk-0123456789abcdef", "users": [" alice", "bob "], "user": "alice "}]}"#,
        ),
        ..Setup::default()
    });
    let bearer = ("authorization", "Bearer sk-0123456789abcdef");
    for (user, row) in [("", "user"), (" bob", "user")] {
        let reply = server.post_with(CHAT, &[bearer], &hello(user)).await;
        assert_eq!(
            (reply.status, reply.header("x-attune-user-row")),
            (200, row),
            "{user:?}"
        );
    }
    let reply = server.post_with(CHAT, &[bearer], &hello("carol")).await;
    assert_eq!(reply.status, 403);
}
