//! Requests through the router, without sockets. Every answer is checked on its way.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::Router;
use serde_json::Value;
use tower::ServiceExt;

use super::{openai, TestServer};

/// An answer that was read to its end.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl TestServer {
    /// Sends a request; an answer that is no success must be OpenAI's envelope.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        Reply::read(self.router.clone(), request).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(post(path, body)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Request::delete(path).body(Body::empty()).unwrap())
            .await
    }

    /// With more headers.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let mut request = post(path, body);
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        self.send(request).await
    }

    /// A GET under an API key.
    pub async fn get_as(&self, key: &str, path: &str) -> Reply {
        let request = Request::get(path).header("authorization", format!("Bearer {key}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// A kept answer's id; `more` is put into the request.
    pub async fn kept(&self, more: Value) -> String {
        let mut body = serde_json::json!({"model": "attune", "temperature": 0, "store": true,
            "messages": [{"role": "user", "content": "hi"}]});
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        let reply = self.post("/v1/chat/completions", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("x-attune-kept"), "true");
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    /// A chat that succeeds.
    pub async fn chat(&self, body: &Value) -> Value {
        let reply = self.post("/v1/chat/completions", body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let answer = reply.json();
        openai::check("CreateChatCompletionResponse", &answer);
        answer
    }
}

/// A POST of JSON.
pub fn post(path: &str, body: &Value) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

impl Reply {
    /// What `router` answers, read to its end; an answer that is no success must be OpenAI's envelope.
    pub async fn read(router: Router, request: Request<Body>) -> Self {
        let response = router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let reply = Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: axum::body::to_bytes(body, usize::MAX)
                .await
                .unwrap()
                .to_vec(),
        };
        assert!(reply.headers.contains_key("x-request-id"));
        assert!(reply.headers.contains_key("openai-processing-ms"));
        if reply.status >= 400 && !reply.body.is_empty() {
            openai::check("ErrorResponse", &reply.json());
        }
        reply
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// (status, type, code, param) of an error.
    pub fn error(&self) -> (u16, String, Option<String>, Option<String>) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        (
            self.status,
            text("type").unwrap(),
            text("code"),
            text("param"),
        )
    }

    /// The data of a stream's events, in order.
    pub fn events(&self) -> Vec<String> {
        assert_eq!(
            self.header("content-type"),
            "text/event-stream; charset=utf-8"
        );
        assert_eq!(self.header("cache-control"), "no-cache");
        assert_eq!(self.header("x-accel-buffering"), "no");
        events(self.text())
    }

    /// The chunks of a stream that ended well, each checked against `schema`.
    pub fn chunks(&self, schema: &'static str) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        let chunks: Vec<Value> = events
            .iter()
            .map(|e| serde_json::from_str(e).unwrap())
            .collect();
        chunks.iter().for_each(|chunk| openai::check(schema, chunk));
        chunks
    }
}

/// The data of events in the text of a stream; pings are left out.
pub fn events(text: &str) -> Vec<String> {
    let blocks = text.split("\n\n").filter(|block| !block.is_empty());
    blocks
        .filter_map(|block| block.strip_prefix("data: ").map(str::to_owned))
        .collect()
}
