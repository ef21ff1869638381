//! Keys, roles, people: what is let through and what is not.

use axum::body::Body;
use axum::http::Request;
use serde_json::{json, Value};

use crate::support::http::Reply;
use crate::support::{keys, Setup, TestServer};

const CHAT: &str = "/v1/chat/completions";
const APP: &str = "sk-app-0123456789abcdef";
const KIOSK: &str = "sk-kiosk-0123456789abcdef";
const FEEDBACK: &str = "sk-feedback-0123456789abcdef";
const OTHER: &str = "sk-other-tenant-0123456789";

fn server() -> TestServer {
    let file = json!({"keys": [
        {"name": "app", "key": APP},
        {"name": "kiosk", "key": KIOSK, "users": ["alice"], "user": "alice"},
        {"name": "feedback", "key": FEEDBACK, "roles": ["feedback"]},
        {"name": "other", "key": OTHER, "tenant": "other"},
    ]});
    TestServer::with(Setup {
        keys: keys(&file.to_string()),
        promoted: true,
        ..Setup::default()
    })
}

fn hello(extra: Value) -> Value {
    let mut body = json!({"model": "attune", "temperature": 0, "messages": [{"role": "user", "content": "hi"}]});
    let extra = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(extra);
    body
}

async fn ask(server: &TestServer, key: &str, body: &Value) -> Reply {
    let request = Request::post(CHAT)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {key}"));
    server
        .send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

async fn get(server: &TestServer, path: &str, authorization: &[&str]) -> Reply {
    let mut request = Request::get(path);
    for value in authorization {
        request = request.header("authorization", *value);
    }
    server.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn without_a_valid_key_nothing_but_health_answers() {
    let server = server();
    for path in [
        "/v1/models",
        "/v1/models/attune",
        "/v1/chat/completions",
        "/metrics",
        "/openapi.json",
        "/docs/",
        "/nowhere",
        "/",
        "//v1/models",
        "/livez/",
        "//livez",
        "/livez/../v1/models",
        "/%6civez",
        "/v1/%6dodels",
        "/readyz;/v1/models",
        "/LIVEZ",
    ] {
        let reply = get(&server, path, &[]).await;
        let code = Some("invalid_api_key".to_owned());
        assert_eq!(
            reply.error(),
            (401, "authentication_error".to_owned(), code, None),
            "{path}"
        );
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    }
    for path in ["/livez", "/readyz", "/livez?x=/v1/models"] {
        assert_eq!(get(&server, path, &[]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn host_and_absolute_urls_open_nothing() {
    let server = server();
    for (uri, host) in [
        ("/v1/models", "livez"),
        ("/v1/models", "127.0.0.1/livez"),
        ("http://livez/v1/models", "localhost"),
        ("http://localhost/v1/models?/livez", "localhost"),
    ] {
        let request = Request::get(uri)
            .header("host", host)
            .header("x-forwarded-for", "127.0.0.1");
        let request = request
            .header("x-original-url", "/livez")
            .body(Body::empty());
        assert_eq!(
            server.send(request.unwrap()).await.status,
            401,
            "{uri} {host}"
        );
    }
}

#[tokio::test]
async fn the_scheme_is_case_insensitive_and_the_key_is_not() {
    let server = server();
    let server = &server;
    let with = |value: String| async move { get(server, "/v1/models", &[&value]).await.status };
    for good in [
        format!("Bearer {APP}"),
        format!("bEARER {APP}"),
        format!("Bearer  {APP}"),
    ] {
        assert_eq!(with(good.clone()).await, 200, "{good}");
    }
    for bad in [
        format!("Bearer {}", APP.to_uppercase()),
        format!("Bearer {}", &APP[..APP.len() - 1]),
        format!("Bearer {APP}x"),
        format!("Basic {APP}"),
        format!("Bearer{APP}"),
        APP.to_owned(),
        "Bearer ".to_owned(),
        "Bearer".to_owned(),
        String::new(),
    ] {
        assert_eq!(with(bad.clone()).await, 401, "{bad}");
    }
    let key = format!("Bearer {APP}");
    assert_eq!(get(server, "/v1/models", &[&key, &key]).await.status, 401);
    assert_eq!(
        get(server, &format!("/v1/models?api_key={APP}"), &[])
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn with_a_key_unknown_routes_are_404() {
    let server = server();
    let key = format!("Bearer {APP}");
    assert_eq!(get(&server, "/nowhere", &[&key]).await.status, 404);
    assert_eq!(get(&server, "//v1/models", &[&key]).await.status, 404);
    assert_eq!(get(&server, "/metrics", &[&key]).await.status, 200);
}

#[tokio::test]
async fn a_key_without_the_role_is_403() {
    let server = server();
    let code = Some("insufficient_permissions".to_owned());
    let expected = (403, "permission_error".to_owned(), code, None);
    assert_eq!(
        ask(&server, FEEDBACK, &hello(json!({}))).await.error(),
        expected
    );
    let key = format!("Bearer {FEEDBACK}");
    for path in ["/v1/models", "/v1/models/attune"] {
        assert_eq!(get(&server, path, &[&key]).await.error(), expected);
    }
}

/// Every route of the document but the public ones and those for any key, with a body that nobody may read.
#[tokio::test]
async fn who_may_not_is_told_so_before_anything_of_the_request_is_read() {
    let file = json!({"keys": [{"name": "nothing", "key": APP, "roles": []}]});
    let server = TestServer::with(Setup {
        keys: keys(&file.to_string()),
        ..Setup::default()
    });
    let document: Value = serde_json::from_str(&attune::api::openapi::document()).unwrap();
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let public = operation["security"] == json!([{}]);
            if public || path == "/metrics" {
                continue;
            }
            let read = futures_util::stream::poll_fn(
                |_| -> std::task::Poll<Option<std::io::Result<&[u8]>>> {
                    panic!("somebody reads the body")
                },
            );
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(path.replace(['{', '}'], "") + "?limit=x")
                .header("authorization", format!("Bearer {APP}"))
                .header("content-type", "application/json")
                .header("x-user-id", "")
                .header("idempotency-key", "");
            let reply = server
                .send(request.body(Body::from_stream(read)).unwrap())
                .await;
            let code = Some("insufficient_permissions".to_owned());
            let expected = (403, "permission_error".to_owned(), code, None);
            assert_eq!(reply.error(), expected, "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked >= 25, "{asked} routes");
}

#[tokio::test]
async fn a_key_acts_for_its_people_only() {
    let server = server();
    let code = Some("insufficient_permissions".to_owned());
    let expected = (
        403,
        "permission_error".to_owned(),
        code,
        Some("user".to_owned()),
    );
    for stranger in [json!({"user": "bob"}), json!({"safety_identifier": "bob"})] {
        let reply = ask(&server, KIOSK, &hello(stranger)).await;
        assert_eq!(reply.error(), expected);
        assert!(!reply.text().contains("bob"));
    }
    let request = Request::post(CHAT)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {KIOSK}"))
        .header("x-user-id", "bob");
    let body = Body::from(hello(json!({"user": "alice"})).to_string());
    assert_eq!(
        server.send(request.body(body).unwrap()).await.error(),
        expected
    );
    // Nobody named: the key's own person.
    for extra in [json!({}), json!({"user": "alice"})] {
        let reply = ask(&server, KIOSK, &hello(extra)).await;
        assert_eq!(reply.header("x-attune-user-row"), "user");
        assert_eq!(
            reply.json()["choices"][0]["message"]["content"],
            "KLMNOPQRST"
        );
    }
}

#[tokio::test]
async fn a_name_belongs_to_its_tenant() {
    let server = server();
    let reply = ask(&server, OTHER, &hello(json!({"user": "alice"}))).await;
    assert_eq!(reply.header("x-attune-user-row"), "generic");
    let reply = ask(&server, APP, &hello(json!({"user": "alice"}))).await;
    assert_eq!(reply.header("x-attune-user-row"), "user");
}
