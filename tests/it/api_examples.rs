//! `openapi/examples/*.json`: whole exchanges, as clients see them.
//!
//! `UPDATE_EXAMPLES=1 cargo test --test it api_examples` writes the answers anew.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::Request;
use serde_json::{json, Map, Value};

use crate::support::http::Reply;
use crate::support::TestServer;

/// Headers that belong to the exchange.
const HEADERS: [&str; 8] = [
    "content-type",
    "retry-after",
    "allow",
    "openai-version",
    "x-request-id",
    "x-attune-adapter-version",
    "x-attune-user-row",
    "x-attune-ignored",
];

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/examples");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

async fn answer(server: &TestServer, request: &Value) -> Value {
    let text = |name: &str| request[name].as_str().unwrap();
    let mut builder = Request::builder().method(text("method")).uri(text("path"));
    for (name, value) in request["headers"].as_object().unwrap() {
        builder = builder.header(name, value.as_str().unwrap());
    }
    let body = match &request["body"] {
        Value::Null => Body::empty(),
        body => Body::from(body.to_string()),
    };
    let reply = server.send(builder.body(body).unwrap()).await;
    let headers = HEADERS
        .iter()
        .filter(|name| reply.headers.contains_key(**name));
    let headers: Map<_, _> = headers
        .map(|name| ((*name).to_owned(), json!(reply.header(name))))
        .collect();
    json!({"status": reply.status, "headers": headers, "body": body_of(&reply)})
}

fn body_of(reply: &Reply) -> Value {
    if reply
        .header("content-type")
        .starts_with("text/event-stream")
    {
        let parsed = |event: String| serde_json::from_str(&event).map_or(json!(event), steady);
        return reply.events().into_iter().map(parsed).collect();
    }
    steady(reply.json())
}

/// Leaves out what differs from time to time.
fn steady(mut value: Value) -> Value {
    for prefix in ["chatcmpl-", "cmpl-"] {
        if value["id"]
            .as_str()
            .is_some_and(|id| id.starts_with(prefix))
        {
            value["id"] = json!(format!("{prefix}0123456789abcdef0123456789abcdef"));
            value["created"] = json!(1_700_000_000);
        }
    }
    value
}

#[tokio::test]
async fn exchanges_are_as_written() {
    let server = TestServer::promoted();
    let paths = examples();
    assert!(paths.len() >= 6, "where are the examples? {paths:?}");
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut example: Value = serde_json::from_str(&text).unwrap();
        let answer = answer(&server, &example["request"]).await;
        if std::env::var_os("UPDATE_EXAMPLES").is_some() {
            example["response"] = answer;
            let text = serde_json::to_string_pretty(&example).unwrap() + "\n";
            std::fs::write(&path, text).unwrap();
            continue;
        }
        assert_eq!(
            example["response"],
            answer,
            "{} differs; if that is meant: UPDATE_EXAMPLES=1 cargo test --test it api_examples",
            path.display()
        );
    }
}
