//! OpenAI's own schema of its answers.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use serde_json::{json, Value};

/// Checks `value` against a schema of OpenAI's document.
pub fn check(schema: &'static str, value: &Value) {
    static VALIDATORS: OnceLock<Mutex<HashMap<&'static str, Validator>>> = OnceLock::new();
    let mut validators = VALIDATORS
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let validator = validators.entry(schema).or_insert_with(|| {
        let reference = format!("#/components/schemas/{schema}");
        let whole = json!({"$ref": reference, "components": components()});
        jsonschema::validator_for(&whole).unwrap()
    });
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "not a {schema}: {errors:#?}\n{value:#}");
}

fn components() -> &'static Value {
    static COMPONENTS: OnceLock<Value> = OnceLock::new();
    COMPONENTS.get_or_init(|| {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openai/openapi.json.gz");
        let mut text = String::new();
        let file = std::fs::File::open(path).unwrap();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .unwrap();
        let mut document: Value = serde_json::from_str(&text).unwrap();
        let mut components = document["components"].take();
        allow_null(&mut components);
        // Streams of /v1/completions have the answer's shape, with null before the end.
        let choice = "/schemas/CreateCompletionResponse/properties/choices/items/properties";
        let reason = components
            .pointer_mut(&format!("{choice}/finish_reason"))
            .unwrap();
        let strict = reason.take();
        *reason = json!({"anyOf": [strict, {"type": "null"}]});
        components
    })
}

/// The document is written for OpenAPI 3.1 but says `nullable: true`, which only 3.0 knew.
fn allow_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(allow_null);
            if map.remove("nullable") == Some(Value::Bool(true)) {
                let schema = value.take();
                *value = json!({"anyOf": [schema, {"type": "null"}]});
            }
        }
        Value::Array(values) => values.iter_mut().for_each(allow_null),
        _ => {}
    }
}

#[test]
fn the_validator_can_refuse() {
    let refused =
        |schema, value: Value| std::panic::catch_unwind(|| check(schema, &value)).is_err();
    let error = json!({"error": {"message": "m", "type": "t", "param": null, "code": null}});
    check("ErrorResponse", &error);
    assert!(refused(
        "ErrorResponse",
        json!({"error": {"message": "m", "type": "t", "param": null}})
    ));
    assert!(refused(
        "ErrorResponse",
        json!({"error": {"message": "m", "type": "t", "param": null, "code": 5}})
    ));
    let chunk = |reason: Value| {
        let choice = json!({"index": 0, "delta": {}, "finish_reason": reason});
        json!({"id": "i", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
    };
    check("CreateChatCompletionStreamResponse", &chunk(Value::Null));
    assert!(refused(
        "CreateChatCompletionStreamResponse",
        chunk(json!("eos"))
    ));
}
