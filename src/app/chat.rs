//! Messages to answers.

use std::sync::Arc;

use super::answering::{AnswerHead, Answering};
use super::error::AppError;
use super::generate::{self, GenerationOptions, ReadyPrompt};
use super::keep::{KeepCommand, Keeper};
use super::keys::Caller;
use super::selection;
use super::state::AppState;
use super::user::UserHint;
pub use attune_text::chat_template::{ChatMessage, TemplateVariables};
use attune_text::prompt::PromptSource;

/// What a message costs beside its text, as bytes of text.
const MESSAGE_BYTES: usize = 64;

/// A chat request, checked.
#[derive(Debug, Clone)]
pub struct ChatCommand {
    /// The model id.
    pub model: String,
    /// The conversation, at least one message; roles `system`, `user`, `assistant`.
    pub messages: Vec<ChatMessage>,
    /// What the chat template reads beside the conversation.
    pub variables: TemplateVariables,
    /// How answers are made.
    pub options: GenerationOptions,
    /// Whether the answer is kept.
    pub keep: KeepCommand,
    /// Whom the request names.
    pub user: UserHint,
}

/// Takes a chat request in: when this returns, the engine has it. It began at `began_unix_ms`.
///
/// # Errors
/// See [`AppError`].
pub async fn start(
    state: &Arc<AppState>,
    caller: &Caller,
    command: ChatCommand,
    began_unix_ms: u64,
) -> Result<Answering, AppError> {
    let hold = generate::hold(state, caller, &command.user, command.options.n)?;
    let selection =
        selection::select(state, caller, command.model, command.user, began_unix_ms).await?;
    let head = AnswerHead::new(state, "chatcmpl-", &selection);
    let messages = command.messages;
    let keeper = Keeper::new(state, &selection, &head, &messages, command.keep);
    let profile = selection.profile().cloned();
    let bytes = messages.iter().map(|m| MESSAGE_BYTES + m.content.len());
    let bytes = bytes.sum::<usize>() + profile.as_deref().map_or(0, str::len);
    let repetition = command.options.sampling.repetition_penalty;
    let variables = command.variables;
    let prompt = generate::tokenize(state, bytes, move |state| {
        let source = PromptSource::Messages(messages.into());
        let prompts = state.prompts().with_variables(&variables);
        prompts
            .encode(&source, profile.as_deref())
            .map(|prompt| ReadyPrompt::new(prompt, repetition))
            .map_err(|error| generate::text_error("messages", error))
    });
    let prompts = vec![prompt.await?];
    let options = command.options;
    Ok(Answering {
        head,
        prompt_tokens: prompts.iter().map(ReadyPrompt::tokens).sum(),
        answers: generate::submit(state, &selection, hold, "messages", prompts, options)?,
        keeper,
    })
}

/// Whether the model's chat template reads a variable of that name.
pub fn template_knows(state: &AppState, name: &str) -> bool {
    let template = state.template.as_ref();
    template.is_some_and(|template| template.knows(name))
}
