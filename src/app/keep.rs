//! Completions that are kept: collected while they are answered, written when they are whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter};

use super::answer::{AnswerPiece, FinishReason, WholeAnswer};
use super::answering::{AnswerHead, TokenCounts};
use super::error::AppError;
use super::keys::{AllowedUsers, Caller};
use super::selection::{AnsweredBy, Selection};
use super::state::AppState;
use super::store_health::StoreState;
use attune_ids::{RecordId, Tenant};
use attune_store::{CompletionFilter, Listed, Owners, Page, Store, Turn};
pub use attune_store::{CompletionRecord, KeptChoice};
use attune_text::chat_template::ChatMessage;

/// How long an answer that is whole waits until it is kept.
const PATIENCE: Duration = Duration::from_secs(5);

/// The counter of answers that were to be kept.
const KEPT: &str = "attune_completions_to_keep_total";

/// Help texts of what is counted here.
pub fn describe() {
    describe_counter!(KEPT, "Answers that were to be kept, by outcome.");
}

/// What a request says about keeping its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepCommand {
    /// `None`: as the server is set up.
    pub store: Option<bool>,
    /// What the caller wants to find it by.
    pub metadata: BTreeMap<String, String>,
}

/// A completion that will be kept if it comes to its end.
#[derive(Debug)]
pub struct Keeper {
    state: Arc<AppState>,
    record: CompletionRecord,
}

impl Keeper {
    /// `None` where the answer is not to be kept.
    pub(super) fn new(
        state: &Arc<AppState>,
        selection: &Selection,
        head: &AnswerHead,
        messages: &[ChatMessage],
        command: KeepCommand,
    ) -> Option<Self> {
        let began = selection.began_unix_ms();
        let ttl = state.limits.keep_completions;
        let expires_unix_ms = match (command.store, ttl) {
            (Some(true), _) => None,
            (None, Some(ttl)) => {
                let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                Some(began.saturating_add(ttl))
            }
            (Some(false), _) | (None, None) => return None,
        };
        let AnsweredBy {
            model,
            version,
            row,
            soft_prompt_tokens,
            fingerprint,
        } = head.answered_by.clone();
        let record = CompletionRecord {
            tenant: selection.tenant().clone(),
            id: head.id.clone(),
            user: selection.user().map(|user| user.user.clone()),
            created_unix_ms: began,
            expires_unix_ms,
            model,
            adapter_version: version,
            fingerprint,
            user_row: row.as_str().to_owned(),
            soft_prompt_tokens: soft_prompt_tokens as u64,
            messages: messages.iter().map(turn).collect(),
            choices: Vec::new(),
            prompt_tokens: 0,
            completion_tokens: 0,
            metadata: command.metadata,
        };
        Some(Self {
            state: state.clone(),
            record,
        })
    }

    /// A piece of answer `index`.
    pub fn piece(&mut self, index: usize, piece: &AnswerPiece) {
        let choice = self.choice(index);
        choice.content.push_str(&piece.text);
        if let Some(end) = &piece.end {
            choice.finish_reason = reason(end.reason).to_owned();
        }
    }

    /// All of them.
    pub fn answers(&mut self, answers: &[WholeAnswer]) {
        for (index, answer) in answers.iter().enumerate() {
            let choice = self.choice(index);
            choice.content.clone_from(&answer.text);
            choice.finish_reason = reason(answer.end.reason).to_owned();
        }
    }

    /// Writes the whole completion, which took `tokens`. An answer is worth more than its copy: a failure is logged, the
    /// answer waits for a slow disk for a moment only, and the result says whether it was kept.
    /// One of a person who was deleted meanwhile is not.
    pub async fn write(self, tokens: &TokenCounts) -> bool {
        let Self { state, mut record } = self;
        record.prompt_tokens = tokens.prompt as u64;
        record.completion_tokens = tokens.completion as u64;
        let state_of_store = state.store_health.state();
        let written = match state_of_store {
            StoreState::Writable => {
                let write = state.with_store(move |store| store.insert_completion(&record));
                let slow = |_| Err(AppError::Store("the disk is slow".to_owned()));
                tokio::time::timeout(PATIENCE, write)
                    .await
                    .unwrap_or_else(slow)
            }
            _ => Err(AppError::Store(state_of_store.as_str().to_owned())),
        };
        let outcome = match &written {
            Ok(()) => "kept",
            Err(AppError::UserDeleted) => "user_deleted",
            Err(_) => "failed",
        };
        state
            .metrics
            .record(|| counter!(KEPT, "outcome" => outcome).increment(1));
        match &written {
            Ok(()) => {}
            Err(AppError::UserDeleted) => {
                tracing::info!("a completion was not kept: its user was deleted meanwhile");
            }
            Err(error) => tracing::error!(%error, "a completion was not kept"),
        }
        written.is_ok()
    }

    fn choice(&mut self, index: usize) -> &mut KeptChoice {
        let choices = &mut self.record.choices;
        while choices.len() <= index {
            choices.push(KeptChoice {
                index: choices.len() as u32,
                content: String::new(),
                finish_reason: String::new(),
            });
        }
        &mut choices[index]
    }
}

fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::Stop => "stop",
    }
}

fn turn(message: &ChatMessage) -> Turn {
    Turn {
        role: message.role.clone(),
        content: message.content.clone(),
    }
}

/// The kept completion `id` of the caller's tenant, as of `now_unix_ms`.
///
/// # Errors
/// None of that id, or one of a person for whom the key may not act: callers cannot tell which.
pub async fn find(
    state: &Arc<AppState>,
    caller: &Caller,
    id: &RecordId,
    now_unix_ms: u64,
) -> Result<CompletionRecord, AppError> {
    let (tenant, key) = (caller.tenant.clone(), id.clone());
    let read = move |store: &Store| store.completion(&tenant, &key, now_unix_ms);
    let found = state.with_store(read).await?;
    found
        .filter(|record| may_see(caller, record))
        .ok_or_else(|| not_found(id.as_str()))
}

/// The error for a completion that is not there, or is hidden from the caller.
pub fn not_found(id: &str) -> AppError {
    AppError::not_found("completion", id)
}

fn may_see(caller: &Caller, record: &CompletionRecord) -> bool {
    caller.may_see(record.user.as_ref())
}

/// Which completions are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this model id.
    pub model: Option<String>,
    /// Only those with all of these pairs.
    pub metadata: BTreeMap<String, String>,
}

/// A part of the caller's kept completions, as of `now_unix_ms`.
///
/// # Errors
/// The store cannot be read.
pub async fn list(
    state: &Arc<AppState>,
    caller: &Arc<Caller>,
    filter: Filter,
    page: Page,
    now_unix_ms: u64,
) -> Result<Listed<CompletionRecord>, AppError> {
    let filter = CompletionFilter {
        whose: whose(caller),
        model: filter.model,
        metadata: filter.metadata,
    };
    let tenant = caller.tenant.clone();
    let read = move |store: &Store| store.completions(&tenant, &filter, &page, now_unix_ms);
    state.with_store(read).await
}

/// Owners records a caller may see.
pub(super) fn whose(caller: &Caller) -> Owners {
    match &caller.users {
        AllowedUsers::Any => Owners::Everybody,
        AllowedUsers::Only(users) => Owners::Only(users.iter().cloned().collect()),
    }
}

/// Gives a completion that [`find`] finds other metadata.
///
/// # Errors
/// The store cannot write.
pub async fn set_metadata(
    state: &Arc<AppState>,
    caller: &Caller,
    id: &RecordId,
    metadata: BTreeMap<String, String>,
    now_unix_ms: u64,
) -> Result<CompletionRecord, AppError> {
    let found = find(state, caller, id, now_unix_ms).await?;
    let write = move |store: &Store| {
        store.set_completion_metadata(&found.tenant, &found.id, metadata, now_unix_ms)
    };
    let changed = state.with_store(write).await?;
    changed.ok_or_else(|| not_found(id.as_str()))
}

/// Removes a completion that [`find`] finds.
///
/// # Errors
/// The store cannot write.
pub async fn delete(
    state: &Arc<AppState>,
    caller: &Caller,
    id: &RecordId,
    now_unix_ms: u64,
) -> Result<(), AppError> {
    let found = find(state, caller, id, now_unix_ms).await?;
    let tenant: Tenant = found.tenant;
    let write = move |store: &Store| store.delete_completion(&tenant, &found.id);
    state.with_store(write).await.map(|_| ())
}
