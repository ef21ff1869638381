//! Messages of a chat request.

use serde::Serialize;
use serde_json::{json, Value};
use utoipa::ToSchema;

use super::client_fields::{Place, Taken};
use crate::api::error::ApiError;
use crate::api::fields::{self, Fields, Parsed};
use crate::app::chat::ChatMessage;

/// Characters of one text; the body's limit is usually met first.
const MAX_TEXT_CHARS: usize = 16 << 20;
/// Parts of one message.
const MAX_PARTS: usize = 256;

/// Who speaks. `developer` is an instruction like `system`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The app's instruction.
    Developer,
    /// The app's instruction.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// What was said: a string, or text parts, which are joined by line breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Content {
    /// A string.
    Text(String),
    /// Parts.
    Parts(Vec<TextPart>),
}

/// A part of a message. Images, audio and files are not supported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TextPart {
    /// Always `text`.
    #[serde(rename = "type")]
    #[schema(value_type = PartType)]
    pub kind: &'static str,
    /// The text.
    pub text: String,
}

/// Kinds of parts.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum PartType {
    /// Text.
    Text,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What was said.
    pub content: Content,
}

impl Message {
    /// Reads a message; `path` names it.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(value: Value, path: String, taken: &mut Taken) -> Parsed<Self> {
        let mut fields = Fields::nested(value, path)?;
        let role = role(&mut fields)?;
        // Answers come back as clients got them, with their empty fields.
        fields.unsupported("tool_calls", |value| *value == json!([]))?;
        fields.unsupported("refusal", |value| *value == "")?;
        fields.unsupported("audio", |_| false)?;
        fields.unsupported("function_call", |_| false)?;
        let content = content(&mut fields, role, taken)?;
        taken.inner(&mut fields, Place::Message)?;
        fields.finish()?;
        Ok(Self { role, content })
    }
}

impl From<Message> for ChatMessage {
    fn from(message: Message) -> Self {
        let role = match message.role {
            Role::Developer | Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let content = match message.content {
            Content::Text(text) => text,
            Content::Parts(parts) => {
                let texts: Vec<String> = parts.into_iter().map(|part| part.text).collect();
                texts.join("\n")
            }
        };
        Self {
            role: role.to_owned(),
            content,
        }
    }
}

fn role(fields: &mut Fields) -> Parsed<Role> {
    let path = fields.path("role");
    let role = fields::string(fields.required("role")?, &path, 64)?;
    match role.as_str() {
        "developer" => Ok(Role::Developer),
        "system" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" | "function" => Err(fields::unsupported_value(&path, "it has no tools")),
        _ => Err(ApiError::invalid(
            "invalid_value",
            &path,
            format!("'{path}' must be developer, system, user or assistant"),
        )),
    }
}

fn content(fields: &mut Fields, role: Role, taken: &mut Taken) -> Parsed<Content> {
    let path = fields.path("content");
    let missing = fields.missing("content");
    match fields.take_nullable("content").ok_or(missing)? {
        // An answer that was nothing but thoughts, or nothing at all, comes back so.
        Value::Null if role == Role::Assistant => Ok(Content::Text(String::new())),
        Value::Array(parts) if role == Role::Assistant && parts.is_empty() => {
            Ok(Content::Text(String::new()))
        }
        Value::Null => Err(fields.missing("content")),
        Value::Array(parts) => {
            let parts = fields::array(Value::Array(parts), &path, MAX_PARTS)?;
            let parts = parts.into_iter().enumerate();
            let parts = parts.map(|(i, part)| text_part(part, format!("{path}[{i}]"), taken));
            Ok(Content::Parts(parts.collect::<Parsed<_>>()?))
        }
        Value::String(text) => Ok(Content::Text(text)),
        other => Err(fields::wrong_type(
            &path,
            "a string or an array of parts",
            &other,
        )),
    }
}

fn text_part(value: Value, path: String, taken: &mut Taken) -> Parsed<TextPart> {
    let mut fields = Fields::nested(value, path)?;
    let type_path = fields.path("type");
    let kind = fields::string(fields.required("type")?, &type_path, 64)?;
    match kind.as_str() {
        "text" => {}
        "image_url" | "input_audio" | "file" | "refusal" => {
            return Err(fields::unsupported_value(
                &type_path,
                "it reads text parts only",
            ))
        }
        _ => {
            let message = format!("'{type_path}' must be text");
            return Err(ApiError::invalid("invalid_value", type_path, message));
        }
    }
    let text_path = fields.path("text");
    let text = fields::string(fields.required("text")?, &text_path, MAX_TEXT_CHARS)?;
    taken.inner(&mut fields, Place::Part)?;
    fields.finish()?;
    Ok(TextPart { kind: "text", text })
}
