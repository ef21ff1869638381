//! No input makes a 5xx: any JSON in any field, any bytes as a body, any path.

use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use serde_json::{json, Value};

use crate::support::http::post;
use crate::support::TestServer;

const FIELDS: [&str; 46] = [
    "model",
    "messages",
    "prompt",
    "temperature",
    "top_p",
    "n",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stream",
    "stream_options",
    "user",
    "safety_identifier",
    "top_k",
    "min_p",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "metadata",
    "store",
    "service_tier",
    "tools",
    "tool_choice",
    "response_format",
    "modalities",
    "audio",
    "echo",
    "suffix",
    "best_of",
    "reasoning_effort",
    "chat_template_kwargs",
    "enable_thinking",
    "thinking",
    "stop_token_ids",
    "skip_special_tokens",
    "options",
    "n_predict",
    "repeat_last_n",
    "typical_p",
    "keep_alive",
    "unheard_of",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3i64..130).prop_map(Value::from),
        any::<f64>().prop_map(|f| serde_json::Number::from_f64(f).map_or(Value::Null, Value::from)),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("attune"),
            Just("tiny-llama"),
            Just("text"),
            Just("user")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let key = prop_oneof![
            "[a-z0-9]{1,5}",
            Just("role".to_owned()),
            Just("content".to_owned()),
            Just("type".to_owned()),
            Just("text".to_owned())
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_in_any_field(
        chat in any::<bool>(),
        fields in prop::collection::vec((prop::sample::select(&FIELDS[..]), any_json()), 1..4),
    ) {
        let (path, prompt, other) = match chat {
            true => ("/v1/chat/completions", "messages", json!([{"role": "user", "content": "hi"}])),
            false => ("/v1/completions", "prompt", json!("hi")),
        };
        let mut body = json!({"model": "attune", prompt: other});
        for (name, value) in fields {
            body[name] = value;
        }
        // One token: the script has letters after which its logits are no numbers.
        body["max_tokens"] = json!(1);
        if body["prompt"].is_array() || body["prompt"].is_string() {
            body["prompt"] = json!(body["prompt"].to_string().replace(['z', '~'], "") + "a");
        }
        check(post(path, &body))?;
    }

    #[test]
    fn any_bytes_as_a_body(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
        check(request.body(Body::from(bytes)).unwrap())?;
    }

    #[test]
    fn any_path(path in "/[a-z0-9/%.;:@~_-]{0,40}") {
        if let Ok(request) = Request::get(path).body(Body::empty()) {
            check(request)?;
        }
    }
}

fn check(request: Request<Body>) -> Result<(), TestCaseError> {
    thread_local! {
        static SERVER: (tokio::runtime::Runtime, TestServer) = {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            (runtime, TestServer::promoted())
        };
    }
    SERVER.with(|(runtime, server)| {
        let reply = runtime.block_on(server.send(request));
        let failed = reply.text().contains("internal_error");
        prop_assert!(reply.status < 500 && !failed, "{}", reply.text());
        Ok(())
    })
}
