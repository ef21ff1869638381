//! Messages to prompt ids through the model's own chat template.

use super::tokenizer::{TextError, Tokenizer};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// A chat template, compiled and bounded in time (fuel) and output.
#[derive(Debug)]
pub struct ChatTemplate {}

impl ChatTemplate {
    /// Compiles `source` (Jinja). `bos_token` and `eos_token` are the strings that templates refer to.
    ///
    /// # Errors
    /// The source does not parse.
    pub fn new(
        _source: &str,
        _bos_token: Option<&str>,
        _eos_token: Option<&str>,
    ) -> Result<Self, TextError> {
        unimplemented!()
    }

    /// The prompt's text, for people and tests: content stands in it as it came.
    ///
    /// # Errors
    /// The template fails (some refuse an order of roles), runs out of fuel or writes too much.
    pub fn render(
        &self,
        _messages: &[ChatMessage],
        _add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        unimplemented!()
    }

    /// The prompt's ids: only the template's own special strings become control tokens; each run
    /// of text between them is encoded as plain text. A BOS that the template writes is kept, one
    /// that the tokenizer would add is added only if it is not already there.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn encode(
        &self,
        _tokenizer: &Tokenizer,
        _messages: &[ChatMessage],
        _add_generation_prompt: bool,
    ) -> Result<Vec<u32>, TextError> {
        unimplemented!()
    }
}
