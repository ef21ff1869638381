//! The body of `POST /v1/completions`.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::accepted::response_format;
use super::chat_request::MAX_MODEL_CHARS;
use super::client_fields::{Ignored, Place, Taken};
use super::generation::{Bounds, GenerationFields, MAX_ANSWERS};
use crate::api::error::ApiError;
use crate::api::fields::{self, Fields, Parsed};
use crate::api::json::FromBody;
use crate::app::completions::{CompletionCommand, CompletionPrompt};
use attune_ids::UserId;

/// Tokens of an answer where the request names no number, as at OpenAI.
const DEFAULT_MAX_TOKENS: usize = 16;

/// A completion request. Fields that are not listed here are refused by name.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CompletionRequest {
    /// `attune` (personalised), the base model's id, or `attune@VERSION`.
    #[schema(example = "attune")]
    pub model: String,
    /// What the answers go on from.
    pub prompt: PromptInput,
    /// Tokens of an answer at most.
    /// More than the context leaves is what it leaves, and so is -1.
    #[schema(minimum = -1, default = 16)]
    pub max_tokens: Option<usize>,
    /// Log-probabilities of the chosen token and of so many of the best ones.
    #[schema(minimum = 0, maximum = 5)]
    pub logprobs: Option<usize>,
    /// Whether the text begins with the prompt; not together with `logprobs`.
    pub echo: Option<bool>,
    /// How answers are made and sent, and for whom.
    #[serde(flatten)]
    pub generation: GenerationFields,
    /// What it has that changes nothing.
    #[serde(skip)]
    #[schema(ignore)]
    pub ignored: Ignored,
}

/// One prompt or several, as text or as token ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PromptInput {
    /// A text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
    /// Texts.
    Texts(Vec<String>),
    /// Token ids of several prompts.
    IdLists(Vec<Vec<u32>>),
}

impl FromBody for CompletionRequest {
    fn from_body(body: Value, bounds: &Bounds<'_>) -> Parsed<Self> {
        Self::parse(body, bounds)
    }

    fn ignored(&self) -> Option<&Ignored> {
        Some(&self.ignored)
    }
}

impl CompletionRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value, bounds: &Bounds<'_>) -> Parsed<Self> {
        let mut fields = Fields::body(body)?;
        let mut taken = Taken::new(bounds.strict);
        taken.body(&mut fields, Place::Completion)?;
        let mut request = Self {
            model: fields::string(fields.required("model")?, "model", MAX_MODEL_CHARS)?,
            prompt: PromptInput::parse(fields.required("prompt")?, bounds)?,
            max_tokens: fields.limit("max_tokens", bounds.context_len)?,
            logprobs: logprobs(&mut fields)?,
            echo: fields.boolean("echo")?,
            generation: GenerationFields::take(&mut fields, bounds, &mut taken)?,
            ignored: Ignored::default(),
        };
        request.ignored = taken.ignored;
        let best_of = fields.size("best_of", 1..=20)?;
        response_format(&mut fields)?;
        fields.unsupported("suffix", |value| value == "")?;
        fields.finish()?;
        if best_of.is_some_and(|best_of| best_of > request.generation.n.unwrap_or(1)) {
            return Err(fields::unsupported_value(
                "best_of",
                "all answers that are generated are returned",
            ));
        }
        request.check()
    }

    /// The app's view.
    ///
    /// # Errors
    /// Numbers that contradict each other.
    pub fn into_command(self, user_header: Option<UserId>) -> Parsed<CompletionCommand> {
        let max_tokens = Some(self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS));
        Ok(CompletionCommand {
            options: self.generation.options(max_tokens, self.logprobs)?,
            user: self.generation.user_hint(user_header),
            model: self.model,
            prompts: self.prompt.into_prompts(),
            echo: self.echo == Some(true),
        })
    }

    fn check(self) -> Parsed<Self> {
        if self.echo == Some(true) && self.logprobs.is_some() {
            let supported = "log-probabilities of a prompt are not computed";
            return Err(fields::unsupported_value("echo", supported));
        }
        if self.prompt.count() * self.generation.n.unwrap_or(1) > MAX_ANSWERS {
            let message = format!("prompts times 'n' must be at most {MAX_ANSWERS}");
            return Err(ApiError::invalid("invalid_value", "n", message));
        }
        Ok(self)
    }
}

/// False is none, as in chats.
fn logprobs(fields: &mut Fields) -> Parsed<Option<usize>> {
    if fields.peek("logprobs") == Some(&Value::Bool(false)) {
        fields.take("logprobs");
    }
    fields.size("logprobs", 0..=5)
}

impl PromptInput {
    fn parse(value: Value, bounds: &Bounds<'_>) -> Parsed<Self> {
        let values = match value {
            Value::String(text) => return Ok(Self::Text(text)),
            Value::Array(_) => fields::array(value, "prompt", usize::MAX)?,
            other => return Err(fields::wrong_type("prompt", "a string or an array", &other)),
        };
        if values[0].is_number() {
            let ids = fields::token_ids(&values, "prompt", bounds.vocab_size);
            return ids.map(Self::Ids);
        }
        let first_is_text = values[0].is_string();
        let values = fields::array(Value::Array(values), "prompt", MAX_ANSWERS)?;
        let values = values.into_iter().enumerate();
        let values = values.map(|(i, value)| (format!("prompt[{i}]"), value));
        if first_is_text {
            let texts = values.map(|(path, value)| fields::string(value, &path, usize::MAX));
            texts.collect::<Parsed<_>>().map(Self::Texts)
        } else {
            let lists = values.map(|(path, value)| {
                let values = fields::array(value, &path, usize::MAX)?;
                fields::token_ids(&values, &path, bounds.vocab_size)
            });
            lists.collect::<Parsed<_>>().map(Self::IdLists)
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Text(_) | Self::Ids(_) => 1,
            Self::Texts(texts) => texts.len(),
            Self::IdLists(lists) => lists.len(),
        }
    }

    fn into_prompts(self) -> Vec<CompletionPrompt> {
        match self {
            Self::Text(text) => vec![CompletionPrompt::Text(text)],
            Self::Ids(ids) => vec![CompletionPrompt::Ids(ids)],
            Self::Texts(texts) => texts.into_iter().map(CompletionPrompt::Text).collect(),
            Self::IdLists(lists) => lists.into_iter().map(CompletionPrompt::Ids).collect(),
        }
    }
}
