//! Fields that the model's chat template reads.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::client_fields::Taken;
use super::generation::Bounds;
use crate::api::error::ApiError;
use crate::api::fields::{self, Fields, Parsed};
use crate::app::chat::TemplateVariables;

const KWARGS: &str = "chat_template_kwargs";
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];
const VERBOSITIES: [&str; 3] = ["low", "medium", "high"];

/// What the chat template makes of the conversation. A variable that the template does not read has no effect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct TemplateFields {
    /// Variables for the template, by their names. An extension, as at vLLM.
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// `none`, `minimal`, `low`, `medium`, `high` or `xhigh`.
    pub reasoning_effort: Option<String>,
    /// `low`, `medium` or `high`.
    pub verbosity: Option<String>,
    /// Whether the model thinks first. An extension, as at Qwen.
    pub enable_thinking: Option<bool>,
    /// Those of them that the template reads.
    #[serde(skip)]
    #[schema(ignore)]
    pub variables: TemplateVariables,
}

impl TemplateFields {
    /// Takes all of these fields.
    ///
    /// # Errors
    /// Another type or word; a variable that is the server's own; two values for one; with `--strict` what the
    /// template does not read.
    pub fn take(fields: &mut Fields, bounds: &Bounds<'_>, taken: &mut Taken) -> Parsed<Self> {
        let mut request = Self {
            chat_template_kwargs: kwargs(fields)?,
            reasoning_effort: fields.word("reasoning_effort", &EFFORTS)?,
            verbosity: fields.word("verbosity", &VERBOSITIES)?,
            enable_thinking: fields.boolean("enable_thinking")?,
            variables: TemplateVariables::default(),
        };
        request.variables = request.read(fields, bounds, taken)?;
        Ok(request)
    }

    fn read(
        &self,
        fields: &Fields,
        bounds: &Bounds<'_>,
        taken: &mut Taken,
    ) -> Parsed<TemplateVariables> {
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let ours = [
            // What asks for nothing was always taken.
            (
                &["reasoning_effort"][..],
                text(&self.reasoning_effort),
                "none",
            ),
            (&["verbosity"], text(&self.verbosity), "medium"),
            // The other name is that of DeepSeek's template.
            (
                &["enable_thinking", "thinking"],
                self.enable_thinking.map(Value::from),
                "",
            ),
        ];
        let mut variables = TemplateVariables::default();
        for (names, value, neutral) in ours {
            let Some(value) = value else { continue };
            let name = names[0];
            let read = names.iter().find(|name| bounds.template_knows(name));
            if let Some(read) = read {
                set(&mut variables, read, value)?;
            } else if taken.is_strict() && value != neutral {
                let path = fields.path(name);
                return Err(fields::unsupported_value(
                    &path,
                    "the chat template does not read it",
                ));
            } else {
                taken.ignored.add(name);
            }
        }
        for (name, value) in self.chat_template_kwargs.iter().flatten() {
            check(name)?;
            if value.is_null() {
                continue;
            }
            if !bounds.template_knows(name) {
                if taken.is_strict() {
                    return Err(fields::unsupported_parameter(&format!("{KWARGS}.{name}")));
                }
                taken.ignored.add(KWARGS);
            } else if variables.get(name).is_some_and(|there| there != value) {
                let path = format!("{KWARGS}.{name}");
                let message = format!("'{path}' and '{name}' differ; give one of them");
                return Err(ApiError::invalid("invalid_value", path, message));
            } else {
                set(&mut variables, name, value.clone())?;
            }
        }
        Ok(variables)
    }
}

fn kwargs(fields: &mut Fields) -> Parsed<Option<Map<String, Value>>> {
    match fields.take(KWARGS) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(other) => Err(fields::wrong_type(KWARGS, "an object", &other)),
    }
}

/// Refuses a name that no variable may have, whether the template reads it or not.
fn check(name: &str) -> Parsed<()> {
    set(&mut TemplateVariables::default(), name, Value::Null)
}

fn set(variables: &mut TemplateVariables, name: &str, value: Value) -> Parsed<()> {
    let set = variables.set(name, value);
    set.map_err(|error| ApiError::invalid("invalid_value", KWARGS, error.to_string()))
}
