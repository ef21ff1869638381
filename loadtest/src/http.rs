//! Plain requests to one server: the key, statuses, bodies read whole.

use std::future::Future;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::outcome::{ErrorKind, Failure};
use crate::target::Target;
use crate::wire::error_code;

/// A body that is read whole may have this many bytes: an answer of 131,072 tokens fits.
const MAX_BODY: usize = 16 << 20;
/// So much of an error text is kept.
const MAX_MESSAGE: usize = 300;
/// How long a list of models may take.
const MAX_MODELS: Duration = Duration::from_secs(10);

/// One server, and how requests reach it.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    target: Target,
}

impl Http {
    /// Without `keep_alive` each request opens its own connection.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn new(target: Target, keep_alive: bool) -> reqwest::Result<Self> {
        let client = target.http_client(keep_alive)?;
        Ok(Self { client, target })
    }

    /// A POST to a route such as `v1/preferences`, with the key.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// A request to a route, with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.authorized(self.client.request(method, self.target.route(path)))
    }

    /// Where requests go.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The response, if its status is 2xx.
    ///
    /// # Errors
    /// No response, or another status; the failure then has the code of its envelope.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        accepted(request.send().await.map_err(send_failure)?).await
    }

    /// The status and the JSON of a response with status 2xx, complete within `timeout`.
    ///
    /// # Errors
    /// As for [`Http::send`], or the body is not JSON.
    pub async fn json(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<(StatusCode, Value), Failure> {
        in_time(timeout, async {
            let response = self.send(request).await?;
            let status = response.status();
            Ok((status, whole_json(response).await?))
        })
        .await
    }

    /// The text of a response with status 2xx, complete within `timeout`.
    ///
    /// # Errors
    /// As for [`Http::send`], or the body is not UTF-8.
    pub async fn text(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<String, Failure> {
        in_time(timeout, async {
            let bytes = whole_body(self.send(request).await?).await?;
            String::from_utf8(bytes).map_err(|e| failure(ErrorKind::Body, e.to_string()))
        })
        .await
    }

    /// The objects of `GET /v1/models`.
    ///
    /// # Errors
    /// The server does not answer, or not with JSON.
    pub async fn models(&self) -> Result<Vec<Value>, Failure> {
        let request = self.request(Method::GET, "v1/models");
        let (_, body) = self.json(request, MAX_MODELS).await?;
        Ok(body["data"].as_array().cloned().unwrap_or_default())
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match self.target.api_key() {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}

/// An exchange that has to end within `timeout`.
pub(crate) async fn in_time<T>(
    timeout: Duration,
    exchange: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| {
        let message = format!("no end after {timeout:?}");
        Err(failure(ErrorKind::Timeout, message))
    };
    let result = tokio::time::timeout(timeout, exchange).await;
    result.unwrap_or_else(late)
}

/// The response if its status is 2xx, else a failure with the code of its envelope.
async fn accepted(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = whole_body(response).await?;
    let (code, message) = match serde_json::from_slice::<Value>(&bytes) {
        Ok(body) => error_code(&body),
        Err(_) => ("-".to_owned(), String::from_utf8_lossy(&bytes).into_owned()),
    };
    Err(failure(
        ErrorKind::Http {
            status: status.as_u16(),
            code,
        },
        message,
    ))
}

/// The JSON of a body.
pub(crate) async fn whole_json(response: Response) -> Result<Value, Failure> {
    let bytes = whole_body(response).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| failure(ErrorKind::Body, format!("answer is not JSON: {error}")))
}

async fn whole_body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let Some(chunk) = chunk.map_err(|error| failure(ErrorKind::Body, chain(&error)))? else {
            return Ok(bytes);
        };
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(failure(
                ErrorKind::Body,
                format!("answer is over {MAX_BODY} bytes"),
            ));
        }
        bytes.extend_from_slice(&chunk);
    }
}

fn send_failure(error: reqwest::Error) -> Failure {
    let kind = if error.is_connect() {
        ErrorKind::Connect
    } else if error.is_timeout() {
        ErrorKind::Timeout
    } else {
        ErrorKind::Send
    };
    failure(kind, chain(&error))
}

/// An error with its causes: reqwest's own text stops before the interesting part.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// A failure whose message has a bounded length.
pub(crate) fn failure(kind: ErrorKind, message: String) -> Failure {
    let message = message.chars().take(MAX_MESSAGE).collect();
    Failure { kind, message }
}
