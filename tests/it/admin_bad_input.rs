//! Admin routes: every field with bad input, and callers who may not.

use axum::body::Body;
use axum::http::Request;
use serde_json::{json, Value};

use crate::support::{keys, Setup, TestServer};

const ADMIN: &str = "sk-admin-0123456789abcdef";
const CHAT: &str = "sk-chat-0123456789abcdef";
const FEEDBACK: &str = "sk-feedback-0123456789abcdef";

/// Every admin route.
const ROUTES: [(&str, &str); 12] = [
    ("POST", "/v1/admin/adapters"),
    ("GET", "/v1/admin/adapters"),
    ("GET", "/v1/admin/adapters/0123456789"),
    ("DELETE", "/v1/admin/adapters/0123456789"),
    ("GET", "/v1/admin/aliases"),
    ("POST", "/v1/admin/aliases/attune"),
    ("POST", "/v1/admin/aliases/attune/rollback"),
    ("POST", "/v1/admin/aliases/attune/canary"),
    ("DELETE", "/v1/admin/aliases/attune/canary"),
    ("GET", "/v1/admin/snapshot"),
    ("GET", "/v1/admin/decisions"),
    ("POST", "/v1/admin/decisions"),
];

#[tokio::test]
async fn only_the_role_admin_gets_in() {
    let file = json!({"keys": [
        {"name": "admin", "key": ADMIN, "roles": ["admin"]},
        {"name": "chat", "key": CHAT},
        {"name": "feedback", "key": FEEDBACK, "roles": ["inference", "feedback"]},
    ]});
    let server = TestServer::with(Setup {
        keys: keys(&file.to_string()),
        ..Setup::default()
    });
    let ask = async |method: &str, path: &str, key: Option<&str>| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        // Not JSON: who may not is told so before anything of it is read.
        server.send(request.body(Body::from("{")).unwrap()).await
    };
    for (method, path) in ROUTES {
        assert_eq!(ask(method, path, None).await.status, 401, "{method} {path}");
        for key in [CHAT, FEEDBACK] {
            let reply = ask(method, path, Some(key)).await;
            let code = Some("insufficient_permissions".to_owned());
            let expected = (403, "permission_error".to_owned(), code, None);
            assert_eq!(reply.error(), expected, "{method} {path}");
        }
        let status = ask(method, path, Some(ADMIN)).await.status;
        let expected = match method {
            "POST" => 415,
            "GET" if !path.contains("0123") => 200,
            _ => 404,
        };
        assert_eq!(status, expected, "{method} {path}");
    }
}

#[rustfmt::skip]
fn bad_bodies() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let install = "/v1/admin/adapters";
    let promote = "/v1/admin/aliases/attune";
    let rollback = "/v1/admin/aliases/attune/rollback";
    let canary = "/v1/admin/aliases/attune/canary";
    let decide = "/v1/admin/decisions";
    let v = "ffffffff";
    let whole = "f".repeat(64);
    let decision = |field: &str, value: Value| {
        let mut body = json!({"alias": "attune", "reason": "why"});
        body[field] = value;
        body
    };
    let upper = "F".repeat(64);
    vec![
        (install, json!({}), "missing_required_parameter", "path"),
        (install, json!({"path": null}), "missing_required_parameter", "path"),
        (install, json!({"path": 5}), "invalid_type", "path"),
        (install, json!({"path": ["a"]}), "invalid_type", "path"),
        (install, json!({"path": ""}), "invalid_value", "path"),
        (install, json!({"path": "a/b"}), "invalid_value", "path"),
        (install, json!({"path": "x".repeat(256)}), "string_above_max_length", "path"),
        (install, json!({"path": "a", "promote": true}), "unsupported_parameter", "promote"),
        (promote, json!({}), "missing_required_parameter", "version"),
        (promote, json!({"version": null}), "missing_required_parameter", "version"),
        (promote, json!({"version": 5}), "invalid_type", "version"),
        (promote, json!({"version": ""}), "invalid_value", "version"),
        (promote, json!({"version": "fffffff"}), "invalid_value", "version"),
        (promote, json!({"version": upper}), "invalid_value", "version"),
        (promote, json!({"version": "f".repeat(65)}), "string_above_max_length", "version"),
        (promote, json!({"version": "../../x"}), "invalid_value", "version"),
        (promote, json!({"version": v, "expected": 5}), "invalid_type", "expected"),
        (promote, json!({"version": v, "expected": ""}), "invalid_value", "expected"),
        (promote, json!({"version": v, "expected": "none"}), "invalid_value", "expected"),
        (promote, json!({"version": v, "force": true}), "unsupported_parameter", "force"),
        (rollback, json!({"expected": {}}), "invalid_type", "expected"),
        (rollback, json!({"version": v}), "unsupported_parameter", "version"),
        (canary, json!({"percent": 5}), "missing_required_parameter", "version"),
        (canary, json!({"version": v}), "missing_required_parameter", "percent"),
        (canary, json!({"version": v, "percent": null}), "missing_required_parameter", "percent"),
        (canary, json!({"version": [], "percent": 5}), "invalid_type", "version"),
        (canary, json!({"version": v, "percent": "5"}), "invalid_type", "percent"),
        (canary, json!({"version": v, "percent": true}), "invalid_type", "percent"),
        (canary, json!({"version": v, "percent": 0}), "decimal_below_min_value", "percent"),
        (canary, json!({"version": v, "percent": 0.09}), "decimal_below_min_value", "percent"),
        (canary, json!({"version": v, "percent": -1}), "decimal_below_min_value", "percent"),
        (canary, json!({"version": v, "percent": 100.1}), "decimal_above_max_value", "percent"),
        (canary, json!({"version": v, "percent": 1e308}), "decimal_above_max_value", "percent"),
        (canary, json!({"version": v, "percent": 0.15}), "invalid_value", "percent"),
        (canary, json!({"version": v, "percent": 5, "users": []}), "unsupported_parameter", "users"),
        (decide, json!({}), "missing_required_parameter", "alias"),
        (decide, json!({"alias": "attune"}), "missing_required_parameter", "reason"),
        (decide, decision("alias", json!(5)), "invalid_type", "alias"),
        (decide, decision("alias", json!("a b")), "invalid_value", "alias"),
        (decide, decision("alias", json!("a".repeat(65))), "string_above_max_length", "alias"),
        (decide, decision("alias", json!("tiny-llama")), "invalid_value", "alias"),
        (decide, decision("reason", json!("  ")), "string_below_min_length", "reason"),
        (decide, decision("reason", json!(["x"])), "invalid_type", "reason"),
        (decide, decision("reason", json!("x".repeat(4097))), "string_above_max_length", "reason"),
        (decide, decision("current", json!(v)), "invalid_value", "current"),
        (decide, decision("current", json!(7)), "invalid_type", "current"),
        (decide, decision("candidate", json!(upper)), "invalid_value", "candidate"),
        (decide, decision("candidate", json!({})), "invalid_type", "candidate"),
        (decide, decision("promoted", json!("yes")), "invalid_type", "promoted"),
        (decide, decision("promoted", json!(true)), "missing_required_parameter", "candidate"),
        (decide, decision("snapshot", json!(v)), "invalid_value", "snapshot"),
        (decide, decision("snapshot", json!("g".repeat(64))), "invalid_value", "snapshot"),
        (decide, decision("snapshot", json!(1)), "invalid_type", "snapshot"),
        (decide, decision("evaluation", json!([])), "invalid_type", "evaluation"),
        (decide, decision("evaluation", json!({"x": "y".repeat(65_536)})), "string_above_max_length", "evaluation"),
        (decide, decision("version", json!(whole)), "unsupported_parameter", "version"),
    ]
}

#[tokio::test]
async fn every_field_is_checked_by_name() {
    let server = TestServer::new();
    let version = server.installed(0).await;
    server.promote(&version).await;
    let before = server.get("/v1/admin/aliases").await.json();
    for (path, body, code, param) in bad_bodies() {
        let reply = server.post(path, &body).await;
        let kind = "invalid_request_error".to_owned();
        let expected = (400, kind, Some(code.to_owned()), Some(param.to_owned()));
        assert_eq!(reply.error(), expected, "{path} {body}: {}", reply.text());
    }
    for path in [
        "adapters",
        "aliases/attune",
        "aliases/attune/rollback",
        "decisions",
    ] {
        let path = format!("/v1/admin/{path}");
        for body in [json!([]), json!("x"), json!(5), Value::Null] {
            let reply = server.post(&path, &body).await;
            assert_eq!(reply.error().0, 400, "{path} {body}");
        }
        let nan = Request::post(&path)
            .header("content-type", "application/json")
            .body(Body::from(r#"{"percent": NaN}"#));
        assert_eq!(server.send(nan.unwrap()).await.error().0, 400);
        let not_utf8 = Request::post(&path)
            .header("content-type", "application/json")
            .body(Body::from(&b"{\"path\": \"\xff\"}"[..]));
        assert_eq!(server.send(not_utf8.unwrap()).await.error().0, 400);
    }
    assert_eq!(server.get("/v1/admin/aliases").await.json(), before);
    let decisions = server.get("/v1/admin/decisions").await.json();
    assert_eq!(decisions["data"], json!([]));
}

#[tokio::test]
async fn aliases_and_versions_that_are_not_there_are_404() {
    let server = TestServer::new();
    let version = server.installed(0).await;
    let v = version.as_str();
    let unknown = json!({"version": "ffffffff"});
    for (path, body, code) in [
        ("aliases/attune", unknown.clone(), "adapter_not_found"),
        (
            "aliases/attune/canary",
            json!({"version": "ffffffff", "percent": 5}),
            "adapter_not_found",
        ),
        (
            "aliases/other/canary",
            json!({"version": v, "percent": 5}),
            "alias_not_found",
        ),
        ("aliases/attune/rollback", json!({}), "alias_not_found"),
        ("aliases/other/rollback", json!({}), "alias_not_found"),
    ] {
        let reply = server.post(&format!("/v1/admin/{path}"), &body).await;
        let found = (reply.status, reply.error().2);
        assert_eq!(found, (404, Some(code.to_owned())), "{path}");
    }
    let reply = server.delete("/v1/admin/aliases/attune/canary").await;
    assert_eq!(reply.error().2, Some("canary_not_found".to_owned()));
    for name in ["a%20b", "a@b", "%00", "..%2f..", &"x".repeat(65)] {
        let path = format!("/v1/admin/aliases/{name}");
        let reply = server.post(&path, &json!({"version": v})).await;
        assert_eq!(
            (reply.status, reply.error().3),
            (400, Some("alias".to_owned())),
            "{name}"
        );
        let reply = server.delete(&format!("{path}/canary")).await;
        assert_eq!(reply.status, 400, "{name}");
    }
    let reply = server
        .post("/v1/admin/aliases/%ff", &json!({"version": v}))
        .await;
    assert_eq!(reply.status, 404);
    for (method, path) in [
        ("PUT", "/v1/admin/adapters"),
        ("DELETE", "/v1/admin/aliases/attune"),
    ] {
        let request = Request::builder().method(method).uri(path);
        let reply = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, 405, "{method} {path}");
    }
}
