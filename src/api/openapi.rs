//! The OpenAPI document as text: `attune openapi` writes it, `/openapi.json` serves it.

use serde_json::{Map, Value};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::OpenApi;

use super::router;

/// What the document says beside the routes.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(
        info(
            title = "attune",
            description = "OpenAI-compatible chat inference that answers each user the way that user prefers."
        ),
        security(("api_key" = [])),
        tags(
            (name = "chat", description = "Personalised conversation"),
            (name = "preferences", description = "What people prefer"),
            (name = "users", description = "What is recorded of people"),
            (name = "completions", description = "Raw text"),
            (name = "models", description = "What can be asked"),
            (name = "admin", description = "Versions, aliases and records of a running server"),
            (name = "health", description = "For load balancers and monitors"),
        )
    )]
    struct Base;

    let mut document = Base::openapi();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("api_key", bearer);
    document
}

/// The whole document, pretty and with sorted keys, so that equal routes give equal bytes.
pub fn document() -> String {
    let (_, document) = router::routes().split_for_parts();
    // The document is made of strings, numbers and lists; it always serialises.
    let value = serde_json::to_value(document).unwrap_or_default();
    let text = serde_json::to_string_pretty(&sorted(value)).unwrap_or_default();
    text + "\n"
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(Map::from_iter(pairs))
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}
