//! The strictest client there is in Rust: async-openai, whose types refuse what OpenAI would not send.

use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::chat::CreateChatCompletionRequest;
use async_openai::types::completions::CreateCompletionRequest;
use async_openai::Client;
use attune::api::server::ServerConfig;
use futures_util::StreamExt;
use serde_json::{json, Value};

use crate::support::socket::Listening;
use crate::support::TestServer;

async fn start() -> (Listening, Client<OpenAIConfig>) {
    let listening = Listening::start(TestServer::promoted(), ServerConfig::default()).await;
    let base = format!("http://{}/v1", listening.address);
    let config = OpenAIConfig::new()
        .with_api_base(base)
        .with_api_key("unused");
    (listening, Client::with_config(config))
}

fn chat(extra: Value) -> CreateChatCompletionRequest {
    let mut body = json!({"model": "attune", "temperature": 0.0, "user": "alice",
        "messages": [{"role": "user", "content": "hi"}]});
    let extra = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(extra);
    serde_json::from_value(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reads_answers_and_streams() {
    let (_listening, client) = start().await;
    let whole = client
        .chat()
        .create(chat(json!({"logprobs": true, "top_logprobs": 2})))
        .await;
    let whole = whole.unwrap();
    assert_eq!(
        whole.choices[0].message.content.as_deref(),
        Some("KLMNOPQRST")
    );
    assert_eq!(whole.usage.unwrap().completion_tokens, 10);
    let streamed = chat(json!({"stream": true, "n": 2, "stream_options": {"include_usage": true}}));
    let mut stream = client.chat().create_stream(streamed).await.unwrap();
    let (mut texts, mut usage) = ([String::new(), String::new()], None);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        usage = chunk.usage.or(usage);
        for choice in chunk.choices {
            let text = choice.delta.content.unwrap_or_default();
            texts[choice.index as usize].push_str(&text);
        }
    }
    assert_eq!(texts, ["KLMNOPQRST", "KLMNOPQRST"]);
    assert_eq!(usage.unwrap().completion_tokens, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reads_completions_and_models() {
    let (_listening, client) = start().await;
    let body = json!({"model": "tiny-llama", "prompt": "a", "temperature": 0.0, "logprobs": 1});
    let request: CreateCompletionRequest = serde_json::from_value(body).unwrap();
    let answer = client.completions().create(request).await.unwrap();
    assert_eq!(answer.choices[0].text, "bcdefghij");
    let models = client.models().list().await.unwrap();
    assert_eq!(models.data[0].id, "attune");
    assert_eq!(
        client
            .models()
            .retrieve("tiny-llama")
            .await
            .unwrap()
            .owned_by,
        "attune"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reads_errors() {
    let (_listening, client) = start().await;
    for (request, status, code) in [
        (chat(json!({"model": "gpt-4o"})), 404, "model_not_found"),
        (
            chat(json!({"messages": [{"role": "user", "content": "x".repeat(250)}]})),
            400,
            "context_length_exceeded",
        ),
        (
            chat(json!({"temperature": 3.0})),
            400,
            "decimal_above_max_value",
        ),
    ] {
        match client.chat().create(request).await.unwrap_err() {
            OpenAIError::ApiError(error) => {
                assert_eq!(error.status_code.as_u16(), status);
                assert_eq!(error.api_error.code.as_deref(), Some(code));
            }
            other => panic!("{other:?}"),
        }
    }
}
