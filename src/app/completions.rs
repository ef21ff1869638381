//! Raw prompts to answers (the older `/v1/completions`).

use std::sync::Arc;

use super::answer::Preceding;
use super::answering::{AnswerHead, Answering};
use super::error::AppError;
use super::generate::{self, GenerationOptions, ReadyPrompt};
use super::keys::Caller;
use super::selection;
use super::state::AppState;
use super::user::UserHint;
use attune_text::detokenizer::Detokenizer;
use attune_text::prompt::{Prompt, PromptSource};
use attune_text::tokenizer::TextError;

/// A prompt in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompletionPrompt {
    /// Text; control tokens in it are plain text. Begins with BOS where the tokenizer adds one, then comes what is
    /// known about the person in words.
    Text(String),
    /// Ids, as they are, so no words about the person either; each was checked against the width of the logits.
    Ids(Vec<u32>),
}

/// A completion request, checked.
#[derive(Debug, Clone)]
pub struct CompletionCommand {
    /// The model id.
    pub model: String,
    /// At least one prompt.
    pub prompts: Vec<CompletionPrompt>,
    /// Whether answers begin with their prompt.
    pub echo: bool,
    /// How answers are made.
    pub options: GenerationOptions,
    /// Whom the request names.
    pub user: UserHint,
}

/// Takes a completion request in: when this returns, the engine has it. It began at `began_unix_ms`.
///
/// # Errors
/// See [`AppError`].
pub async fn start(
    state: &Arc<AppState>,
    caller: &Caller,
    command: CompletionCommand,
    began_unix_ms: u64,
) -> Result<Answering, AppError> {
    let answers = command.prompts.len().saturating_mul(command.options.n);
    let hold = generate::hold(state, caller, &command.user, answers)?;
    let selection =
        selection::select(state, caller, command.model, command.user, began_unix_ms).await?;
    let head = AnswerHead::new(state, "cmpl-", &selection);
    let prompts = command.prompts;
    let (echo, skip_special) = (command.echo, command.options.skip_special);
    let profile = selection.profile().cloned();
    let profile_bytes = profile.as_deref().map_or(0, str::len);
    let bytes = prompts.iter().map(|prompt| prompt.bytes(profile_bytes));
    let bytes = bytes.sum();
    for prompt in &prompts {
        prompt.could_fit(state, selection.soft_prompt().len())?;
    }
    let repetition = command.options.sampling.repetition_penalty;
    let encoded = generate::tokenize(state, bytes, move |state| {
        let encode = |prompt: &CompletionPrompt| {
            let encoded = prompt
                .encode(state, profile.as_deref())
                .map_err(|error| generate::text_error("prompt", error))?;
            let preceding = prompt.preceding(state, &encoded.ids, skip_special, echo);
            Ok(ReadyPrompt::new(encoded, repetition).preceded_by(preceding))
        };
        prompts
            .iter()
            .map(encode)
            .collect::<Result<Vec<_>, AppError>>()
    });
    let (prompts, options) = (encoded.await?, command.options);
    Ok(Answering {
        head,
        prompt_tokens: prompts.iter().map(ReadyPrompt::tokens).sum(),
        answers: generate::submit(state, &selection, hold, "prompt", prompts, options)?,
        keeper: None,
    })
}

impl CompletionPrompt {
    fn bytes(&self, profile: usize) -> usize {
        match self {
            Self::Text(text) => profile + text.len(),
            Self::Ids(ids) => ids.len(),
        }
    }

    /// Refuses what does not fit the context whatever it says, before it is encoded or copied.
    fn could_fit(&self, state: &AppState, soft: usize) -> Result<(), AppError> {
        let (field, context) = ("prompt", state.context_len);
        match self {
            Self::Text(text) if state.tokenizer.least_tokens(text.len()) > context => {
                let bytes = text.len();
                Err(AppError::TextTooLong {
                    field,
                    bytes,
                    context,
                })
            }
            Self::Ids(ids) if ids.len() > context => Err(AppError::ContextLength {
                field,
                context,
                soft,
                prompt: ids.len(),
            }),
            _ => Ok(()),
        }
    }

    fn encode(&self, state: &AppState, profile: Option<&str>) -> Result<Prompt, TextError> {
        match self {
            Self::Text(text) => state.prompts().encode(&PromptSource::Text(text), profile),
            Self::Ids(ids) => Ok(state.prompts().ids(ids.clone())),
        }
    }

    /// What its answers go on from; it was encoded as `ids`.
    fn preceding(
        &self,
        state: &AppState,
        ids: &[u32],
        skip_special: bool,
        echo: bool,
    ) -> Preceding {
        let mut detokenizer = Detokenizer::new(state.tokenizer.clone(), skip_special);
        let text = match self {
            Self::Ids(own) => detokenizer.push_all(own),
            Self::Text(text) => {
                detokenizer.push_all(ids);
                // A vocabulary may lack bytes of it.
                detokenizer.finish();
                text.clone()
            }
        };
        Preceding {
            echo: if echo { text } else { String::new() },
            detokenizer,
        }
    }
}
