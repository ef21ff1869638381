//! The body of `POST /v1/chat/completions`.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::accepted::AcceptedFields;
use super::client_fields::{Ignored, Place, Taken};
use super::generation::{Bounds, GenerationFields};
use super::message::Message;
use super::template_fields::TemplateFields;
use crate::api::error::ApiError;
use crate::api::fields::{self, Fields, Parsed};
use crate::api::json::FromBody;
use crate::app::chat::ChatCommand;
use crate::app::keep::KeepCommand;
use attune_ids::UserId;

/// Characters of a model id.
pub const MAX_MODEL_CHARS: usize = 256;

/// A chat request. Fields that are not listed here are refused by name.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatCompletionRequest {
    /// `attune` (personalised), the base model's id, or `attune@VERSION`.
    #[schema(example = "attune")]
    pub model: String,
    /// The conversation.
    #[schema(min_items = 1, max_items = 2048)]
    pub messages: Vec<Message>,
    /// Tokens of the answer at most; what the context leaves where it is missing. More than that is that, and so is -1.
    #[schema(minimum = -1)]
    pub max_completion_tokens: Option<usize>,
    /// The older name of `max_completion_tokens`.
    #[schema(minimum = -1)]
    pub max_tokens: Option<usize>,
    /// Whether the answer comes with log-probabilities.
    pub logprobs: Option<bool>,
    /// Alternatives of each token; more than none needs `logprobs`.
    #[schema(minimum = 0, maximum = 20)]
    pub top_logprobs: Option<usize>,
    /// What the chat template makes of the conversation.
    #[serde(flatten)]
    pub template: TemplateFields,
    /// How answers are made and sent, and for whom.
    #[serde(flatten)]
    pub generation: GenerationFields,
    /// What does not change the answer.
    #[serde(flatten)]
    pub accepted: AcceptedFields,
    /// What it has that changes nothing.
    #[serde(skip)]
    #[schema(ignore)]
    pub ignored: Ignored,
}

impl FromBody for ChatCompletionRequest {
    fn from_body(body: Value, bounds: &Bounds<'_>) -> Parsed<Self> {
        Self::parse(body, bounds)
    }

    fn ignored(&self) -> Option<&Ignored> {
        Some(&self.ignored)
    }
}

impl ChatCompletionRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value, bounds: &Bounds<'_>) -> Parsed<Self> {
        let mut fields = Fields::body(body)?;
        let mut taken = Taken::new(bounds.strict);
        taken.body(&mut fields, Place::Chat)?;
        let model = fields::string(fields.required("model")?, "model", MAX_MODEL_CHARS)?;
        let messages = fields::array(
            fields.required("messages")?,
            "messages",
            bounds.max_messages,
        )?;
        let messages = messages.into_iter().enumerate();
        let messages =
            messages.map(|(i, m)| Message::parse(m, format!("messages[{i}]"), &mut taken));
        let mut request = Self {
            model,
            messages: messages.collect::<Parsed<_>>()?,
            max_completion_tokens: fields.limit("max_completion_tokens", bounds.context_len)?,
            max_tokens: fields.limit("max_tokens", bounds.context_len)?,
            logprobs: fields.boolean("logprobs")?,
            top_logprobs: fields.size("top_logprobs", 0..=20)?,
            template: TemplateFields::take(&mut fields, bounds, &mut taken)?,
            generation: GenerationFields::take(&mut fields, bounds, &mut taken)?,
            accepted: AcceptedFields::take(&mut fields, &mut taken)?,
            ignored: Ignored::default(),
        };
        request.ignored = taken.ignored;
        fields.finish()?;
        request.check()
    }

    /// The app's view.
    ///
    /// # Errors
    /// Numbers that contradict each other.
    pub fn into_command(self, user_header: Option<UserId>) -> Parsed<ChatCommand> {
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        let logprobs = (self.logprobs == Some(true)).then(|| self.top_logprobs.unwrap_or(0));
        Ok(ChatCommand {
            options: self.generation.options(max_tokens, logprobs)?,
            keep: KeepCommand {
                store: self.accepted.store,
                metadata: self.accepted.metadata.unwrap_or_default(),
            },
            user: self.generation.user_hint(user_header),
            variables: self.template.variables,
            model: self.model,
            messages: self.messages.into_iter().map(Into::into).collect(),
        })
    }

    fn check(self) -> Parsed<Self> {
        if let (Some(new), Some(old)) = (self.max_completion_tokens, self.max_tokens) {
            if new != old {
                let message =
                    "'max_tokens' is the older name of 'max_completion_tokens'; give one of them";
                return Err(ApiError::invalid("invalid_value", "max_tokens", message));
            }
        }
        if self.top_logprobs.is_some_and(|top| top > 0) && self.logprobs != Some(true) {
            let message = "'top_logprobs' is allowed only with 'logprobs': true";
            return Err(ApiError::invalid("invalid_value", "top_logprobs", message));
        }
        Ok(self)
    }
}
