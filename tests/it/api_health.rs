//! `/livez`, `/readyz`, `/metrics`, `/openapi.json`, `/docs`.

use axum::body::Body;
use axum::http::Request;
use serde_json::{json, Value};

use crate::support::TestServer;

#[tokio::test]
async fn a_healthy_server_says_so() {
    let server = TestServer::new();
    for path in ["/livez", "/readyz"] {
        let reply = server.get(path).await;
        assert_eq!((reply.status, reply.json()), (200, json!({"status": "ok"})));
    }
    let head = Request::head("/livez").body(Body::empty()).unwrap();
    let reply = server.send(head).await;
    assert_eq!((reply.status, reply.text()), (200, ""));
}

#[tokio::test]
async fn a_stopped_engine_fails_both() {
    let server = TestServer::new();
    let engine = server.state.engine.clone();
    tokio::task::spawn_blocking(move || engine.stop())
        .await
        .unwrap();
    for path in ["/livez", "/readyz"] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 503);
        assert!(
            reply.text().contains("the engine has stopped"),
            "{}",
            reply.text()
        );
    }
    let chat = json!({"model": "attune", "messages": [{"role": "user", "content": "hi"}]});
    assert!(server.post("/v1/chat/completions", &chat).await.status >= 500);
}

#[tokio::test]
async fn metrics_count_by_route_and_never_by_user_or_path() {
    let server = TestServer::promoted();
    let chat = json!({"model": "attune", "user": "alice-secret", "messages": [{"role": "user", "content": "hi"}]});
    server.chat(&chat).await;
    server.get("/v1/models/attune").await;
    server.get("/nowhere/alice-secret").await;
    let frob = Request::builder()
        .method("FROB")
        .uri("/livez")
        .body(Body::empty());
    server.send(frob.unwrap()).await;
    let reply = server.get("/metrics").await;
    assert!(reply.header("content-type").starts_with("text/plain"));
    let text = reply.text();
    for line in [
        r#"http_requests_total{route="/v1/chat/completions",method="POST",status="200",outcome="complete"} 1"#,
        r#"http_requests_total{route="/v1/models/{model}",method="GET",status="200",outcome="complete"} 1"#,
        r#"http_requests_total{route="unmatched",method="GET",status="404",outcome="complete"} 1"#,
        r#"http_requests_total{route="/livez",method="other",status="405",outcome="complete"} 1"#,
        r#"attune_answers_total{outcome="stop"} 1"#,
        "http_requests_in_flight 1",
        "attune_kv_blocks_total 256",
        "attune_adapter_versions 2",
        "http_request_duration_seconds_bucket",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("alice"), "{text}");
}

#[tokio::test]
async fn the_document_is_served_as_it_is_written() {
    let server = TestServer::new();
    let served = server.get("/openapi.json").await.json();
    let written: Value = serde_json::from_str(&attune::api::openapi::document()).unwrap();
    assert_eq!(served, written);
    let page = server.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("swagger"), "{}", page.text());
}
