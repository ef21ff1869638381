//! Messages to answers.

use std::sync::Arc;

use super::error::AppError;
use super::generate::{self, GenerationOptions, Running};
use super::keys::Caller;
use super::selection;
use super::state::AppState;
use super::user::UserHint;
pub use crate::text::chat_template::ChatMessage;
use crate::text::tokenizer::TextError;

/// A chat request, checked.
#[derive(Debug, Clone)]
pub struct ChatCommand {
    /// The model id.
    pub model: String,
    /// The conversation, at least one message; roles `system`, `user`, `assistant`.
    pub messages: Vec<ChatMessage>,
    /// How answers are made.
    pub options: GenerationOptions,
    /// Whom the request names.
    pub user: UserHint,
}

/// Takes a chat request in: when this returns, the engine has it.
///
/// # Errors
/// See [`AppError`].
pub async fn start(
    state: &Arc<AppState>,
    caller: &Caller,
    command: ChatCommand,
) -> Result<Running, AppError> {
    let selection = selection::select(state, caller, command.model, command.user)?;
    let bytes = command.messages.iter().map(|m| m.content.len()).sum();
    let messages = command.messages;
    let prompt = generate::tokenize(state, bytes, move |state| encode(state, &messages)).await?;
    generate::submit(state, &selection, "messages", vec![prompt], command.options)
}

fn encode(state: &AppState, messages: &[ChatMessage]) -> Result<Vec<u32>, AppError> {
    let template = state.template.as_ref().ok_or(TextError::NoChatTemplate);
    template
        .and_then(|template| template.encode(&state.tokenizer, messages, true))
        .map_err(|error| generate::text_error("messages", error))
}
