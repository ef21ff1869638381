//! The body of `POST /v1/chat/completions`.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::accepted::AcceptedFields;
use super::generation::{Bounds, GenerationFields};
use super::message::Message;
use crate::api::error::ApiError;
use crate::api::fields::{self, Fields, Parsed};
use crate::api::json::FromBody;
use crate::app::chat::ChatCommand;
use crate::app::keep::KeepCommand;
use crate::ids::UserId;

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
    /// Tokens of the answer at most; what the context leaves where it is missing.
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<usize>,
    /// The older name of `max_completion_tokens`.
    #[schema(minimum = 1)]
    pub max_tokens: Option<usize>,
    /// Whether the answer comes with log-probabilities.
    pub logprobs: Option<bool>,
    /// Alternatives of each token; needs `logprobs`.
    #[schema(minimum = 0, maximum = 20)]
    pub top_logprobs: Option<usize>,
    /// How answers are made and sent, and for whom.
    #[serde(flatten)]
    pub generation: GenerationFields,
    /// What does not change the answer.
    #[serde(flatten)]
    pub accepted: AcceptedFields,
}

impl FromBody for ChatCompletionRequest {
    fn from_body(body: Value, bounds: &Bounds) -> Parsed<Self> {
        Self::parse(body, bounds)
    }
}

impl ChatCompletionRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value, bounds: &Bounds) -> Parsed<Self> {
        let mut fields = Fields::body(body)?;
        let model = fields::string(fields.required("model")?, "model", MAX_MODEL_CHARS)?;
        let messages = fields::array(
            fields.required("messages")?,
            "messages",
            bounds.max_messages,
        )?;
        let messages = messages.into_iter().enumerate();
        let messages = messages.map(|(i, m)| Message::parse(m, format!("messages[{i}]")));
        let request = Self {
            model,
            messages: messages.collect::<Parsed<_>>()?,
            max_completion_tokens: fields.size("max_completion_tokens", 1..=bounds.context_len)?,
            max_tokens: fields.size("max_tokens", 1..=bounds.context_len)?,
            logprobs: fields.boolean("logprobs")?,
            top_logprobs: fields.size("top_logprobs", 0..=20)?,
            generation: GenerationFields::take(&mut fields, bounds)?,
            accepted: AcceptedFields::take(&mut fields)?,
        };
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
        if self.top_logprobs.is_some() && self.logprobs != Some(true) {
            let message = "'top_logprobs' goes with 'logprobs': true only";
            return Err(ApiError::invalid("invalid_value", "top_logprobs", message));
        }
        Ok(self)
    }
}
