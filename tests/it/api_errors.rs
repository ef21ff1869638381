//! Bad input: every row of the error table that concerns chat and completions.

use std::time::Duration;

use attune::api::router::HttpConfig;
use attune::app::state::Limits;
use axum::body::Body;
use axum::http::Request;
use serde_json::{json, Value};

use crate::support::http::{events, post, Reply};
use crate::support::{Setup, TestServer, CONTEXT};

use crate::support::bad_requests::{
    bad_chats, bad_chats_of_others, bad_completions, bad_options, bad_options_of_others,
};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn changed(mut body: Value, change: &Value) -> Value {
    let change = change.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(change);
    body
}

fn assert_invalid(reply: &Reply, case: &Value, code: &str, param: &str) {
    assert_eq!(reply.status, 400, "{case}: {}", reply.text());
    let expected = (
        400,
        "invalid_request_error".into(),
        Some(code.into()),
        Some(param.into()),
    );
    assert_eq!(reply.error(), expected, "{case}: {}", reply.text());
    let message = reply.json()["error"]["message"].to_string();
    assert!(message.len() < 600, "{case}: {message}");
}

#[tokio::test]
async fn bad_chats_name_their_field() {
    let server = TestServer::new();
    let good = json!({"model": "attune", "messages": [{"role": "user", "content": "hi"}]});
    let others = bad_chats_of_others()
        .into_iter()
        .chain(bad_options_of_others());
    let ours = bad_chats().into_iter().chain(bad_options());
    for (case, code, param) in ours.chain(others) {
        let reply = server.post(CHAT, &changed(good.clone(), &case)).await;
        assert_invalid(&reply, &case, code, param);
    }
    server.chat(&good).await;
}

#[tokio::test]
async fn bad_completions_name_their_field() {
    let server = TestServer::new();
    let good = json!({"model": "attune", "prompt": "hi"});
    let shared = bad_options().into_iter().chain(bad_options_of_others());
    for (case, code, param) in bad_completions().into_iter().chain(shared) {
        let reply = server
            .post(COMPLETIONS, &changed(good.clone(), &case))
            .await;
        assert_invalid(&reply, &case, code, param);
    }
    assert_eq!(server.post(COMPLETIONS, &good).await.status, 200);
}

#[tokio::test]
async fn too_many_messages_are_refused() {
    let server = TestServer::with(Setup {
        limits: Limits {
            max_messages: 3,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let messages = vec![json!({"role": "user", "content": "x"}); 4];
    let reply = server
        .post(CHAT, &json!({"model": "attune", "messages": messages}))
        .await;
    assert_invalid(
        &reply,
        &json!("messages"),
        "array_above_max_length",
        "messages",
    );
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let server = TestServer::new();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let infinite = r#"{"model":"attune","temperature":1e999,"messages":[]}"#;
    for body in [
        "",
        "{",
        "nonsense",
        "[]",
        "5",
        "null",
        "\"x\"",
        "{\"a\":NaN}",
        &deep,
        infinite,
    ] {
        let request = Request::post(CHAT).header("content-type", "application/json");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let expected = (400, "invalid_request_error".to_owned(), None, None);
        assert_eq!(server.send(request).await.error(), expected);
    }
    let bytes = Request::post(CHAT).header("content-type", "application/json");
    let reply = server
        .send(bytes.body(Body::from(vec![b'"', 0xff, b'"'])).unwrap())
        .await;
    assert_eq!(reply.status, 400);
}

#[tokio::test]
async fn the_content_type_must_be_json() {
    let server = TestServer::new();
    let body = r#"{"model":"attune","messages":[{"role":"user","content":"hi"}]}"#;
    for (content_type, status) in [
        (None, 415),
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("text/json"), 415),
        (Some("application/json"), 200),
        (Some("Application/JSON; charset=utf-8"), 200),
        (Some("application/vnd.api+json"), 200),
    ] {
        let mut request = Request::post(CHAT);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let reply = server.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(reply.status, status, "{content_type:?}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_announced_or_not() {
    let server = TestServer::with(Setup {
        http: HttpConfig {
            max_body_bytes: 1000,
            ..HttpConfig::default()
        },
        ..Setup::default()
    });
    let announced = Body::from("x".repeat(1001));
    let parts =
        futures_util::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>("x".repeat(400))));
    for body in [announced, Body::from_stream(parts)] {
        let request = Request::post(CHAT).header("content-type", "application/json");
        let reply = server.send(request.body(body).unwrap()).await;
        let code = Some("request_too_large".to_owned());
        assert_eq!(
            reply.error(),
            (413, "invalid_request_error".to_owned(), code, None)
        );
        assert_eq!(reply.header("connection"), "close");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let server = TestServer::with(Setup {
        http: HttpConfig {
            body_timeout: Duration::from_millis(1),
            ..HttpConfig::default()
        },
        ..Setup::default()
    });
    let request = Request::post(CHAT).header("content-type", "application/json");
    let never = futures_util::stream::pending::<Result<String, std::io::Error>>();
    let reply = server
        .send(request.body(Body::from_stream(never)).unwrap())
        .await;
    assert_eq!(reply.error().2.as_deref(), Some("request_timeout"));
    assert_eq!(reply.status, 408);
}

#[tokio::test]
async fn unknown_routes_and_methods_have_the_envelope() {
    let server = TestServer::new();
    for path in [
        "/",
        "/v1",
        "/v1/embeddings",
        "//v1/models",
        "/v1/models/",
        "/v2/models",
        "/%2e%2e/x",
    ] {
        let expected = (
            404,
            "invalid_request_error".into(),
            Some("unknown_url".into()),
            None,
        );
        assert_eq!(server.get(path).await.error(), expected, "{path}");
    }
    for (method, path, allow) in [
        ("PUT", CHAT, "POST,GET,HEAD"),
        ("PUT", COMPLETIONS, "POST"),
        ("POST", "/v1/models", "GET,HEAD"),
        ("DELETE", "/livez", "GET,HEAD"),
        ("FROB", "/v1/models", "GET,HEAD"),
    ] {
        let request = Request::builder().method(method).uri(path);
        let reply = server.send(request.body(Body::empty()).unwrap()).await;
        let code = Some("method_not_allowed".to_owned());
        assert_eq!(
            reply.error(),
            (405, "invalid_request_error".to_owned(), code, None)
        );
        assert_eq!(reply.header("allow"), allow);
    }
}

#[tokio::test]
async fn a_full_queue_is_503_before_the_first_byte() {
    let server = TestServer::with(Setup {
        max_running: 1,
        max_queued: 1,
        ..Setup::default()
    });
    server.gate.close();
    let chat =
        json!({"model": "attune", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let mut held = Vec::new();
    let full = loop {
        let response = tower::ServiceExt::oneshot(server.router.clone(), post(CHAT, &chat));
        let response = response.await.unwrap();
        if response.status() != 200 {
            break response;
        }
        held.push(response);
        assert!(held.len() <= 2, "the queue never fills");
    };
    assert_eq!(full.status(), 503);
    let seconds: u64 = full.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let millis: u64 = full.headers()["retry-after-ms"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(seconds >= 1 && millis >= 1);
    let reply = server.post(CHAT, &chat).await;
    let code = Some("engine_overloaded".to_owned());
    assert_eq!(
        reply.error(),
        (503, "overloaded_error".to_owned(), code, None)
    );
    // All answers or none; and more than there are places can never come in.
    for (n, status) in [(2, 503), (3, 400)] {
        let many = changed(chat.clone(), &json!({"n": n}));
        assert_eq!(server.post(CHAT, &many).await.status, status);
    }
    server.gate.open();
    for response in held {
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap();
        assert_eq!(
            events(std::str::from_utf8(&bytes).unwrap()).pop().unwrap(),
            "[DONE]"
        );
    }
    server.until_idle().await;
}

#[tokio::test]
async fn a_sequence_that_fails_ends_alone() {
    let server = TestServer::new();
    let prompt = |prompt: &str, stream: bool| json!({"model": "attune", "prompt": prompt, "temperature": 0, "max_tokens": 50, "stream": stream});
    let bad = server.post(COMPLETIONS, &prompt("~", false)).await;
    let code = Some("internal_error".to_owned());
    assert_eq!(bad.error(), (500, "server_error".to_owned(), code, None));
    assert!(
        !bad.text().contains("finite"),
        "the inside is told: {}",
        bad.text()
    );
    // In the middle of a stream the status is fixed: an error event, and no [DONE].
    let events = server.post(COMPLETIONS, &prompt("w", true)).await.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    crate::support::openai::check("ErrorResponse", &last);
    assert!(
        events.len() > 3 && !events.iter().any(|e| e == "[DONE]"),
        "{events:?}"
    );
    let good = server.post(COMPLETIONS, &prompt("a", false)).await;
    assert_eq!(good.json()["choices"][0]["text"], "bcdefghij");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_504() {
    let server = TestServer::with(Setup {
        limits: Limits {
            answer_timeout: Duration::from_millis(1),
            ..Limits::default()
        },
        ..Setup::default()
    });
    server.gate.close();
    let chat = json!({"model": "attune", "messages": [{"role": "user", "content": "hi"}]});
    let code = Some("request_timeout".to_owned());
    let reply = server.post(CHAT, &chat).await;
    assert_eq!(reply.error(), (504, "timeout_error".to_owned(), code, None));
    server.gate.open();
    server.until_idle().await;
}

#[tokio::test]
async fn a_model_without_a_template_serves_completions_only() {
    let server = TestServer::with(Setup {
        template: false,
        ..Setup::default()
    });
    let chat = json!({"model": "attune", "messages": [{"role": "user", "content": "hi"}]});
    assert_invalid(
        &server.post(CHAT, &chat).await,
        &chat,
        "invalid_value",
        "model",
    );
    let prompt = json!({"model": "attune", "prompt": "hi"});
    assert_eq!(server.post(COMPLETIONS, &prompt).await.status, 200);
}

#[tokio::test]
async fn the_soft_prompt_takes_positions_of_the_context() {
    let server = TestServer::promoted();
    // 7 tokens of template around the text, 2 rows of the soft prompt.
    let chat = |model: &str, room: usize| {
        let content = "x".repeat(CONTEXT - 7 - room);
        json!({"model": model, "messages": [{"role": "user", "content": content}]})
    };
    for room in [0, 1, 2] {
        let full = server.post(CHAT, &chat("attune", room)).await;
        assert_invalid(&full, &json!(room), "context_length_exceeded", "messages");
        let message = full.json()["error"]["message"].to_string();
        let needs = (CONTEXT + 3 - room).to_string();
        assert!(
            message.contains(&needs) && message.contains("2 of the user's"),
            "{message}"
        );
    }
    for (model, room) in [("attune", 3), ("tiny-llama", 1)] {
        let answer = server.chat(&chat(model, room)).await;
        assert_eq!(answer["usage"]["completion_tokens"], 1, "{model}");
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
}

/// The document and the reader of requests cannot drift apart: a documented field that nobody read
/// would be refused as unsupported.
#[tokio::test]
async fn every_documented_field_is_read() {
    let document: Value = serde_json::from_str(&attune::api::openapi::document()).unwrap();
    let server = TestServer::new();
    let odd = json!({"no such key": [[]]});
    for (path, schema, good) in [
        (
            CHAT,
            "ChatCompletionRequest",
            json!({"messages": [{"role": "user", "content": "hi"}]}),
        ),
        (COMPLETIONS, "CompletionRequest", json!({"prompt": "hi"})),
    ] {
        let mut names = Vec::new();
        collect_names(
            &document,
            &document["components"]["schemas"][schema],
            &mut names,
        );
        assert!(names.len() > 18, "{names:?}");
        for name in names {
            let mut body = changed(good.clone(), &json!({"model": "attune"}));
            body[&name] = odd.clone();
            let reply = server.post(path, &body).await;
            let (status, _, code, _) = reply.error();
            assert_eq!(status, 400, "{name}");
            assert_ne!(code.as_deref(), Some("unsupported_parameter"), "{name}");
        }
    }
}

fn collect_names(document: &Value, schema: &Value, names: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        collect_names(document, target, names);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        collect_names(document, part, names);
    }
    names.extend(
        schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone()),
    );
}
