//! Prompts as serving writes them, before they are encoded.

use crate::dataset::{Pair, Prompt};
use attune_text::chat_template::{ChatMessage, ChatTemplate};
use attune_text::tokenizer::{SpecialTokens, TextError, Tokenizer};
use attune_text::user_info;

/// A prompt before it is encoded.
pub(super) enum Written<'a> {
    /// For a model with a template.
    Chat(&'a ChatTemplate, Vec<ChatMessage>),
    /// For a model without.
    Plain(String),
}

impl<'a> Written<'a> {
    /// The prompt of a pair; `None` for messages where there is no template.
    pub(super) fn of(pair: &Pair, template: Option<&'a ChatTemplate>) -> Option<Self> {
        match (template, &pair.prompt) {
            (Some(template), _) => Some(Self::Chat(template, chat_messages(pair))),
            (None, Prompt::Text(text)) => Some(Self::Plain(with_info(pair, text))),
            (None, Prompt::Messages(_)) => None,
        }
    }

    /// A text as a prompt.
    pub(super) fn question(text: &str, template: Option<&'a ChatTemplate>) -> Self {
        match template {
            Some(template) => Self::Chat(template, vec![message("user", text)]),
            None => Self::Plain(text.to_owned()),
        }
    }

    /// As serving encodes it, BOS included.
    pub(super) fn prompt(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, TextError> {
        let mut ids = match self {
            Self::Chat(template, messages) => template.encode(tokenizer, messages, true)?,
            Self::Plain(text) => plain(tokenizer, text)?,
        };
        if ids.is_empty() {
            // As `/v1/completions` has it: the model needs something to go on.
            let start = tokenizer.bos().or(tokenizer.end_ids().first().copied());
            ids.extend(start);
        }
        Ok(ids)
    }

    /// The prompt and a reply to it, likewise.
    pub(super) fn with_reply(
        &self,
        tokenizer: &Tokenizer,
        reply: &str,
    ) -> Result<Vec<u32>, TextError> {
        match self {
            Self::Chat(template, messages) => {
                let mut messages = messages.clone();
                messages.push(message("assistant", reply));
                template.encode(tokenizer, &messages, false)
            }
            Self::Plain(text) => plain(tokenizer, &format!("{text}{reply}")),
        }
    }
}

fn plain(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, TextError> {
    let rest = tokenizer.encode(text, SpecialTokens::AsText)?;
    let bos = tokenizer.added_bos();
    Ok(bos.into_iter().chain(rest).collect())
}

/// The last token that ends an answer in a conversation as the template writes it; the model's end
/// of text, where there is none.
pub(super) fn end_of_turn(
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> Result<u32, TextError> {
    let ends = tokenizer.end_ids();
    let written = match template {
        Some(template) => {
            let messages = [message("user", "a"), message("assistant", "b")];
            template.encode(tokenizer, &messages, false)?
        }
        None => Vec::new(),
    };
    let last = written.into_iter().rev().find(|id| ends.contains(id));
    let first = ends.first().copied();
    last.or(first)
        .ok_or_else(|| TextError::Tokenizer("no token ends a text".to_owned()))
}

/// The messages that an app would send for a pair's prompt: the user's information stands in front
/// of their first message, or is a message of its own where they have none.
pub fn chat_messages(pair: &Pair) -> Vec<ChatMessage> {
    let mut messages = match &pair.prompt {
        Prompt::Text(text) => vec![message("user", text)],
        Prompt::Messages(messages) => messages.clone(),
    };
    if let Some(info) = &pair.user_info {
        user_info::put_into(&mut messages, info);
    }
    messages
}

fn with_info(pair: &Pair, text: &str) -> String {
    match &pair.user_info {
        Some(info) => user_info::before(info, text),
        None => text.to_owned(),
    }
}

pub(super) fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}
