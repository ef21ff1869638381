//! Raw prompts to answers (the older `/v1/completions`).

use std::sync::Arc;

use super::error::AppError;
use super::generate::{self, GenerationOptions, ReadyPrompt, Running};
use super::keys::Caller;
use super::selection;
use super::state::AppState;
use super::user::UserHint;
use attune_text::detokenizer::Detokenizer;
use attune_text::prompt::{self, PromptSource};
use attune_text::tokenizer::TextError;

/// A prompt in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
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
        let encode = |prompt: &Prompt| {
            let encoded = prompt
                .encode(state, profile.as_deref())
                .map_err(|error| generate::text_error("prompt", error))?;
            let read = read(state, prompt, &encoded.ids, skip_special);
            Ok((ReadyPrompt::new(encoded, repetition), read))
        };
        prompts
            .iter()
            .map(encode)
            .collect::<Result<Vec<_>, AppError>>()
    });
    let (ready, read): (Vec<_>, Vec<_>) = encoded.await?.into_iter().unzip();
    let mut running = generate::submit(state, &selection, hold, "prompt", ready, command.options)?;
    let mut echoes = Vec::with_capacity(running.answers.len());
    let of_answers = read.iter().flat_map(|read| std::iter::repeat_n(read, n));
    for (answer, (text, detokenizer)) in running.answers.iter_mut().zip(of_answers) {
        answer.go_on_after(detokenizer.clone());
        echoes.push(if echo { text.clone() } else { String::new() });
    }
    Ok(RunningCompletions { running, echoes })
}

impl Prompt {
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

    fn encode(&self, state: &AppState, profile: Option<&str>) -> Result<prompt::Prompt, TextError> {
        match self {
            Self::Text(text) => state.prompts().encode(&PromptSource::Text(text), profile),
            Self::Ids(ids) => Ok(state.prompts().ids(ids.clone())),
        }
    }
}

/// The text of a prompt as an echo gives it, and what reads on after it: ids may end inside a character, which then
/// is the first of the answer.
fn read(
    state: &AppState,
    prompt: &Prompt,
    ids: &[u32],
    skip_special: bool,
) -> (String, Detokenizer) {
    let mut detokenizer = Detokenizer::new(state.tokenizer.clone(), skip_special);
    let text = match prompt {
        Prompt::Ids(own) => detokenizer.push_all(own),
        Prompt::Text(text) => {
            detokenizer.push_all(ids);
            // A vocabulary may lack bytes of it.
            detokenizer.finish();
            text.clone()
        }
    };
    (text, detokenizer)
}
