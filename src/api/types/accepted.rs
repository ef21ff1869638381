//! Fields of chat requests that OpenAI documents and that cannot change this server's answers.
//!
//! Two of them say what becomes of an answer afterwards. The others are checked and have no effect. Fields that would change the answer if they were
//! supported (tools, other output formats, audio...) pass only with a value that asks for nothing.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::client_fields::Taken;
use crate::api::error::ApiError;
use crate::api::fields::{self, Fields, Parsed};

const MAX_METADATA: usize = 16;
const SERVICE_TIERS: [&str; 6] = ["auto", "default", "flex", "scale", "priority", "fast"];

/// Those of them that are checked, and named among what was ignored.
const WITHOUT_EFFECT: [&str; 4] = [
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
];

/// Fields that do not change the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AcceptedFields {
    /// Up to 16 pairs, to find a kept answer by; keys of up to 64, values of up to 512 characters.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Whether the answer is kept, so that it can be shown again, compared and rated.
    pub store: Option<bool>,
    /// No effect.
    pub service_tier: Option<String>,
    /// No effect: the prefix cache works by itself.
    pub prompt_cache_key: Option<String>,
    /// No effect.
    pub prompt_cache_retention: Option<String>,
    /// No effect: there are no tools.
    pub parallel_tool_calls: Option<bool>,
}

impl AcceptedFields {
    /// Takes all of these fields.
    ///
    /// # Errors
    /// A value that OpenAI would refuse too, or one that asks for something.
    pub fn take(fields: &mut Fields, taken: &mut Taken) -> Parsed<Self> {
        nothing_asked(fields)?;
        for name in WITHOUT_EFFECT {
            if fields.peek(name).is_some() {
                taken.ignored.add(name);
            }
        }
        let retention = ["in_memory", "in-memory", "24h"];
        Ok(Self {
            metadata: metadata(fields)?,
            store: fields.boolean("store")?,
            service_tier: fields.word("service_tier", &SERVICE_TIERS)?,
            prompt_cache_key: fields.string("prompt_cache_key", 1024)?,
            prompt_cache_retention: fields.word("prompt_cache_retention", &retention)?,
            parallel_tool_calls: fields.boolean("parallel_tool_calls")?,
        })
    }
}

fn nothing_asked(fields: &mut Fields) -> Parsed<()> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.unsupported("tools", empty)?;
    fields.unsupported("functions", empty)?;
    for name in ["audio", "web_search_options", "moderation"] {
        fields.unsupported(name, |_| false)?;
    }
    for (name, neutral) in [
        ("tool_choice", &["none", "auto"][..]),
        ("function_call", &["none", "auto"]),
    ] {
        neutral_word(fields, name, neutral)?;
    }
    modalities(fields)?;
    response_format(fields)
}

fn neutral_word(fields: &mut Fields, name: &str, neutral: &[&str]) -> Parsed<()> {
    match fields.take(name) {
        None => Ok(()),
        Some(Value::String(word)) if neutral.contains(&word.as_str()) => Ok(()),
        Some(Value::String(_) | Value::Object(_)) => {
            let supported = format!("leave it out, or use one of {neutral:?}");
            Err(fields::unsupported_value(&fields.path(name), &supported))
        }
        Some(other) => Err(fields::wrong_type(&fields.path(name), "a string", &other)),
    }
}

fn modalities(fields: &mut Fields) -> Parsed<()> {
    let Some(value) = fields.take("modalities") else {
        return Ok(());
    };
    for (i, modality) in fields::array(value, "modalities", 8)?
        .into_iter()
        .enumerate()
    {
        let path = format!("modalities[{i}]");
        if fields::string(modality, &path, 64)? != "text" {
            return Err(fields::unsupported_value(&path, "it writes text only"));
        }
    }
    Ok(())
}

/// Takes the field `response_format`.
///
/// # Errors
/// Anything but text.
pub fn response_format(fields: &mut Fields) -> Parsed<()> {
    let Some(value) = fields.take("response_format") else {
        return Ok(());
    };
    let mut format = Fields::nested(value, "response_format".to_owned())?;
    let path = format.path("type");
    let kind = fields::string(format.required("type")?, &path, 64)?;
    match kind.as_str() {
        "text" => format.finish(),
        "json_object" | "json_schema" => Err(fields::unsupported_value(
            "response_format",
            "use {\"type\": \"text\"}",
        )),
        _ => Err(ApiError::invalid(
            "invalid_value",
            "response_format",
            "'response_format.type' must be text, json_object or json_schema",
        )),
    }
}

/// Takes the field `metadata`.
///
/// # Errors
/// Not an object of texts, too many of them, or too long.
pub fn metadata(fields: &mut Fields) -> Parsed<Option<BTreeMap<String, String>>> {
    let map = match fields.take("metadata") {
        None => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(fields::wrong_type("metadata", "an object", &other)),
    };
    if map.len() > MAX_METADATA {
        return Err(ApiError::invalid(
            "object_above_max_properties",
            "metadata",
            format!(
                "'metadata' must have at most {MAX_METADATA} pairs, got {}",
                map.len()
            ),
        ));
    }
    let pair = |(key, value): (String, Value)| {
        let short: String = key.chars().take(64).collect();
        if short != key {
            let message = "keys of 'metadata' must have at most 64 characters";
            return Err(ApiError::invalid(
                "string_above_max_length",
                "metadata",
                message,
            ));
        }
        let value = fields::string(value, &format!("metadata.{key}"), 512)?;
        Ok((key, value))
    };
    map.into_iter().map(pair).collect::<Parsed<_>>().map(Some)
}
