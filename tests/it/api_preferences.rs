//! Preferences and ratings over HTTP.

use attune::api::types::generation::MAX_ANSWERS;
use serde_json::{json, Value};

use crate::support::{keys, Setup, TestServer, VERSION};

const PREFERENCES: &str = "/v1/preferences";
const FEEDBACK: &str = "/v1/feedback";

fn texts(more: Value) -> Value {
    let mut body = json!({"user": "alice", "chosen": "tea", "rejected": "coffee",
        "messages": [{"role": "user", "content": "What shall I drink?"}]});
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

#[tokio::test]
async fn a_preference_of_texts_is_recorded_and_found_again() {
    let server = TestServer::promoted();
    let reply = server.post(PREFERENCES, &texts(json!({}))).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let made = reply.json();
    assert_eq!(made["object"], "preference");
    assert_eq!(made["user"], "alice");
    assert_eq!(made["adapter_version"], VERSION);
    assert_eq!(made["source"], "texts");
    let path = format!("{PREFERENCES}/{}", made["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.json(), made);
    let anonymous = server
        .post(PREFERENCES, &texts(json!({"user": null})))
        .await;
    assert_eq!(anonymous.json()["user"], Value::Null);
    let list = server
        .get(&format!("{PREFERENCES}?user=alice"))
        .await
        .json();
    assert_eq!(list["data"], json!([made]));
    let list = server.get(PREFERENCES).await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let missing = server.get("/v1/preferences/pref_0").await.error();
    assert_eq!(
        (missing.0, missing.2.as_deref()),
        (404, Some("preference_not_found"))
    );
}

#[tokio::test]
async fn a_preference_of_kept_answers_knows_who_was_answered() {
    let server = TestServer::promoted();
    let one = server
        .kept(json!({"user": "alice", "n": 8, "temperature": 2, "seed": 5, "max_tokens": 3}))
        .await;
    let other = server
        .kept(json!({"user": "alice", "model": "tiny-llama", "max_tokens": 3}))
        .await;
    let answer = |id: &str, index: u32| json!({"completion_id": id, "index": index});
    let of_two = json!({"chosen": answer(&one, 0), "rejected": {"completion_id": other}});
    let made = server.post(PREFERENCES, &of_two).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(
        (made["user"].as_str(), made["source"].as_str()),
        (Some("alice"), Some("completions"))
    );
    assert_eq!(made["adapter_version"], VERSION);
    assert_eq!(made["rejected"]["adapter_version"], Value::Null);
    assert_eq!(made["messages"][0]["content"], "hi");
    let kept = server
        .get(&format!("/v1/chat/completions/{one}"))
        .await
        .json();
    let text = |i: usize| kept["choices"][i]["message"]["content"].clone();
    let another = (1..8).find(|i| text(*i) != text(0)).unwrap() as u32;
    let choices =
        json!({"user": "alice", "chosen": answer(&one, another), "rejected": answer(&one, 0)});
    let choices = server.post(PREFERENCES, &choices).await;
    assert_eq!(choices.json()["source"], "choices");
}

#[tokio::test]
async fn answers_that_do_not_belong_together_are_refused() {
    let server = TestServer::promoted();
    let answer = |id: &str, index: usize| json!({"completion_id": id, "index": index});
    let one = server.kept(json!({"user": "alice"})).await;
    let other = server
        .kept(json!({"user": "alice", "model": "tiny-llama", "max_tokens": 3}))
        .await;
    let bobs = server.kept(json!({"user": "bob"})).await;
    let else_asked = server
        .kept(json!({"user": "alice", "messages": [{"role": "user", "content": "ho"}]}))
        .await;
    for (body, code, param) in [
        (
            json!({"chosen": answer(&one, 0), "rejected": answer(&one, 0)}),
            "invalid_value",
            "rejected",
        ),
        (
            json!({"chosen": answer(&one, 1), "rejected": answer(&one, 0)}),
            "invalid_value",
            "chosen",
        ),
        (
            json!({"chosen": answer(&one, 0), "rejected": answer(&bobs, 0)}),
            "invalid_value",
            "rejected",
        ),
        (
            json!({"chosen": answer(&one, 0), "rejected": answer(&else_asked, 0)}),
            "invalid_value",
            "rejected",
        ),
        (
            json!({"user": "bob", "chosen": answer(&one, 0), "rejected": answer(&other, 0)}),
            "invalid_value",
            "user",
        ),
        (
            json!({"chosen": answer("chatcmpl-0", 0), "rejected": answer(&one, 0)}),
            "completion_not_found",
            "id",
        ),
        (
            json!({"chosen": answer(&one, 0), "rejected": "text"}),
            "invalid_value",
            "rejected",
        ),
        (
            json!({"chosen": answer(&one, MAX_ANSWERS), "rejected": answer(&one, 0)}),
            "integer_above_max_value",
            "chosen.index",
        ),
    ] {
        let error = server.post(PREFERENCES, &body).await.error();
        assert_eq!(
            (error.2.as_deref(), error.3.as_deref()),
            (Some(code), Some(param)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn bad_preferences_are_refused_by_their_field_and_leave_nothing() {
    let server = TestServer::promoted();
    for (more, code, param) in [
        (json!({"rejected": "tea"}), "invalid_value", "rejected"),
        (
            json!({"chosen": null}),
            "missing_required_parameter",
            "chosen",
        ),
        (json!({"chosen": ""}), "invalid_value", "chosen"),
        (json!({"chosen": " \n"}), "invalid_value", "chosen"),
        (json!({"chosen": 1}), "invalid_type", "chosen"),
        (
            json!({"chosen": "x".repeat(300_000)}),
            "string_above_max_length",
            "chosen",
        ),
        (
            json!({"chosen": {}}),
            "missing_required_parameter",
            "chosen.completion_id",
        ),
        (
            json!({"chosen": {"completion_id": "x", "more": 1}}),
            "unsupported_parameter",
            "chosen.more",
        ),
        (
            json!({"messages": null}),
            "missing_required_parameter",
            "messages",
        ),
        (json!({"messages": []}), "empty_array", "messages"),
        (json!({"messages": "x"}), "invalid_type", "messages"),
        (
            json!({"messages": [{"role": "robot", "content": "x"}]}),
            "invalid_value",
            "messages[0].role",
        ),
        (json!({"user": ""}), "invalid_value", "user"),
        (json!({"user": " \t"}), "invalid_value", "user"),
        (
            json!({"user": "x".repeat(65)}),
            "string_above_max_length",
            "user",
        ),
        (json!({"user": 7}), "invalid_type", "user"),
        (json!({"margin": 1}), "unsupported_parameter", "margin"),
    ] {
        let error = server.post(PREFERENCES, &texts(more.clone())).await.error();
        assert_eq!(error.0, 400, "{more}");
        assert_eq!(
            (error.2.as_deref(), error.3.as_deref()),
            (Some(code), Some(param)),
            "{more}"
        );
    }
    // Each text is allowed, together they are more than a record has room for.
    let long = json!({"chosen": "x".repeat(262_144), "rejected": "y".repeat(262_144),
        "messages": [{"role": "user", "content": "z".repeat(600_000)}]});
    assert_eq!(server.post(PREFERENCES, &texts(long)).await.status, 400);
    assert_eq!(server.get(PREFERENCES).await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_record_and_another_request_is_refused() {
    let server = TestServer::promoted();
    let id = server.kept(json!({"user": "alice"})).await;
    let rating = json!({"completion_id": id, "rating": "up"});
    for (path, body, other) in [
        (
            PREFERENCES,
            texts(json!({})),
            texts(json!({"chosen": "milk"})),
        ),
        (
            FEEDBACK,
            rating,
            json!({"completion_id": id, "rating": "down"}),
        ),
    ] {
        let headers = [("idempotency-key", path)];
        let first = server.post_with(path, &headers, &body).await;
        assert_eq!(first.status, 201, "{}", first.text());
        let again = server.post_with(path, &headers, &body).await;
        assert_eq!((again.status, again.json()), (200, first.json()));
        let reused = server.post_with(path, &headers, &other).await;
        assert_eq!(reused.header("x-should-retry"), "false");
        let (status, _, code, _) = reused.error();
        assert_eq!(
            (status, code.as_deref()),
            (422, Some("idempotency_key_reused"))
        );
    }
    let other_person = [("idempotency-key", PREFERENCES), ("x-user-id", "bob")];
    let reused = server
        .post_with(PREFERENCES, &other_person, &texts(json!({})))
        .await;
    assert_eq!(reused.status, 422);
    for key in ["", "a b", &"k".repeat(256)] {
        let headers = [("idempotency-key", key)];
        let reply = server
            .post_with(PREFERENCES, &headers, &texts(json!({})))
            .await;
        assert_eq!(
            reply.error().3.as_deref(),
            Some("Idempotency-Key"),
            "{key:?}"
        );
    }
    assert_eq!(
        server.get(PREFERENCES).await.json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn ratings_are_thumbs_or_stars() {
    let server = TestServer::promoted();
    let id = server.kept(json!({"user": "alice"})).await;
    for rating in [json!("up"), json!("down"), json!(1), json!(5), json!(3.0)] {
        let body = json!({"completion_id": id, "rating": rating, "comment": "so so"});
        let reply = server.post(FEEDBACK, &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let made = reply.json();
        assert_eq!(
            (made["user"].as_str(), made["adapter_version"].as_str()),
            (Some("alice"), Some(VERSION))
        );
        assert_eq!(made["rating"].as_f64(), rating.as_f64());
    }
    for (more, param) in [
        (json!({"rating": 0}), "rating"),
        (json!({"rating": 6}), "rating"),
        (json!({"rating": 2.5}), "rating"),
        (json!({"rating": true}), "rating"),
        (json!({"rating": "good"}), "rating"),
        (json!({"rating": null}), "rating"),
        (json!({"index": 1}), "index"),
        (json!({"index": -1}), "index"),
        (json!({"completion_id": "chatcmpl-0"}), "id"),
        (json!({"completion_id": 7}), "completion_id"),
        (json!({"comment": "x".repeat(4097)}), "comment"),
        (json!({"stars": 5}), "stars"),
    ] {
        let mut body = json!({"completion_id": id, "rating": "up"});
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        let error = server.post(FEEDBACK, &body).await.error();
        assert_eq!(error.3.as_deref(), Some(param), "{body}");
    }
    // Numbers that JSON cannot hold do not get past the parser, and neither do other bytes.
    for body in [
        &b"{\"completion_id\": \"x\", \"rating\": NaN}"[..],
        b"{\"rating\": 1e999}",
        b"\xff",
    ] {
        let request = axum::http::Request::post(FEEDBACK)
            .header("content-type", "application/json")
            .body(axum::body::Body::from(body))
            .unwrap();
        assert_eq!(server.send(request).await.status, 400);
    }
}

const APP: &str = "sk-app-0123456789abcdef";
const KIOSK: &str = "sk-kiosk-0123456789abcdef";
const MUTE: &str = "sk-mute-0123456789abcdef";
const OTHER: &str = "sk-other-tenant-0123456789";

#[tokio::test]
async fn a_key_sees_its_own_tenant_and_people_only() {
    let roles = json!(["inference", "feedback"]);
    let file = json!({"keys": [
        {"name": "app", "key": APP, "roles": roles},
        {"name": "kiosk", "key": KIOSK, "roles": roles, "users": ["bob"], "user": "bob"},
        {"name": "mute", "key": MUTE, "roles": ["inference"]},
        {"name": "other", "key": OTHER, "tenant": "other", "roles": roles},
    ]});
    let server = TestServer::with(Setup {
        keys: keys(&file.to_string()),
        promoted: true,
        ..Setup::default()
    });
    let bearer = |key: &str| format!("Bearer {key}");
    let post = |key: &str, path: &'static str, body: Value| {
        let key = bearer(key);
        let server = &server;
        async move {
            server
                .post_with(path, &[("authorization", &key)], &body)
                .await
        }
    };
    let made = post(APP, PREFERENCES, texts(json!({}))).await.json();
    let chat = json!({"model": "attune", "user": "alice", "store": true,
        "messages": [{"role": "user", "content": "hi"}]});
    let kept = post(APP, "/v1/chat/completions", chat).await.json();
    let paths = [
        format!("{PREFERENCES}/{}", made["id"].as_str().unwrap()),
        format!("/v1/chat/completions/{}", kept["id"].as_str().unwrap()),
    ];
    for path in &paths {
        assert_eq!(server.get_as(APP, path).await.status, 200);
        // bob's key may not act for alice; the other tenant has its own alice.
        for key in [KIOSK, OTHER] {
            assert_eq!(server.get_as(key, path).await.status, 404, "{path}");
        }
    }
    for key in [KIOSK, OTHER] {
        assert_eq!(
            server.get_as(key, PREFERENCES).await.json()["data"],
            json!([])
        );
        let rating = json!({"completion_id": kept["id"], "rating": "up"});
        assert_eq!(post(key, FEEDBACK, rating).await.status, 404);
    }
    let foreign = format!("{PREFERENCES}?user=alice");
    assert_eq!(
        server.get_as(OTHER, &foreign).await.json()["data"],
        json!([])
    );
    assert_eq!(server.get_as(KIOSK, &foreign).await.status, 403);
    assert_eq!(post(KIOSK, PREFERENCES, texts(json!({}))).await.status, 403);
    let own = post(KIOSK, PREFERENCES, texts(json!({"user": null}))).await;
    assert_eq!(own.json()["user"], "bob");
    assert_eq!(post(MUTE, PREFERENCES, texts(json!({}))).await.status, 403);
    assert_eq!(server.get_as(MUTE, PREFERENCES).await.status, 403);
}
