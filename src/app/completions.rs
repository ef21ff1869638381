//! Raw prompts to answers (the older `/v1/completions`).

use std::sync::Arc;

use super::error::AppError;
use super::generate::{self, GenerationOptions, Running};
use super::keys::Caller;
use super::selection;
use super::state::AppState;
use super::user::UserHint;
use crate::text::tokenizer::SpecialTokens;

/// A prompt in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Text; control tokens in it are plain text. Begins with BOS where the tokenizer adds one.
    Text(String),
    /// Ids, as they are; each was checked against the width of the logits.
    Ids(Vec<u32>),
}

/// A completion request, checked.
#[derive(Debug, Clone)]
pub struct CompletionCommand {
    /// The model id.
    pub model: String,
    /// At least one prompt.
    pub prompts: Vec<Prompt>,
    /// Whether answers begin with their prompt.
    pub echo: bool,
    /// How answers are made.
    pub options: GenerationOptions,
    /// Whom the request names.
    pub user: UserHint,
}

/// Answers on their way, and the text that goes before each of them.
#[derive(Debug)]
pub struct RunningCompletions {
    /// The answers.
    pub running: Running,
    /// One for each answer; empty without `echo`.
    pub echoes: Vec<String>,
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
) -> Result<RunningCompletions, AppError> {
    let answers = command.prompts.len().saturating_mul(command.options.n);
    let hold = generate::hold(state, caller, &command.user, answers)?;
    let selection =
        selection::select(state, caller, command.model, command.user, began_unix_ms).await?;
    let (n, prompts) = (command.options.n, command.prompts);
    let echo = command.echo.then_some(command.options.skip_special);
    let bytes = prompts.iter().map(Prompt::bytes).sum();
    for prompt in &prompts {
        prompt.could_fit(state, selection.soft_prompt().len())?;
    }
    let repetition = command.options.sampling.repetition_penalty;
    let encoded = generate::tokenize(state, bytes, move |state| {
        let encode = |prompt| {
            let (ids, text) = encode(state, prompt, echo)?;
            Ok((generate::prompt_ids(ids, repetition), text))
        };
        prompts
            .iter()
            .map(encode)
            .collect::<Result<Vec<_>, AppError>>()
    });
    let (ids, echoes): (Vec<_>, Vec<_>) = encoded.await?.into_iter().unzip();
    let running = generate::submit(state, &selection, hold, "prompt", ids, command.options)?;
    let echoes = echoes
        .into_iter()
        .flat_map(|echo: String| std::iter::repeat_n(echo, n))
        .collect();
    Ok(RunningCompletions { running, echoes })
}

impl Prompt {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
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
}

/// The ids of a prompt and the text that goes before its answers. `echo`: whether control tokens are left out of that.
fn encode(
    state: &AppState,
    prompt: &Prompt,
    echo: Option<bool>,
) -> Result<(Vec<u32>, String), AppError> {
    let tokenizer = &state.tokenizer;
    let (mut ids, text) = match prompt {
        Prompt::Ids(ids) => {
            let echoed = echo.map(|skip_special| tokenizer.decode(ids, skip_special));
            (ids.clone(), echoed.unwrap_or_default())
        }
        Prompt::Text(text) => {
            let rest = tokenizer
                .encode(text, SpecialTokens::AsText)
                .map_err(|error| generate::text_error("prompt", error))?;
            let bos = tokenizer.added_bos();
            let echoed = echo.map_or_else(String::new, |_| text.clone());
            (bos.into_iter().chain(rest).collect(), echoed)
        }
    };
    if ids.is_empty() {
        // The model needs something to go on: what stands before any text, as OpenAI does it.
        let start = tokenizer
            .bos()
            .or_else(|| tokenizer.end_ids().first().copied());
        ids.extend(start);
    }
    if ids.is_empty() {
        return Err(AppError::Invalid {
            field: "prompt",
            message: "the prompt has no tokens".to_owned(),
        });
    }
    Ok((ids, text))
}
